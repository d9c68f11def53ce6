"""The training program: its options, what it writes, kills, and what it refuses."""

import csv
import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import skimage.data
import skimage.metrics
from PIL import Image

import glra_jax as gx
from experiments.train import MetricsLog, main, read_metrics, start_or_resume
from experiments.training_runs.options import TrainOptions, describe_run, parse
from experiments.training_runs.photographs import load_photographs, load_planes
from glra_jax.training.basis_cache import cached_training_basis
from glra_jax.training.checkpoints import Checkpoints, Saved
from glra_jax.training.config import PRESETS, TrainConfig
from glra_jax.training.step import Metrics, TrainState, create_state, data_mesh

ROOT = Path(__file__).parents[1]
TINY = [
    *("--support", "9", "--rank", "2", "--features", "13", "--patch", "24", "--batch", "1"),
    *("--kernels.families", "gaussian", "--kernels.min-size", "5", "--kernels.max-size", "5"),
    *("--kernels.max-sigma", "1.5", "--basis-kernels", "10", "--warmup", "5", "--steps", "20"),
    *("--start", "identity"),
    *("--checkpoint-every", "5", "--log-every", "2"),
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Fitted bases go to a folder of the tests, also those of the programs started here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    Image.fromarray(skimage.data.chelsea()[60:140, 100:190]).save(folder / "cat.png")
    Image.fromarray(skimage.data.camera()[40:110, 200:280]).save(folder / "man.png")
    return folder


# --- options -----------------------------------------------------------------------------------


def test_defaults_are_the_smoke_preset():
    options = parse([])
    assert options.config == PRESETS["smoke"]
    assert (options.preset, options.folder) == ("smoke", Path("runs/smoke"))
    assert (options.checkpoint_every, options.log_every) == (50, 10)


@pytest.mark.parametrize("name", ["paper", "release"])
def test_a_preset_changes_the_defaults_that_options_override(name):
    options = parse(["--preset", name])
    assert options.config == PRESETS[name]
    assert options.folder == Path("runs") / name
    options = parse(["--steps", "7", "--preset", name, "--noise", "0", "0.03", "--workdir", "w"])
    changed = {**vars(PRESETS[name]), "steps": 7, "noise": (0.0, 0.03)}
    assert vars(options.config) == changed
    assert options.folder == Path("w")


@pytest.mark.parametrize("spelling", [["--preset=paper"], ["--preset", "paper"]])
def test_both_spellings_of_an_option(spelling):
    assert parse(spelling).config == PRESETS["paper"]


def test_an_unknown_preset_is_refused():
    names = ", ".join(PRESETS)
    with pytest.raises(SystemExit, match=f"--preset must be one of {names}, got 'n'"):
        parse(["--preset", "n"])


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        (["--stepz", "3"], "--stepz"),
        (["--steps", "many"], "many"),
        (["--protocol", "papre"], "papre"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--checkpoint-every", "0"], "checkpoint_every must be at least 1, got 0"),
        (["--rank", "152"], "rank 152 is above the support 151"),
    ],
)
def test_bad_options_are_quoted(arguments, quoted, capsys):
    with pytest.raises((SystemExit, ValueError)) as raised:
        main(arguments)
    shown = f"{raised.value}{capsys.readouterr().err}"
    assert quoted in re.sub(r"[\s│]+", " ", shown)
    if isinstance(raised.value, SystemExit):
        assert raised.value.code not in (0, None)


def test_help_names_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit) as raised:
        parse(["--help"])
    assert raised.value.code == 0
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    entries = dict(re.findall(r"--([\w.-]+) ((?:(?!--).)*?\(default: [^)]*\))", shown))
    config = PRESETS["smoke"]
    expected = {"preset": "smoke", "workdir": None, "images": None, "cache": None}
    expected |= {"checkpoint_every": 50, "log_every": 10}
    expected |= {n: v for n, v in vars(config).items() if n != "kernels"}
    expected |= {f"kernels.{n}": v for n, v in vars(config.kernels).items()}
    for name, value in expected.items():
        words = value if isinstance(value, tuple) else (value,)
        default = " ".join(str(word) for word in words)
        entry = entries[name.replace("_", "-")]
        assert entry.endswith(f"(default: {default})"), (name, entry)
        assert len(entry.split()) > 6, f"{name} is not explained: {entry}"


def test_help_shows_the_defaults_of_the_preset_asked_for(capsys):
    with pytest.raises(SystemExit):
        parse(["--preset", "release", "--help"])
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert "(default: 200000)" in shown
    assert "(default: polynomial)" in shown
    assert "(default: 1e-06)" in shown


def test_a_run_is_described_by_its_configuration_and_its_pixels(images, tmp_path):
    options = parse([*TINY, "--images", str(images)])
    planes = load_planes(options)
    description = describe_run(options.config, planes)
    assert (
        TrainConfig(
            **{
                **description["config"],
                "kernels": gx.KernelFamilies(**description["config"]["kernels"]),
            }
        )
        == options.config
    )
    assert describe_run(options.config, load_planes(options)) == description

    pixels = np.asarray(Image.open(images / "cat.png")).copy()
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    Image.open(images / "man.png").save(tmp_path / "man.png")
    other = load_planes(parse([*TINY, "--images", str(tmp_path)]))
    assert describe_run(options.config, other)["images_sha256"] != description["images_sha256"]


def test_embedded_photographs_are_the_default_data():
    planes = load_planes(parse([]))
    assert len(planes.starts) == 3 * 3 + 4  # three photographs in colour and four in grey
    astronaut = skimage.data.astronaut()[..., 0].ravel()
    np.testing.assert_array_equal(planes.pixels[: astronaut.size], astronaut)


@pytest.fixture(scope="module")
def bsds500(tmp_path_factory):
    """A folder like the unpacked archive: 200, 200 and 100 tiny photographs of one grey each."""
    root = tmp_path_factory.mktemp("archive")
    for split, (count, grey) in {"train": (200, 10), "test": (200, 90), "val": (100, 200)}.items():
        folder = root / "BSR" / "BSDS500" / "data" / "images" / split
        folder.mkdir(parents=True)
        encoded = io.BytesIO()
        Image.new("RGB", (9, 7), (grey,) * 3).save(encoded, "JPEG")
        for index in range(count):
            (folder / f"{split}{index}.jpg").write_bytes(encoded.getvalue())
    return root


def test_bsds500_is_trained_on_without_what_is_scored(bsds500):
    photographs = load_photographs(parse([*TINY, "--bsds500", str(bsds500)]))
    assert {p.shape for p in photographs} == {(7, 9, 3)}
    greys = [round(float(p.mean()), -1) for p in photographs]
    assert greys == [10] * 200 + [90] * 200
    chosen = load_photographs(parse([*TINY, "--bsds500", str(bsds500), "--splits", "test"]))
    assert len(chosen) == 200


@pytest.mark.parametrize("split", ["val", "bsd100"])
def test_a_leak_must_be_meant(bsds500, split):
    asked = [*TINY, "--bsds500", str(bsds500), "--splits", "train", split]
    with pytest.raises(ValueError, match=f"{split}.*BSD100"):
        load_photographs(parse(asked))
    assert len(load_photographs(parse([*asked, "--allow-leak"]))) == 300

    images = str(bsds500 / "BSR" / "BSDS500" / "data" / "images")
    for folder in (images, f"{images}/val"):
        with pytest.raises(ValueError, match=r"val.*--allow-leak"):
            load_photographs(parse([*TINY, "--images", folder]))
    assert len(load_photographs(parse([*TINY, "--images", images, "--allow-leak"]))) == 500


def test_data_comes_from_one_place(tmp_path):
    with pytest.raises(ValueError, match="exclude each other"):
        TrainOptions(images=tmp_path, bsds500=tmp_path)


# --- a whole run, and one that is killed -------------------------------------------------------

DRIVER = """
# Trains in the first folder in one go, then in the second until it is killed after 13 updates.
import os, signal, sys
import jax
import experiments.train as program

folders, arguments = sys.argv[1:3], sys.argv[3:]
program.report = lambda *_: None
program.main([*arguments, "--workdir", folders[0]])

def make_train_step(config, mesh, make=program.make_train_step):
    inner = make(config, mesh)
    def train_step(state, planes, basis):
        new = jax.block_until_ready(inner(state, planes, basis))
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
    arguments = [*TINY, "--images", str(images)]
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
    assert left["files"] == ["checkpoints", "config.json", "metrics.csv"]


def test_the_same_command_says_that_it_resumes_and_ends(runs):
    _, killed, first, _, again = runs
    assert again.returncode == 0, again.stderr
    assert f"resuming {killed} at step 10 of 20" in again.stdout
    assert "fitting the basis on 10 pseudo-inverse kernels" not in again.stdout
    assert "resuming" not in first.stdout
    assert "fitting the basis on 10 pseudo-inverse kernels" in first.stdout
    assert "1 of 1 cpu device(s)" in again.stdout


def test_the_progress_bar_shows_loss_speed_and_time_left(runs):
    last = runs[4].stderr.strip().split("\r")[-1]
    assert re.search(r"training: 100%.* 20/20 \[[\d:]+<[\d:]+, .*(step/s|s/step), loss=\d+", last)


def test_the_smoke_run_says_what_it_is_and_how_to_train_for_real(runs):
    shown = runs[4].stdout
    assert "This was a smoke run" in shown
    assert "python -m experiments.train --preset paper --bsds500 DIR" in shown


def test_a_killed_and_resumed_run_equals_one_in_one_go_to_the_bit(runs, images):
    whole, killed, *_ = runs
    options = parse([*TINY, "--images", str(images)])
    config = options.config
    description = describe_run(config, load_planes(options))
    basis = gx.Basis(*np.zeros((2, config.support, config.rank), np.float32))
    like = jax.eval_shape(lambda basis: Saved(create_state(config, basis), basis), basis)
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
    assert model.config == gx.ModelConfig(9, 2, 13, 0.01)
    for a, b in zip(
        jax.tree.leaves((model.params, model.basis)),
        jax.tree.leaves((saved[0].state.params, saved[0].basis)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_a_run_starts_from_a_model(runs, images, tmp_path):
    file = str(runs[1] / "model.safetensors")
    options = parse([*TINY, "--images", str(images), "--initial", file])
    initial = gx.load_model(file)
    mesh = data_mesh(1)
    with Checkpoints(tmp_path / "checkpoints", description={}) as checkpoints:
        state, basis = start_or_resume(options, checkpoints, mesh, initial)
    assert state.step == 0
    held = jax.device_get((state.params, basis))
    jax.tree.map(lambda x: x.delete(), (state, basis))  # as a step does that takes them over
    for a, b in zip(
        jax.tree.leaves(held), jax.tree.leaves((initial.params, initial.basis)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    planes = load_planes(options)
    plain = describe_run(options.config, planes)
    described = describe_run(options.config, planes, initial)
    assert described.items() > plain.items()
    other = dataclasses.replace(initial, basis=initial.basis._replace(left=initial.basis.right + 1))
    assert describe_run(options.config, planes, other) != described


def test_a_model_that_a_run_cannot_start_from_is_refused(runs, images, tmp_path):
    arguments = [*TINY, "--images", str(images), "--workdir", str(tmp_path)]
    file = str(runs[1] / "model.safetensors")
    other = [*arguments, "--initial", file, "--features", "14"]
    refused(
        other, "initial model has features 13, and the run 14; .*--features 13", folder=tmp_path
    )
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
    config = describe_run(parse(TINY).config, load_planes(parse([*TINY, "--images", str(images)])))
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
    assert cells[0][2:] == [f"{m}, PSNR / SSIM" for m in ("blurred", "eq. 8", "network")]
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
    assert "This was a smoke run" in done.stdout
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

    log = MetricsLog(path, first_step=0)
    log.write(5, metrics(1.0, 2.0, 6.0))
    log.write(10, metrics(4.0))
    log.write(15, metrics(5.0))
    log.close()
    before = read_metrics(path)
    assert [row["step"] for row in before] == ["5", "10", "15"]
    assert [float(row["loss"]) for row in before] == [3.0, 4.0, 5.0]
    with path.open("a") as file:
        file.write("20,1.")  # killed in the middle of a row

    log = MetricsLog(path, first_step=10)
    row = log.write(15, metrics(7.0))
    log.close()
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

    monkeypatch.setattr("glra_jax.training.basis_cache.training_basis", fit)
    config = parse(TINY).config
    first = cached_training_basis(config, tmp_path / "cache")
    again = cached_training_basis(replace(config, steps=7, batch=3), tmp_path / "cache")
    assert len(fitted) == 1
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, np.asarray(b))
    kernels = replace(config.kernels, max_sigma=1.4)
    for change in ({"seed": 1}, {"rank": 3}, {"regularization": 0.02}, {"kernels": kernels}):
        cached_training_basis(replace(config, **change), tmp_path / "cache")
    assert len(fitted) == 5

    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    cached_training_basis(config, tmp_path / "cache")
    assert len(fitted) == 6  # the damaged entry was fitted again
    cached_training_basis(config, tmp_path / "cache")
    assert len(fitted) == 6


# --- what is refused, with nothing overwritten -------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(arguments: list[str], match: str, *, folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(SystemExit, match=match) as raised:
        main(arguments)
    assert "\n" not in str(raised.value)
    assert contents(folder) == before


@pytest.fixture
def workdir(tmp_path, images) -> Path:
    """A work directory with a checkpoint; its arrays do not matter here."""
    folder = tmp_path / "work"
    options = parse([*TINY, "--images", str(images)])
    description = describe_run(options.config, load_planes(options))
    state = TrainState(np.int32(10), {"core": {"bias": np.ones(2)}}, ())
    with Checkpoints(folder / "checkpoints", description=description) as checkpoints:
        checkpoints.save(Saved(state, gx.Basis(np.ones((2, 2)), np.ones((2, 2)))))
    (folder / "config.json").write_text("{}")
    (folder / "metrics.csv").write_text("step,loss\n10,1\n")
    return folder


def test_a_work_directory_of_another_configuration(workdir, images):
    arguments = [*TINY, "--images", str(images), "--workdir", str(workdir), "--seed", "3"]
    refused(arguments, "another run: config.seed was 0, now 3. Use the same", folder=workdir)


def test_a_work_directory_of_other_images(workdir, tmp_path):
    photograph = tmp_path / "images" / "one.png"
    photograph.parent.mkdir()
    Image.fromarray(skimage.data.camera()[:80, :80]).save(photograph)
    arguments = [*TINY, "--images", str(photograph.parent), "--workdir", str(workdir)]
    refused(arguments, "another run: images_sha256 was", folder=workdir)


def test_a_checkpoint_of_other_arrays(workdir, images):
    arguments = [*TINY, "--images", str(images), "--workdir", str(workdir)]
    refused(arguments, r"checkpoints.10 cannot be read .* Nothing was changed", folder=workdir)


def test_too_few_features_leave_nothing_behind(tmp_path, images):
    arguments = [*TINY, "--features", "12", "--images", str(images), "--workdir", str(tmp_path)]
    refused(arguments, "'identity' needs 13 features or more, got 12", folder=tmp_path)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "scores.md", "restored.png", "config.json", "metrics.csv"]
)
def test_a_folder_with_files_of_that_name_but_no_checkpoint(tmp_path, images, name):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / name).write_text("precious")
    arguments = [*TINY, "--images", str(images), "--workdir", str(folder)]
    refused(arguments, f"home holds {name} but no checkpoint of this run", folder=folder)


def test_a_foreign_checkpoint_folder(tmp_path, images):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "model.ckpt").write_text("precious")
    arguments = [*TINY, "--images", str(images), "--workdir", str(tmp_path)]
    refused(arguments, "checkpoints holds model.ckpt but no whole checkpoint", folder=tmp_path)


def test_bad_image_folders(tmp_path, images):
    common = [*TINY, "--workdir", str(tmp_path / "work"), "--images"]
    refused([*common, str(tmp_path / "gone")], "gone is not a folder", folder=tmp_path)
    (tmp_path / "empty").mkdir()
    refused([*common, str(tmp_path / "empty")], "empty holds no image", folder=tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "cut.png").write_bytes((images / "cat.png").read_bytes()[:2000])
    refused(
        [*common, str(tmp_path / "bad")], r"cut.png cannot be read .* truncated", folder=tmp_path
    )
    (tmp_path / "small").mkdir()
    Image.fromarray(np.zeros((27, 90), np.uint8)).save(tmp_path / "small" / "a.png")
    refused(
        [*common, str(tmp_path / "small")],
        r"shape \(27, 90\) is smaller than the 28 pixels",
        folder=tmp_path,
    )
    assert not (tmp_path / "work").exists()
