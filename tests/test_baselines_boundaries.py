"""Continuation of images outside their frame, against direct formulas and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import fft, ndimage

from experiments.baselines import boundaries
from glra_jax import disk_kernel, spectra

extend = jax.jit(boundaries.extend, static_argnames="boundary")


def random(seed, shape):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def test_gradient_and_its_adjoint():
    x, g = random(0, (10, 13)), random(3, (2, 10, 13))
    np.testing.assert_allclose(
        jnp.vdot(boundaries.gradient(x), g),
        jnp.vdot(x, boundaries.gradient_adjoint(g)),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("boundary", boundaries.BOUNDARIES)
@pytest.mark.parametrize("shape", [(20, 31), (9, 9)])
def test_extend_and_crop(boundary, shape):
    y, kernel = jnp.asarray(random(0, shape)), jnp.ones((9, 4)) / 36
    pads = boundaries.margins(shape, kernel.shape, boundary)
    extended = extend(y, kernel, boundary=boundary)
    assert extended.shape == tuple(n + sum(pad) for n, pad in zip(shape, pads, strict=True))
    assert boundaries.crop(extended, pads).shape == shape
    if boundary != "wrap":
        assert all(min(pad) >= k for pad, k in zip(pads, kernel.shape, strict=True))
        assert all(fft.next_fast_len(n, real=True) == n for n in extended.shape)
    if boundary in ("symmetric", "harmonic", "wrap"):
        np.testing.assert_array_equal(boundaries.crop(extended, pads), y)
    observed = boundaries.observed_mask(shape, pads)
    assert observed.shape == extended.shape
    assert observed.sum() == y.size
    assert boundaries.crop(observed, pads).min() == 1


def test_symmetric_is_a_mirror_that_repeats_the_edge():
    y = jnp.asarray(random(0, (12, 12)))
    pads = boundaries.margins(y.shape, (3, 3), "symmetric")
    extended = extend(y, jnp.ones((3, 3)) / 9, boundary="symmetric")
    np.testing.assert_array_equal(extended, np.pad(y, pads, mode="symmetric"))


def test_harmonic_has_no_laplacian_outside_the_frame():
    y, kernel = jnp.asarray(random(0, (20, 31))), jnp.ones((5, 4)) / 20
    pads = boundaries.margins(y.shape, kernel.shape, "harmonic")
    extended = np.asarray(extend(y, kernel, boundary="harmonic"), np.float64)
    laplacian = ndimage.convolve(extended, [[0, 1, 0], [1, -4, 1], [0, 1, 0]], mode="wrap")
    outside = np.asarray(boundaries.observed_mask(y.shape, pads)) == 0
    # The strips' ends are straight lines between the corners of the frame.
    ends = np.zeros_like(outside)
    (top, _), (left, _) = pads
    ends[[top, top + 19]] = True
    ends[:, [left, left + 30]] = True
    np.testing.assert_allclose(laplacian[outside & ~ends], 0.0, atol=1e-5)
    np.testing.assert_allclose(np.diff(np.roll(extended[:, left], -top)[19:], n=2), 0.0, atol=1e-5)


def test_unknown_boundary():
    with pytest.raises(ValueError, match=r"boundary must be one of taper, .*'zero'"):
        boundaries.margins((9, 9), (3, 3), "zero")


def test_edge_taper_by_its_definition():
    """Weights straight from the autocorrelation of the kernel's projections."""
    y, kernel = random(0, (24, 30)), np.asarray(disk_kernel(radius=2.2, size=6), np.float64)
    inner = []
    for axis, size in ((1, 24), (0, 30)):
        projection = kernel.sum(axis=axis)
        full = np.correlate(projection, projection, mode="full")
        weight = np.ones(size)
        for lag, value in enumerate(full[len(projection) - 1 :]):
            weight[lag] -= value / full.max()
            weight[size - 1 - lag] -= value / full.max()
        inner.append(weight)
    weight = np.outer(*inner)
    centred = np.zeros((7, 7))
    centred[:6, :6] = kernel  # centre at 3, as SciPy has it
    expected = weight * y + (1 - weight) * ndimage.convolve(y.astype(float), centred, mode="wrap")

    @jax.jit
    def taper(y, kernel):
        return boundaries.edge_taper(y, kernel, spectra.transfer_function(kernel, y.shape))

    actual = taper(y, kernel.astype(np.float32))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_taper_keeps_the_middle_and_closes_the_gap():
    ramp = jnp.broadcast_to(jnp.linspace(0.0, 1.0, 40), (40, 40))
    kernel = jnp.ones((5, 5)) / 25
    pads = boundaries.margins(ramp.shape, kernel.shape, "taper")
    extended = extend(ramp, kernel, boundary="taper")
    np.testing.assert_allclose(boundaries.crop(extended, pads)[:, 1:-1], ramp[:, 1:-1], atol=2e-3)
    gap = jnp.abs(extended[20, 0] - extended[20, -1])
    assert gap < 0.25  # 1 before
