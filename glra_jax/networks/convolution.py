"""A layer of 3×3 filters whose weights' gradient is fast on CPUs too.

XLA computes that gradient there as a convolution with a filter as large as the image, at a third of
the speed of what it is: nine products of matrices.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from glra_jax.precision import product_precision

_LAYOUT = ("NHWC", "HWIO", "NHWC")


class Convolution(nn.Module):
    """3×3 filters with a bias, and a zero around the image.

    Attributes:
      features: number of outputs.
      kernel_init: how the filters start.
      dtype: to which images and filters are rounded for their products, and these; None for none.
        Weights and result are float32 all the same, and so are the sums behind a bias's gradient.
    """

    features: int
    kernel_init: nn.initializers.Initializer
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `(N, H, W, C)` to `(N, H, W, features)`."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        dtype = x.dtype if self.dtype is None else self.dtype
        return _correlate(x.astype(dtype), kernel.astype(dtype)).astype(x.dtype) + bias


@jax.custom_vjp
def _correlate(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _by_xla(x, kernel)


def _by_xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=_LAYOUT, precision=product_precision(x.dtype)
    )


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
    return _by_xla(x, kernel), (x, kernel)


def _backward(residuals: Any, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)

    def by_products(x: jax.Array, cotangent: jax.Array) -> jax.Array:
        height, width, channels = x.shape[1:]
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        right = cotangent.reshape(-1, cotangent.shape[3])
        rows = [
            jnp.stack(
                [
                    padded[:, i : i + height, j : j + width].reshape(-1, channels).T @ right
                    for j in range(3)
                ]
            )
            for i in range(3)
        ]
        return jnp.stack(rows)

    def by_xla(x: jax.Array, cotangent: jax.Array) -> jax.Array:
        gradient: jax.Array = jax.vjp(lambda kernel: _by_xla(x, kernel), kernel)[1](cotangent)[0]
        return gradient

    gradient = jax.lax.platform_dependent(x, cotangent, cpu=by_products, default=by_xla)
    return _by_xla(cotangent, flipped), gradient


_correlate.defvjp(_forward, _backward)
