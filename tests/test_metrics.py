"""PSNR in closed form, SSIM against scikit-image, volume SSIM against SciPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from skimage.metrics import structural_similarity

import glra_jax as gx


def noisy(image, level=0.08, seed=0):
    noise = np.random.default_rng(seed).normal(0.0, level, image.shape)
    return np.float32(np.clip(image + noise, 0.0, 1.0))


def dark(image, seed=0):
    """Hardly anything but rounding: where a float32 SSIM would go wrong first."""
    return np.float32(0.002 * noisy(image, seed=seed))


PAIRS = {
    "noisy": lambda x: (noisy(x), x),
    "blurred": lambda x: (scipy.ndimage.gaussian_filter(x, (2, 2, 0)[: x.ndim]), x),
    "brighter": lambda x: (np.float32(1.1 * x + 0.03), x),
    "negative": lambda x: (1 - x, x),
    "dark": lambda x: (dark(x, 1), dark(x, 2)),
    "bright": lambda x: (1 - dark(x, 1), 1 - dark(x, 2)),
}


# --- PSNR ----------------------------------------------------------------------------------------


def reference_psnr(image, reference):
    return -10 * np.log10(np.mean((np.float64(image) - np.float64(reference)) ** 2))


@pytest.mark.parametrize("difference", [0.5, 0.01, 1e-3])
@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 3)])
def test_psnr_of_a_constant_difference(shape, difference):
    reference = np.zeros(shape, np.float32)
    value = gx.psnr(reference + np.float32(difference), reference)
    assert value.shape == ()
    assert value.dtype == jnp.float32
    assert float(value) == pytest.approx(-20 * np.log10(difference), abs=1e-4)


def test_psnr_counts_all_pixels_and_channels_together(colour_photograph):
    other = noisy(colour_photograph)
    value = float(gx.psnr(other, colour_photograph))
    assert value == pytest.approx(reference_psnr(other, colour_photograph), abs=1e-4)


def test_psnr_with_another_peak(photograph):
    other = noisy(photograph)
    value = float(gx.psnr(255 * other, 255 * photograph, peak=255.0))
    assert value == pytest.approx(float(gx.psnr(other, photograph)), abs=1e-3)


def test_psnr_of_equal_images_is_infinite(photograph):
    assert gx.psnr(photograph, photograph) == jnp.inf


def test_psnr_does_not_clip():
    # 1.5 against 1 is an error of a half, although both are white on a screen.
    assert float(gx.psnr(jnp.full((4, 4), 1.5), jnp.ones((4, 4)))) == pytest.approx(
        6.0206, abs=1e-4
    )


# --- SSIM ----------------------------------------------------------------------------------------


def skimage_ssim(image, reference, data_range=1.0):
    return structural_similarity(
        np.float64(image),
        np.float64(reference),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=data_range,
        channel_axis=2 if image.ndim == 3 else None,
    )


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("colour", [False, True])
def test_ssim_is_that_of_scikit_image(photograph, colour_photograph, colour, pair):
    image, reference = PAIRS[pair](colour_photograph if colour else photograph)
    value = gx.ssim(image, reference)
    assert value.shape == ()
    assert value.dtype == jnp.float32
    assert float(value) == pytest.approx(skimage_ssim(image, reference), abs=1e-5)


def test_ssim_with_another_peak(photograph):
    image, reference = 255 * noisy(photograph), 255 * photograph
    expected = skimage_ssim(image, reference, data_range=255.0)
    assert float(gx.ssim(image, reference, peak=255.0)) == pytest.approx(expected, abs=1e-5)


def test_ssim_of_the_smallest_image(photograph):
    image, reference = noisy(photograph)[:11, :11], photograph[:11, :11]
    assert float(gx.ssim(image, reference)) == pytest.approx(
        skimage_ssim(image, reference), abs=1e-5
    )


# --- volume SSIM ---------------------------------------------------------------------------------


def reference_volume(image, reference, peak=1.0):
    """The same formula on a 3-D array, with SciPy's Gaussian of radius 5, in float64."""

    def smooth(x):
        return scipy.ndimage.gaussian_filter(x, 1.5, mode="nearest", truncate=5 / 1.5)

    a, b = np.float64(np.atleast_3d(image)), np.float64(np.atleast_3d(reference))
    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    c1, c2 = 1e-4 * peak**2, 9e-4 * peak**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return np.mean(luminance * (2 * covariance + c2) / (var_a + var_b + c2))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("colour", [False, True])
def test_ssim_volume_is_that_of_float64(photograph, colour_photograph, colour, pair):
    image, reference = PAIRS[pair](colour_photograph if colour else photograph)
    value = gx.ssim_volume(image, reference)
    assert value.shape == ()
    assert value.dtype == jnp.float32
    assert float(value) == pytest.approx(reference_volume(image, reference), abs=1e-5)


def test_ssim_volume_with_another_peak_and_a_tiny_image(colour_photograph):
    image, reference = 255 * noisy(colour_photograph)[:5, :4], 255 * colour_photograph[:5, :4]
    expected = reference_volume(image, reference, peak=255.0)
    assert float(gx.ssim_volume(image, reference, peak=255.0)) == pytest.approx(expected, abs=1e-5)


def test_volume_ssim_is_higher_on_noise(colour_photograph):
    """What makes the paper's SSIM columns incomparable with others'."""
    image = noisy(colour_photograph)
    assert gx.ssim_volume(image, colour_photograph) > gx.ssim(image, colour_photograph) + 0.1


# --- both, and all three -------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [gx.ssim, gx.ssim_volume])
def test_equal_images_have_similarity_one(metric, colour_photograph):
    assert float(metric(colour_photograph, colour_photograph)) == pytest.approx(1.0, abs=1e-6)
    assert float(metric(jnp.zeros((12, 12)), jnp.zeros((12, 12)))) == pytest.approx(1.0, abs=1e-6)


METRICS = {gx.psnr: reference_psnr, gx.ssim: skimage_ssim, gx.ssim_volume: reference_volume}


@pytest.mark.parametrize("metric", METRICS)
def test_a_batch_gives_one_value_an_image(metric, colour_photograph):
    reference = np.stack([colour_photograph[:24, :26], colour_photograph[50:74, 60:86]])
    image = np.stack([noisy(reference[0]), noisy(reference[1], level=0.02)])
    expected = [METRICS[metric](a, b) for a, b in zip(image, reference, strict=True)]
    values = jax.jit(metric)(image, reference)
    assert values.shape == (2,)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(metric))(image, reference), expected, rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_have_gradients(metric, photograph):
    reference = photograph[:16, :18]
    image = noisy(reference)
    step = jax.jit(jax.grad(metric))(image, reference)
    step *= 1e-3 / jnp.abs(step).max()
    assert METRICS[metric](image + step, reference) > METRICS[metric](image, reference)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("image", "reference", "error", "quoted"),
    [
        (np.ones(12), np.ones(12), ValueError, r"image.*rank 1.*\(12,\)"),
        (np.ones((12, 12)), np.ones((12, 13)), ValueError, r"\(12, 12\).*\(12, 13\)"),
        (np.ones((12, 12), np.uint8), np.ones((12, 12)), TypeError, r"image.*uint8.*255\.0"),
        (np.ones((12, 12)), np.ones((12, 12), np.int32), TypeError, "reference.*int32"),
        (np.full((12, 12), np.nan), np.ones((12, 12)), ValueError, "image.*144 NaN"),
        (np.ones((12, 12)), np.full((12, 12), np.inf), ValueError, "reference.*144 NaN or inf"),
    ],
)
def test_metrics_refuse(metric, image, reference, error, quoted):
    with pytest.raises(error, match=quoted):
        metric(image, reference)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_refuse_a_peak(metric, photograph):
    with pytest.raises(ValueError, match=r"peak.*got -1\.0"):
        metric(photograph, photograph, peak=-1.0)


def test_ssim_refuses_small_images():
    with pytest.raises(ValueError, match=r"11.11.*\(10, 30\)"):
        gx.ssim(jnp.ones((10, 30)), jnp.ones((10, 30)))
