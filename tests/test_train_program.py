"""The training program: a whole run, one that is killed, and the basis kept between runs."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
import skimage.data
import skimage.metrics
from PIL import Image
from training_program_helpers import FOLDER, ROOT, TINY, refused

import glra_jax as gx
from experiments.train import MetricsLog, adopt, read_metrics, start_or_resume
from experiments.training_runs.options import describe_run, parse
from experiments.training_runs.photographs import load_packed
from glra_jax.model import abstract_model
from glra_jax.training.checkpoints import Checkpoints, Saved
from glra_jax.training.constants_cache import cached_training_constants
from glra_jax.training.step import Metrics, create_state, data_mesh

pytestmark = pytest.mark.usefixtures("basis_cache")


# --- a whole run, and one that is killed -------------------------------------------------------

DRIVER = """
# Trains in the first folder in one go, then in the second until it is killed after 13 updates.
import os, signal, sys
import jax
import experiments.train as program

folders, arguments = sys.argv[1:3], sys.argv[3:]
program.report = lambda *_: None
program.main([*arguments, "--workdir", folders[0]])

def make_train_step(config, mesh, make=program.make_train_step, **options):
    inner = make(config, mesh, **options)
    def train_step(*arguments):
        new = jax.block_until_ready(inner(*arguments))
        if new[0].step == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        return new
    return train_step

program.make_train_step = make_train_step
program.main([*arguments, "--workdir", folders[1]])
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory, images):
    """Folders of a run in one go and of one killed and resumed, and what the programs printed."""
    folder = tmp_path_factory.mktemp("runs")
    whole, killed = folder / "whole", folder / "killed"
    arguments = [*TINY, *FOLDER, str(images)]
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "COLUMNS": "200",
    }

    def python(*command):
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    first = python("-c", DRIVER, str(whole), str(killed), *arguments)
    left = {
        "checkpoints": sorted(os.listdir(killed / "checkpoints")),
        "steps": [int(row["step"]) for row in read_metrics(killed / "metrics.csv")],
        "files": sorted(os.listdir(killed)),
    }
    again = python("-m", "experiments.train", *arguments, "--workdir", str(killed))
    return whole, killed, first, left, again


def test_the_kill_was_real_and_left_what_it_should(runs):
    _, _, first, left, _ = runs
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert left["checkpoints"] == ["10", "5"]
    assert left["steps"] == [1, 2, 4, 5, 6, 8, 10, 12]  # 11 and 12 are to be done again
    assert left["files"] == ["checkpoints", "config.json", "metrics.csv", "run.lock"]


def test_the_same_command_says_that_it_resumes_and_ends(runs):
    _, killed, first, _, again = runs
    assert again.returncode == 0, again.stderr
    assert f"resuming {killed} at step 10 of 20" in again.stdout
    assert "fitting what is not trained on 10 blur kernels" not in again.stdout
    assert "resuming" not in first.stdout
    assert "fitting what is not trained on 10 blur kernels" in first.stdout
    assert "1 of 1 cpu device(s)" in again.stdout


def test_the_progress_bar_shows_loss_speed_and_time_left(runs):
    last = runs[4].stderr.strip().split("\r")[-1]
    assert all(part in last for part in ("100%", "20/20", "loss="))
    assert "step/s" in last or "s/step" in last


def test_the_smoke_run_says_what_it_is_and_how_to_train_for_real(runs):
    shown = runs[4].stdout
    assert "This was a smoke run" in shown
    assert "python -m experiments.train --preset paper --dataset bsds500" in shown


def test_a_killed_and_resumed_run_equals_one_in_one_go_to_the_bit(runs, images):
    whole, killed, *_ = runs
    options = parse([*TINY, *FOLDER, str(images)])
    config = options.config
    description = describe_run(config, load_packed(options))
    abstract = abstract_model(config.architecture)
    state = jax.eval_shape(partial(create_state, config), abstract.params)
    like = Saved(state, abstract.constants)
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), like)
    saved = []
    for folder in (whole, killed):
        with Checkpoints(folder / "checkpoints", description=description) as checkpoints:
            assert checkpoints.latest_step() == 20
            saved.append(checkpoints.restore(like))
    assert saved[0].state.step == 20
    for a, b in zip(*(jax.tree.leaves(s) for s in saved), strict=True):
        np.testing.assert_array_equal(a, b)

    model = gx.load_model(killed / "model.safetensors")
    assert model.architecture == gx.Glra(9, 2, 13)
    for a, b in zip(
        jax.tree.leaves((model.params, model.constants)),
        jax.tree.leaves((saved[0].state.params, saved[0].constants)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_a_run_starts_from_a_model(runs, images, tmp_path):
    file = str(runs[1] / "model.safetensors")
    options = parse([*TINY, *FOLDER, str(images), "--initial", file])
    initial = gx.load_model(file)
    adopted = adopt(options.config, initial)
    mesh = data_mesh(1)
    with Checkpoints(tmp_path / "checkpoints", description={}) as checkpoints:
        state, basis = start_or_resume(options, checkpoints, mesh, adopted)
    assert state.step == 0
    held = jax.device_get((state.params, basis))
    jax.tree.map(lambda x: x.delete(), (state, basis))  # as a step does that takes them over
    for a, b in zip(
        jax.tree.leaves(held), jax.tree.leaves((initial.params, initial.constants)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    packed = load_packed(options)
    plain = describe_run(options.config, packed)
    described = describe_run(options.config, packed, initial)
    assert described.items() > plain.items()
    changed = initial.constants._replace(left=initial.constants.right + 1)
    other = replace(initial, constants=changed)
    assert describe_run(options.config, packed, other) != described


def test_a_model_that_a_run_cannot_start_from_is_refused(runs, images, tmp_path):
    arguments = [*TINY, *FOLDER, str(images), "--workdir", str(tmp_path)]
    file = str(runs[1] / "model.safetensors")
    other = [*arguments, "--initial", file, "--architecture.features", "14"]
    quoted = "initial model has features 13, and the run 14; .*--architecture.features 13"
    refused(other, quoted, folder=tmp_path)
    refused([*arguments, "--initial", "gone"], "no model file 'gone'", folder=tmp_path)


def test_metrics_have_every_step_once_and_the_same_values(runs):
    """Rows are means since the row before; checkpoints and first steps have rows of their own."""
    whole, killed, *_ = runs
    tables = []
    for folder in (whole, killed):
        with (folder / "metrics.csv").open(newline="") as file:
            tables.append({int(row.pop("step")): row for row in csv.DictReader(file)})
    steps = [1, 2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20]
    assert list(tables[0]) == steps
    assert list(tables[1]) == sorted([*steps, 11])  # the first step after resuming
    for table in tables:
        seconds = [float(row.pop("seconds")) for row in table.values()]
        assert seconds == sorted(seconds)

    merged, eleventh, twelfth = tables[0].pop(12), tables[1].pop(11), tables[1].pop(12)
    assert tables[0] == tables[1]
    for name in ("loss", "psnr"):
        mean = (float(eleventh[name]) + float(twelfth[name])) / 2
        assert float(merged[name]) == pytest.approx(mean, rel=1e-6)

    rates = [float(tables[0][step]["learning_rate"]) for step in (1, 2, 4, 5, 6)]
    assert rates == pytest.approx([1e-4, 2.8e-4, 6.4e-4, 8.2e-4, 1e-3], rel=1e-4)
    for row in (tables[0][1], tables[0][2], tables[0][5], eleventh, twelfth):
        psnr = -10 * np.log10(2 * float(row["loss"]) / 16**2)  # 16×16 pixels a patch
        assert float(row["psnr"]) == pytest.approx(psnr, abs=1e-3)


def test_the_configuration_is_written_whole(runs, images):
    written = json.loads((runs[1] / "config.json").read_text())
    config = describe_run(parse(TINY).config, load_packed(parse([*TINY, *FOLDER, str(images)])))
    assert written == json.loads(json.dumps(config["config"]))
    assert (written["steps"], written["kernels"]["max_size"]) == (20, 5)


def test_scores_are_those_of_photographs_not_trained_on(runs):
    _, killed, *_, again = runs
    table = (killed / "scores.md").read_text().strip()
    assert table in again.stdout
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert [row[:2] for row in cells[2:]] == [
        ["coffee", "gaussian"],
        ["coins", "gaussian"],
        ["**mean**", ""],
    ]
    assert cells[0][2:] == [f"{m}, PSNR / SSIM" for m in ("blurred", "linear (eq. 8)", "network")]
    scores = np.array([[cell.split(" / ") for cell in row[2:]] for row in cells[2:]], float)
    np.testing.assert_allclose(scores[2], scores[:2].mean(axis=0), atol=0.006)

    # The blurred column by scikit-image: Gaussian of size / 10, centre without half the support.
    x = np.float32(skimage.data.coffee() / 255.0)
    y = gx.degrade(jax.random.key(0), x, gx.gaussian_kernel(sigma=0.5, size=5), noise=0.01)
    truth, blurred = (np.asarray(image)[4:-4, 4:-4] for image in (np.minimum(1.2 * x, 1), y))
    expected = skimage.metrics.peak_signal_noise_ratio(truth, blurred, data_range=1)
    assert scores[0, 0, 0] == pytest.approx(expected, abs=0.011)
    assert 0 < scores[..., 1].min() <= scores[..., 1].max() < 1


def test_pictures_are_drawn(runs):
    killed = runs[1]
    with Image.open(killed / "restored.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert pixels.shape[1] > pixels.shape[0] > 300  # five columns, two rows
    # Every one of the ten panels shows something.
    for panels in np.array_split(pixels, 2):
        for panel in np.array_split(panels, 5, axis=1):
            assert panel.std() > 20
    with Image.open(killed / "curve.png") as curve:
        assert np.asarray(curve.convert("L")).std() > 5


@pytest.mark.slow
def test_the_smoke_run_without_options(tmp_path):
    """The first command of the README: the network at its real size."""
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", "--workdir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr
    assert "smoke run" in done.stdout
    model = gx.load_model(tmp_path / "model.safetensors")
    assert sum(x.size for x in jax.tree.leaves(model.params)) == 1_848_113
    means = re.search(r"\*\*mean\*\*.*", (tmp_path / "scores.md").read_text())
    assert means
    blurred, linear, network = (float(x) for x in re.findall(r"([\d.]+) /", means[0]))
    assert network > linear > blurred
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [int(row["step"]) for row in rows] == [1, *range(10, 101, 10)]


# --- metrics -----------------------------------------------------------------------------------


def test_metrics_log_drops_what_is_done_again_and_counts_the_time_on(tmp_path):
    path = tmp_path / "metrics.csv"

    def metrics(*losses):
        return [Metrics(np.float32(loss), np.float32(20.0), np.float32(0.5)) for loss in losses]

    with MetricsLog(path, first_step=0) as log:
        log.write(5, metrics(1.0, 2.0, 6.0))
        log.write(10, metrics(4.0))
        log.write(15, metrics(5.0))
    before = read_metrics(path)
    assert [row["step"] for row in before] == ["5", "10", "15"]
    assert [float(row["loss"]) for row in before] == [3.0, 4.0, 5.0]
    with path.open("a") as file:
        file.write("20,1.")  # killed in the middle of a row

    with MetricsLog(path, first_step=10) as log:
        row = log.write(15, metrics(7.0))
    after = read_metrics(path)
    assert [(row["step"], float(row["loss"])) for row in after] == [
        ("5", 3.0),
        ("10", 4.0),
        ("15", 7.0),
    ]
    assert row["seconds"] >= float(before[1]["seconds"])
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_no_metrics_without_a_file(tmp_path):
    assert read_metrics(tmp_path / "metrics.csv") == []


# --- the basis, kept between runs --------------------------------------------------------------


def test_a_fitted_basis_is_kept_by_what_it_depends_on(tmp_path, monkeypatch):
    fitted = []

    def fit(config):
        fitted.append(config)
        values = np.random.default_rng(len(fitted)).normal(size=(2, 9, 2))
        return gx.Basis(*np.float32(values))

    monkeypatch.setattr("glra_jax.training.constants_cache.training_constants", fit)
    config = parse(TINY).config
    first = cached_training_constants(config, tmp_path / "cache")
    again = cached_training_constants(replace(config, steps=7, batch=3), tmp_path / "cache")
    assert len(fitted) == 1
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, np.asarray(b))
    kernels = replace(config.kernels, max_sigma=1.4)
    smoother = replace(config.architecture, inverse=gx.Inverse(0.02))
    for change in (
        {"seed": 1},
        {"noise": (0, 1)},
        {"architecture": smoother},
        {"kernels": kernels},
    ):
        cached_training_constants(replace(config, **change), tmp_path / "cache")
    assert len(fitted) == 5

    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    cached_training_constants(config, tmp_path / "cache")
    assert len(fitted) == 6  # the damaged entry was fitted again
    cached_training_constants(config, tmp_path / "cache")
    assert len(fitted) == 6
