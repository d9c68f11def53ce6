"""Blur that varies over the image."""

import hypothesis
import hypothesis.extra.numpy as npst
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from experiments.baselines import BASELINES
from glra_jax.networks import Unrolled
from glra_jax.varying import _weights, restore_varying

CENTRES = (np.array([30.0, 70.0]), np.array([40.0, 50.0, 90.0]))


@pytest.fixture(scope="module")
def kernels() -> jax.Array:
    """From nearly sharp to strongly blurred, `(2, 3, 9, 9)`."""
    sigmas = np.array([[0.6, 1.0, 1.5], [0.8, 1.3, 2.2]])
    return jnp.stack(
        [jnp.stack([gx.gaussian_kernel(sigma=s, size=9) for s in row]) for row in sigmas]
    )


def test_blur_is_that_of_the_interpolated_kernel(kernels, photograph):
    """Directly, in float64, at some pixels."""
    blurred = jax.jit(lambda x: gx.blur_varying(x, kernels, CENTRES))(photograph)
    padded = np.pad(np.float64(photograph), 4, mode="edge")
    for row, column in ((0, 0), (5, 111), (30, 40), (41, 44), (66, 77), (95, 60)):
        up = np.interp(row, CENTRES[0], [0.0, 1.0])
        across = np.interp(column, CENTRES[1], [0.0, 1.0, 2.0])
        left = min(int(across), 1)
        share = across - left
        kernel = sum(
            a * b * np.float64(kernels[i, left + j])
            for i, a in enumerate((1 - up, up))
            for j, b in enumerate((1 - share, share))
        )
        window = padded[row : row + 9, column : column + 9]
        assert blurred[row, column] == pytest.approx((kernel[::-1, ::-1] * window).sum(), abs=2e-6)


@hypothesis.given(
    places=npst.arrays(np.float64, st.integers(1, 5), elements=st.floats(-20, 60), unique=True),
    size=st.integers(1, 40),
)
def test_weights_sum_to_one_and_are_one_at_their_centre(places, size):
    places = np.sort(places)
    hypothesis.assume((np.diff(places) > 1e-3).all())
    kernels = np.ones((len(places), 1, 1, 1), np.float32)
    rows, columns = _weights(kernels, (places, [0.0]), (size, 3))
    np.testing.assert_allclose(rows.sum(axis=0), 1.0, atol=1e-6)
    np.testing.assert_array_equal(columns, np.ones((1, 3)))
    at_centres, _ = _weights(kernels, (places - places[0], [0.0]), (1, 1))
    np.testing.assert_allclose(at_centres[:, 0], np.eye(len(places))[0], atol=1e-6)


def wiener(y, kernel):
    return BASELINES["wiener"].restore(jnp.asarray(y), kernel, noise=0.005, family="gaussian")


def test_parts_give_what_whole_restorations_give(kernels, photograph):
    """Joined with the weights; the parts are cut so that nothing of it is seen."""
    y = np.asarray(gx.blur_varying(photograph, kernels, CENTRES))
    found = restore_varying(wiener, y, kernels, CENTRES, distance=32)
    rows, columns = _weights(kernels, CENTRES, y.shape)
    expected = sum(
        np.outer(rows[i], columns[j]) * np.asarray(wiener(y, kernels[i, j]))
        for i in range(2)
        for j in range(3)
    )
    np.testing.assert_allclose(found, expected, atol=0.01)
    varying, *constant = (
        float(gx.psnr(image[8:-8, 8:-8], photograph[8:-8, 8:-8]))
        for image in (found, wiener(y, kernels[0, 0]), wiener(y, kernels[1, 2]))
    )
    assert varying > max(constant) + 1.0


def test_a_model_restores_in_parts(kernels, colour_photograph):
    """A grid of one kernel is that kernel; kernels without weight are not looked at."""
    model = gx.initial_model(jax.random.key(0), Unrolled(stages=1, features=4, blocks=1), {})
    y = np.asarray(gx.blur(jnp.asarray(colour_photograph), kernels[1, 1], boundary="edge"))
    alone = gx.deconvolve(jnp.asarray(y), kernels[1, 1], model, noise=0.01)
    pair = jnp.stack([kernels[1, 1], kernels[0, 0]])[None]
    restored = gx.deconvolve_varying(y, pair, ([0.0], [200.0, 300.0]), model, noise=0.01)
    assert (restored.dtype, restored.shape) == (y.dtype, y.shape)
    np.testing.assert_allclose(restored, alone, atol=2e-3)


@pytest.mark.parametrize(
    ("shape", "centres", "message"),
    [
        ((2, 3, 9), CENTRES, r"kernels must be \(rows, columns, h, w\), got shape \(2, 3, 9\)"),
        ((2, 3, 9, 9), ([1.0], [1.0, 2.0, 3.0]), r"rows of shape \(1,\), and kernels has 2 rows"),
        ((1, 2, 9, 9), ([1.0], [3.0, 2.0]), r"increasing columns, got \[3.0, 2.0\]"),
        ((1, 2, 9, 9), ([1.0], [3.0, np.nan]), "increasing columns"),
    ],
)
def test_grids_that_will_not_do_are_refused(photograph, shape, centres, message):
    kernels = np.full(shape, 1 / 81, np.float32)
    for function in (gx.blur_varying, gx.deconvolve_varying):
        with pytest.raises(ValueError, match=message):
            function(photograph, kernels, centres)


def test_images_and_boundaries_that_will_not_do_are_refused(photograph, kernels):
    with pytest.raises(ValueError, match=r"x must be \(H, W\) or \(H, W, C\), got shape \(1,"):
        gx.blur_varying(photograph[None, :, :, None], kernels, CENTRES)
    with pytest.raises(ValueError, match="boundary must be one of"):
        gx.blur_varying(photograph, kernels, CENTRES, boundary="valid")
    with pytest.raises(ValueError, match="boundary must be one of edge, reflect, got 'wrap'"):
        gx.deconvolve_varying(photograph, kernels, CENTRES, boundary="wrap")
    bad = np.asarray(kernels).copy()
    bad[1, 2] *= 2
    with pytest.raises(ValueError, match="sum"):
        gx.deconvolve_varying(photograph, bad, CENTRES)
