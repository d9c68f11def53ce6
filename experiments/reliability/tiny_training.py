"""A training run of seconds, as a command, and what it leaves behind."""

import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKPOINT_EVERY = 10
STEPS = 300
_OPTIONS = (
    *("--architecture.support", "9", "--architecture.rank", "2", "--architecture.features", "13"),
    *("--patch", "24", "--batch", "1", "--initialization", "identity", "--warmup", "5"),
    *("--kernels.families", "gaussian", "--kernels.min-size", "5", "--kernels.max-size", "5"),
    *("--kernels.max-sigma", "1.5", "--basis-kernels", "10"),
    *("--checkpoint-every", str(CHECKPOINT_EVERY), "--log-every", "1"),
)
_TIMES = "seconds"  # the one column of the metrics that differs from run to run


def command(workdir: Path, *, steps: int = STEPS) -> list[str]:
    """The command that trains, or goes on training, in a work directory."""
    program = [sys.executable, "-m", "experiments.train"]
    return [*program, *_OPTIONS, "--steps", str(steps), "--workdir", str(workdir)]


def environment(folder: Path) -> dict[str, str]:
    """Environment of such runs, which share what they compile and what they fit."""
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def metrics(workdir: Path) -> list[dict[str, str]]:
    """Whole rows of the metrics, but for the time."""
    path = workdir / "metrics.csv"
    if not path.exists():
        return []
    text = path.read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = csv.DictReader(lines)
    return [{name: value for name, value in row.items() if name != _TIMES} for row in rows]


def checkpoint_steps(workdir: Path) -> list[int]:
    """Steps of the checkpoints that have their names, which they get when they are whole."""
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def unfinished_save(workdir: Path) -> bool:
    """Tells whether a checkpoint is being written, or was when the run was killed."""
    return any((workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))


def differences(workdir: Path, undisturbed: Path) -> list[str]:
    """What differs between the results of two whole runs; none if all is as it should be."""
    found = []
    for name in ("model.safetensors", "config.json", "scores.md"):
        if (workdir / name).read_bytes() != (undisturbed / name).read_bytes():
            found.append(f"{name} differs")
    if metrics(workdir) != metrics(undisturbed):
        found.append("the rows of metrics.csv differ")
    if checkpoint_steps(workdir) != checkpoint_steps(undisturbed):
        found.append("the checkpoints are of other steps")
    return found


def without_bars(text: str) -> Sequence[str]:
    """Lines of an error stream but for those of progress bars."""
    lines = text.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and "step/s" not in line and "/step" not in line]
