"""One run at a time in a work directory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from filelock import FileLock, Timeout

from glra_jax.training.checkpoints import CheckpointError

LOCK = "run.lock"


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Holds a work directory, which is made if need be, against other runs.

    The operating system lets go of it when the process ends, however it ends; the empty lock file
    stays.

    Args:
      folder: the work directory.

    Yields:
      While it is held.

    Raises:
      CheckpointError: another run holds it, or this one has several processes.
    """
    if jax.process_count() > 1:
        raise CheckpointError(
            f"this run has {jax.process_count()} processes, and training works in one: start it "
            f"without jax.distributed; it uses all devices of its machine"
        )
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
