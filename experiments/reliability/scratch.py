"""A folder to make faults in."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_folder(folder: Path | None) -> Iterator[Path]:
    """A folder that is given, empty or new, and stays; or one that goes when all is done.

    Raises:
      FileExistsError: the folder holds something.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="glra-jax-", ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; choose an empty folder, or a new one")
    yield folder.absolute()
