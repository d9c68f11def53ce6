"""Looking at the pickles of a PyTorch file before PyTorch opens them: nothing in them is run.

A few bytes can ask for gigabytes: by numbering a memo to 2^31, by an object that is made of a
number, or by an archive that is compressed a thousandfold.
"""

import io
import pickletools
import zipfile
from pathlib import Path

_ZIP = b"PK"
# A state dict's pickle has names and shapes; its arrays lie elsewhere.
_LARGEST_PICKLE = 64 * 2**20
# PyTorch does not compress, others little: weights are noise.
_RATIO, _FREE = 20, 2**20
# A file of the former format begins with four pickles: two numbers, the system, the state dict.
_PICKLES = 4
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")
# `bytearray(n)` is of n bytes; what PyTorch saves of one is made of its bytes.
_LARGEST_BYTEARRAY = 2**26


def largest_unpacked(size: int) -> int:
    """Bytes that a plausible archive of a size unpacks to at most."""
    return _RATIO * size + _FREE


def check_pickles(path: Path, data: bytes) -> None:
    """Raises for pickles that ask for more memory than what they hold.

    What cannot be parsed is left to PyTorch, which says why.

    Args:
      path: of the file, for the error.
      data: what it holds.

    Raises:
      ValueError: such a pickle.
    """
    try:
        pickles = _pickles_of(path, data)
    except (zipfile.BadZipFile, KeyError, NotImplementedError, OSError, RuntimeError):
        return
    for pickle in pickles:
        file = io.BytesIO(pickle)
        for _ in range(_PICKLES):
            if not _check_one(path, file, len(pickle)):
                break


def _pickles_of(path: Path, data: bytes) -> list[bytes]:
    if not data.startswith(_ZIP):
        return [data]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
        for entry in entries:
            if entry.file_size > _LARGEST_PICKLE:
                raise ValueError(
                    f"{path} is not opened: {entry.filename} in it has {entry.file_size} bytes, "
                    f"and a state dict needs few; save module.state_dict() anew"
                )
            del entry.CRC  # not to be checked: PyTorch can be told to write none
        return [archive.read(entry) for entry in entries]


def _check_one(path: Path, file: io.BytesIO, size: int) -> bool:
    """Checks the pickle that a file stands at; False where there is none that can be parsed."""
    strings: list[str] = []
    largest, makes_bytearray = 0, False
    try:
        for opcode, argument, _ in pickletools.genops(file):
            name = ""
            if opcode.name == "GLOBAL":
                name = str(argument).rpartition(" ")[2]
            elif opcode.name == "STACK_GLOBAL" and strings:
                name = strings[-1]
            elif isinstance(argument, str):
                strings = [argument]
            if opcode.name in _MEMO and int(str(argument)) > size:
                raise _RefusedError(f"numbers a memo to {argument} in {size} bytes")
            makes_bytearray |= name == "bytearray"
            if isinstance(argument, int) and opcode.name not in _MEMO:
                largest = max(largest, argument)
            if makes_bytearray and largest > _LARGEST_BYTEARRAY:
                raise _RefusedError(f"may make a bytearray of {largest} bytes")
    except _RefusedError as error:
        raise ValueError(
            f"{path} is not opened: its pickle {error}; save module.state_dict() anew"
        ) from None
    except Exception:  # whatever bytes make of a parser
        return False
    return True


class _RefusedError(Exception):
    """What a pickle asks for."""
