"""Training on photographs that are read as they are needed."""

import os
import re
import signal
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from training_program_helpers import FOLDER, TINY, refused

import experiments.train as program
import glra_jax as gx
from experiments.training_runs.feeding import examples_here
from experiments.training_runs.options import TrainOptions, describe_run, parse
from glra_jax.datasets import pack_photographs
from glra_jax.model_files import save_model
from glra_jax.training.batches import batch_key, example_keys, make_examples
from glra_jax.training.config import TrainConfig
from glra_jax.training.step import (
    create_state,
    data_mesh,
    initial_params,
    make_train_step,
    replicated,
    shared_out,
    training_constants,
)

pytestmark = pytest.mark.usefixtures("basis_cache")

CONFIG = TrainConfig(
    architecture=gx.Glra(9, 2, 13),
    batch=4,
    patch=24,
    protocols=("paper", "paper"),
    basis_kernels=10,
    kernels=gx.KernelFamilies(families=("gaussian",), min_size=5, max_size=5),
)
make = jax.jit(make_examples, static_argnums=1)


@pytest.fixture(scope="module")
def constants():
    return training_constants(CONFIG)


@pytest.fixture(scope="module")
def squares():
    shape = (CONFIG.batch, CONFIG.crop, CONFIG.crop, 1)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


# --- batches and steps ---------------------------------------------------------------------------


def test_each_example_is_made_of_its_own_square(constants, squares):
    """Levels of constant squares are those of the sharp images, in the order of examples."""
    levels = np.array([10, 80, 150, 210], np.uint8)
    flat = np.broadcast_to(levels[:, None, None, None], squares.shape)
    sharp = make(example_keys(CONFIG, 3), CONFIG, flat, constants).sharp
    brighter = 1.2 * levels / 255  # as the paper has its photographs
    np.testing.assert_allclose(sharp.mean((1, 2, 3)), brighter, atol=1e-5)
    assert np.ptp(sharp, (1, 2, 3)).max() < 1e-5


def test_a_photograph_of_just_one_square_gives_the_same_as_the_square(constants, squares):
    """All but the turn, whose key differs: of a square that is the same in all eight ways."""
    one = squares[0, :, :, 0] // 2
    same = np.max([np.rot90(x, n) for x in (one, one[::-1]) for n in range(4)], axis=0)
    alike = np.broadcast_to(same[..., None], squares.shape)
    keys = jax.random.split(batch_key(0, 1), CONFIG.batch)
    streamed = make(keys, CONFIG, alike, constants)
    packed = make(keys, CONFIG, pack_photographs([same]), constants)
    np.testing.assert_allclose(streamed.blurred, packed.blurred, atol=1e-6)
    np.testing.assert_allclose(streamed.sharp, packed.sharp, atol=1e-6)


@pytest.mark.parametrize("wrong", ["size", "dtype", "count"])
def test_squares_of_another_kind_are_refused(constants, squares, wrong):
    given = {
        "size": squares[:, 1:, 1:],
        "dtype": squares.astype(np.float32),
        "count": squares[:2],
    }[wrong]
    with pytest.raises(ValueError, match=r"squares .* must be uint8 \(4, 28, 28, 1\), got"):
        make_examples(example_keys(CONFIG, 0), CONFIG, jnp.asarray(given), constants)


@pytest.mark.slow
def test_devices_and_parts_of_a_batch_have_their_own_squares(constants, squares):
    """The same step on one device, and on two in parts, of squares that all differ."""
    config = replace(CONFIG, protocols=("paper",))
    start = jax.device_get(create_state(config, initial_params(config, constants)))

    def step(devices, accumulate):
        mesh = data_mesh(config.batch, jax.devices()[:devices])
        state, everywhere = jax.device_put((start, constants), replicated(mesh))
        shared = jax.device_put(squares, shared_out(mesh))
        train_step = make_train_step(config, mesh, accumulate=accumulate)
        return jax.device_get(train_step(state, shared, everywhere))

    (state, metrics), (other, others) = step(1, 1), step(2, 2)
    np.testing.assert_allclose(others.loss, metrics.loss, rtol=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (other.params, state.params)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_process_makes_the_examples_of_its_devices():
    assert examples_here(8, data_mesh(8)) == list(range(8))
    assert examples_here(3, data_mesh(3)) == [0, 1, 2]


# --- the program ---------------------------------------------------------------------------------


def test_a_streamed_run_resumes_to_the_bit_with_other_threads(
    monkeypatch, tmp_path, images, capsys
):
    monkeypatch.setattr(
        program,
        "report",
        lambda options, state, constants: save_model(
            program.trained_model(options.config, state, constants),
            options.folder / "model.safetensors",
        ),
    )
    arguments = [*TINY, *FOLDER, str(images), "--steps", "6", "--batch", "2", "--streaming"]
    program.main([*arguments, "--workers", "1", "--workdir", str(tmp_path / "whole")])
    said = capsys.readouterr().out
    assert re.search(r"2 photographs of dataset folder .*read as they are needed", said)
    assert re.search(r"waited \d+\.\d of \d+\.\d s for photographs", said)

    make_step = program.make_train_step

    def stopping(*given, **options):
        inner = make_step(*given, **options)

        def train_step(*arrays):
            state, metrics = inner(*arrays)
            if state.step == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return state, metrics

        return train_step

    stopped = [*arguments, "--workdir", str(tmp_path / "stopped")]
    with monkeypatch.context() as patch:
        patch.setattr(program, "make_train_step", stopping)
        program.main([*stopped, "--workers", "3"])
    assert "stopped at step 4 of 6" in capsys.readouterr().out
    program.main(stopped)
    assert "resuming" in capsys.readouterr().out
    whole, resumed = (
        safetensors.numpy.load_file(tmp_path / name / "model.safetensors")
        for name in ("whole", "stopped")
    )
    assert whole.keys() == resumed.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(resumed[name], values, err_msg=name)


def test_what_a_run_depends_on_is_the_names_of_its_files(tmp_path):
    config = parse(TINY).config
    described = describe_run(config, {"a.png": tmp_path / "a.png"})
    assert described == describe_run(config, {"a.png": tmp_path / "elsewhere" / "a.png"})
    assert described != describe_run(config, {"b.png": tmp_path / "a.png"})


def test_a_dataset_without_files_is_refused(tmp_path):
    work = ["--workdir", str(tmp_path / "run")]
    refused([*TINY, "--streaming", *work], "'embedded' cannot be streamed", folder=tmp_path)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"workers": 2}, "workers 2 read photographs with --streaming only"),
        ({"workers": 0, "streaming": True}, "workers must be at least 1, got 0"),
    ],
)
def test_a_number_of_threads_of_no_use_is_refused(given, match):
    with pytest.raises(ValueError, match=match):
        TrainOptions(CONFIG, **given)
