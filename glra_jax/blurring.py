"""Blurring images, and how they go on outside their frame.

Images are `(H, W)`, `(H, W, C)` or `(N, H, W, C)`, floats.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import spectra, validation

BOUNDARIES = ("reflect", "edge", "wrap", "valid")

Pixels = TypeVar("Pixels", jax.Array, np.ndarray)


def convolution_padding(size: int) -> tuple[int, int]:
    """Counts the pixels before and after that a true convolution with a centred kernel looks at.

    Output `i` sums `k[t] x[i + size // 2 - t]`, for `t` from 0 to `size - 1`.
    """
    return size - 1 - size // 2, size // 2


def pad_for_kernel(x: jax.Array, shape: tuple[int, ...], boundary: str) -> jax.Array:
    """Continues `(N, H, W, C)` images by what a kernel of a shape needs; `"valid"` by nothing."""
    validation.check_choice(boundary, "boundary", BOUNDARIES)
    if boundary == "valid":
        return x
    pads = [convolution_padding(size) for size in shape]
    return jnp.pad(x, [(0, 0), *pads, (0, 0)], mode=boundary)


def batched(x: Pixels) -> Pixels:
    """Views `(H, W)`, `(H, W, C)` or `(N, H, W, C)` as the last."""
    if x.ndim == 2:
        return x[None, :, :, None]
    return x[None] if x.ndim == 3 else x


def unbatched(x: jax.Array, ndim: int) -> jax.Array:
    """Undoes `batched`."""
    if ndim == 2:
        return x[0, :, :, 0]
    return x[0] if ndim == 3 else x


def blur(x: jax.Array, kernel: jax.Array, *, boundary: str = "wrap") -> jax.Array:
    """Convolves images with a blur kernel, through FFTs.

    Args:
      x: `(H, W)`, `(H, W, C)` or `(N, H, W, C)`.
      kernel: `(h, w)`, sum 1, not larger than the image.
      boundary: how the image goes on outside: `"wrap"` (as in the released data), `"reflect"`,
        `"edge"`; or `"valid"`, where only pixels that need nothing from outside are given back.

    Returns:
      Array of the shape of `x`, `h - 1` and `w - 1` smaller for `"valid"`.

    Raises:
      TypeError: integer images or kernels.
      ValueError: what `check_image` and `check_kernel` refuse, or a kernel larger than the image.
    """
    validation.check_image(x, "x")
    validation.check_kernel(kernel)
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    rank, dtype = x.ndim, x.dtype
    # FFTs know no half precision.
    x = batched(x).astype(jnp.promote_types(dtype, jnp.float32))
    if kernel.shape[0] > x.shape[1] or kernel.shape[1] > x.shape[2]:
        raise ValueError(f"kernel {kernel.shape} is larger than the image {x.shape[1:3]}")
    x = pad_for_kernel(x, kernel.shape, boundary)
    out = spectra.convolve_valid(x, kernel.astype(x.dtype))
    return unbatched(out, rank).astype(dtype)
