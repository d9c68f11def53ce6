"""Arrays in `.npy` files, which may hold anything."""

import math
import os
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

_MAGIC = b"\x93NUMPY"


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
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError("it does not begin as one; save an array by numpy.save")
            file.seek(0)
            version = npy.read_magic(file)
            first = version == (1, 0)
            read_header = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
            shape, _, dtype = read_header(file)
            needed = math.prod(shape) * dtype.itemsize
            held = os.fstat(file.fileno()).st_size - file.tell()
            if not dtype.hasobject and needed > held:  # before memory is asked for
                raise ValueError(f"{needed} bytes are announced and {held} are there")
            if mapped:
                return np.load(path, mmap_mode="r", allow_pickle=False)
            file.seek(0)
            return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, MemoryError, RecursionError, SyntaxError, TypeError) as error:
        raise ValueError(f"{path} is not a whole .npy file of numbers: {error}") from error
