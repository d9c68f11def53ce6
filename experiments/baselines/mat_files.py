"""Reading arrays from MATLAB files."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from glra_jax.input_files import check_is_file
from glra_jax.interop.file_kinds import MATLAB, reason_of, unreadable

# What SciPy raises for damage, by what is damaged; its own MatReadError is an Exception.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    scipy.io.matlab.MatReadError,
    struct.error,
    zlib.error,
)


def read_mat(path: Path) -> dict[str, Any]:
    """Reads all arrays of a file, those in structures and cells too.

    Args:
      path: MATLAB file of version 5 to 7.2.

    Returns:
      By their full names, such as `model.lambda`, `weights(2).bias` or `f{3}`, counted from 1 in
      MATLAB's order. Numbers are float32 of the shape that they have in MATLAB.

    Raises:
      OSError: no such file, a folder, or one that may not be read.
      ValueError: a damaged file, or one of another kind.
    """
    check_is_file(path)
    with path.open("rb") as opened:
        start = opened.read(512)
        opened.seek(0)
        try:
            # A file of version 4 has no header: nearly every file could be the start of one.
            if not start.startswith(b"MATLAB "):
                raise ValueError("it has no header")
            found = scipy.io.loadmat(opened, verify_compressed_data_integrity=True)
            return {
                full: array
                for name, value in found.items()
                if not name.startswith("__")
                for full, array in _flat(name, value)
            }
        except _DAMAGE as error:
            raise ValueError(unreadable(path, start, MATLAB, reason_of(error))) from error


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """All arrays in a value, with their names."""
    if not isinstance(value, np.ndarray):
        yield name, value
    elif value.dtype.names:
        for index, element in enumerate(value.ravel(order="F"), start=1):
            owner = name if value.size == 1 else f"{name}({index})"
            for field in value.dtype.names:
                yield from _flat(f"{owner}.{field}", element[field])
    elif value.dtype == object:
        for index, element in enumerate(value.ravel(order="F"), start=1):
            yield from _flat(f"{name}{{{index}}}", element)
    elif value.dtype.kind in "iufb":
        with np.errstate(over="ignore"):  # what overflows is infinite, which `check_entries` finds
            yield name, value.astype(np.float32)
    else:
        yield name, value
