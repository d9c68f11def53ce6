"""Several processes on one folder: each photograph is restored by one of them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import glra_jax as gx
from glra_jax import cli
from glra_jax.commands.claims import Claims

pytest.importorskip("fcntl")

LOCK = ".glra-jax.lock"
# Without the imports of the package, which take seconds.
_OTHER = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("claims", sys.argv[1])
claims = importlib.util.module_from_spec(spec)
spec.loader.exec_module(claims)
with claims.Claims(Path(sys.argv[2])) as held, held.of(Path(sys.argv[3])) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path, name: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that claims a file until it is told to end."""
    source = sys.modules[Claims.__module__].__file__
    assert source is not None
    command = [sys.executable, "-c", _OTHER, source, str(folder), name]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "True\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_file_is_claimed_by_one_process_at_a_time(tmp_path: Path) -> None:
    with another_process(tmp_path, "a.png") as other, Claims(tmp_path) as claims:
        with claims.of(tmp_path / "a.png") as mine:
            assert not mine
        with claims.of(tmp_path / "b.png") as mine:
            assert mine
        other.send_signal(signal.SIGKILL)
        other.wait()
        with claims.of(tmp_path / "a.png") as mine:
            assert mine
    assert not any(tmp_path.iterdir())


def test_the_last_who_leaves_removes_the_file(tmp_path: Path) -> None:
    with another_process(tmp_path, "a.png") as other:
        with Claims(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()
        other.communicate()
        assert other.returncode == 0
    assert not any(tmp_path.iterdir())


def test_whoever_may_write_in_the_folder_may_claim(tmp_path: Path) -> None:
    """A killed process leaves the hidden file to users who could not open it by the umask."""
    before = os.umask(0o077)
    try:
        for mode in (0o770, 0o755, 0o777):
            tmp_path.chmod(mode)
            with Claims(tmp_path):
                assert (tmp_path / LOCK).stat().st_mode & 0o777 == mode & 0o666
    finally:
        os.umask(before)


def test_a_file_that_was_removed_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look: Callable[[int], os.stat_result] = os.fstat
    looked = []

    def removed(number: int) -> os.stat_result:
        if not looked:
            (tmp_path / LOCK).unlink()
        looked.append(number)
        return look(number)

    monkeypatch.setattr(os, "fstat", removed)
    with Claims(tmp_path), another_process(tmp_path, "b.png"):
        assert len(looked) == 2
        assert (tmp_path / LOCK).exists()


def test_a_photograph_that_another_process_has_is_left_to_it(
    tmp_path: Path, complete_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((24, 30), 90, np.uint8)).save(tmp_path / "photos" / name)
    np.save(tmp_path / "kernel.npy", gx.disk_kernel(radius=1.5, size=5))
    command = [str(tmp_path / name) for name in ("photos", "kernel.npy")]
    options = ["--output-dir", str(tmp_path / "out"), "--model", str(complete_model)]
    with another_process(tmp_path / "out", "a.png"):
        cli.main(["deblur", *command, *options])
        said = capsys.readouterr().out
        assert "a.png: another process is at work on it" in said
        assert said.endswith("1 restored, 0 skipped, 0 failed, 1 left to another process\n")
        assert sorted(os.listdir(tmp_path / "out")) == [LOCK, "b.png"]
    cli.main(["deblur", *command, *options])
    assert capsys.readouterr().out.endswith("1 restored, 1 skipped, 0 failed\n")
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "b.png"]
