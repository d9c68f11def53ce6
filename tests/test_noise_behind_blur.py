"""Noise estimated from the frequencies that a known blur leaves empty."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

import glra_jax as gx
from glra_jax.light import to_linear
from glra_jax.noise_behind_blur import (
    _blocks,
    _expected_power,
    _lowest_at_mean_brightness,
    estimate_noise_behind_blur,
)

estimate = jax.jit(estimate_noise_behind_blur)
KERNELS = {
    "gaussian": gx.gaussian_kernel(sigma=2.0, size=27),
    "disk": gx.disk_kernel(radius=5.0, size=27),
    "motion": gx.motion_kernel(jax.random.key(1), size=27),
}


@pytest.fixture(scope="module")
def sharp():
    return jnp.asarray(skimage.data.coffee()[:200, :200] / 255.0, jnp.float32)


@pytest.mark.parametrize("family", KERNELS)
@pytest.mark.parametrize("level", [0.003, 0.01, 0.04])
def test_white_noise_is_found_behind_any_blur(sharp, family, level):
    kernel = KERNELS[family]
    clean = gx.blur(0.8 * sharp + 0.1, kernel, boundary="valid")
    y = clean + level * jax.random.normal(jax.random.key(0), clean.shape)
    np.testing.assert_allclose(estimate(y, kernel), 3 * [level], rtol=0.08)


@pytest.mark.parametrize("family", KERNELS)
def test_next_to_none_is_found_where_there_is_none(sharp, family):
    kernel = KERNELS[family]
    clean = gx.blur(0.8 * sharp + 0.1, kernel, boundary="valid")
    assert (estimate(clean, kernel) < 1e-3).all()


def test_channels_have_levels_of_their_own(sharp):
    kernel, levels = KERNELS["motion"], jnp.array([0.01, 0.02, 0.04])
    clean = gx.blur(0.6 * sharp + 0.2, kernel, boundary="valid")
    y = clean + levels * jax.random.normal(jax.random.key(1), clean.shape)
    np.testing.assert_allclose(estimate(y, kernel), levels, rtol=0.08)


def test_noise_of_photons_is_found_at_the_mean_brightness():
    kernel, shot = KERNELS["motion"], 2e-4
    light = jnp.asarray(to_linear(skimage.data.astronaut() / 255.0), jnp.float32)
    clean = jnp.maximum(gx.blur(light, kernel, boundary="valid"), 0.0)
    normal = jax.random.normal(jax.random.key(3), clean.shape)
    expected = jnp.sqrt(shot * clean.mean(axis=(0, 1)))
    photons = estimate(clean + jnp.sqrt(shot * clean) * normal, kernel)
    alike = estimate(clean + expected * normal, kernel)
    assert (0.8 * expected < photons).all()  # a lower bound: 0.53 of it without classes
    assert (photons < 1.05 * expected).all()
    np.testing.assert_allclose(alike, expected, rtol=0.05)


def test_lines_between_classes_of_brightness_are_lower_bounds():
    brightness = jnp.linspace(0.0, 1.0, 41)
    seen = jnp.arange(41) < 40  # the brightest is clipped
    lowest = jax.jit(_lowest_at_mean_brightness)
    grows = 0.01 + 0.1 * brightness
    mean = brightness[:40].mean()
    # A fifth of a class lies below: where classes are narrow that is next to its mean.
    np.testing.assert_allclose(lowest(grows, brightness, seen), 0.01 + 0.1 * mean, rtol=0.15)
    np.testing.assert_allclose(lowest(jnp.full(41, 0.3), brightness, seen), 0.3, rtol=1e-6)
    textured = jnp.where((brightness > 0.45) & (brightness < 0.8), 5.0, grows)
    np.testing.assert_allclose(lowest(textured, brightness, seen), 0.01 + 0.1 * mean, rtol=0.15)
    np.testing.assert_allclose(lowest(jnp.full(41, 0.3), jnp.full(41, 0.5), seen), 0.3, rtol=1e-6)
    assert lowest(grows, brightness, brightness < 0) == 0


def test_a_file_has_at_least_the_noise_that_small_blocks_show(sharp):
    kernel = KERNELS["gaussian"]
    clean = gx.blur(sharp, kernel, boundary="valid")
    smooth = gx.blur(jax.random.normal(jax.random.key(2), clean.shape), KERNELS["gaussian"])
    y = jnp.round(255 * jnp.clip(clean + 0.1 * smooth, 0, 1)) / 255
    np.testing.assert_array_equal(
        estimate(y, kernel), jnp.maximum(estimate(y, kernel), gx.estimate_noise_by_channel(y))
    )
    assert (estimate(y, kernel) >= 0.9 / 255 / np.sqrt(12)).all()


@pytest.mark.parametrize(("family", "level"), [("motion", 0.01), ("disk", 0.003)])
def test_texture_in_a_file_is_not_taken_for_noise(family, level):
    grass = jnp.asarray(skimage.data.grass()[:300, :300, None] / 255.0, jnp.float32)
    kernel = KERNELS[family]
    clean = gx.blur(0.8 * grass + 0.1, kernel, boundary="valid")
    y = clean + level * jax.random.normal(jax.random.key(0), clean.shape)
    file = jnp.round(255.0 * y) / 255.0
    np.testing.assert_allclose(estimate(file, kernel), level, rtol=0.2)


def test_a_clipped_corner_does_not_hide_the_noise_of_a_small_image():
    noise = 0.05 * jax.random.normal(jax.random.key(5), (120, 120, 1))
    y = jnp.clip((0.5 + noise).at[:64, :64].set(1.0), 0, 1)
    np.testing.assert_allclose(estimate(y, KERNELS["gaussian"]), [0.05], rtol=0.15)


def test_clipped_parts_are_left_out(sharp):
    kernel = KERNELS["disk"]
    clean = gx.blur(sharp, kernel, boundary="valid").at[:60].set(2.0)
    y = jnp.clip(clean + 0.02 * jax.random.normal(jax.random.key(3), clean.shape), 0, 1)
    np.testing.assert_allclose(estimate(y, kernel), 3 * [0.02], rtol=0.1)


@hypothesis.settings(max_examples=10)
@hypothesis.given(exponent=st.floats(-4.0, 0.0))
def test_it_scales_with_the_image(sharp, exponent):
    kernel, scale = KERNELS["motion"], np.float32(10.0**exponent)
    y = gx.blur(sharp, kernel, boundary="valid")[:80, :80]
    y = 0.5 * y + 0.2 + 0.01 * jax.random.normal(jax.random.key(4), y.shape)
    np.testing.assert_allclose(estimate(scale * y, kernel), scale * estimate(y, kernel), rtol=1e-3)


def test_a_constant_image_has_none():
    np.testing.assert_array_equal(estimate(jnp.full((70, 66, 2), 0.3), jnp.ones((1, 1))), [0, 0])


def test_the_expected_power_is_that_of_the_kernel():
    kernel = np.asarray(KERNELS["motion"], np.float64)
    found = np.asarray(_expected_power(KERNELS["motion"], 32))
    power = np.abs(np.fft.fft2(kernel, (32, 32))) ** 2
    near = sum(power[(5 + i) % 32, (3 + j) % 32] for i in (-1, 0, 1) for j in (-1, 0, 1))
    assert found[5, 3] == pytest.approx(near / (25 + 9), rel=1e-4)
    assert np.isinf(found[0, 0])


def test_a_kernel_larger_than_a_block_is_folded():
    kernel = np.random.default_rng(0).random((41, 19)).astype(np.float32)
    wide = np.pad(kernel, ((0, 7), (0, 13)))
    folded = wide.reshape(3, 16, 2, 16).sum(axis=(0, 2))
    np.testing.assert_allclose(_expected_power(kernel, 16), _expected_power(folded, 16), rtol=1e-4)


def test_blocks_reach_from_corner_to_corner():
    y = jnp.arange(90.0 * 70).reshape(90, 70)
    blocks = _blocks(y, 64)
    assert blocks.shape == (4, 64, 64)
    assert len(_blocks(y[:64, :64], 64)) == 1
    blocks = _blocks(jnp.arange(200.0 * 70).reshape(200, 70), 64)
    assert blocks.shape == (12, 64, 64)
    assert blocks[0, 0, 0] == 0
    assert blocks[-1, -1, 0] == 199 * 70 + 6
    assert len(_blocks(jnp.zeros((3000, 64)), 64)) == 24


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"y must be \(H, W, C\)"):
        estimate_noise_behind_blur(jnp.zeros((20, 20)), KERNELS["disk"])
    with pytest.raises(TypeError, match="kernel"):
        estimate_noise_behind_blur(jnp.zeros((20, 20, 1)), jnp.ones((3, 3), jnp.int32))
