"""The map of the expected error: its coefficients, its unit, and whether it holds."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from experiments.calibrate_error import Sample, fit, reliability
from glra_jax.error_maps import (
    FEATURES,
    ErrorCalibration,
    error_features,
    expected_error,
    load_calibration,
)

KERNEL = gx.disk_kernel(radius=2.0, size=7)


def only(**values):
    """A calibration of few coefficients."""
    return ErrorCalibration(np.asarray([values.get(name, 0.0) for name in FEATURES], np.float32))


@pytest.fixture(scope="module")
def pair(colour_photograph):
    """A photograph and itself blurred, which stands for a restoration."""
    x = jnp.asarray(colour_photograph[:64, :72])
    return x, gx.degrade(jax.random.key(0), x, KERNEL, noise=0.01)


def test_one_coefficient_gives_the_same_error_everywhere(pair):
    error = expected_error(*pair, KERNEL, noise=0.01, calibration=only(one=2.0 * np.log(0.02)))
    np.testing.assert_allclose(error, 0.02, rtol=1e-5)
    assert error.shape == pair[0].shape


def test_the_feature_change_is_the_squared_difference_around(pair):
    """With it alone, e² is the mean of (restored - y)² over a Gaussian window, to a power."""
    restored = pair[1] + 0.1
    power = float(np.log(10.0))
    error = expected_error(restored, pair[1], KERNEL, noise=0.01, calibration=only(change=power))
    np.testing.assert_allclose(error, 0.1, rtol=1e-3)


def test_grey_images_are_as_one_channel(pair):
    grey = [image[..., 0] for image in pair]
    calibration = only(one=-6.0, detail=0.5, outside=1.0, clipped=0.5)
    error = expected_error(*grey, KERNEL, noise=0.01, calibration=calibration)
    colour = expected_error(*pair, KERNEL, noise=0.01, calibration=calibration)
    np.testing.assert_allclose(error, colour[..., 0], rtol=1e-5)


def test_the_error_is_in_the_unit_of_the_image(pair):
    calibration = only(one=-6.0, detail=0.5, misfit=0.3)
    restored, y = pair
    error = expected_error(restored, y, KERNEL, noise=0.01, calibration=calibration)
    large = expected_error(
        4095.0 * restored,
        4095.0 * y,
        KERNEL,
        noise=40.95,
        scale=4095.0,
        calibration=calibration,
    )
    np.testing.assert_allclose(large / 4095.0, error, rtol=1e-4)


def test_pixels_near_the_frame_and_clipped_ones_are_told_apart(pair):
    y = np.full((48, 48), 0.5, np.float32)
    y[20:28, 20:28] = 1.0
    features = np.asarray(error_features(y[..., None], y[..., None], KERNEL, noise=0.01))
    outside = features[..., 0, FEATURES.index("outside")]
    clipped = features[..., 0, FEATURES.index("clipped")]
    np.testing.assert_allclose(outside[8:40, 8:40], 0.0, atol=1e-5)
    assert outside[0, 24] > 0.3
    assert clipped[24, 24] > 0.7
    assert clipped[4, 4] < 1e-6


def test_a_stronger_blur_loses_more_and_so_does_more_noise(pair):
    def lost(radius, noise):
        kernel = gx.disk_kernel(radius=radius, size=13)
        return error_features(*pair, kernel, noise=noise)[0, 0, 0, FEATURES.index("lost")]

    assert lost(5.0, 0.01) > lost(2.0, 0.01)
    assert lost(3.0, 0.03) > lost(3.0, 0.003)


def test_it_works_under_jit_and_vmap_and_has_slopes(pair):
    calibration = only(one=-6.0, detail=0.5)

    def error(restored):
        return expected_error(restored, pair[1], KERNEL, noise=0.01, calibration=calibration)

    expected = error(pair[0])
    np.testing.assert_allclose(jax.jit(error)(pair[0]), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(error)(pair[0][None])[0], expected, rtol=1e-5)
    slope = jax.grad(lambda restored: error(restored).sum())(pair[0])
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": jnp.zeros((64, 70, 3))}, r"restored of shape \(64, 72, 3\) is not the restoration"),
        ({"kernel": jnp.zeros((3, 3))}, "sum"),
        ({"noise": -0.1}, "noise must be finite and at least 0, got -0.1"),
    ],
)
def test_what_will_not_do_is_refused(pair, change, message):
    call = {"restored": pair[0], "y": pair[1], "kernel": KERNEL, "noise": 0.01, **change}
    with pytest.raises(ValueError, match=message):
        expected_error(**call, calibration=only(one=-6.0))


@pytest.mark.parametrize("content", ["{", "[]", '{"coefficients": {"one": 1}}'])
def test_a_file_without_coefficients_is_refused_by_name(tmp_path, content):
    path = tmp_path / "error.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"error\.json holds no coefficients"):
        load_calibration(path)


def test_coefficients_come_back_from_a_file(tmp_path):
    path = tmp_path / "error.json"
    values = {name: float(place) for place, name in enumerate(FEATURES)}
    path.write_text(json.dumps({"coefficients": values}))
    np.testing.assert_array_equal(load_calibration(path).coefficients, np.arange(len(FEATURES)))


def test_the_fit_finds_the_coefficients_that_made_the_errors():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(40_000, len(FEATURES))).astype(np.float32)
    features[:, 0] = 1.0
    true = np.linspace(-0.6, 0.6, len(FEATURES))
    true[0] = -5.0
    squared = np.exp(features @ true) * generator.normal(size=len(features)) ** 2
    sample = Sample(features, squared.astype(np.float32), np.zeros(len(features), int))
    np.testing.assert_allclose(fit(sample), true, atol=0.05)


def test_reliability_is_the_root_mean_square_in_equal_shares():
    expected = np.repeat([0.01, 0.02, 0.03], 1000)
    squared = np.repeat([0.02, 0.02, 0.06], 1000) ** 2
    curve = reliability(expected, squared)
    np.testing.assert_allclose(curve[0], (0.01, 0.02))
    np.testing.assert_allclose(curve[-1], (0.03, 0.06))
    assert len(curve) == 12


@pytest.mark.slow
def test_the_package_expects_about_the_errors_that_are_there(colour_photograph):
    x = jnp.asarray(colour_photograph[:96, :96])
    model = gx.load_model("unrolled")
    found = []
    for number in range(4):
        kernel = gx.motion_kernel(jax.random.key(number), size=15)
        y = gx.degrade(jax.random.key(number), x, kernel, noise=0.01 * (1 + number % 2))
        restored = gx.deconvolve(y, kernel, model, boundary="wrap")
        error = np.asarray(expected_error(restored, y, kernel))
        truth = np.asarray(restored - gx.sharp_target(x))
        found.append(np.sqrt(np.mean(truth**2) / np.mean(error**2)))
    assert 0.6 < np.mean(found) < 1.6
