"""Photographs as cameras make them, and the noise that is said to be in them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from glra_jax.degradation import degraded_pair

KERNEL = gx.gaussian_kernel(sigma=1.5, size=9)
draw = jax.jit(partial(degraded_pair, protocol="camera"), static_argnames="boundary")


@pytest.fixture(scope="module")
def pairs(colour_photograph):
    keys = jax.random.split(jax.random.key(0), 60)
    many = jax.jit(jax.vmap(partial(degraded_pair, protocol="camera"), in_axes=(0, None, None)))
    return many(keys, jnp.asarray(colour_photograph), KERNEL)


def test_images_are_what_files_hold(pairs):
    assert pairs.blurred.min() >= 0
    assert pairs.blurred.max() <= 1
    assert jnp.isfinite(pairs.blurred).all()
    # Photographs in the file's light hold its levels, unless their exposure is dark.
    levels = 255 * pairs.blurred
    whole = jnp.abs(levels - jnp.round(levels)).max(axis=(1, 2, 3)) < 1e-3
    assert 0.2 < whole.mean() < 0.7


def test_the_truth_is_the_saturated_scene(pairs, colour_photograph):
    assert pairs.sharp.min() >= 0
    assert pairs.sharp.max() <= 1
    assert (pairs.sharp == 1).mean() > (colour_photograph == 1).mean()
    # Neither exposure nor light changes the order of brightness.
    rank = np.corrcoef(np.sqrt(pairs.sharp[0]).ravel(), colour_photograph.ravel())[0, 1]
    assert rank > 0.9


def test_half_of_the_images_are_linear_light_and_say_so(pairs, colour_photograph):
    """Linear light is darker: middle grey is a fifth of it."""
    assert 0.3 < pairs.linear.mean() < 0.7
    brightness = np.asarray(pairs.sharp.mean(axis=(1, 2, 3)))
    linear = np.asarray(pairs.linear)
    assert brightness[linear].mean() < 0.8 * brightness[~linear].mean()


def test_noise_is_what_was_added_to_the_blurred_truth(colour_photograph):
    dull = 0.5 * jnp.asarray(colour_photograph) + 0.1  # nothing is near white
    keys = jax.random.split(jax.random.key(1), 40)
    many = jax.jit(jax.vmap(partial(degraded_pair, protocol="camera"), in_axes=(0, None, None)))
    pairs = many(keys, dull, KERNEL)
    for index in range(40):
        if pairs.sharp[index].max() >= 1:
            continue
        clean = gx.blur(pairs.sharp[index], KERNEL)
        error = pairs.blurred[index] - clean
        mean = jnp.maximum(clean.mean(axis=(0, 1)), 0.05)
        expected = pairs.noise[index] ** 2 + pairs.shot[index] * mean
        np.testing.assert_allclose((error**2).mean(axis=(0, 1)), expected, rtol=0.02)


def test_noise_grows_with_the_level(colour_photograph):
    x = jnp.asarray(colour_photograph)
    quiet, loud = (draw(jax.random.key(2), x, KERNEL, noise=level) for level in (0.0, 0.05))
    assert (loud.noise**2 + loud.shot > 4 * (quiet.noise**2 + quiet.shot)).all()


def test_the_patch_without_its_margin_is_blurred_with_valid_borders(colour_photograph):
    x = jnp.asarray(colour_photograph)
    pair = draw(jax.random.key(3), x, KERNEL, noise=0.0, boundary="valid")
    assert pair.blurred.shape == (x.shape[0] - 8, x.shape[1] - 8, 3)
    assert pair.sharp.shape == x.shape


@pytest.mark.slow
def test_degrade_gives_the_blurred_image(colour_photograph):
    x, key = jnp.asarray(colour_photograph[:32, :32]), jax.random.key(4)
    degrade = jax.jit(partial(gx.degrade, protocol="camera"))
    np.testing.assert_allclose(degrade(key, x, KERNEL), draw(key, x, KERNEL).blurred, atol=1e-6)
    assert degrade(key, x[..., 0], KERNEL).shape == x.shape[:2]
    two = degrade(key, jnp.stack([x, x]), KERNEL)
    assert jnp.abs(two[0] - two[1]).max() > 0.01  # each drawn for itself


def test_a_truth_that_is_drawn_has_no_function_of_its_own(photograph):
    with pytest.raises(ValueError, match="protocol 'camera' is drawn; see degraded_pair"):
        gx.sharp_target(photograph, protocol="camera")


@pytest.mark.parametrize("protocol", ["paper", "release"])
def test_pairs_of_the_other_protocols_are_theirs(colour_photograph, protocol):
    key, x = jax.random.key(5), jnp.asarray(colour_photograph[:32, :32])
    pair = degraded_pair(key, x, KERNEL, protocol=protocol, noise=0.02)
    expected = gx.degrade(key, x, KERNEL, protocol=protocol, noise=0.02)
    np.testing.assert_array_equal(pair.blurred, expected)
    np.testing.assert_array_equal(pair.sharp, gx.sharp_target(x, protocol=protocol))
    level = 0.02 if protocol == "paper" else 0.02 / 12**0.5
    np.testing.assert_allclose(pair.noise, 3 * [level], rtol=1e-6)
    np.testing.assert_array_equal(pair.shot, 3 * [0.0])
