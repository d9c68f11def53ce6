"""Convolution by FFT: transfer functions of kernels, and what is done with them.

Images are real, and spectra are the halves that `jnp.fft.rfft2` gives. A kernel's centre is at
`size // 2` on each axis. Grids are periodic: `convolve` and its adjoint wrap around;
`convolve_valid` gives only the pixels that no wrap-around touches.
"""

import jax
import jax.numpy as jnp
import numpy as np


def transfer_function(kernel: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Spectrum of a kernel on a periodic grid, its centre (`size // 2`) at the origin.

    Args:
      kernel: `(h, w)`, not larger than the grid.
      shape: `(H, W)` of the grid.

    Returns:
      complex64 `(H, W // 2 + 1)`.
    """
    pads = [(0, n - k) for n, k in zip(shape, kernel.shape, strict=True)]
    origin = [-(k // 2) for k in kernel.shape]
    return jnp.fft.rfft2(jnp.roll(jnp.pad(kernel, pads), origin, axis=(0, 1)))


def folded(kernel: jax.Array, side: int) -> jax.Array:
    """Folds a kernel onto a square grid: what is a side apart is the same to its FFT.

    Args:
      kernel: `(h, w)`, its first pixel at the grid's first.
      side: of the grid.

    Returns:
      `(side, side)`.
    """
    padded = jnp.pad(kernel, [(0, -size % side) for size in kernel.shape])
    rows, columns = (size // side for size in padded.shape)
    return padded.reshape(rows, side, columns, side).sum(axis=(0, 2))


def convolve(x: jax.Array, transfer: jax.Array) -> jax.Array:
    """Circular convolution with the kernel of a transfer function.

    Args:
      x: `(..., H, W)`.
      transfer: `(..., H, W // 2 + 1)`, as `transfer_function` gives it.

    Returns:
      `(..., H, W)`.
    """
    return jnp.fft.irfft2(jnp.fft.rfft2(x) * transfer, s=x.shape[-2:])


def convolve_adjoint(x: jax.Array, transfer: jax.Array) -> jax.Array:
    """Circular correlation, the adjoint of `convolve`; arguments and result as there."""
    return convolve(x, jnp.conj(transfer))


def convolve_valid(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of images with kernels, where nothing outside the images is needed.

    Args:
      x: `(N, H, W, C)`.
      kernel: `(h, w)` for all images, or `(N, h, w)`, one for each; not larger than the images.

    Returns:
      `(N, H - h + 1, W - w + 1, C)`. Output `[i, j]` stands where the kernel's centre lies on
      `x[i + h - 1 - h // 2, j + w - 1 - w // 2]`.
    """
    grid, (height, width) = x.shape[1:3], kernel.shape[-2:]
    spectrum = jnp.fft.rfft2(kernel, s=grid)[..., None]
    product = jnp.fft.rfft2(x, axes=(1, 2)) * spectrum
    return jnp.fft.irfft2(product, s=grid, axes=(1, 2))[:, height - 1 :, width - 1 :]


def gradient_power(shape: tuple[int, ...]) -> jax.Array:
    """Sum of the squared spectra of the forward differences along both axes, `4 sin²(ω/2)` each.

    Args:
      shape: `(H, W)` of the grid.

    Returns:
      float32 `(H, W // 2 + 1)`.
    """
    rows = 4.0 * np.sin(np.pi * np.fft.fftfreq(shape[0])) ** 2
    columns = 4.0 * np.sin(np.pi * np.fft.rfftfreq(shape[1])) ** 2
    return jnp.asarray(rows[:, None] + columns[None, :], jnp.float32)
