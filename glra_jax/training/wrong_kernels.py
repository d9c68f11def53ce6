"""Blur kernels that are slightly wrong, as those that people measure are."""

import jax
import jax.numpy as jnp

# What is less than this part of a kernel's largest value does not count as its extent.
_NOTHING = 1e-3
# Most pixels by which a wrong kernel is too small or too large on each side.
LARGEST_ERROR = 1.25


def wrong_size(key: jax.Array, kernel: jax.Array) -> jax.Array:
    """Makes a kernel too small or too large, by up to 1.25 pixels on each side.

    Args:
      key: PRNG key.
      kernel: `(h, w)`, sum 1, its centre in the middle.

    Returns:
      `(h, w)` of sum 1; what would lie outside is cut off.
    """
    error = jax.random.uniform(key, (), kernel.dtype, -LARGEST_ERROR, LARGEST_ERROR)
    return resized(kernel, error)


def resized(kernel: jax.Array, pixels: jax.typing.ArrayLike) -> jax.Array:
    """Resizes what a kernel holds, about its middle.

    Args:
      kernel: `(h, w)`, sum 1.
      pixels: by which it grows on each side, or shrinks, but not below a pixel; may be traced.

    Returns:
      `(h, w)` of sum 1; what would lie outside is cut off.
    """
    height, width = kernel.shape
    rows, columns = (jnp.abs(jnp.arange(size) - size // 2) for size in kernel.shape)
    distances = jnp.maximum(rows[:, None], columns[None, :])
    side = 2 * jnp.max(jnp.where(kernel > _NOTHING * kernel.max(), distances, 0)) + 1
    scale = jnp.maximum(side + 2 * jnp.asarray(pixels), 1) / side
    sizes = jnp.asarray([height, width], kernel.dtype)
    kernel = jax.image.scale_and_translate(
        kernel,
        kernel.shape,
        (0, 1),
        jnp.broadcast_to(scale, (2,)),
        0.5 * sizes * (1.0 - scale),
        method="linear",
    )
    return kernel / kernel.sum()
