"""What the training program refuses, with nothing overwritten."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import skimage.metrics
from PIL import Image
from training_program_helpers import FOLDER, ROOT, TINY, refused

import glra_jax as gx
from experiments.train import main
from experiments.training_runs.lock import only_run_in
from experiments.training_runs.options import describe_run, parse
from experiments.training_runs.photographs import load_packed
from glra_jax.training.checkpoints import Checkpoints, Saved
from glra_jax.training.step import TrainState

pytestmark = pytest.mark.usefixtures("basis_cache")


@pytest.fixture
def workdir(tmp_path, images) -> Path:
    """A work directory with a checkpoint; its arrays do not matter here."""
    folder = tmp_path / "work"
    options = parse([*TINY, *FOLDER, str(images)])
    description = describe_run(options.config, load_packed(options))
    state = TrainState(np.int32(10), {"core": {"bias": np.ones(2)}}, (), {})
    with Checkpoints(folder / "checkpoints", description=description) as checkpoints:
        checkpoints.save(Saved(state, gx.Basis(np.ones((2, 2)), np.ones((2, 2)))))
    (folder / "config.json").write_text("{}")
    (folder / "metrics.csv").write_text("step,loss\n10,1\n")
    return folder


def test_a_work_directory_of_another_configuration(workdir, images):
    arguments = [*TINY, *FOLDER, str(images), "--workdir", str(workdir), "--seed", "3"]
    refused(arguments, "another run.*seed was 0, now 3", folder=workdir)


def test_a_work_directory_of_other_images(workdir, tmp_path):
    photograph = tmp_path / "images" / "one.png"
    photograph.parent.mkdir()
    Image.fromarray(skimage.data.camera()[:80, :80]).save(photograph)
    arguments = [*TINY, *FOLDER, str(photograph.parent), "--workdir", str(workdir)]
    refused(arguments, "another run.*images_sha256", folder=workdir)


def test_a_checkpoint_of_other_arrays(workdir, images):
    arguments = [*TINY, *FOLDER, str(images), "--workdir", str(workdir)]
    refused(arguments, "checkpoints.10 cannot be read", folder=workdir)


def test_a_work_directory_where_a_run_is_at_work(workdir, images):
    """Held by another process, which is killed: nothing of the lock is left behind."""
    arguments = [*TINY, *FOLDER, str(images), "--workdir", str(workdir)]
    hold = (
        "import sys, time, pathlib\n"
        "from experiments.training_runs.lock import only_run_in\n"
        "with only_run_in(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hold, str(workdir)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"held\n"
        refused(arguments, "another run is at work in .*work; wait", folder=workdir)
        process.kill()
    with only_run_in(workdir):
        pass


def test_too_few_features_leave_nothing_behind(tmp_path, images):
    arguments = [
        *TINY,
        "--architecture.features",
        "12",
        *FOLDER,
        str(images),
        "--workdir",
        str(tmp_path),
    ]
    refused(arguments, "identity.*13 features.*12", folder=tmp_path)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "scores.md", "restored.png", "config.json", "metrics.csv"]
)
def test_a_folder_with_files_of_that_name_but_no_checkpoint(tmp_path, images, name):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / name).write_text("precious")
    arguments = [*TINY, *FOLDER, str(images), "--workdir", str(folder)]
    refused(arguments, f"home.*{name}.*no checkpoint", folder=folder)


def test_a_foreign_checkpoint_folder(tmp_path, images):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "model.ckpt").write_text("precious")
    arguments = [*TINY, *FOLDER, str(images), "--workdir", str(tmp_path)]
    refused(arguments, "checkpoints.*model.ckpt.*no whole checkpoint", folder=tmp_path)


def test_a_run_that_diverges_stops_and_keeps_its_last_good_checkpoint(tmp_path, images):
    arguments = [*TINY, *FOLDER, str(images), "--workdir", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"not finite at step \d+; .*--learning-rate than 1e\+38"):
        main([*arguments, "--learning-rate", "1e38", "--warmup", "0", "--log-every", "1"])
    assert not (tmp_path / "model.safetensors").exists()
    steps = [int(path.name) for path in (tmp_path / "checkpoints").iterdir()]
    assert all(step < 20 for step in steps)


def test_bad_image_folders(tmp_path, images):
    common = [*TINY, "--workdir", str(tmp_path / "work"), *FOLDER]
    refused([*common, str(tmp_path / "gone")], "gone is not a folder", folder=tmp_path)
    (tmp_path / "empty").mkdir()
    refused([*common, str(tmp_path / "empty")], "empty holds no image", folder=tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "cut.png").write_bytes((images / "cat.png").read_bytes()[:2000])
    refused(
        [*common, str(tmp_path / "bad")], r"cut.png cannot be read.* truncated", folder=tmp_path
    )
    (tmp_path / "small").mkdir()
    Image.fromarray(np.zeros((27, 90), np.uint8)).save(tmp_path / "small" / "a.png")
    refused(
        [*common, str(tmp_path / "small")],
        r"shape \(27, 90\) is smaller than the 28 pixels",
        folder=tmp_path,
    )
    assert not (tmp_path / "work").exists()
