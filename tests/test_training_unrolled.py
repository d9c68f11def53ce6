"""Training of networks that look at colour, frame and noise: batches, losses, averages, AdamW."""

from dataclasses import replace
from functools import partial

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import glra_jax as gx
from glra_jax.datasets import pack_photographs
from glra_jax.light import to_srgb
from glra_jax.networks import Glra, Unrolled
from glra_jax.training.batches import framed, training_batch
from glra_jax.training.config import TrainConfig
from glra_jax.training.losses import psnr_loss, squared_loss
from glra_jax.training.optimizers import optimizer
from glra_jax.training.step import (
    create_state,
    data_mesh,
    initial_params,
    make_train_step,
    objective,
    replicate,
    replicated,
    trained_model,
)
from glra_jax.training.wrong_kernels import resized

CONFIG = TrainConfig(
    architecture=Unrolled(stages=1, features=4, blocks=1),
    steps=20,
    batch=4,
    patch=96,
    protocols=("paper", "camera"),
    noise=(0.0, 0.05),
    noise_power=2.0,
    told_noise=0.2,
    grey=0.5,
    kernels=gx.KernelFamilies(families=("gaussian",), max_size=9),
    loss="psnr",
    optimizer="adamw",
    clip_norm=20.0,
    average=0.9,
    weight_decay=0.01,
)
EXACT = replace(CONFIG, protocols=("paper",), told_noise=0.0, noise=(0.02, 0.02), grey=0.0)
HALF = replace(EXACT, precision="bfloat16")


@pytest.fixture(scope="module")
def packed(colour_photograph):
    return pack_photographs([np.uint8(np.round(255 * colour_photograph))], channels=3)


@pytest.fixture(scope="module")
def batches(packed):
    """Sixteen batches of four."""
    draw = jax.jit(lambda step: training_batch(CONFIG, step, packed, {}))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *map(draw, range(16)))


# --- batches -------------------------------------------------------------------------------------


def test_batches_have_the_sizes_of_the_configuration(batches):
    assert batches.blurred.shape == (64, 96, 96, 3)
    assert batches.sharp.shape == (64, 48, 48, 3)
    assert batches.inside.shape == (64, 96, 96, 1)
    assert batches.condition.kernel.shape == (64, 9, 9)
    assert batches.condition.noise.shape == batches.condition.shot.shape == (64, 3)


def test_some_photographs_are_grey_with_one_noise_for_all_channels(batches):
    for images in (batches.blurred, batches.sharp):
        grey = jnp.all(images == images[..., :1], axis=(1, 2, 3))
        assert 0.25 < float(grey.mean()) < 0.75


def test_every_protocol_has_its_share(batches):
    """Every other example is from a camera, whose noise grows with brightness."""
    camera = np.tile([False, True], 32)
    shot = np.asarray(batches.condition.shot.max(axis=1))
    assert (shot[~camera] == 0).all()
    assert (shot[camera] > 0).mean() > 0.4


@pytest.mark.slow
def test_noise_levels_follow_the_power(packed):
    config = replace(EXACT, noise=(0.0, 0.05))
    draw = jax.jit(lambda step: training_batch(config, step, packed, {}).condition.noise[:, 0])
    levels = jnp.concatenate([draw(step) for step in range(40)])
    # The mean of u² is a third, its median a quarter.
    assert float(levels.mean()) == pytest.approx(0.05 / 3, rel=0.15)
    assert float(jnp.median(levels)) == pytest.approx(0.05 / 4, rel=0.3)


@pytest.mark.slow
def test_the_noise_told_is_wrong_in_half_of_the_examples(packed):
    config = replace(EXACT, told_noise=0.2)
    draw = jax.jit(lambda step: training_batch(config, step, packed, {}).condition.noise[:, 0])
    error = np.log(np.concatenate([draw(step) for step in range(40)]) / 0.02)
    right = np.abs(error) < 1e-5
    assert 0.35 < right.mean() < 0.65
    assert error[~right].std() == pytest.approx(0.2, rel=0.25)


def test_kernels_are_told_too_small_or_too_large_in_their_share(packed):
    families = replace(EXACT.kernels, max_sigma=2.0)
    exact = replace(EXACT, kernels=families, batch=16)
    told, right = (
        jax.jit(lambda step, config=config: training_batch(config, step, packed, {}))(0)
        for config in (replace(exact, wrong_kernels=0.5), exact)
    )
    np.testing.assert_array_equal(told.blurred, right.blurred)
    kernels, true = told.condition.kernel, right.condition.kernel
    wrong = np.abs(kernels - true).max(axis=(1, 2)) > 1e-6
    assert 3 < wrong.sum() < 13
    np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1.0, rtol=1e-5)


@hypothesis.settings(max_examples=10)
@hypothesis.given(pixels=st.floats(-1.25, 1.25))
def test_a_resized_kernel_is_the_disk_of_another_radius(pixels):
    """A disk that reaches to the window of 11 pixels is one of radius 5.5."""
    kernel = gx.disk_kernel(radius=5.5, size=21)
    expected = gx.disk_kernel(radius=5.5 + pixels, size=21)
    found = resized(kernel, pixels)
    assert float(jnp.abs(found - expected).sum()) < 0.12
    assert float(jnp.abs(kernel - expected).sum()) > 0.12 or abs(pixels) < 0.4


def test_a_kernel_of_one_pixel_does_not_vanish():
    delta = jnp.zeros((7, 7)).at[3, 3].set(1.0)
    np.testing.assert_allclose(resized(delta, -1.0), delta, atol=1e-6)
    wider = resized(delta, 1.0)
    assert float(wider[3, 3]) < 0.5
    np.testing.assert_allclose(wider, wider[::-1, ::-1], atol=1e-6)


def test_the_noise_told_is_the_estimate_in_its_share(packed):
    config = replace(EXACT, estimated_noise=1.0)
    batch = jax.jit(lambda step: training_batch(config, step, packed, {}))(0)
    whole = jax.jit(lambda step: training_batch(EXACT, step, packed, {}))(0)
    np.testing.assert_array_equal(batch.condition.shot, 0.0)
    levels = np.asarray(batch.condition.noise)
    assert np.abs(levels - 0.02).max() > 1e-5
    np.testing.assert_allclose(levels, 0.02, rtol=0.4)
    np.testing.assert_allclose(whole.condition.noise, 0.02, rtol=1e-6)


def test_the_photograph_goes_on_outside_the_frame_as_at_its_edge(batches):
    found = []
    for blurred, inside in zip(*map(np.asarray, (batches.blurred, batches.inside)), strict=True):
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in ((1, 2), (0, 2)))
        found.append((rows[0], 95 - rows[-1], columns[0], 95 - columns[-1]))
        frame = blurred[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        pads = [(rows[0], 95 - rows[-1]), (columns[0], 95 - columns[-1]), (0, 0)]
        np.testing.assert_array_equal(blurred, np.pad(frame, pads, mode="edge"))
    ends = np.array(found)
    # Each side ends within what the network takes off and sees, or not at all.
    assert ((ends == 0) | ((ends >= 24) & (ends <= 40))).all()
    assert 0.35 < (ends > 0).mean() < 0.65


def test_a_frame_leaves_what_is_inside_as_it_is():
    blurred = jax.random.uniform(jax.random.key(0), (96, 96, 3))
    continued, inside = framed(jax.random.key(1), blurred, CONFIG)
    kept = np.asarray(inside[..., 0]) == 1
    np.testing.assert_array_equal(continued[kept], blurred[kept])


# --- losses --------------------------------------------------------------------------------------


def test_beyond_white_and_black_nothing_is_wrong():
    sharp = jnp.array([1.0, 1.0, 0.0, 0.0, 0.5]).reshape(1, 1, 5, 1)
    restored = jnp.array([1.3, 0.9, -0.2, 0.1, 0.7]).reshape(1, 1, 5, 1)
    expected = (0.1**2 + 0.1**2 + 0.2**2) / 2
    assert float(squared_loss(restored, sharp)) == pytest.approx(expected, rel=1e-5)


def test_pixels_without_weight_do_not_count():
    sharp, restored = jnp.full((2, 4, 4, 3), 0.5), jnp.full((2, 4, 4, 3), 0.6)
    weights = jnp.ones((2, 4, 4, 1)).at[:, 2:].set(0.0)
    spoilt = restored.at[:, 2:].set(9.0)
    found = psnr_loss(spoilt, sharp, weights)
    assert float(found) == pytest.approx(10 * np.log10(0.01 + 1e-5), rel=1e-5)


@pytest.mark.slow
def test_every_iterate_counts_with_its_weight(packed):
    batch = training_batch(EXACT, 0, packed, {})
    params = initial_params(EXACT, {})
    loss, reported = objective(params, batch, {}, config=EXACT)
    images = EXACT.architecture.iterates(
        params, {}, batch.blurred, batch.condition, inside=batch.inside
    )
    (first, one), (last, two) = images
    assert (first, last) == (0.2, 1.0)
    weights = batch.inside[:, 24:-24, 24:-24]
    expected = 0.2 * psnr_loss(one, batch.sharp, weights) + psnr_loss(two, batch.sharp, weights)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    squared = squared_loss(two, batch.sharp, weights)
    assert float(reported) == pytest.approx(float(squared), rel=1e-4)
    # Linear light is compared as it is shown.
    linear = jnp.arange(EXACT.batch) % 2 == 0
    loss, again = objective(params, batch._replace(linear=linear), {}, config=EXACT)
    one, two, sharp = (
        jnp.where(linear[:, None, None, None], to_srgb(image), image)
        for image in (one, two, batch.sharp)
    )
    expected = 0.2 * psnr_loss(one, sharp, weights) + psnr_loss(two, sharp, weights)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    assert float(again) == float(reported)


# --- precision -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_bfloat16_costs_its_rounding_alone(packed):
    """Loss and gradient, of weights that make the U-Net count."""
    batch = jax.jit(lambda: training_batch(EXACT, 0, packed, {}))()
    params = initial_params(EXACT, {})
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    noisy = [
        x + 0.02 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)
    ]
    params = jax.tree.unflatten(tree, noisy)

    def slope(config):
        function = jax.value_and_grad(partial(objective, config=config), has_aux=True)
        (loss, _), gradient = jax.jit(function)(params, batch, {})
        return float(loss), gradient

    def norm(tree):
        return float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))))

    (loss, gradient), (half_loss, half_gradient) = map(slope, (EXACT, HALF))
    assert half_loss != loss
    assert half_loss == pytest.approx(loss, abs=0.02)  # dB
    error = jax.tree.map(jnp.subtract, half_gradient, gradient)
    assert norm(error) < 0.03 * norm(gradient)
    assert {leaf.dtype for leaf in jax.tree.leaves(half_gradient)} == {jnp.dtype(jnp.float32)}


def test_weights_and_the_optimisers_state_stay_float32(packed):
    start = jax.eval_shape(lambda: create_state(HALF, initial_params(HALF, {})))
    state, metrics = jax.eval_shape(make_train_step(HALF, data_mesh(1)), start, packed, {})
    assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(lambda x: x.dtype, start)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((state, metrics))}
    assert dtypes == {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}


def test_the_precision_is_in_the_configuration_that_checkpoints_hold():
    assert HALF.describe()["precision"] == "bfloat16"
    assert EXACT.describe()["precision"] == "float32"


def test_networks_of_one_precision_refuse_another():
    message = "precision must be one of float32 for glra, got 'bfloat16'"
    with pytest.raises(ValueError, match=message):
        TrainConfig(architecture=Glra(31, 6, 16), precision="bfloat16")


# --- optimiser and average -----------------------------------------------------------------------


def test_adamw_is_that_of_optax_on_clipped_gradients():
    """In the second step, after a gradient that is clipped and one that is not."""
    config = replace(CONFIG, learning_rate=0.1, warmup=0, clip_norm=1.0, steps=10**6)
    params = {"layer": {"kernel": jnp.array([1.0, -2.0, 3.0])}}
    slopes = [jnp.array([3.0, 0.0, -4.0]), jnp.array([0.3, 0.4, 0.1])]  # the first of norm 5
    found, expected = optimizer(config), optax.adamw(0.1, b2=0.99, weight_decay=0.01)
    states = [tx.init(params) for tx in (found, expected)]
    for slope, clipped in zip(slopes, (slopes[0] / 5, slopes[1]), strict=True):
        updates = []
        for index, (tx, gradient) in enumerate(((found, slope), (expected, clipped))):
            tree = {"layer": {"kernel": gradient}}
            update, states[index] = tx.update(tree, states[index], params)
            updates.append(update["layer"]["kernel"])
        np.testing.assert_allclose(*updates, rtol=1e-4)


@pytest.mark.slow
def test_the_result_is_the_running_average_of_the_weights(packed):
    params, mesh = initial_params(CONFIG, {}), data_mesh(1)
    start = jax.tree.map(jnp.copy, create_state(CONFIG, params))  # a step takes over its memory
    state = jax.device_put(start, replicated(mesh))
    photographs = jax.device_put(packed, replicated(mesh))
    step, average = make_train_step(CONFIG, mesh), params
    for index in range(4):
        state, metrics = step(state, photographs, {})
        decay = min(0.9, (1 + index) / (10 + index))
        mixed = [jax.tree.leaves(tree) for tree in (average, state.params)]
        leaves = [decay * a + (1 - decay) * b for a, b in zip(*mixed, strict=True)]
        average = jax.tree.unflatten(jax.tree.structure(params), leaves)
    assert np.isfinite(metrics.loss)
    model = trained_model(CONFIG, state, {})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), model.params, average)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), model.params, state.params)
    assert max(jax.tree.leaves(moved)) > 1e-5


@pytest.mark.slow
def test_devices_and_parts_train_as_one_device_does(packed):
    """Two protocols, and FFTs, which devices must make of their own examples alone."""
    config = replace(CONFIG, batch=8)
    start = jax.device_get(create_state(config, initial_params(config, {})))
    found = []
    for count, accumulate in ((1, 1), (2, 2)):
        mesh = data_mesh(config.batch // 2, jax.devices()[:count])
        state, photographs = replicate((start, packed), mesh)
        step = make_train_step(config, mesh, accumulate=accumulate)
        step = step.lower(state, photographs, {}).compile()
        assert "all-gather" not in step.as_text()
        for _ in range(2):
            state, metrics = step(state, photographs, {})
        found.append(jax.device_get((state.params, metrics)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *found)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), found[0][0], start.params)
    assert max(jax.tree.leaves(moved)) > 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocols": ()}, "protocols is empty"),
        ({"batch": 3}, "batch must be a multiple of the number of protocols, 2, got 3"),
        ({"noise_power": 0.0}, "noise_power must be finite and above 0, got 0.0"),
        ({"told_noise": -1.0}, "told_noise must be finite and at least 0, got -1.0"),
        ({"grey": 1.5}, "grey must be from 0 to 1, got 1.5"),
        ({"wrong_kernels": -0.5}, "wrong_kernels must be from 0 to 1, got -0.5"),
        ({"estimated_noise": 2.0}, "estimated_noise must be from 0 to 1, got 2.0"),
        ({"precision": "half"}, "precision must be one of float32, bfloat16, got 'half'"),
        ({"average": 1.0}, "average must be at least 0 and below 1, got 1.0"),
        ({"clip_norm": -1.0}, "clip_norm must be finite and at least 0, got -1.0"),
        ({"patch": 92}, "patch must be a multiple of 8 for unrolled, got 92"),
        ({"patch": 64}, "patch 64 is too small: the frame may end 16 pixels inside"),
        ({"patch": 48}, "patch 48 is too small: the architecture takes 48 pixels off"),
    ],
)
def test_impossible_values_are_refused_and_quoted(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)
