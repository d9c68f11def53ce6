"""Blurring photographs: the degradation model `y = c(k * x) + n` and its two protocols.

Images are float32 in [0, 1], `(H, W)`, `(H, W, C)` or `(N, H, W, C)`. Two protocols, because the
paper's text and its released data differ:

* `"paper"`, the text: the sharp image is brightened by 1.2 and clipped; it is blurred, Gaussian
  noise is added, and the sum is clipped. The truth to compare with is the brightened image.
* `"release"`, as measured on the released BSD100 set: the image is blurred, multiplied by a factor
  drawn evenly from [1, 1.2], noise even in [0, `noise`] is added, and the sum is clipped. The truth
  is the image as it was, so that nobody can know the factor.
"""

import math
from typing import TypeVar

import jax
import jax.numpy as jnp

from glra_jax import validation

PROTOCOLS = ("paper", "release")
BOUNDARIES = ("reflect", "edge", "wrap", "valid")

PAPER_GAIN = 1.2
RELEASE_GAINS = (1.0, 1.2)

Number = TypeVar("Number", float, jax.Array)


def convolution_padding(size: int) -> tuple[int, int]:
    """Pixels before and after that a true convolution with a centred kernel looks at.

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


def batched(x: jax.Array) -> jax.Array:
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
    grid = x.shape[1:3]
    spectrum = jnp.fft.rfft2(kernel.astype(x.dtype), s=grid)
    out = jnp.fft.irfft2(
        jnp.fft.rfft2(x, axes=(1, 2)) * spectrum[None, ..., None], s=grid, axes=(1, 2)
    )
    out = out[:, kernel.shape[0] - 1 :, kernel.shape[1] - 1 :]
    return unbatched(out, rank).astype(dtype)


def sharp_target(x: jax.Array, *, protocol: str = "paper") -> jax.Array:
    """The truth that a restored image is compared with under a protocol.

    Args:
      x: photograph in [0, 1].
      protocol: `"paper"` or `"release"`.

    Returns:
      `clip(1.2 x, 0, 1)` for `"paper"`, `x` itself for `"release"`.

    Raises:
      TypeError: integer images.
      ValueError: unknown protocol.
    """
    validation.check_float(x, "x")
    validation.check_choice(protocol, "protocol", PROTOCOLS)
    return jnp.clip(PAPER_GAIN * x, 0.0, 1.0) if protocol == "paper" else x


def release_gain(key: jax.Array, count: int) -> jax.Array:
    """The unknown brightness factors that `degrade` with protocol `"release"` draws from a key.

    Args:
      key: the key handed to `degrade`.
      count: number of images in the batch, 1 for a single image.

    Returns:
      `(count,)` float32, even in [1, 1.2].
    """
    low, high = RELEASE_GAINS
    return jax.random.uniform(jax.random.fold_in(key, 0), (count,), minval=low, maxval=high)


def noise_deviation(noise: Number, *, protocol: str) -> Number:
    """Standard deviation of the noise that `degrade` adds.

    Args:
      noise: as handed to `degrade`; may be traced.
      protocol: `"paper"` or `"release"`, whose noise is even in [0, `noise`].

    Returns:
      `noise`, or `noise / √12`.
    """
    return noise / math.sqrt(12.0) if protocol == "release" else noise


def degrade(
    key: jax.Array,
    x: jax.Array,
    kernel: jax.Array,
    *,
    protocol: str = "paper",
    noise: jax.typing.ArrayLike = 0.01,
    boundary: str = "wrap",
) -> jax.Array:
    """Blurs photographs, adds noise and saturates, by one of the two protocols (module docstring).

    Args:
      key: PRNG key; the same key and image give the same result to the bit.
      x: `(H, W)`, `(H, W, C)` or `(N, H, W, C)` in [0, 1].
      kernel: blur kernel, `(h, w)`, sum 1.
      protocol: `"paper"` or `"release"`.
      noise: standard deviation (`"paper"`) or largest value (`"release"`) of the noise; may be
        traced.
      boundary: see `blur`.

    Returns:
      Image in [0, 1] of the shape of `x` (smaller for `boundary="valid"`).

    Raises:
      TypeError: integer images or kernels.
      ValueError: what `blur` refuses, an unknown protocol, or negative noise.
    """
    validation.check_choice(protocol, "protocol", PROTOCOLS)
    validation.check_non_negative(noise, "noise")
    y = blur(sharp_target(x, protocol=protocol), kernel, boundary=boundary)
    noise_key = jax.random.fold_in(key, 1)
    if protocol == "paper":
        y = y + noise * jax.random.normal(noise_key, y.shape, y.dtype)
    else:
        count = x.shape[0] if x.ndim == 4 else 1
        gain = release_gain(key, count).astype(y.dtype)
        y = y * (gain[:, None, None, None] if x.ndim == 4 else gain[0])
        y = y + noise * jax.random.uniform(noise_key, y.shape, y.dtype)
    return jnp.clip(y, 0.0, 1.0)
