"""A third network, made here alone: the contract is all that a new one needs.

It takes RGB together, is told the noise, has nested params, trained and untrained arrays, a halo
and a tile multiple. It is trained, saved, loaded, and restores whole and in tiles.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import skimage.data

import glra_jax as gx
from experiments import train
from experiments.training_runs.held_out import restore_held_out
from glra_jax import networks
from glra_jax.datasets import pack_photographs
from glra_jax.networks import Architecture, architecture_named
from glra_jax.training import presets
from glra_jax.training.batches import training_batch
from glra_jax.training.checkpoints import Checkpoints, Saved
from glra_jax.training.config import TrainConfig
from glra_jax.training.step import (
    create_state,
    data_mesh,
    initial_params,
    make_train_step,
    replicated,
    trained_model,
    training_constants,
)

WINDOW = 5  # side of the blur kernels' inverses, far too small to be good


class Told(NamedTuple):
    """Condition of the toy: an inverse filter and the noise level."""

    inverse: jax.Array
    noise: jax.Array


@dataclass(frozen=True)
class Toy(Architecture):
    """Deconvolves by a small filter, then mixes colours at half the size.

    Attributes:
      features: width at half the size.
      mode: a string in the configuration, as some network may have one.
    """

    name: ClassVar[str] = "toy"
    joint_channels: ClassVar[tuple[int, ...]] = (3,)
    features: int = 4
    mode: str = "plain"

    def margins(self, kernel):
        return (2, 2), (2, 2)

    @property
    def halo(self):
        return 4

    @property
    def tile_multiple(self):
        return 4

    def abstract_constants(self):
        return {"mean": {"inverse": jax.ShapeDtypeStruct((WINDOW, WINDOW), jnp.float32)}}

    def fit_constants(self, key, families, *, count, noise):
        def one(key):
            return centre(gx.sample_kernel(key, families), noise[1])

        inverses = jax.vmap(one)(jax.random.split(key, count))
        return {"mean": {"inverse": inverses.mean(axis=0)}}

    def init(self, key, constants, *, initialization, gain=1.0, offset=0.0):
        assert initialization in self.initializations
        down, up = jax.random.split(key)
        shape = (2, 2, 3, self.features)
        return {
            "body": {
                "down": {"kernel": 0.1 * jax.random.normal(down, shape)},
                "up": {"kernel": 0.1 * jax.random.normal(up, (1, 1, self.features, 12))},
            },
            "noise": jnp.zeros(3),
        }

    def condition(self, constants, kernel, *, noise, inverse=None):
        return Told(
            centre(kernel, noise) + 0.1 * constants["mean"]["inverse"],
            jnp.asarray(noise, jnp.float32),
        )

    def apply(self, params, constants, y, condition, *, prepared=None, method="auto"):
        count, height, width, channels = y.shape
        assert channels == 3
        assert height % 4 == width % 4 == 0
        filters = jnp.broadcast_to(condition.inverse, (count, WINDOW, WINDOW))
        x = jax.vmap(convolve)(y, filters)
        noise = condition.noise[:, None, None, None] * params["noise"]
        small = y + noise  # the padding of the strided layer is seen within the halo
        for layer, strides in (("down", 2), ("up", 1)):
            small = jax.lax.conv_general_dilated(
                small,
                params["body"][layer]["kernel"],
                (strides, strides),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        detail = small.reshape(count, height // 2, width // 2, 2, 2, 3)
        detail = detail.transpose(0, 1, 3, 2, 4, 5).reshape(y.shape)
        return x + detail[:, 2:-2, 2:-2]


def centre(kernel, noise):
    """The middle of a strongly regularised inverse, of sum 1."""
    inverse = gx.pseudo_inverse(kernel, support=31, regularization=0.1 + noise)
    inverse = inverse[13:18, 13:18]
    return inverse / inverse.sum()


def convolve(image, kernel):
    return jax.vmap(lambda channel: jax.scipy.signal.convolve(channel, kernel, mode="valid"), 2, 2)(
        image
    )


@pytest.fixture(scope="module", autouse=True)
def registered():
    """The one line in the registry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.ARCHITECTURES, "toy", Toy)
        yield


@pytest.fixture(scope="module")
def config(small_families):
    return TrainConfig(
        architecture=Toy(),
        initialization="random",
        steps=8,
        batch=4,
        patch=32,
        noise=(0.0, 0.03),
        kernels=replace(small_families, families=("gaussian",)),  # the quickest to compile
        basis_kernels=6,
        loss="psnr",
        learning_rate=3e-3,
        warmup=0,
    )


@pytest.fixture(scope="module")
def photographs(colour_photograph):
    pixels = np.uint8(np.round(colour_photograph * 255))
    return pack_photographs([pixels, pixels[..., 1]], channels=3)


@pytest.fixture(scope="module")
def trained(config, photographs):
    """The model after eight steps, and the metrics of each."""
    mesh = data_mesh(config.batch)
    constants = training_constants(config)
    state = create_state(config, initial_params(config, constants))
    state, constants, photographs = jax.device_put(
        (state, constants, photographs), replicated(mesh)
    )
    step, metrics = make_train_step(config, mesh), []
    for _ in range(config.steps):
        state, found = step(state, photographs, constants)
        metrics.append(jax.device_get(found))
    return trained_model(config, state, constants), metrics


@pytest.fixture(scope="module")
def model(trained):
    return trained[0]


@pytest.fixture(scope="module")
def blurred(colour_photograph):
    kernel = gx.gaussian_kernel(sigma=1.0, size=7)
    y = gx.degrade(jax.random.key(3), jnp.asarray(colour_photograph), kernel, noise=0.02)
    return np.asarray(y)[:61, :75], kernel  # sides that no multiple divides


@pytest.mark.slow
def test_batches_hold_what_the_network_is_given(config, photographs):
    constants = training_constants(config)
    batch = training_batch(config, 5, photographs, constants)
    assert batch.blurred.shape == (4, 32, 32, 3)
    assert batch.sharp.shape == (4, 28, 28, 3)
    assert batch.condition.inverse.shape == (4, 5, 5)
    assert (batch.condition.noise >= 0).all()
    assert (batch.condition.noise <= 0.03).all()
    # The sharp patch is the middle of what was blurred: undoing little blur comes near to it.
    error = jnp.abs(batch.blurred[:, 2:-2, 2:-2] - batch.sharp).mean()
    shifted = jnp.abs(batch.blurred[:, 4:, 4:] - batch.sharp).mean()
    assert error < shifted
    again = training_batch(config, 5, photographs, constants)
    jax.tree.map(np.testing.assert_array_equal, batch, again)


def test_training_moves_all_weights_and_lowers_the_loss(config, trained):
    model, metrics = trained
    first = initial_params(config, training_constants(config))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), model.params, first)
    assert all(jax.tree.leaves(moved)), moved
    assert metrics[-1].psnr > metrics[0].psnr + 0.5
    assert np.isfinite([m.loss for m in metrics]).all()


def test_it_is_saved_and_loaded(model, tmp_path):
    path = tmp_path / "toy.safetensors"
    gx.save_model(model, path)
    names = {"body.down.kernel", "body.up.kernel", "noise"}
    expected = {f"params.{name}" for name in names} | {"constants.mean.inverse"}
    assert set(safetensors.numpy.load_file(path)) == expected
    loaded = gx.load_model(path)
    assert loaded.architecture == Toy()
    jax.tree.map(np.testing.assert_array_equal, loaded, model)


def test_another_configuration_comes_back(model, tmp_path):
    path = tmp_path / "toy.safetensors"
    architecture = Toy(mode="other")
    gx.save_model(gx.Model(architecture, model.constants, model.params), path)
    assert gx.load_model(path).architecture == architecture


@pytest.mark.parametrize("boundary", ["edge", "reflect", "wrap"])
def test_tiles_are_equal_to_the_whole(model, blurred, boundary):
    y, kernel = blurred
    whole = gx.deconvolve(jnp.asarray(y), kernel, model, boundary=boundary, noise=0.02)
    assert whole.shape == y.shape
    restorer = gx.prepare(model, kernel, noise=0.02, tile=(22, 30))
    assert restorer.tile == (24, 32)  # what the network takes
    np.testing.assert_allclose(restorer(y, boundary=boundary), whole, atol=2e-6)


def test_the_noise_is_estimated_where_it_is_not_told(model, blurred):
    y, kernel = blurred
    level = gx.estimate_noise(jnp.asarray(y))
    told = gx.deconvolve(jnp.asarray(y), kernel, model, noise=level)
    found = gx.deconvolve(jnp.asarray(y), kernel, model)
    np.testing.assert_allclose(found, told, atol=1e-6)
    assert np.abs(found - gx.deconvolve(jnp.asarray(y), kernel, model, noise=0.2)).max() > 1e-4
    np.testing.assert_allclose(gx.prepare(model, kernel)(y), found, atol=2e-6)


def test_batches_of_images_jit_and_gradients(model, blurred):
    y, kernel = blurred
    stack = jnp.stack([jnp.asarray(y), jnp.asarray(y[::-1])])
    many = jax.jit(lambda y: gx.deconvolve(y, kernel, model, noise=0.02))(stack)
    one = gx.deconvolve(stack[1], kernel, model, noise=0.02)
    np.testing.assert_allclose(many[1], one, atol=1e-6)
    slope = jax.grad(lambda k: gx.deconvolve(stack[0], k, model, noise=0.02).var())(kernel)
    assert slope.shape == kernel.shape
    assert jnp.abs(slope).max() > 0


def test_valid_makes_nothing_up(model, blurred):
    y, kernel = blurred
    inner = gx.deconvolve(jnp.asarray(y[:56, :64]), kernel, model, boundary="valid", noise=0.02)
    assert inner.shape == (52, 60, 3)
    tiles = gx.prepare(model, kernel, noise=0.02)(y[:56, :64], boundary="valid")
    np.testing.assert_allclose(tiles, inner, atol=1e-6)
    with pytest.raises(ValueError, match="multiples of 4"):
        gx.deconvolve(jnp.asarray(y), kernel, model, boundary="valid", noise=0.02)


def test_a_checkpoint_holds_its_state(config, trained, tmp_path):
    constants = training_constants(config)
    state = create_state(config, initial_params(config, constants))
    saved = jax.device_put(Saved(state, constants), replicated(data_mesh(1)))
    with Checkpoints(tmp_path, description={"config": config.describe()}) as checkpoints:
        checkpoints.save(saved)
        found = checkpoints.restore(saved)
    jax.tree.map(np.testing.assert_array_equal, found, saved)


@pytest.mark.slow
def test_the_training_program_trains_it(config, tmp_path, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "toy", replace(config, steps=3))
    photograph = skimage.data.coffee()[100:200, 200:320]
    held_out = {"colour": photograph, "grey": photograph[..., 1]}
    monkeypatch.setattr(
        "experiments.training_runs.held_out.embedded_photographs", lambda split: held_out
    )
    arguments = ["--preset", "toy", "--architecture.features", "5", "--workdir", str(tmp_path)]
    train.main([*arguments, "--cache", str(tmp_path / "cache")])
    model = gx.load_model(tmp_path / "model.safetensors")
    assert model.architecture == Toy(features=5)
    assert (tmp_path / "restored.png").is_file()


def test_the_worked_example_of_the_guide_restores(config, monkeypatch, photograph):
    """CONTRIBUTING's network, as the training program scores one at its end."""
    guide = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    names = {"__name__": "example"}
    exec(re.search(r"## A network\n.*?```python\n(.*?)```", guide, re.S)[1], names)
    example = names["Correction"](support=15, features=4)
    held_out = {"grey": np.uint8(255 * photograph[:60, :64])}
    monkeypatch.setattr(
        "experiments.training_runs.held_out.embedded_photographs", lambda split: held_out
    )
    settings = TrainConfig(architecture=example, kernels=config.kernels, patch=40)
    assert settings.initialization == "random"
    model = gx.initial_model(jax.random.key(0), example, {})
    (found,) = restore_held_out(model, settings)
    assert set(found.scores) == {"blurred", "network"}
    y = jnp.asarray(colour(photograph))
    kernel = gx.gaussian_kernel(sigma=1.0, size=7)
    whole = gx.deconvolve(y, kernel, model, noise=0.01)
    tiles = gx.prepare(model, kernel, noise=0.01, tile=(20, 24))(np.asarray(y))
    np.testing.assert_allclose(tiles, whole, atol=1e-5)


def colour(photograph):
    return np.repeat(photograph[:50, :54, None], 3, axis=2)


def test_what_it_does_not_take_is_refused(model, blurred):
    y, kernel = blurred
    for call in (gx.deconvolve, lambda y, kernel, model: gx.prepare(model, kernel)(y)):
        with pytest.raises(ValueError, match="1 channels; this model takes 3"):
            call(jnp.asarray(y[..., 0]), kernel, model)
    with pytest.raises(ValueError, match="toy takes no inverse"):
        gx.deconvolve(jnp.asarray(y), kernel, model, inverse=gx.Inverse())


def test_a_configuration_that_does_not_fit_is_refused(config):
    with pytest.raises(ValueError, match="patch must be a multiple of 4 for toy, got 30"):
        replace(config, patch=30)
    with pytest.raises(ValueError, match="initialization must be one of random, got 'identity'"):
        replace(config, initialization="identity")


def test_a_model_of_another_network_is_not_gone_on_from(config, small_model):
    found: Any = small_model
    with pytest.raises(ValueError, match="the same configuration, or another model"):
        config.architecture.adopt(found.architecture, found.constants, found.params)


def test_an_unknown_architecture_is_refused():
    assert architecture_named("toy") is Toy
    with pytest.raises(ValueError, match="glra, refinement, unrolled, toy, got 'unet'"):
        architecture_named("unet")
