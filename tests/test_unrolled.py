"""The unrolled network: what it restores, and that it does so in every shape it is asked for."""

from functools import partial

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from glra_jax import spectra
from glra_jax.networks import Unrolled, unrolled
from glra_jax.networks.unrolled import _filled, _periodic, _unexplained
from glra_jax.noise import NoiseModel
from glra_jax.noise_behind_blur import estimate_noise_behind_blur, middle

SMALL = Unrolled(stages=2, features=4, blocks=1)
KERNEL = gx.motion_kernel(jax.random.key(3), size=9)
deconvolve = jax.jit(gx.deconvolve, static_argnames="boundary")


@pytest.fixture(scope="module")
def fresh():
    return gx.initial_model(jax.random.key(0), SMALL, {})


@pytest.fixture(scope="module")
def model(fresh):
    """Random weights everywhere, so that no part of the network is without effect."""
    leaves, structure = jax.tree.flatten(fresh.params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    changed = [
        leaf + 0.03 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return gx.Model(SMALL, {}, jax.tree.unflatten(structure, changed))


@pytest.fixture(scope="module")
def blurred(colour_photograph):
    """The photograph, darkened a little so that nothing is clipped, and blurred."""
    return gx.blur(0.9 * jnp.asarray(colour_photograph), KERNEL, boundary="wrap")


# --- what it starts from -------------------------------------------------------------------------


def test_a_fresh_network_undoes_the_blur_of_a_quiet_image(fresh, blurred, colour_photograph):
    restored = deconvolve(blurred, KERNEL, fresh, boundary="wrap", noise=0.0)
    found, before = (gx.psnr(image, 0.9 * colour_photograph) for image in (restored, blurred))
    assert found > 32
    assert found > before + 8


def test_a_fresh_network_gives_back_a_sharp_image(fresh, colour_photograph):
    x = 0.9 * jnp.asarray(colour_photograph)
    restored = deconvolve(x, jnp.ones((1, 1)), fresh, noise=0.0)
    np.testing.assert_allclose(restored, x, atol=0.01)


def test_restorations_are_smoother_the_noisier_the_image(fresh, blurred):
    """The linear restorations follow the level that they are told."""
    rough = [
        float(jnp.abs(jnp.diff(deconvolve(blurred, KERNEL, fresh, noise=level), axis=0)).mean())
        for level in (0.0, 0.01, 0.05)
    ]
    assert rough[0] > 1.1 * rough[1] > 1.2 * rough[2]


def test_further_stages_start_from_those_of_another_model(model, blurred):
    single = Unrolled(stages=1, features=4, blocks=1)
    start = gx.initial_model(jax.random.key(5), single, {})
    constants, params = SMALL.adopt(single, {}, start.params)
    assert constants == {}
    jax.tree.map(np.testing.assert_array_equal, params["stage_1"], start.params["stage_1"])
    body = params["stage_2"]["block_0"], start.params["stage_1"]["block_0"]
    jax.tree.map(np.testing.assert_array_equal, *body)
    assert jnp.abs(params["stage_2"]["leave"]["kernel"]).max() == 0
    _, first = single.adopt(SMALL, {}, model.params)
    assert set(first) == {"strengths_1", "stage_1", "strengths_last"}
    jax.tree.map(np.testing.assert_array_equal, first, {k: model.params[k] for k in first})
    with pytest.raises(ValueError, match="the initial model is Unrolled"):
        Unrolled(stages=2, features=6, blocks=1).adopt(single, {}, start.params)


def test_a_shared_network_is_as_one_that_stands_there_twice(model, blurred):
    shared = Unrolled(stages=3, networks=2, features=4, blocks=1)
    constants, params = shared.adopt(SMALL, {}, model.params)
    assert set(params) == {*model.params, "strengths_3"}
    jax.tree.map(np.testing.assert_array_equal, params["strengths_3"], params["strengths_2"])
    apart = Unrolled(stages=3, features=4, blocks=1)
    twice = {**params, "stage_3": params["stage_2"]}
    restored, expected = (
        deconvolve(blurred, KERNEL, gx.Model(architecture, constants, weights), noise=0.01)
        for architecture, weights in ((shared, params), (apart, twice))
    )
    np.testing.assert_allclose(restored, expected, atol=1e-6)
    two_stages = deconvolve(blurred, KERNEL, model, noise=0.01)
    assert jnp.abs(restored - two_stages).max() > 1e-4
    # One more that adds nothing yet, beside the two.
    _, more = apart.adopt(shared, {}, params)
    jax.tree.map(np.testing.assert_array_equal, more["stage_2"], params["stage_2"])
    assert jnp.abs(more["stage_3"]["leave"]["kernel"]).max() == 0


@pytest.mark.parametrize(("stages", "networks"), [(3, 1), (2, 3), (3, 0)])
def test_a_number_of_networks_that_will_not_do_is_refused(stages, networks):
    with pytest.raises(ValueError, match=f"networks must be .*got {networks}"):
        Unrolled(stages=stages, networks=networks)


# --- the laws that it keeps ----------------------------------------------------------------------


def test_fine_blocks_add_nothing_before_they_are_trained(model, blurred):
    fine = Unrolled(stages=2, features=4, blocks=1, fine_blocks=1)
    constants, params = fine.adopt(model.architecture, model.constants, model.params)
    assert set(params["stage_2"]) - set(model.params["stage_2"]) == {"block_fine_0"}
    restored = deconvolve(blurred, KERNEL, gx.Model(fine, constants, params), noise=0.01)
    expected = deconvolve(blurred, KERNEL, model, noise=0.01)
    np.testing.assert_allclose(restored, expected, atol=1e-6)
    with pytest.raises(ValueError, match="Unrolled"):
        model.architecture.adopt(fine, constants, params)


@hypothesis.settings(max_examples=8)
@hypothesis.given(exponent=st.floats(-3.0, 0.0))
def test_a_darker_image_is_restored_darker_by_as_much(model, blurred, exponent):
    scale = np.float32(10.0**exponent)
    whole = deconvolve(blurred, KERNEL, model, noise=0.01)
    dark = deconvolve(scale * blurred, KERNEL, model, noise=0.01 * scale)
    np.testing.assert_allclose(dark / scale, whole, atol=2e-4)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_flat_image_stays_as_it_is(fresh, level):
    y = jnp.full((40, 48, 3), level)
    restored = deconvolve(y, KERNEL, fresh, noise=0.01)
    np.testing.assert_allclose(restored, y, atol=0.5 / 255)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_the_last_step_brings_the_mean_brightness_back(fresh, blurred, noise):
    """U-Nets that make everything brighter by a hundredth of it."""
    stage = fresh.params["stage_2"]
    brighter = {"leave": stage["leave"] | {"bias": jnp.full(12, 0.0035)}}
    params = fresh.params | {"stage_2": stage | brighter}
    restored = deconvolve(
        blurred, KERNEL, gx.Model(SMALL, {}, params), boundary="wrap", noise=noise
    )
    assert float(restored.mean()) == pytest.approx(float(blurred.mean()), rel=1e-3)


def test_grey_is_restored_as_three_channels_that_are_the_same(model, blurred):
    grey = blurred[..., 1]
    restored = deconvolve(grey, KERNEL, model, noise=0.01)
    three = deconvolve(jnp.stack([grey] * 3, axis=-1), KERNEL, model, noise=0.01)
    assert restored.shape == grey.shape
    np.testing.assert_allclose(three, jnp.stack([restored] * 3, axis=-1), atol=1e-4)


@pytest.mark.slow
def test_two_channels_are_restored_as_grey_ones(model, blurred):
    two = deconvolve(blurred[..., :2], KERNEL, model, noise=0.01)
    for channel in range(2):
        alone = deconvolve(blurred[..., channel], KERNEL, model, noise=0.01)
        np.testing.assert_allclose(two[..., channel], alone, atol=1e-4)


@pytest.mark.slow
def test_images_of_a_batch_do_not_know_each_other(model, blurred):
    pair = jnp.stack([blurred, 0.5 * blurred[::-1]])
    together = deconvolve(pair, KERNEL, model)
    for one, alone in zip(together, pair, strict=True):
        np.testing.assert_allclose(one, deconvolve(alone, KERNEL, model), atol=1e-4)


# --- shapes, transformations, tiles --------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3), pytest.param((101, 101), marks=pytest.mark.slow)])
def test_any_kernel(model, blurred, shape):
    kernel = jnp.zeros(shape).at[shape[0] // 2, shape[1] // 2].set(1.0)
    restored = deconvolve(blurred[:37, :43], kernel, model, noise=0.0)
    assert restored.shape == (37, 43, 3)
    plain = deconvolve(blurred[:37, :43], jnp.ones((1, 1)), model, noise=0.0)
    # The same blur in a larger window: only the continuation beyond the frame differs.
    np.testing.assert_allclose(restored[8:-8, 8:-8], plain[8:-8, 8:-8], atol=0.02)


@pytest.mark.parametrize(
    "boundary",
    ["edge", *(pytest.param(name, marks=pytest.mark.slow) for name in ("reflect", "wrap"))],
)
def test_tiles_give_the_whole(model, blurred, boundary):
    whole = deconvolve(blurred, KERNEL, model, boundary=boundary, noise=0.01)
    restorer = gx.prepare(model, KERNEL, tile=(48, 40), noise=0.01)
    tiles = restorer(np.asarray(blurred), boundary=boundary)
    np.testing.assert_allclose(tiles, whole, atol=0.02)
    assert np.sqrt(np.mean((tiles - whole) ** 2)) < 0.5 / 255


def test_a_grey_tile_of_a_colour_photograph_is_restored_as_in_the_whole(model, blurred):
    """What is grey is asked of the whole: a network gives another colour to what is not."""
    y = np.array(blurred)
    y[:, 56:] = y[:, 56:, :1]
    whole = deconvolve(y, KERNEL, model, noise=0.01)
    tiles = gx.prepare(model, KERNEL, tile=(96, 24), noise=0.01)(y)
    colour = np.abs(whole - whole.mean(axis=-1, keepdims=True))[:, 96:].max()
    assert colour > 0.02  # the network's doing, which a tile that went as grey would lack
    np.testing.assert_allclose(tiles[:, 96:], whole[:, 96:], atol=0.02)


@pytest.mark.slow
def test_vmap_is_one_after_the_other(model, blurred):
    kernels = jnp.stack([KERNEL, KERNEL[::-1]])
    images = jnp.stack([blurred, blurred[:, ::-1]])
    restore = partial(gx.deconvolve, model=model, noise=0.01)
    many = jax.jit(jax.vmap(restore))(images, kernels)
    for restored, image, kernel in zip(many, images, kernels, strict=True):
        np.testing.assert_allclose(
            restored, deconvolve(image, kernel, model, noise=0.01), atol=1e-4
        )


def test_gradients_are_slopes(model, blurred):
    """For the image and the kernel, against differences."""
    y, direction = blurred[:40, :40], jax.random.normal(jax.random.key(7), (40, 40, 3))
    turn = jnp.zeros_like(KERNEL).at[4, 4].set(1.0) - KERNEL

    @jax.jit
    def restored(step, tilt):
        return gx.deconvolve(y + step * direction, KERNEL + tilt * turn, model, noise=0.01)

    def value(step, tilt):
        return jnp.sum(direction * restored(step, tilt))

    slopes = jax.jit(jax.grad(value, argnums=(0, 1)))(0.0, 0.0)
    for index, slope in enumerate(slopes):
        step = 5e-4 * np.eye(2, dtype=np.float32)[index]
        # Pixel by pixel first: the sums are a thousand times as large as their difference.
        change = np.float64(restored(*step)) - np.float64(restored(*-step))
        difference = np.sum(np.float64(direction) * change) / 1e-3
        assert float(slope) == pytest.approx(float(difference), rel=0.05)


def test_a_model_file_gives_the_same_model(model, blurred, tmp_path):
    gx.save_model(model, tmp_path / "m.safetensors")
    loaded = gx.load_model(tmp_path / "m.safetensors")
    assert loaded.architecture == SMALL
    jax.tree.map(np.testing.assert_array_equal, loaded.params, model.params)


# --- noise ---------------------------------------------------------------------------------------


def test_noise_may_be_told_for_each_channel_and_with_its_growth(model, blurred):
    alike = deconvolve(blurred, KERNEL, model, noise=0.02)
    channels = deconvolve(blurred, KERNEL, model, noise=jnp.array([0.02, 0.02, 0.02]))
    np.testing.assert_allclose(channels, alike, atol=1e-5)
    other = deconvolve(blurred, KERNEL, model, noise=jnp.array([0.02, 0.02, 0.04]))
    assert jnp.abs(other - alike).max() > 1e-3
    grows = deconvolve(blurred, KERNEL, model, noise=NoiseModel(0.01, 0.001))
    assert jnp.abs(grows - alike).max() > 1e-3


def test_the_noise_of_images_of_many_sizes_is_estimated_from_few():
    rows = (1.0 + np.arange(3000.0))[None, :, None, None] / 4000 * np.ones((1, 1, 50, 1))
    for height in (40, 63, 64, 100, 511, 600, 3000):
        looked_at, _ = middle(rows[:, :height])
        assert looked_at.shape[1] in {*range(8, 65, 8), *range(64, 513, 64), 768, 1024}
        assert looked_at.shape[1] > height / 2 or looked_at.shape[1] == 1024
        assert 4000 * looked_at.mean() == pytest.approx((height + 1) / 2, abs=0.5)
        assert looked_at.shape[2] == 48


@pytest.mark.slow
def test_the_noise_is_not_sought_in_a_clipped_middle():
    y = np.float32(np.random.default_rng(0).normal(0.5, 0.05, (1, 700, 700, 1)))
    y[:, 90:-90, 90:-90] = 1.0
    looked_at, _ = middle(y)
    assert looked_at.shape == (1, 512, 512, 1)
    assert np.mean(looked_at == 1.0) < 0.7
    level = estimate_noise_behind_blur(looked_at[0], KERNEL)
    np.testing.assert_allclose(level, 0.05, rtol=0.1)


@pytest.mark.parametrize("noise", [-0.1, np.nan, np.zeros(2), NoiseModel(0.01, -1.0)])
def test_impossible_noise_is_refused(model, blurred, noise):
    with pytest.raises(ValueError, match="noise"):
        gx.deconvolve(blurred, KERNEL, model, noise=noise)


def test_noise_of_other_channels_than_the_image_is_refused(model, blurred):
    with pytest.raises(ValueError, match=r"noise has 3 levels, and y of shape .* 1 channels"):
        gx.deconvolve(blurred[..., 0], KERNEL, model, noise=jnp.array([0.01, 0.02, 0.05]))


# --- clipped pixels and borders ------------------------------------------------------------------


def test_clipped_pixels_ask_for_one_side_only():
    y = jnp.array([1.0, 1.0, 0.0, 0.0, 0.5])
    again = jnp.array([1.3, 0.8, 0.2, -0.1, 0.6])
    np.testing.assert_allclose(_unexplained(y, again), [0.0, 0.2, -0.2, 0.0, -0.1], atol=1e-6)


def test_opposite_sides_meet():
    x = jax.random.uniform(jax.random.key(0), (1, 1, 30, 40))
    joined = _periodic(x, 8)
    np.testing.assert_array_equal(joined[..., 8:-8, 8:-8], x[..., 8:-8, 8:-8])
    np.testing.assert_allclose(joined[..., 0, :], joined[..., -1, :], atol=1e-6)
    np.testing.assert_allclose(joined[..., 0], joined[..., -1], atol=1e-6)


def test_what_is_filled_in_outside_solves_the_equations():
    """Against the dense system in float64; the frame stays as it is."""
    generator = np.random.default_rng(0)
    x = generator.uniform(size=(2, 2, 12, 10))
    inside = np.zeros((2, 1, 12, 10))
    inside[:, :, 3:10, 2:9] = 1.0
    power = generator.uniform(0.0, 1.0, size=(2, 1, 12, 6))
    penalty = generator.uniform(0.1, 1.0, size=(2, 2, 12, 6))
    # A real filter has a spectrum that is symmetric where the half that is stored has both sides.
    for spectrum in (power, penalty):
        for column in (0, 5):
            spectrum[..., column] += spectrum[..., (-np.arange(12)) % 12, column]
    arrays = (jnp.asarray(array, jnp.float32) for array in (x, inside, power, penalty))
    filled = np.asarray(_filled(*arrays, steps=80))
    np.testing.assert_array_equal(filled[:, :, 3:10, 2:9], np.float32(x[:, :, 3:10, 2:9]))
    lost = penalty / (power + penalty)
    unit = np.eye(120).reshape(120, 1, 12, 10)
    for n, c in np.ndindex(2, 2):
        matrix = np.fft.irfft2(np.fft.rfft2(unit) * lost[n, c], s=(12, 10)).reshape(120, 120)
        out = inside[n, 0].reshape(-1) == 0.0
        known = np.where(out, 0.0, x[n, c].reshape(-1))
        expected = np.linalg.solve(matrix[np.ix_(out, out)], -(matrix @ known)[out])
        np.testing.assert_allclose(filled[n, c].reshape(-1)[out], expected, atol=2e-4)


def test_nothing_is_filled_in_where_all_is_known():
    x = jax.random.uniform(jax.random.key(0), (1, 1, 8, 8))
    flat = jnp.ones((1, 1, 8, 5))
    np.testing.assert_array_equal(_filled(x, jnp.ones((1, 1, 8, 8)), flat, flat, steps=3), x)


@pytest.mark.parametrize("dark", [0.5, 0.2])
def test_slopes_are_finite_where_there_is_next_to_nothing_to_fill_in(dark):
    """The conjugate gradients are at their end before their last step."""
    x = jnp.full((1, 1, 40, 40), 0.5).at[0, 0, 20, 20].set(dark)
    inside = jnp.zeros((1, 1, 40, 40)).at[:, :, 8:-8, 8:-8].set(1.0)
    power = jnp.ones((1, 1, 40, 21))
    penalty = 1e-3 * spectra.gradient_power((40, 40))[None, None]

    def total(x, power):
        return jnp.sum(_filled(x, inside, power, penalty, steps=6) ** 2)

    slopes = jax.grad(total, argnums=(0, 1))(x, power)
    assert all(jnp.isfinite(slope).all() for slope in slopes)


@pytest.mark.slow
def test_filling_in_helps_the_border_and_does_no_harm_to_the_middle(
    fresh, colour_photograph, monkeypatch
):
    sharp = 0.9 * jnp.asarray(colour_photograph)
    blurred = gx.blur(sharp, KERNEL, boundary="valid")
    errors = []
    for steps in (0, unrolled._FILL_STEPS):
        monkeypatch.setattr(unrolled, "_FILL_STEPS", steps)
        jax.clear_caches()
        restored = gx.deconvolve(blurred, KERNEL, fresh, noise=0.003)
        error = (restored - sharp[4:-4, 4:-4]) ** 2
        middle = error[16:-16, 16:-16]
        errors.append((float(error.sum() - middle.sum()), float(middle.sum())))
    (border, inner), (border_filled, inner_filled) = errors
    assert border_filled < 0.9 * border
    assert inner_filled < 1.02 * inner


@pytest.mark.slow
def test_what_lies_outside_the_frame_is_not_data(model, blurred):
    """Another continuation changes the border a little, and the middle not at all."""
    edge, reflect = (deconvolve(blurred, KERNEL, model, boundary=b, noise=0.01)
                     for b in ("edge", "reflect"))  # fmt: skip
    assert jnp.abs(edge - reflect)[32:-32, 32:-32].max() < 3e-3


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"stages": 0}, ValueError, "stages must be at least 1, got 0"),
        ({"fine_blocks": -1}, ValueError, "fine_blocks must be at least 0, got -1"),
        ({"features": 5}, ValueError, "features must be even, got 5"),
        ({"blocks": 1.5}, TypeError, "blocks must be an int"),
    ],
)
def test_impossible_sizes_are_refused_and_quoted(fields, error, message):
    with pytest.raises(error, match=message):
        Unrolled(**fields)
