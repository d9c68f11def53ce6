"""Reading arrays from HDF5 files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glra_jax.input_files import check_is_file
from glra_jax.interop.file_kinds import HDF5, reason_of, unreadable


@contextmanager
def open_hdf5(path: Path) -> Iterator[dict[str, Any]]:
    """Opens a file for reading; values are read only where they are asked for.

    Args:
      path: of the file.

    Yields:
      Its datasets by their full names, with `shape` and `dtype`; `[()]` reads one. Links to other
      files are left out.

    Raises:
      ImportError: h5py is missing.
      OSError: no such file, a folder, or one that may not be read.
      ValueError: a damaged file, or one of another kind.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"{path} needs h5py: pip install 'glra-jax[experiments]', or h5py alone"
        ) from error
    check_is_file(path)
    with path.open("rb") as opened:  # h5py gives no reason why a file may not be read
        start = opened.read(512)
    try:
        with h5py.File(path, "r") as file:
            found: dict[str, Any] = {}

            def add(name: str, entry: Any) -> None:
                if isinstance(entry, h5py.Dataset):
                    found[name] = entry

            file.visititems(add)
            yield found
    except (KeyError, OSError, RuntimeError) as error:  # h5py raises these for damage
        raise ValueError(unreadable(path, start, HDF5, reason_of(error))) from error
