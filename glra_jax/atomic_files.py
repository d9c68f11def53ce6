"""Files that are never seen half written, whenever the process is killed."""

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Writes a file so that it is never seen half written, and never replaces one unasked.

    Raises:
      FileExistsError: `path` exists and `overwrite` is False.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}; make it before {path.name}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; choose the name of a file")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name or ask for overwriting")
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as temporary:
        try:
            temporary.write(data)
            temporary.flush()
            os.fsync(temporary.fileno())
            os.chmod(temporary.name, 0o644)
            os.replace(temporary.name, path)
        except BaseException:
            os.unlink(temporary.name)
            raise
