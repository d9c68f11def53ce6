"""What the tests of the training program share."""

from pathlib import Path

import pytest

from experiments.train import main
from experiments.training_runs.lock import LOCK

ROOT = Path(__file__).parents[1]


TINY = [
    *("--architecture.support", "9", "--architecture.rank", "2", "--architecture.features", "13"),
    *("--patch", "24", "--batch", "1"),
    *("--kernels.families", "gaussian", "--kernels.min-size", "5", "--kernels.max-size", "5"),
    *("--kernels.max-sigma", "1.5", "--basis-kernels", "10", "--warmup", "5", "--steps", "20"),
    *("--initialization", "identity"),
    *("--checkpoint-every", "5", "--log-every", "2"),
]
FOLDER = ("--dataset", "folder", "--data-dir")


def contents(folder: Path) -> dict[str, bytes]:
    """What the files of a folder hold, but for the empty one that stands for a run at work."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != LOCK)
    return {str(p): p.read_bytes() for p in files}


def refused(arguments: list[str], match: str, *, folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(SystemExit, match=match) as raised:
        main(arguments)
    assert "\n" not in str(raised.value)
    assert contents(folder) == before
