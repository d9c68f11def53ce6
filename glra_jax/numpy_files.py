"""Arrays in `.npy` and `.npz` files, which may hold anything."""

import math
import os
import zipfile
from collections.abc import Container
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from glra_jax.input_files import UnusableFileError, check_is_file

_MAGIC = b"\x93NUMPY"
# What an archive unpacks to: weights hardly pack, kernels that are mostly 0 do.
_FREE, _RATIO = 64 * 2**20, 20


def read_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """Reads a `.npy` file whole; objects, which could run code, are refused.

    Args:
      path: the file.
      mapped: whether to leave it where it is: a `numpy.memmap`, for reading.

    Raises:
      OSError: a file that may not be read.
      ValueError: another kind of file, a truncated one, or a header that promises more than it
        holds.
    """
    check_is_file(path)
    try:
        with path.open("rb") as file:
            _check_header(file, os.fstat(file.fileno()).st_size)
            if mapped:
                return np.load(path, mmap_mode="r", allow_pickle=False)
            return npy.read_array(file, allow_pickle=False)
    except Exception as error:  # bytes make the parser of the header raise almost anything
        raise UnusableFileError(f"{path} is not a whole .npy file of numbers: {error}") from error


def read_archive(path: Path, names: Container[str] | None = None) -> dict[str, np.ndarray]:
    """Reads arrays of a `.npz` file; objects, which could run code, are refused.

    Args:
      path: the file.
      names: of the arrays to read; the others are left alone. None reads all.

    Returns:
      The arrays by name, in the file's order.

    Raises:
      OSError: a file that may not be read.
      ValueError: another kind of file, a truncated one, a header that promises more than there is,
        or arrays that are packed to a small part of their size.
    """
    check_is_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {e.filename.removesuffix(".npy"): e for e in archive.infolist()}
            if names is not None:
                entries = {name: entry for name, entry in entries.items() if name in names}
            announced = sum(entry.file_size for entry in entries.values())
            if announced > _FREE + _RATIO * path.stat().st_size:
                raise ValueError(f"it unpacks to {announced} bytes; save it by numpy.savez")
            found = {}
            for name, entry in entries.items():
                with archive.open(entry) as file:
                    _check_header(file, entry.file_size)
                    found[name] = npy.read_array(file, allow_pickle=False)
            return found
    except Exception as error:  # damaged archives make zipfile raise almost anything
        raise UnusableFileError(
            f"{path} is not a whole .npz file of plain arrays: {error or type(error).__name__}"
        ) from error


def _check_header(file: IO[bytes], size: int) -> None:
    """Refuses a header that promises what a file of some bytes does not hold; goes back to 0."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("it does not begin as one; save an array by numpy.save")
    file.seek(0)
    version = npy.read_magic(file)
    first = version == (1, 0)
    read_header = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
    shape, _, dtype = read_header(file)
    needed, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if dtype.hasobject:
        raise ValueError("it holds objects, which could run code")
    if needed > held or min(shape, default=0) < 0:  # before memory is asked for
        raise ValueError(f"{needed} bytes are announced and {held} are there")
    file.seek(0)
