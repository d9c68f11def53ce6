"""Schedules, optimiser, loss and the training step against closed forms and NumPy float64."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import skimage.data
from skimage.metrics import structural_similarity

import glra_jax as gx
from glra_jax.datasets import PackedPhotographs, pack_photographs
from glra_jax.networks import Refinement
from glra_jax.networks.tying import LAYERS as REFINEMENT
from glra_jax.networks.tying import tie
from glra_jax.training.batches import training_batch
from glra_jax.training.config import TrainConfig
from glra_jax.training.losses import psnr_loss, psnr_ssim_loss
from glra_jax.training.optimizers import learning_rate_schedule, optimizer
from glra_jax.training.soap import scale_by_soap
from glra_jax.training.step import (
    TrainState,
    create_state,
    data_mesh,
    initial_params,
    make_train_step,
    objective,
    replicated,
    trained_model,
    training_constants,
)

# Compiling takes nearly all the time here, so tests share what is compiled; Gaussian kernels alone
# compile three times faster than with motion. The paper's start, for which all weights have
# gradients from the first step on.
CONFIG = TrainConfig(
    architecture=gx.Glra(31, 6, 16),
    steps=60,
    batch=4,
    patch=64,
    basis_kernels=20,
    initialization="glra",
    learning_rate=1e-3,
    layer_rates="uniform",
    kernels=gx.KernelFamilies(
        families=("gaussian",), min_size=9, max_size=9, min_sigma=0.8, max_sigma=2.0
    ),
)
RANK = CONFIG.architecture.rank
NETWORK = CONFIG.architecture.module()
DEFAULT = TrainConfig(architecture=gx.Glra())


def loss_of(params, batch, basis):
    """Half the squared error summed over pixels, mean over examples."""
    return objective(params, batch, basis, config=CONFIG)[0]


compiled_loss = jax.jit(loss_of)


@pytest.fixture(scope="module")
def packed() -> PackedPhotographs:
    return pack_photographs([skimage.data.chelsea()[60:200, 100:280]])


@pytest.fixture(scope="module")
def basis() -> gx.Basis:
    return training_constants(CONFIG)


@pytest.fixture(scope="module")
def starts(basis) -> dict[str, TrainState]:
    """States at step 0, by initialization; compiled together, as they share their random part."""
    names = ("identity", "glra", "random")

    def make(basis, name):
        config = replace(CONFIG, initialization=name)
        return create_state(config, initial_params(config, basis))

    return jax.device_get(jax.jit(lambda b: {name: make(b, name) for name in names})(basis))


@pytest.fixture(scope="module")
def draw(packed, basis):
    """The batch of a step."""
    return jax.jit(lambda step: training_batch(CONFIG, step, packed, basis))


def as_float64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


# --- basis -------------------------------------------------------------------------------------


def test_basis_is_orthonormal_and_depends_on_the_seed_alone(basis):
    for side in basis:
        np.testing.assert_allclose(side.T @ side, np.eye(RANK), atol=1e-5)
    again = training_constants(replace(CONFIG, steps=7, batch=1, learning_rate=1.0))
    np.testing.assert_array_equal(again.left, basis.left)
    other = training_constants(replace(CONFIG, seed=1))
    # The spans of two samples of one distribution are close, and not the same.
    overlap = np.linalg.norm(other.left.T @ basis.left) ** 2 / RANK
    assert 0.5 < overlap < 1 - 1e-6


@pytest.mark.parametrize(("protocol", "deviation"), [("paper", 0.03), ("release", 0.03 / 12**0.5)])
def test_basis_is_fitted_at_the_noise_of_the_run(basis, protocol, deviation):
    """GLRA of the run's own kernels, whose inverses are made here."""
    architecture = replace(CONFIG.architecture, inverse=gx.Inverse(0.01, 100.0))
    config = replace(CONFIG, architecture=architecture, protocols=(protocol,), noise=(0.03, 0.03))
    key = jax.random.fold_in(jax.random.key(CONFIG.seed), 1)
    draw = jax.jit(jax.vmap(partial(gx.sample_kernel, families=CONFIG.kernels)))
    inverse = partial(gx.pseudo_inverse, support=31, smoothness=100.0 * deviation**2)
    inverses = jax.jit(jax.vmap(inverse))(draw(jax.random.split(key, CONFIG.basis_kernels)))
    expected, _ = gx.fit_glra(inverses, rank=RANK)
    found = training_constants(config)
    for a, b, plain in zip(found, expected, basis, strict=True):
        assert np.linalg.norm(a.T @ b) ** 2 / RANK > 1 - 1e-5
        assert np.linalg.norm(a.T @ plain) ** 2 / RANK < 1 - 1e-4


# --- learning rates ----------------------------------------------------------------------------


def test_halving_schedule():
    config = replace(
        DEFAULT, schedule="halving", learning_rate=1e-4, halve_every=5_000, steps=200_000
    )
    steps = np.array([0, 1, 4_999, 5_000, 9_999, 10_000, 199_999])
    rates = jax.vmap(learning_rate_schedule(config))(steps)
    np.testing.assert_allclose(rates, 1e-4 * 0.5 ** (steps // 5_000), rtol=1e-5)


def test_polynomial_schedule():
    config = replace(DEFAULT, schedule="polynomial", learning_rate=1e-4, steps=200_000)
    steps = np.array([0, 1, 50_000, 100_000, 199_999, 200_000])
    rates = jax.vmap(learning_rate_schedule(config))(steps)
    np.testing.assert_allclose(rates, 1e-4 * (1 - steps / 200_000) ** 2, rtol=1e-3, atol=1e-13)


@pytest.mark.parametrize(("steps", "warmup"), [(100, 20), (100, 0), (10, 20)])
def test_cosine_schedule(steps, warmup):
    config = replace(DEFAULT, schedule="cosine", learning_rate=2e-3, steps=steps, warmup=warmup)
    step = np.arange(steps + 1)
    rates = jax.vmap(learning_rate_schedule(config))(step)
    rise = min(warmup, steps // 2)  # a short run must not end while it warms up
    fall = 2e-3 * 0.5 * (1 + np.cos(np.pi * (step - rise) / (steps - rise)))
    expected = np.where(step < rise, 2e-4 + 1.8e-3 * step / max(rise, 1), fall)
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-9)


# --- optimiser ---------------------------------------------------------------------------------

LAYERS = ("vertical", "core", "horizontal", "refine_1", "refine_2", "refine_3")


def optimize(config, params, gradients):
    """Parameters after each update, by the optimiser under test."""
    tx = optimizer(config)
    params, gradients = jax.tree.map(jnp.float32, (params, gradients))
    update = jax.jit(tx.update)
    opt_state, history = tx.init(params), []
    for gradient in gradients:
        updates, opt_state = update(gradient, opt_state, params)
        params = jax.tree.map(jnp.add, params, updates)
        history.append(params)
    return jax.device_get(history)


def random_weights(rng):
    return {layer: {"kernel": rng.normal(size=(3, 2))} for layer in LAYERS}


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_optimizer_is_adam_with_the_penalty_in_the_gradient(weight_decay):
    config = replace(
        DEFAULT,
        schedule="polynomial",
        learning_rate=0.1,
        steps=10,
        layer_rates="uniform",
        weight_decay=weight_decay,
    )
    rng = np.random.default_rng(0)
    params, gradients = random_weights(rng), [random_weights(rng) for _ in range(5)]
    found = optimize(config, params, gradients)[-1]
    for layer in LAYERS:
        w = params[layer]["kernel"].copy()
        m, v = np.zeros_like(w), np.zeros_like(w)
        for t, gradient in enumerate(gradients):
            g = gradient[layer]["kernel"] + weight_decay * w
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g**2
            m_hat, v_hat = m / (1 - 0.9 ** (t + 1)), v / (1 - 0.999 ** (t + 1))
            w -= 0.1 * (1 - t / 10) ** 2 * m_hat / (np.sqrt(v_hat) + 1e-8)
        np.testing.assert_allclose(found[layer]["kernel"], w, rtol=1e-4, atol=1e-5, err_msg=layer)


@pytest.mark.parametrize("layer_rates", ["uniform", "tuned"])
def test_optimizer_is_soap_with_the_penalty_in_the_gradient(layer_rates):
    config = TrainConfig(
        architecture=Refinement(),
        optimizer="soap",
        schedule="polynomial",
        learning_rate=0.1,
        steps=10,
        layer_rates=layer_rates,
        weight_decay=0.05,
    )
    rng = np.random.default_rng(0)
    params, *gradients = (
        {layer: {"kernel": np.float32(rng.normal(size=(2, 2)))} for layer in REFINEMENT}
        for _ in range(6)
    )
    found = optimize(config, params, gradients)[-1]
    adam = optimize(replace(config, optimizer="adam"), params, gradients)[-1]
    rates = (0.3, 1.0, 0.3) if layer_rates == "tuned" else (1.0, 1.0, 1.0)
    tx = scale_by_soap()
    update = jax.jit(tx.update)
    for layer, rate in zip(REFINEMENT, rates, strict=True):
        w = jnp.asarray(params[layer]["kernel"])
        state = tx.init(w)
        for t, gradient in enumerate(gradients):
            step, state = update(gradient[layer]["kernel"] + 0.05 * w, state)
            w = w - 0.1 * (1 - t / 10) ** 2 * rate * step
        np.testing.assert_allclose(found[layer]["kernel"], w, atol=1e-5, err_msg=layer)
        assert np.abs(found[layer]["kernel"] - adam[layer]["kernel"]).max() > 0.02


def test_optimizer_is_muon_for_filters_and_adamw_for_the_rest():
    """Updates of filters are orthogonal, of the size of AdamW's; one step from momenta of zero."""
    config = TrainConfig(
        architecture=Refinement(),
        optimizer="muon",
        schedule="polynomial",
        learning_rate=0.1,
        steps=10,
        layer_rates="uniform",
        weight_decay=0.05,
    )
    rng = np.random.default_rng(0)
    shapes = {"filters": (3, 3, 20, 24), "matrix": (40, 24), "small": (2, 3), "bias": (24,)}
    params, gradient = (
        {"layer": {name: np.float32(rng.normal(size=shape)) for name, shape in shapes.items()}}
        for _ in range(2)
    )
    found = optimize(config, params, [gradient])[-1]["layer"]
    update = {
        name: (params["layer"][name] - found[name]) / 0.1 - 0.05 * params["layer"][name]
        for name in shapes
    }
    for name in ("filters", "matrix"):
        matrix, slope = (x.reshape(-1, 24) for x in (update[name], gradient["layer"][name]))
        u, _, v = np.linalg.svd(slope, full_matrices=False)
        # Newton-Schulz leaves singular values from about 0.7 to 1.2.
        values = np.diagonal(u.T @ matrix @ v.T) / (0.2 * max(matrix.shape) ** 0.5)
        assert values.min() > 0.6
        assert values.max() < 1.3
        rest = matrix - u @ (np.diagonal(u.T @ matrix @ v.T)[:, None] * v)
        assert np.abs(rest).max() < 0.05 * np.abs(matrix).max()
    for name in ("small", "bias"):
        nesterov = 1.0 + 0.9 * 0.1 / (1.0 - 0.9**2)
        np.testing.assert_allclose(
            update[name], nesterov * np.sign(gradient["layer"][name]), atol=2e-4
        )


def test_tuned_rates_scale_the_steps_layer_by_layer():
    uniform = replace(DEFAULT, schedule="halving", learning_rate=1.0, layer_rates="uniform")
    rng = np.random.default_rng(1)
    zero = jax.tree.map(np.zeros_like, random_weights(rng))
    gradients = [random_weights(rng) for _ in range(3)]
    plain = optimize(uniform, zero, gradients)[-1]
    tuned = optimize(replace(uniform, layer_rates="tuned"), zero, gradients)[-1]
    rates = {}
    for layer in LAYERS:
        ratio = np.asarray(tuned[layer]["kernel"]) / np.asarray(plain[layer]["kernel"])
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-4)
        rates[layer] = ratio.mean()
    assert all(0 < rate <= 1 for rate in rates.values())
    # The orthonormal filters must not be thrown away.
    assert max(rates[layer] for layer in ("vertical", "core", "horizontal")) <= 0.02


# --- batches -----------------------------------------------------------------------------------


def test_batch_is_a_pure_function_of_seed_and_step(draw, packed, basis):
    first = draw(13)
    other_step = draw(14)
    jax.tree.map(np.testing.assert_array_equal, first, draw(13))  # whatever came in between
    other_seed = jax.jit(partial(training_batch, replace(CONFIG, seed=1)))(13, packed, basis)
    for different in (other_step.blurred, other_seed.blurred, first.blurred[::-1]):
        assert np.abs(different - first.blurred).mean() > 0.01


def test_batch_has_the_sizes_of_the_configuration(draw):
    batch = draw(0)
    assert batch.blurred.shape == (4, 64, 64, 1)
    assert batch.condition.core.shape == (4, 6, 6)
    assert batch.sharp.shape == (4, 34, 34, 1)


@pytest.mark.parametrize("core", ["projection", "least-squares"])
def test_cores_follow_the_noise_of_their_examples(packed, basis, core):
    kernels = replace(CONFIG.kernels, min_sigma=1.3, max_sigma=1.3)
    inverses = [gx.Inverse(0.002, weight, core) for weight in (100.0, 0.0)]
    config, plain = (
        replace(
            CONFIG,
            architecture=replace(CONFIG.architecture, inverse=inverse),
            kernels=kernels,
            noise=(0.02, 0.02),
        )
        for inverse in inverses
    )

    @jax.jit
    def both(step):
        return tuple(training_batch(c, step, packed, basis) for c in (config, plain))

    noisy, unweighted = both(5)
    np.testing.assert_array_equal(noisy.blurred, unweighted.blurred)
    np.testing.assert_array_equal(noisy.sharp, unweighted.sharp)
    kernel = gx.gaussian_kernel(sigma=1.3, size=9)
    for batch, inverse in zip((noisy, unweighted), inverses, strict=True):
        expected = gx.deconvolution_core(basis, kernel, inverse=inverse, noise=0.02)
        scale = np.abs(expected).max()
        for found in batch.condition.core:
            np.testing.assert_allclose(found / scale, expected / scale, atol=2e-4)
    change = np.abs(noisy.condition.core - unweighted.condition.core).max()
    assert change > 0.05 * np.abs(unweighted.condition.core).max()


# --- loss --------------------------------------------------------------------------------------


def test_loss_is_half_the_squared_error_summed_over_pixels(starts, draw, basis):
    params, batch = starts["glra"].params, draw(0)
    restored = jax.jit(NETWORK.apply)({"params": params}, batch.blurred, batch.condition.core)
    error = as_float64(restored) - as_float64(batch.sharp)
    found = compiled_loss(params, batch, basis)
    np.testing.assert_allclose(found, 0.5 * (error**2).sum() / 4, rtol=1e-5)


def clipped_linear_loss(basis, batch):
    """Loss of the linear restoration alone, its result clipped to [0, 1], by SciPy in float64."""
    left, right = as_float64(basis)
    total = 0.0
    arrays = as_float64((batch.blurred, batch.condition.core, batch.sharp))
    for blurred, core, sharp in zip(*arrays, strict=True):
        linear = scipy.signal.fftconvolve(blurred[..., 0], left @ core @ right.T, mode="valid")
        total += 0.5 * ((np.clip(linear, 0, 1) - sharp[..., 0]) ** 2).sum()
    return total / len(batch.sharp)


def test_the_identity_begins_at_the_loss_of_the_linear_restoration(basis, starts, draw):
    batch = draw(0)
    loss = {n: float(compiled_loss(state.params, batch, basis)) for n, state in starts.items()}
    assert loss["identity"] == pytest.approx(clipped_linear_loss(basis, batch), rel=0.05)
    assert loss["glra"] > 10 * loss["identity"]
    assert loss["random"] > 10 * loss["identity"]


def test_psnr_loss_is_minus_the_mean_psnr_and_levels_off():
    rng = np.random.default_rng(0)
    sharp = rng.random((3, 8, 9, 1))
    error = np.array([0.2, 0.05, 0.0])[:, None, None, None] * rng.normal(size=sharp.shape)
    squares = (error**2).mean(axis=(1, 2, 3))
    expected = np.mean(10 * np.log10(squares + 1e-5))
    found = jax.jit(psnr_loss)(np.float32(sharp + error), np.float32(sharp))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    noisy = [gx.psnr(np.float32(sharp[n] + error[n]), np.float32(sharp[n])) for n in (0, 1)]
    exact = (-50.0 - float(noisy[0]) - float(noisy[1])) / 3  # 50 dB for the one without an error
    assert float(found) == pytest.approx(exact, abs=0.02)
    slope = jax.jit(jax.grad(psnr_loss))(np.float32(sharp), np.float32(sharp))
    assert np.isfinite(slope).all()


def test_psnr_ssim_loss_takes_off_the_similarity():
    rng = np.random.default_rng(1)
    sharp = rng.random((2, 20, 24, 1)).astype(np.float32)
    restored = sharp + np.float32(0.1) * rng.normal(size=sharp.shape).astype(np.float32)
    similarity = [
        structural_similarity(
            a[..., 0], b[..., 0], gaussian_weights=True, use_sample_covariance=False, data_range=1.0
        )
        for a, b in zip(restored, sharp, strict=True)
    ]
    found = jax.jit(psnr_ssim_loss)(restored, sharp)
    expected = float(psnr_loss(restored, sharp)) - 30 * np.mean(similarity)
    assert float(found) == pytest.approx(expected, abs=1e-3)
    assert np.isfinite(jax.jit(jax.grad(psnr_ssim_loss))(sharp, sharp)).all()


# --- devices -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "used"), [(1, 1), (2, 2), (3, 1), (4, 4), (6, 2), (8, 4)])
def test_mesh_takes_as_many_devices_as_share_the_batch_evenly(batch, used):
    assert jax.device_count() == 4
    mesh = data_mesh(batch)
    assert mesh.shape == {"data": used}


def test_mesh_can_be_told_its_devices():
    chosen = jax.devices()[1:3]
    assert list(data_mesh(4, chosen).devices.flat) == chosen


# --- the training step -------------------------------------------------------------------------


def run(count, start, packed, basis, *, steps, accumulate=1):
    """Trains on so many devices; states and metrics after every step, on the host."""
    mesh = data_mesh(CONFIG.batch, jax.devices()[:count])
    assert mesh.size == count
    state, packed, basis = jax.device_put((start, packed, basis), replicated(mesh))
    step = make_train_step(CONFIG, mesh, accumulate=accumulate)
    history = []
    for _ in range(steps):
        before = state
        state, metrics = step(state, packed, basis)
        history.append((jax.tree.map(jnp.copy, state), metrics))
        assert all(x.is_deleted() for x in jax.tree.leaves(before)), "memory was not taken over"
    assert not any(x.is_deleted() for x in jax.tree.leaves((packed, basis)))
    return jax.device_get(history)


@pytest.fixture(scope="module")
def trained(starts, packed, basis):
    return run(1, starts["glra"], packed, basis, steps=CONFIG.steps)


@pytest.mark.parametrize(("devices", "accumulate"), [(4, 1), (2, 2)])
def test_a_batch_in_parts_trains_as_a_whole_one(
    starts, packed, basis, trained, devices, accumulate
):
    """Its parts on several devices at once, and on each one after the other."""
    start = starts["glra"]
    history = run(devices, start, packed, basis, steps=3, accumulate=accumulate)
    for (_, sharded), (_, single) in zip(history, trained[:3], strict=True):
        np.testing.assert_allclose(sharded, single, rtol=1e-5)
    sharded, state = history[2][0], trained[2][0]
    assert sharded.step == state.step == 3
    leaves = (jax.tree.leaves(tree) for tree in (sharded.params, state.params, start.params))
    for a, b, untrained in zip(*leaves, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert np.abs(b - untrained).max() > 1e-4


@pytest.mark.parametrize(
    ("accumulate", "batch", "protocols", "message"),
    [
        (3, 4, 1, "divide the 2 examples that a device has in a batch of 4 on 2 devices, got 3"),
        (4, 8, 2, "divide the 2 examples of each of 2 protocols that a device .* of 8 .* got 4"),
        (0, 4, 1, "accumulate must be at least 1, got 0"),
    ],
)
def test_a_share_that_cannot_be_divided_is_refused(accumulate, batch, protocols, message):
    config = replace(CONFIG, batch=batch, protocols=("paper", "release")[:protocols])
    with pytest.raises(ValueError, match=message):
        make_train_step(config, data_mesh(4, jax.devices()[:2]), accumulate=accumulate)


def test_step_reports_the_loss_before_its_update(starts, draw, basis, trained):
    metrics = [metrics for _, metrics in trained]
    loss = compiled_loss(starts["glra"].params, draw(0), basis)
    np.testing.assert_allclose(metrics[0].loss, loss, rtol=1e-5)
    for reported in metrics:
        mean_squared_error = 2 * reported.loss / 34**2
        np.testing.assert_allclose(reported.psnr, -10 * np.log10(mean_squared_error), rtol=1e-5)
    rates = [float(reported.learning_rate) for reported in metrics[:3]]
    np.testing.assert_allclose(rates, [1e-4, 1.45e-4, 1.9e-4], rtol=1e-4)  # twenty steps of rise


def test_first_step_is_adam_on_the_gradient_of_the_loss(starts, draw, basis, trained):
    """Adam's first step is the rate times g / (|g| + 1e-8)."""
    start = starts["glra"]
    gradient = jax.jit(jax.grad(loss_of))(start.params, draw(0), basis)
    state, _ = trained[0]
    for layer, weights in gradient.items():
        for name, g in weights.items():
            g = np.asarray(g, np.float64)
            clear = np.abs(g) > 1e-3 * np.abs(g).max()  # of a sign that rounding cannot change
            expected = start.params[layer][name] - 1e-4 * g / (np.abs(g) + 1e-8)
            found = state.params[layer][name]
            np.testing.assert_allclose(found[clear], expected[clear], atol=1e-6, err_msg=layer)
            assert clear.mean() > 0.5


def test_training_learns(starts, draw, basis, trained):
    """Sixty steps on one photograph lower the loss of batches that were not among them."""
    batches = [draw(step) for step in range(1000, 1005)]
    before, after = (
        np.mean([compiled_loss(state.params, batch, basis) for batch in batches])
        for state in (starts["glra"], trained[-1][0])
    )
    assert after < 0.75 * before


# --- layers 4 to 6 on the linear restoration ---------------------------------------------------

SMALL = replace(
    CONFIG,
    architecture=Refinement(31, 6, 16),
    steps=20,
    initialization="identity",
    loss="psnr",
    learning_rate=3e-4,
    warmup=5,
    layer_rates="tuned",
)


def test_layers_4_to_6_of_any_model_of_as_many_features_can_be_started_from(small_basis):
    whole = gx.Glra(31, 6, 16)
    initial = gx.initial_model(jax.random.key(5), whole, small_basis)
    constants, params = SMALL.architecture.adopt(whole, initial.constants, initial.params)
    assert constants is None  # they do not depend on the basis
    jax.tree.map(np.testing.assert_array_equal, params, tie(initial.params))
    with pytest.raises(ValueError, match=r"features 16, and the run 7; give .*features 16"):
        Refinement(31, 6, 7).adopt(whole, initial.constants, initial.params)
    with pytest.raises(ValueError, match=r"support 31, and the run 33; give .*support 31"):
        gx.Glra(33, 6, 16).adopt(whole, initial.constants, initial.params)


@pytest.fixture(scope="module")
def small_start(basis) -> TrainState:
    start = jax.jit(lambda basis: create_state(SMALL, initial_params(SMALL, basis)))
    return jax.device_get(start(basis))


@pytest.fixture(scope="module")
def spoilt(small_start) -> TrainState:
    """Too bright, as the linear restoration leaves little to learn in so short a run."""
    params = {name: dict(weights) for name, weights in small_start.params.items()}
    params["refine_3"]["bias"] = params["refine_3"]["bias"] + np.float32(0.4)
    return small_start._replace(params=params)


@pytest.fixture(scope="module")
def small_trained(spoilt, packed, basis):
    """Metrics and states of a short run, after every step."""
    mesh = data_mesh(SMALL.batch, jax.devices()[:1])
    state, *data = jax.device_put((spoilt, packed, basis), replicated(mesh))
    step = make_train_step(SMALL, mesh)
    history = []
    for _ in range(SMALL.steps):
        state, metrics = step(state, *data)
        history.append((jax.tree.map(jnp.copy, state), metrics))
    return jax.device_get(history)


compiled_network = jax.jit(CONFIG.architecture.apply)
small_restored = jax.jit(
    lambda params, batch, basis: SMALL.architecture.apply(
        params, basis, batch.blurred, batch.condition
    )
)
small_objective = jax.jit(partial(objective, config=SMALL))


def test_state_holds_layers_4_to_6_alone(small_start):
    assert tuple(small_start.params) == REFINEMENT
    assert small_start.params["refine_1"]["kernel"].shape == (15, 15, 1, 16)
    moments = [leaf.shape for leaf in jax.tree.leaves(small_start.opt_state) if leaf.ndim]
    assert sorted(moments) == sorted(2 * [x.shape for x in jax.tree.leaves(small_start.params)])


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_faithful_network_goes_on_from_them_and_restores_the_same(
    starts, small_start, small_trained, draw, basis, when
):
    state = small_start if when == "before" else small_trained[-1][0]
    model = trained_model(SMALL, state, basis)
    assert model.architecture is SMALL.architecture
    assert model.params is state.params
    jax.tree.map(np.testing.assert_array_equal, model.constants, basis)
    adopted, params = CONFIG.architecture.adopt(model.architecture, model.constants, model.params)
    jax.tree.map(np.testing.assert_array_equal, adopted, basis)
    batch = draw(0)
    whole = compiled_network(params, basis, batch.blurred, batch.condition)
    found = small_restored(state.params, batch, basis)
    assert found.shape == batch.sharp.shape
    np.testing.assert_allclose(found, whole, atol=5e-5)
    # Layers 1 to 3 are those of the start.
    for layer in ("vertical", "core", "horizontal"):
        expected = starts["identity"].params[layer]
        jax.tree.map(np.testing.assert_array_equal, params[layer], expected)


def test_trained_model_of_all_layers_holds_the_state_as_it_is(starts, basis):
    model = trained_model(CONFIG, starts["glra"], basis)
    assert model.params is starts["glra"].params
    assert model.architecture == gx.Glra(31, 6, 16)


def test_objective_is_the_loss_asked_for_and_the_squared_one(small_start, draw, basis):
    batch = draw(3)
    restored = as_float64(small_restored(small_start.params, batch, basis))
    error = (restored - as_float64(batch.sharp)) ** 2
    psnr = np.mean(10 * np.log10(error.mean(axis=(1, 2, 3)) + 1e-5))
    minimised, squared = small_objective(small_start.params, batch, basis)
    assert float(minimised) == pytest.approx(psnr, rel=1e-4)
    assert float(squared) == pytest.approx(0.5 * error.sum() / 4, rel=1e-4)
    plain = jax.jit(partial(objective, config=replace(SMALL, loss="squared")))
    minimised, reported = plain(small_start.params, batch, basis)
    assert float(minimised) == float(reported) == pytest.approx(float(squared), rel=1e-6)


def test_the_start_is_the_linear_restoration(small_start, draw, basis):
    batch = draw(0)
    _, squared = small_objective(small_start.params, batch, basis)
    assert float(squared) == pytest.approx(clipped_linear_loss(basis, batch), rel=0.05)


def test_refinement_steps_report_the_squared_loss_and_learn(spoilt, small_trained, draw, basis):
    state, metrics = small_trained[0]
    assert state.step == 1
    _, squared = small_objective(spoilt.params, draw(0), basis)
    np.testing.assert_allclose(metrics.loss, squared, rtol=1e-5)
    np.testing.assert_allclose(metrics.psnr, -10 * np.log10(2 * squared / 34**2), rtol=1e-5)
    batches = [draw(step) for step in range(1000, 1003)]
    before, after = (
        np.mean([small_objective(params, batch, basis)[0] for batch in batches])
        for params in (spoilt.params, small_trained[-1][0].params)
    )
    assert after < before - 3.0  # dB


def test_first_refinement_step_is_adam_on_the_objective_at_the_rates_of_its_layers(
    spoilt, small_trained, draw, basis
):
    slope = jax.jit(jax.grad(partial(objective, config=SMALL), has_aux=True))
    gradient, _ = slope(spoilt.params, draw(0), basis)
    state, metrics = small_trained[0]
    assert float(metrics.learning_rate) == pytest.approx(3e-5, rel=1e-5)
    for layer, rate in (("refine_1", 0.3), ("refine_2", 1.0), ("refine_3", 0.3)):
        for name, g in gradient[layer].items():
            g = np.asarray(g, np.float64)
            clear = np.abs(g) > 1e-3 * np.abs(g).max()
            step = -rate * 3e-5 * g / (np.abs(g) + 1e-8)
            found = np.float64(state.params[layer][name]) - spoilt.params[layer][name]
            np.testing.assert_allclose(found[clear], step[clear], atol=1e-6, err_msg=layer)
            assert clear.any()
