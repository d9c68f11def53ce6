"""One run at a time in a work directory."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from filelock import FileLock, Timeout

from experiments.training_runs.processes import is_first
from glra_jax.training.checkpoints import CheckpointError

LOCK = "run.lock"
_SEEN_SECONDS = 40  # network disks may show a new file late


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Holds a work directory, which is made if need be, against other runs.

    Of several processes, process 0 holds it; the others look whether they see the same one. The
    operating system lets go of it when the process ends, however it ends; the empty lock file
    stays.

    Args:
      folder: the work directory.

    Yields:
      While it is held.

    Raises:
      CheckpointError: another run holds it, or this process does not see what process 0 does.
    """
    if not is_first():
        _wait_for(folder / LOCK)
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CheckpointError(
            f"another run is at work in {folder}; wait for its end, or choose another --workdir"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _wait_for(path: Path) -> None:
    """Raises if a file that process 0 has made does not appear."""
    last = time.monotonic() + _SEEN_SECONDS
    while not path.exists():
        if time.monotonic() > last:
            raise CheckpointError(
                f"process {jax.process_index()} does not see {path}, which process 0 has made; "
                f"--workdir must be one folder on a disk that all hosts share"
            )
        time.sleep(0.2)
