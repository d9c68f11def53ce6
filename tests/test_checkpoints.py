"""Checkpoints survive kills and damage, and are refused where they do not belong."""

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

import glra_jax as gx
from glra_jax.datasets import pack_photographs
from glra_jax.training.checkpoints import CheckpointError, Checkpoints, Saved
from glra_jax.training.config import TrainConfig
from glra_jax.training.step import (
    TrainState,
    create_state,
    data_mesh,
    initial_params,
    make_train_step,
    replicated,
    training_constants,
)

# Reading damaged files leaves futures and coroutines of tensorstore, which complain when they
# end after orbax has closed its event loop; the error itself reaches the caller, and is tested.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def leftovers():
    """They end here, and not in the tests of another file."""
    yield
    gc.collect()


DESCRIPTION = {"config": {"steps": 20, "noise": (0.01, 0.02)}, "images_sha256": "abc"}


def small(step: int) -> Saved:
    """A state of a few arrays that tell the step; one is too large to be stored in an index."""
    values = jnp.arange(12.0).reshape(3, 4) + 100 * step
    filters = jnp.asarray(np.random.default_rng(step).normal(size=(64, 64)), jnp.float32)
    params = {"vertical": {"kernel": filters, "bias": jnp.full(4, 1.0 / (1 + step))}}
    opt_state = ({"mu": values**2}, (), jnp.asarray(step, jnp.int32))
    state = TrainState(jnp.asarray(step, jnp.int32), params, opt_state, {})
    return Saved(state, gx.Basis(values, -1 * values))


def assert_same(a, b):
    """Same structure, dtypes and bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder, byte for byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    """Checkpoints of steps 5 and 10."""
    with Checkpoints(tmp_path / "run", description=DESCRIPTION) as checkpoints:
        checkpoints.save(small(5))
        checkpoints.save(small(10))
    return tmp_path / "run"


# --- what is saved comes back ------------------------------------------------------------------


def test_a_checkpoint_comes_back_to_the_bit(folder):
    with Checkpoints(folder, description=DESCRIPTION) as checkpoints:
        assert checkpoints.latest_step() == 10
        assert_same(checkpoints.restore(small(0)), small(10))


def test_shapes_alone_say_what_to_restore(folder):
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), small(0)
    )
    with Checkpoints(folder, description=DESCRIPTION) as checkpoints:
        assert_same(checkpoints.restore(like), small(10))


def test_only_the_latest_are_kept(tmp_path):
    with Checkpoints(tmp_path, description=DESCRIPTION, keep=2) as checkpoints:
        for step in (3, 6, 9, 12):
            checkpoints.save(small(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["12", "9"]


def test_an_empty_folder_holds_no_checkpoint(tmp_path):
    with Checkpoints(tmp_path / "a" / "b", description=DESCRIPTION) as checkpoints:
        assert checkpoints.latest_step() is None
        with pytest.raises(CheckpointError, match="holds no checkpoint"):
            checkpoints.restore(small(0))


@pytest.mark.parametrize(("saved_on", "restored_on"), [(4, 1), (1, 4), (4, 2)])
def test_another_number_of_devices_can_go_on(tmp_path, saved_on, restored_on):
    before, after = (replicated(data_mesh(4, jax.devices()[:n])) for n in (saved_on, restored_on))
    with Checkpoints(tmp_path, description=DESCRIPTION) as checkpoints:
        checkpoints.save(jax.device_put(small(10), before))
        restored = checkpoints.restore(jax.device_put(small(0), after))
    assert_same(restored, small(10))
    for leaf in jax.tree.leaves(restored):
        assert leaf.sharding == after
        assert len(leaf.devices()) == restored_on


@pytest.mark.parametrize("saved_on", [1, 4])
def test_a_resumed_run_equals_one_in_one_go(tmp_path, resumable, saved_on):
    start, step = resumable
    alone = replicated(data_mesh(1))
    everywhere = replicated(data_mesh(4, jax.devices()[:saved_on]))

    state, basis = jax.device_put(start, alone)
    for _ in range(20):
        state, _ = step(state, basis)
    in_one_go = jax.device_get(state)

    state, basis = jax.device_put(start, alone)
    for _ in range(13):
        state, _ = step(state, basis)
    with Checkpoints(tmp_path, description=DESCRIPTION) as checkpoints:
        checkpoints.save(Saved(*jax.device_put((state, basis), everywhere)))
    del state, basis
    with Checkpoints(tmp_path, description=DESCRIPTION) as checkpoints:
        state, basis = checkpoints.restore(Saved(*jax.device_put(start, alone)))
    assert state.step == 13
    for _ in range(7):
        state, _ = step(state, basis)

    assert state.step == 20
    assert_same(jax.device_get(state), in_one_go)


@pytest.fixture(scope="module")
def resumable():
    """State and basis at step 0 on the host, and a compiled training step on one device."""
    config = TrainConfig(
        steps=20,
        batch=1,
        patch=24,
        architecture=gx.Glra(9, 2, 2),
        initialization="glra",
        basis_kernels=10,
        weight_decay=1e-4,
        kernels=gx.KernelFamilies(families=("gaussian",), min_size=5, max_size=5, max_sigma=2.0),
    )
    basis = training_constants(config)
    state = jax.jit(lambda b: create_state(config, initial_params(config, b)))(basis)
    start = jax.device_get((state, basis))
    packed = pack_photographs([skimage.data.camera()[:64, 100:180]])
    train_step = make_train_step(config, data_mesh(1))
    return start, lambda state, basis: train_step(state, packed, basis)


# --- kills -------------------------------------------------------------------------------------


class Watch:
    """Copies a folder before every change that Python makes to it: what a kill would leave.

    Audit hooks cannot be removed; this one does nothing once it has been switched off.
    """

    def __init__(self, folder: Path, copies: Path):
        self.folder, self.copies, self.count, self.on = folder, copies, 0, True
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple) -> None:
        changes = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
        if not self.on or event not in changes or str(self.folder) not in str(args[0]):
            return
        self.on = False
        copy = self.copies / f"{self.count:03d}"
        for path in sorted(self.folder.rglob("*")):
            target = copy / path.relative_to(self.folder)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif path.is_file():  # other threads' temporary files may have gone meanwhile
                target.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(path, target)
        self.count += 1
        self.on = True


def test_a_kill_at_any_moment_of_a_save_leaves_the_earlier_checkpoints(folder, tmp_path):
    copies = tmp_path / "copies"
    with Checkpoints(folder, description=DESCRIPTION) as checkpoints:
        watch = Watch(folder, copies)
        checkpoints.save(small(15))
        watch.on = False
    found = []
    for copy in sorted(copies.iterdir()):
        with Checkpoints(copy, description=DESCRIPTION) as checkpoints:
            latest = checkpoints.latest_step()
            assert_same(checkpoints.restore(small(0)), small(latest))
            found.append(latest)
            checkpoints.save(small(20))  # and the run can go on
            assert checkpoints.latest_step() == 20
    # Before it had its name, the new checkpoint was not there; then it was whole.
    assert found == sorted(found)
    assert set(found) == {10, 15}
    assert found.count(10) > 10


def test_a_kill_in_the_first_save_leaves_a_folder_to_start_in(tmp_path):
    with Checkpoints(tmp_path / "run", description=DESCRIPTION) as checkpoints:
        watch = Watch(tmp_path / "run", tmp_path / "copies")
        checkpoints.save(small(5))
        watch.on = False
    copies = sorted((tmp_path / "copies").iterdir())
    assert len(copies) > 10
    for copy in copies:
        with Checkpoints(copy, description=DESCRIPTION) as checkpoints:
            assert checkpoints.latest_step() is None
            checkpoints.save(small(5))
            assert_same(checkpoints.restore(small(0)), small(5))


KILLED_IN_SAVE = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_checkpoints import DESCRIPTION, small
from glra_jax.training.checkpoints import Checkpoints

def kill(event, args):
    if event == "os.rename" and str(args[0]).endswith("15.orbax-checkpoint-tmp"):
        os.kill(os.getpid(), signal.SIGKILL)

with Checkpoints(Path(sys.argv[1]), description=DESCRIPTION) as checkpoints:
    sys.addaudithook(kill)
    checkpoints.save(small(15))
"""


def test_a_real_kill_in_a_save(folder):
    command = [sys.executable, "-c", KILLED_IN_SAVE, str(folder), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any("15.orbax-checkpoint-tmp" in name for name in os.listdir(folder))
    with Checkpoints(folder, description=DESCRIPTION) as checkpoints:
        assert checkpoints.latest_step() == 10
        assert_same(checkpoints.restore(small(0)), small(10))


# --- what does not belong is refused, and left alone -------------------------------------------


def refused(folder: Path, match: str, description=DESCRIPTION, like=None) -> None:
    before = contents(folder)
    with pytest.raises(CheckpointError, match=match):  # noqa: SIM117
        with Checkpoints(folder, description=description) as checkpoints:
            checkpoints.restore(small(0) if like is None else like)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("description", "match"),
    [
        (
            {"config": {"steps": 30, "noise": (0.01, 0.02)}, "images_sha256": "abc"},
            "steps was 20, now 30",
        ),
        (
            {"config": {"steps": 20, "noise": (0.01, 0.03)}, "images_sha256": "abc"},
            r"config.noise was \[0.01, 0.02\], now \[0.01, 0.03\]",
        ),
        (
            {"config": {"steps": 20, "noise": (0.01, 0.02)}, "images_sha256": "abd"},
            "images_sha256 was 'abc', now 'abd'",
        ),
        (
            {"config": {"noise": (0.01, 0.02), "seed": 1}, "images_sha256": "abc"},
            "config.seed was None, now 1; config.steps was 20, now None",
        ),
    ],
)
def test_another_run_is_refused_and_its_differences_are_named(folder, description, match):
    refused(folder, match, description)


def test_a_run_of_an_earlier_version_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("glra_jax.training.checkpoints._FORMAT", 1)
        with Checkpoints(tmp_path, description=DESCRIPTION) as checkpoints:
            checkpoints.save(small(10))
    refused(tmp_path, "earlier version .* choose another work directory")


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    (tmp_path / "notes").mkdir()
    refused(tmp_path, "holiday.jpg, notes.*no whole checkpoint")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "run"
    path.write_bytes(b"precious")
    with pytest.raises(CheckpointError, match="run is a file; choose another folder"):
        Checkpoints(path, description=DESCRIPTION)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("files", [(), ("picture.png",)])
def test_a_folder_of_numbers_that_is_no_checkpoint_is_refused(tmp_path, files):
    (tmp_path / "2024").mkdir()
    for name in files:
        (tmp_path / "2024" / name).write_bytes(b"precious")
    refused(tmp_path, "2024")


def test_a_checkpoint_of_another_program_is_refused(tmp_path):
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(3, args=ocp.args.StandardSave({"weights": np.ones(3)}))
    refused(tmp_path, "3 is not a checkpoint of this program")


@pytest.mark.parametrize("change", ["shape", "missing", "more"])
def test_a_checkpoint_of_other_arrays_is_refused(folder, change):
    like = small(0)
    params = {
        "shape": {"vertical": {"kernel": jnp.zeros((64, 65)), "bias": jnp.zeros(4)}},
        "missing": {"vertical": {"kernel": jnp.zeros((64, 64))}},
        "more": {**like.state.params, "core": {"bias": jnp.zeros(4)}},
    }[change]
    like = like._replace(state=like.state._replace(params=params))
    refused(folder, "10 cannot be read", like=like)


def spoil(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 16
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["cut", "flipped bit"])
def test_the_checkpoint_before_a_damaged_one_is_taken_whatever_file_is_damaged(
    folder, tmp_path, how
):
    """Some files are copies that reading does not need; then all is as it was. Never else."""
    names = [path.relative_to(folder) for path in (folder / "10").rglob("*") if path.is_file()]
    seen = {}
    for index, name in enumerate(names):
        copy = tmp_path / f"copy{index}"
        shutil.copytree(folder, copy)
        spoil(copy / name, how)
        before = contents(copy / "10")
        with Checkpoints(copy, description=DESCRIPTION) as checkpoints:
            found = checkpoints.restore(small(0))
            seen[str(name)] = bool(checkpoints.set_aside)
            assert_same(found, small(5 if checkpoints.set_aside else 10))
            if checkpoints.set_aside:
                assert checkpoints.set_aside == (
                    f"checkpoint {copy / '10'} is damaged and is kept as 10.damaged",
                )
                assert contents(copy / "10.damaged") == before
                checkpoints.save(small(10))
        with Checkpoints(copy, description=DESCRIPTION) as checkpoints:
            assert_same(checkpoints.restore(small(0)), small(10))
            assert not checkpoints.set_aside
    largest = max(names, key=lambda name: (folder / name).stat().st_size)
    assert (folder / largest).stat().st_size > 64 * 64 * 3  # the arrays themselves
    assert seen[str(largest)]
    assert seen["10/description/metadata"]


def test_where_every_checkpoint_is_damaged_nothing_is_changed(folder):
    for path in folder.glob("*/arrays/**/*"):
        if path.is_file():
            path.write_bytes(b"")
    refused(folder, r"run.10 .*damaged.*none before it.*Nothing was changed")


def test_a_name_that_is_taken_gets_a_number(folder):
    for _ in range(2):
        spoil(folder / "10" / "description" / "metadata", "cut")
        with Checkpoints(folder, description=DESCRIPTION) as checkpoints:
            checkpoints.restore(small(0))
            checkpoints.save(small(10))
    names = {path.name for path in folder.iterdir()}
    assert names == {"5", "10", "10.damaged", "10.damaged-2"}


def test_flipped_bits_are_seen(folder, monkeypatch):
    """As if the files held other numbers than were saved: what orbax reads is changed."""
    with Checkpoints(folder, description=DESCRIPTION) as checkpoints:
        read = checkpoints._manager.restore

        def flipped(*args, **options):
            found = dict(read(*args, **options))
            if "arrays" in found:
                change = lambda x: x.at[0, 0].multiply(1.0001) if x.ndim == 2 else x  # noqa: E731
                found["arrays"] = jax.tree.map(change, found["arrays"])
            return found

        monkeypatch.setattr(checkpoints._manager, "restore", flipped)
        with pytest.raises(CheckpointError, match=r"10 is damaged: its arrays are not those"):
            checkpoints.restore(small(0))
