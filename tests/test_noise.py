"""The noise estimate: known noise on blurred photographs, NumPy in float64, and what it refuses."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import skimage.data

import glra_jax as gx
from glra_jax import jpeg
from glra_jax.noise import quantile
from glra_jax.noise_behind_blur import estimate_noise_behind_blur

estimate = jax.jit(gx.estimate_noise)


@pytest.fixture(scope="module")
def photographs() -> dict[str, np.ndarray]:
    """In colour, and in grey with a dark coat and a bright sky that clip; 256×256."""
    return {
        "cat": np.float32(skimage.data.chelsea()[20:276, 100:356] / 255.0),
        "camera": np.float32(skimage.data.camera()[100:356, 100:356] / 255.0),
    }


@pytest.fixture(scope="module")
def kernels() -> dict[str, jax.Array]:
    return {
        "gaussian": gx.gaussian_kernel(sigma=1.6, size=11),
        "disk": gx.disk_kernel(radius=3.0, size=9),
        "motion": gx.motion_kernel(jax.random.key(2), size=15),
    }


def reference(y):
    """The estimate by SciPy in float64."""
    images = np.float64(y).reshape(-1, *y.shape[-3:] if y.ndim > 2 else (*y.shape, 1))
    second, inner = np.array([1.0, -2.0, 1.0]), (slice(1, -1), slice(1, -1))
    values = []
    for channel in np.moveaxis(images, 3, 1).reshape(-1, *images.shape[1:3]):
        filtered = scipy.ndimage.convolve(channel, np.outer(second, second))
        clipped = scipy.ndimage.maximum_filter((channel <= 0) | (channel >= 1), 3)
        values.append(np.abs(filtered[inner])[~clipped[inner]])
    return np.median(np.concatenate(values)) / (6.0 * scipy.stats.norm.ppf(0.75))


def noisy(shape, *, sigma=0.05, seed=0):
    """Grey with noise, nothing clipped."""
    draws = np.random.default_rng(seed).normal(0.5, sigma, shape)
    return np.float32(draws.clip(0.01, 0.99))


# --- known noise ---------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.03])
@pytest.mark.parametrize("blur", ["gaussian", "disk", "motion"])
@pytest.mark.parametrize("name", ["cat", "camera"])
def test_known_noise_on_blurred_photographs(photographs, kernels, name, blur, noise):
    y = gx.degrade(jax.random.key(3), photographs[name], kernels[blur], noise=noise)
    assert float(estimate(y)) == pytest.approx(noise, rel=0.1)


@pytest.mark.parametrize("blur", ["gaussian", "disk", "motion"])
def test_blurred_photographs_without_noise(photographs, kernels, blur):
    y = gx.degrade(jax.random.key(3), photographs["cat"], kernels[blur], noise=0.0)
    assert float(estimate(y)) < 0.002


def test_white_noise_alone():
    for sigma in (0.001, 0.02, 0.1):
        assert float(estimate(noisy((256, 256), sigma=sigma))) == pytest.approx(sigma, rel=0.02)


def test_a_plane_of_any_slope_has_no_noise():
    rows, columns = np.mgrid[:40, :50]
    plane = np.float32(0.2 + 0.004 * rows + 0.006 * columns)
    assert float(estimate(plane)) < 1e-7


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_flat_image_has_no_noise(value):
    """At 0 and at 1 all is clipped and there is nothing to measure: 0 too, not NaN."""
    for shape in ((3, 3), (20, 30), (20, 30, 3)):
        assert float(estimate(jnp.full(shape, value))) == 0.0


def test_half_precision_is_estimated_in_float32():
    y = noisy((64, 64))
    found = estimate(jnp.asarray(y, jnp.float16))
    assert found.dtype == jnp.float32
    assert float(found) == pytest.approx(float(estimate(y)), rel=0.01)


# --- against SciPy -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 3), (17, 23), (5, 40, 3), (3, 11, 9, 2), (1, 30, 4, 1)])
def test_scipy_in_float64(shape):
    y = noisy(shape, seed=len(shape))
    assert float(estimate(y)) == pytest.approx(reference(y), rel=2e-4)


@pytest.mark.parametrize("name", ["cat", "camera"])
def test_scipy_on_a_photograph_that_clips(photographs, kernels, name):
    y = gx.degrade(jax.random.key(0), photographs[name], kernels["disk"], noise=0.02)
    assert name == "cat" or np.mean((y == 0) | (y == 1)) > 0.02
    assert float(estimate(y)) == pytest.approx(reference(np.asarray(y)), rel=2e-4)


def test_clipped_pixels_are_left_out():
    """More than half of the image is clipped, the lights on one side and the shadows on another."""
    y = noisy((80, 90))
    clipped = y.copy()
    clipped[:30], clipped[60:] = 1.0, 0.0
    assert float(estimate(clipped)) == pytest.approx(float(estimate(y[30:60])), rel=1e-6)
    # Just below and above, the same pixels are flat ones, and they win.
    inside = clipped.clip(1e-6, 1 - 1e-6)
    assert float(estimate(inside)) == 0.0


def test_channels_and_images_are_estimated_together():
    y = noisy((2, 30, 32, 3))
    together = float(estimate(y))
    assert float(estimate(y[::-1, :, :, ::-1])) == together
    assert float(estimate(np.tile(y, (2, 1, 1, 1)))) == pytest.approx(together, rel=2e-3)
    assert float(estimate(y[0, :, :, 0])) == float(estimate(y[:1, :, :, :1]))
    # A median of all, not a mean of medians: the third that is flat and the others.
    y[..., 0] = 0.5
    values = np.sort([float(estimate(y[..., c : c + 1])) for c in range(3)])
    assert values[0] == 0.0
    assert 0 < float(estimate(y)) < values[1]
    assert float(estimate(y)) == pytest.approx(reference(y), rel=2e-4)


# --- laws ----------------------------------------------------------------------------------------


@hypothesis.given(
    factor=st.floats(0.01, 1.0),
    offset=st.floats(0.001, 0.3),
    seed=st.integers(0, 100),
)
def test_it_scales_with_the_image_and_knows_no_brightness(factor, offset, seed):
    y = noisy((12, 13), seed=seed) / 2 + 0.1  # in (0.1, 0.6)
    once = float(estimate(y))
    assert float(estimate(np.float32(factor) * y)) == pytest.approx(factor * once, rel=1e-4)
    assert float(estimate(y + np.float32(offset))) == pytest.approx(once, rel=1e-4)
    for flipped in (y[::-1], y[:, ::-1], y.T):
        assert float(gx.estimate_noise(flipped)) == pytest.approx(once, rel=1e-5)


def test_a_power_of_two_scales_it_to_the_bit():
    y = noisy((20, 21))
    assert float(estimate(y / 4)) == float(estimate(y)) / 4


# --- transformations -----------------------------------------------------------------------------


def test_jit_and_vmap():
    images = np.stack([noisy((20, 21), sigma=sigma) for sigma in (0.01, 0.05)])
    each = jax.vmap(gx.estimate_noise)(images)
    assert each.shape == (2,)
    assert each.dtype == jnp.float32
    for image, found in zip(images, each, strict=True):
        np.testing.assert_allclose(found, gx.estimate_noise(image), rtol=1e-6)
        np.testing.assert_allclose(found, estimate(image), rtol=1e-6)


def test_gradient_follows_from_the_scaling_law():
    """Euler: the slope along y of what scales as y is the estimate itself."""
    y = noisy((20, 21))
    for image in (y, np.where(np.arange(20)[:, None] < 12, np.float32(1.0), y)):
        gradient = jax.jit(jax.grad(gx.estimate_noise))(image)
        assert jnp.isfinite(gradient).all()
        assert jnp.abs(gradient).max() > 0
        slope = float(jnp.vdot(gradient, image))
        assert slope == pytest.approx(float(estimate(image)), rel=1e-3)
    for value in (0.5, 1.0):
        assert jnp.isfinite(jax.grad(gx.estimate_noise)(jnp.full((5, 5), value))).all()


# --- smoothness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.02, np.float64(0.02), np.linspace(0, 0.03, 6)])
def test_smoothness_is_the_square_of_the_noise(noise):
    inverse = gx.Inverse(noise_weight=100.0)
    for found in (inverse.smoothness(noise), jax.jit(gx.Inverse.smoothness)(inverse, noise)):
        assert found.dtype == jnp.float32
        assert found.shape == np.shape(noise)
        np.testing.assert_allclose(found, 100.0 * np.square(noise), rtol=1e-6)


def test_without_a_weight_the_noise_does_not_count():
    found = gx.Inverse().smoothness(jnp.array([0.0, 0.5]))
    np.testing.assert_array_equal(found, np.float32([0.0, 0.0]))


def test_smoothness_can_be_differentiated():
    inverse = gx.Inverse(noise_weight=100.0)
    assert float(jax.grad(inverse.smoothness)(0.03)) == pytest.approx(2 * 100 * 0.03)
    by_inverse = jax.grad(gx.Inverse.smoothness)(inverse, 0.03)
    assert float(by_inverse.noise_weight) == pytest.approx(0.03**2)
    assert float(by_inverse.regularization) == 0.0


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "error", "quoted"),
    [
        (np.full((2, 9), 0.5, np.float32), ValueError, r"\(2, 9\).*3×3.*name the noise level"),
        (np.full((9, 2, 3), 0.5, np.float32), ValueError, r"\(9, 2, 3\).*3×3"),
        (np.full((5, 2, 9, 3), 0.5, np.float32), ValueError, r"\(5, 2, 9, 3\).*3×3"),
        (np.full(9, 0.5, np.float32), ValueError, r"y.*rank 1.*\(9,\)"),
        (np.full((4, 5), np.nan, np.float32), ValueError, "y holds 20 NaN"),
        (np.full((4, 5), 128, np.uint8), TypeError, r"y.*uint8.*255\.0"),
    ],
)
def test_bad_images(y, error, quoted):
    with pytest.raises(error, match=quoted):
        gx.estimate_noise(y)


@pytest.mark.parametrize(
    ("noise", "weight", "quoted"),
    [
        (-0.01, 1.0, r"noise must be .* at least 0, got -0\.01"),
        (np.array([0.01, np.nan]), 1.0, "noise must be finite .*nan"),
        (0.01, jnp.float32(-1.0), r"noise_weight must be .* at least 0, got -1\.0"),
    ],
)
def test_bad_levels(noise, weight, quoted):
    inverse = gx.Inverse(noise_weight=weight)
    with pytest.raises(ValueError, match=quoted):
        inverse.smoothness(noise)


# --- quantiles of what is seen, and nothing that is NaN on the way --------------------------------


@hypothesis.given(
    st.lists(st.tuples(st.floats(0.0, 1.0, width=32), st.booleans()), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.2, 0.5, 1.0]),
)
def test_quantiles_are_numpys(pairs, share):
    padded = [*pairs, *[(0.0, False)] * (12 - len(pairs))]  # one size to compile for
    values, seen = (np.array(part) for part in zip(*padded, strict=True))
    found = jax.jit(quantile)(np.float32(values), seen, share)
    expected = np.quantile(values[seen], share) if seen.any() else 0.0
    assert float(found) == pytest.approx(float(expected), abs=1e-6)


def test_what_is_not_finite_is_not_seen():
    values = jnp.array([3.0, jnp.nan, 1.0, jnp.inf, 2.0])
    assert float(quantile(values, jnp.ones(5, bool), 0.5)) == 2.0


@pytest.mark.slow
def test_estimates_pass_where_jax_looks_for_nan(photographs, kernels):
    y = jnp.clip(1.2 * jnp.asarray(photographs["cat"]), 0.0, 1.0)  # some of it is clipped
    with jax.debug_nans(True):
        levels = [gx.estimate_noise(y), *gx.estimate_noise_by_channel(y)]
        levels += list(estimate_noise_behind_blur(y, kernels["disk"]))
        assert float(gx.estimate_noise(jnp.ones((8, 8)))) == 0.0
    assert all(level > 0 for level in levels)


# --- by channel ----------------------------------------------------------------------------------

by_channel = jax.jit(gx.estimate_noise_by_channel)


def smoothed(noise):
    """Noise `(H, W, C)` smoothed by a Gaussian of 0.7 pixels, at the same standard deviation."""
    found = scipy.ndimage.gaussian_filter(noise, (0.7, 0.7, 0.0), mode="wrap")
    return np.float32(found * noise.std() / found.std())


def deviation(y, clean):
    return np.sqrt(np.mean((np.asarray(y) - np.asarray(clean)) ** 2, axis=(0, 1)))


@pytest.mark.parametrize("sigma", [0.001, 0.02, 0.1])
def test_white_noise_alone_by_channel(sigma):
    y = noisy((224, 224, 2), sigma=sigma)
    np.testing.assert_allclose(by_channel(y), [sigma, sigma], rtol=0.03)


def test_every_channel_has_its_own_noise(photographs, kernels):
    clean = gx.blur(jnp.asarray(photographs["cat"]), kernels["disk"])
    levels = jnp.array([0.01, 0.02, 0.05])
    y = clean + levels * jax.random.normal(jax.random.key(0), clean.shape)
    np.testing.assert_allclose(by_channel(y), levels, rtol=0.15)
    for c in range(3):
        alone = by_channel(y[..., c : c + 1])
        np.testing.assert_allclose(by_channel(y)[c], alone[0], rtol=1e-5)


@pytest.mark.parametrize("blur", ["gaussian", "disk", "motion"])
def test_smoothed_noise_which_the_fine_difference_misses(photographs, kernels, blur):
    clean = np.asarray(gx.blur(jnp.asarray(photographs["cat"]), kernels[blur]))
    noise = smoothed(np.random.default_rng(1).normal(0.0, 0.02, clean.shape))
    np.testing.assert_allclose(by_channel(clean + noise), 0.02, rtol=0.15)
    assert float(estimate(clean + noise)) < 0.01


@pytest.mark.parametrize(
    ("quality", "noise"), [(100, 0.0), (90, 0.01), (75, 0.0), (75, 0.03), (60, 0.03)]
)
def test_errors_of_jpeg(photographs, kernels, quality, noise):
    clean = gx.blur(jnp.asarray(photographs["cat"]), kernels["disk"])
    y = clean + noise * jax.random.normal(jax.random.key(0), clean.shape)
    file = jpeg.compress(jnp.clip(y, 0.0, 1.0), quality=quality)
    ratio = by_channel(file) / deviation(file, clean)
    assert ratio.min() > 0.4
    assert ratio.max() < 2.0


@pytest.mark.parametrize(("noise", "most"), [(0.01, 2.5), (0.03, 1.5)])
def test_sharp_photographs(photographs, noise, most):
    """Fur all over the image is taken for noise of about 2 %, which adds to the other."""
    clean = photographs["cat"]
    y = clean + noise * jax.random.normal(jax.random.key(0), clean.shape)
    ratio = by_channel(y) / noise
    assert ratio.min() > 0.95
    assert ratio.max() < most


def test_a_smooth_image_of_8_bits_has_the_noise_of_rounding():
    rows, columns = np.mgrid[:140, :150]
    smooth = np.float32(0.3 + 0.0003 * rows + 0.0002 * columns)[..., None]
    assert float(by_channel(smooth)[0]) < 1e-6
    rounded = np.round(255 * smooth) / np.float32(255)
    assert float(by_channel(rounded)[0]) == pytest.approx(1 / 255 / np.sqrt(12), rel=0.2)
    # As dark as an image without noise: values near 0 are not of whole levels.
    assert float(by_channel(1e-6 * smooth)[0]) < 1e-9


@pytest.mark.parametrize("value", [0.0, 0.1, 0.4, 1.0])
def test_a_constant_channel_has_no_noise(value):
    y = np.concatenate([np.full((30, 23, 1), value, np.float32), noisy((30, 23, 1))], axis=2)
    found = by_channel(y)
    assert float(found[0]) == 0.0
    assert float(found[1]) > 0.03


def test_clipped_parts_are_left_out_by_channel():
    y = noisy((84, 91, 1))
    clipped = y.copy()
    clipped[:28], clipped[56:] = 1.0, 0.0
    np.testing.assert_allclose(by_channel(clipped), by_channel(y[28:56]), rtol=1e-6)
    # Where no block is free of it, the least clipped ones count.
    dark = np.random.default_rng(0).normal(0.0, 0.05, (140, 140, 1)).clip(0.0, 1.0)
    assert 0.02 < float(by_channel(np.float32(dark))[0]) < 0.05


@hypothesis.given(factor=st.floats(1e-4, 1.0), seed=st.integers(0, 100))
def test_it_scales_with_the_image_by_channel(factor, seed):
    y = noisy((22, 23, 2), seed=seed)
    once = by_channel(y)
    np.testing.assert_allclose(by_channel(np.float32(factor) * y), factor * once, rtol=1e-4)
    square = y[:21, :21]
    np.testing.assert_allclose(
        by_channel(square[::-1].transpose(1, 0, 2)), by_channel(square), rtol=1e-4
    )


@pytest.mark.slow
def test_jit_vmap_and_gradient_by_channel():
    images = np.stack([noisy((21, 24, 2), sigma=sigma) for sigma in (0.01, 0.05)])
    each = jax.vmap(gx.estimate_noise_by_channel)(images)
    assert each.shape == (2, 2)
    assert each.dtype == jnp.float32
    for image, found in zip(images, each, strict=True):
        np.testing.assert_allclose(found, gx.estimate_noise_by_channel(image), rtol=1e-5)
        np.testing.assert_allclose(found, by_channel(image), rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda y: gx.estimate_noise_by_channel(y).sum()))
    slope = float(jnp.vdot(gradient(images[0]), images[0]))
    assert slope == pytest.approx(float(by_channel(images[0]).sum()), rel=1e-3)
    assert jnp.isfinite(gradient(np.full((21, 24, 2), 0.5, np.float32))).all()


@pytest.mark.parametrize(
    ("y", "error", "quoted"),
    [
        (np.full((6, 9, 3), 0.5, np.float32), ValueError, r"\(6, 9, 3\).*7×7.*name the noise"),
        (np.full((9, 6, 1), 0.5, np.float32), ValueError, r"\(9, 6, 1\).*7×7"),
        (np.full((9, 9), 0.5, np.float32), ValueError, r"\(H, W, C\), got shape \(9, 9\)"),
        (np.full((2, 9, 9, 3), 0.5, np.float32), ValueError, r"\(2, 9, 9, 3\).*jax\.vmap"),
        (np.full((8, 8, 1), np.nan, np.float32), ValueError, "y holds 64 NaN"),
        (np.full((8, 8, 1), 9.0, np.float32), ValueError, "divide 8-bit values by 255"),
        (np.full((8, 8, 1), 128, np.uint8), TypeError, r"y.*uint8.*255\.0"),
    ],
)
def test_bad_images_by_channel(y, error, quoted):
    with pytest.raises(error, match=quoted):
        gx.estimate_noise_by_channel(y)
