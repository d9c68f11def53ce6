"""Spectra on periodic grids: transfer functions of kernels, the power of differences, quick sizes.

Half spectra, as `jnp.fft.rfft2` gives them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation


def fast_size(size: int) -> int:
    """The least integer not below `size` with no prime factor above 5: FFTs of it are quick.

    Raises:
      ValueError: a size below 1.
    """
    validation.check_size(size)
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1


def transfer_function(kernel: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Spectrum of a kernel on a periodic grid, its centre (`size // 2`) at the origin.

    Args:
      kernel: `(h, w)`, not larger than the grid.
      shape: `(H, W)` of the grid.

    Returns:
      complex64 `(H, W // 2 + 1)`, as `jnp.fft.rfft2` gives it.
    """
    pads = [(0, n - k) for n, k in zip(shape, kernel.shape, strict=True)]
    origin = [-(k // 2) for k in kernel.shape]
    return jnp.fft.rfft2(jnp.roll(jnp.pad(kernel, pads), origin, axis=(0, 1)))


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
