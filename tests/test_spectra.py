"""Convolution by FFT against SciPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, signal

from glra_jax import spectra


def random(seed, shape):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 5), (2, 6)])
def test_convolve_agrees_with_scipy(shape):
    x, kernel = random(0, (9, 12)), random(1, shape)
    # SciPy centres odd kernels alone; zeros behind an even one leave its centre at size // 2.
    odd = np.pad(kernel, [(0, (n + 1) % 2) for n in shape])
    expected = ndimage.convolve(x.astype(np.float64), odd, mode="wrap")
    transfer = spectra.transfer_function(jnp.asarray(kernel), x.shape)
    np.testing.assert_allclose(spectra.convolve(jnp.asarray(x), transfer), expected, atol=2e-5)


def test_convolve_takes_channels_and_kernels_of_any_rank():
    x, kernels = jnp.asarray(random(0, (3, 9, 12))), jnp.asarray(random(1, (3, 4, 5)))
    transfers = jnp.stack([spectra.transfer_function(kernel, (9, 12)) for kernel in kernels])
    together = spectra.convolve(x, transfers)
    for channel, transfer, expected in zip(x, transfers, together, strict=True):
        np.testing.assert_allclose(spectra.convolve(channel, transfer), expected, atol=1e-6)


def test_the_adjoint():
    x, y = random(0, (10, 13)), random(1, (10, 13))
    transfer = spectra.transfer_function(jnp.asarray(random(2, (4, 5))), x.shape)
    np.testing.assert_allclose(
        jnp.vdot(spectra.convolve(x, transfer), y),
        jnp.vdot(x, spectra.convolve_adjoint(y, transfer)),
        rtol=1e-5,
    )


@pytest.mark.parametrize("kernels", [(4, 5), (2, 4, 5)])
def test_convolve_valid_agrees_with_scipy(kernels):
    """One kernel for all images, or one for each; every channel independently."""
    x, kernel = random(0, (2, 9, 12, 3)), random(1, kernels)
    found = jax.jit(spectra.convolve_valid)(x, kernel)
    assert found.shape == (2, 6, 8, 3)
    for n, c in np.ndindex(2, 3):
        own = kernel if kernel.ndim == 2 else kernel[n]
        expected = signal.convolve2d(np.float64(x[n, ..., c]), np.float64(own), mode="valid")
        np.testing.assert_allclose(found[n, ..., c], expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(8, 9), (7, 10)])
def test_gradient_power_is_the_spectrum_of_the_normal_matrix(shape):
    x = random(0, shape)
    expected = sum(2 * x - np.roll(x, 1, axis) - np.roll(x, -1, axis) for axis in (0, 1))
    actual = spectra.convolve(jnp.asarray(x), spectra.gradient_power(shape))
    np.testing.assert_allclose(actual, expected, atol=1e-5)
