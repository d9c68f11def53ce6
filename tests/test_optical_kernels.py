"""Moffat and Airy kernels against closed forms and SciPy's Bessel functions in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special

import glra_jax as gx
from glra_jax.optical_kernels import airy_share, moffat_share


def distances(size):
    x = np.arange(size) - size // 2
    return np.hypot(x[:, None], x[None, :])


def moffat(alpha, beta, size):
    weights = (1 + (distances(size) / alpha) ** 2) ** -beta
    return weights / weights.sum()


def airy(radius, size):
    x = np.maximum(scipy.special.jn_zeros(1, 1)[0] * distances(size) / radius, 1e-9)
    weights = (2 * scipy.special.j1(x) / x) ** 2
    return weights / weights.sum()


@pytest.mark.parametrize("size", [1, 2, 9, 24, 49])
@pytest.mark.parametrize("beta", [1.01, 2.5, 4.765, 40.0])
@pytest.mark.parametrize("alpha", [0.3, 2.0, 11.0])
def test_moffat_is_the_sampled_profile(alpha, beta, size):
    kernel = gx.moffat_kernel(alpha=alpha, beta=beta, size=size)
    assert kernel.dtype == jnp.float32
    np.testing.assert_allclose(kernel, moffat(alpha, beta, size), rtol=5e-5, atol=1e-9)


@pytest.mark.parametrize("beta", [1.5, 2.5, 4.765])
def test_moffat_has_its_width_at_half_maximum(beta):
    kernel = np.asarray(gx.moffat_kernel(fwhm=6.0, beta=beta, size=31))
    assert kernel[15, 18] == pytest.approx(kernel[15, 15] / 2, rel=1e-5)
    alpha = 3.0 / np.sqrt(2 ** (1 / beta) - 1)
    np.testing.assert_allclose(kernel, moffat(alpha, beta, 31), rtol=5e-5)


def test_moffat_of_large_beta_is_gaussian():
    # (1 + r²/(2 σ² β))^-β is exp(-r²/(2 σ²)) up to terms of r⁴/(8 σ⁴ β).
    sigma, beta = 2.0, 1e4
    kernel = gx.moffat_kernel(alpha=sigma * np.sqrt(2 * beta), beta=beta, size=15)
    np.testing.assert_allclose(kernel, gx.gaussian_kernel(sigma=sigma, size=15), atol=2e-5)


@pytest.mark.parametrize("size", [1, 2, 9, 24, 49])
@pytest.mark.parametrize("radius", [0.4, 1.22, 3.0, 7.7, 60.0])
def test_airy_is_the_sampled_pattern(radius, size):
    kernel = gx.airy_kernel(radius=radius, size=size)
    assert kernel.dtype == jnp.float32
    wanted = airy(radius, size)
    np.testing.assert_allclose(kernel, wanted, rtol=1e-4, atol=1e-6 * wanted.max())


def test_airy_is_dark_on_its_ring_and_has_its_second_maximum():
    kernel = np.asarray(gx.airy_kernel(radius=10.0, size=49), np.float64)
    assert kernel[24, 34] < 1e-9 * kernel[24, 24]
    # Born and Wolf's Table 8.2: the second maximum is 0.0175, at 1.635 π against 1.220 π.
    kernel = np.asarray(gx.airy_kernel(radius=13 * 1.2197 / 1.6347, size=49), np.float64)
    row = kernel[24, 24:] / kernel[24, 24]
    assert 10 + row[10:].argmax() == 13
    assert row[13] == pytest.approx(0.0175, abs=2e-4)


@pytest.mark.parametrize(
    "make",
    [
        partial(gx.moffat_kernel, beta=2.5),
        lambda size, alpha: gx.airy_kernel(radius=alpha, size=size),
    ],
)
def test_no_width_is_a_delta_a_huge_one_flat_and_slopes_are_finite(make):
    delta = np.zeros((9, 9))
    delta[4, 4] = 1.0
    np.testing.assert_allclose(make(size=9, alpha=1e-20), delta, atol=1e-6)
    np.testing.assert_allclose(make(size=9, alpha=1e4), np.full((9, 9), 1 / 81), rtol=1e-4)
    slope = jax.jit(jax.jacfwd(lambda width: make(size=9, alpha=width)))(2.7)
    step = (np.float64(make(size=9, alpha=2.71)) - np.float64(make(size=9, alpha=2.69))) / 0.02
    np.testing.assert_allclose(slope, step, atol=2e-5)
    assert jnp.isfinite(jax.grad(lambda w: make(size=9, alpha=w)[4, 4])(2.7))


def test_shares_are_integrals():
    def within(profile, distance):
        return scipy.integrate.quad(lambda r: 2 * np.pi * r * profile(r), 0, distance)[0]

    whole = np.pi * 2.0**2 / (2.5 - 1)  # of Moffat's profile, over the plane
    share = within(lambda r: (1 + (r / 2.0) ** 2) ** -2.5, 5.0) / whole
    assert moffat_share(5.0, alpha=2.0, beta=2.5) == pytest.approx(share, rel=1e-8)
    # Born and Wolf: 83.8 % within the first dark ring, 91.0 % within the second.
    assert airy_share(4.0, radius=4.0) == pytest.approx(0.838, abs=5e-4)
    second = 4.0 * np.divide(*scipy.special.jn_zeros(1, 2)[::-1])
    assert airy_share(second, radius=4.0) == pytest.approx(0.910, abs=5e-4)


@pytest.mark.parametrize("bad", [0.0, -1.5, np.nan, np.inf])
def test_widths_must_be_positive(bad):
    with pytest.raises(ValueError, match=f"alpha.*{bad}"):
        gx.moffat_kernel(alpha=bad, beta=2.5, size=9)
    with pytest.raises(ValueError, match=f"fwhm.*{bad}"):
        gx.moffat_kernel(fwhm=bad, beta=2.5, size=9)
    with pytest.raises(ValueError, match=f"beta.*{bad}"):
        gx.moffat_kernel(alpha=2.0, beta=bad, size=9)
    with pytest.raises(ValueError, match=f"radius.*{bad}"):
        gx.airy_kernel(radius=bad, size=9)


def test_what_else_is_refused():
    with pytest.raises(ValueError, match=r"beta must be above 1, got 1\.0"):
        gx.moffat_kernel(alpha=2.0, beta=1.0, size=9)
    with pytest.raises(TypeError, match=r"one of alpha and fwhm.*alpha=None, fwhm=None"):
        gx.moffat_kernel(beta=2.0, size=9)
    with pytest.raises(TypeError, match=r"one of alpha and fwhm.*alpha=1\.0, fwhm=2\.0"):
        gx.moffat_kernel(alpha=1.0, fwhm=2.0, beta=2.0, size=9)
    for make in (
        partial(gx.moffat_kernel, beta=2.0, alpha=1.0),
        partial(gx.airy_kernel, radius=1.0),
    ):
        with pytest.raises(ValueError, match=r"size.*got 0"):
            make(size=0)
        with pytest.raises(TypeError, match=r"size.*got 9\.5"):
            make(size=9.5)
