"""Kinds of damage to a file: functions of its bytes and a random generator.

Where a format has checksums that PNG and zip programs check first, some kinds write them anew, so
that what lies behind the check is reached.
"""

import os
import re
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

Bytes = Callable[[bytes, np.random.Generator], bytes]

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63)
_NUMBERS = (
    *("0", "-1", "1e400", "1" + "0" * 400, "NaN", "Infinity", "-Infinity", "null", "true", '"x"'),
    *("99999999999", "4294967296", "2147483647", "1e-320", "[]", "{}", "0.5", "1000000"),
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_HEAD = 4096  # where formats keep their sizes


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    """Flips one to eight bits."""
    found = bytearray(data)
    for place in rng.integers(0, len(found), int(rng.integers(1, 9))):
        found[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(found)


def _flip_head(data: bytes, rng: np.random.Generator) -> bytes:
    """Flips bits among the first 64 bytes."""
    return _flip(data[:64], rng) + data[64:]


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    """Cuts a file short."""
    return data[: int(rng.integers(0, len(data)))]


def _cut_head(data: bytes, rng: np.random.Generator) -> bytes:
    """Leaves a few bytes, or none."""
    return data[: int(rng.integers(0, 32))]


def _leave_out(data: bytes, rng: np.random.Generator) -> bytes:
    """Leaves out a piece from the middle."""
    start, end = sorted(int(place) for place in rng.integers(0, len(data), 2))
    return data[:start] + data[min(end, start + 64) :]


def _insert(data: bytes, rng: np.random.Generator) -> bytes:
    """Inserts random bytes."""
    place = int(rng.integers(0, len(data)))
    return data[:place] + rng.bytes(int(rng.integers(1, 64))) + data[place:]


def _noise(data: bytes, rng: np.random.Generator) -> bytes:
    """Keeps the first bytes, by which a format is known, and makes all else random."""
    kept = int(rng.choice([0, 4, 8, 16, 64]))
    return data[:kept] + rng.bytes(max(len(data) - kept, 1))


def _extreme(data: bytes, rng: np.random.Generator) -> bytes:
    """Writes the least or the greatest number that fits into two to eight bytes of the head."""
    size = int(rng.choice([2, 4, 8]))
    value = int(_EXTREMES[int(rng.integers(len(_EXTREMES)))]) % 256**size
    place = int(rng.integers(0, max(min(len(data), _HEAD) - size, 1)))
    order = "little" if rng.random() < 0.5 else "big"
    return data[:place] + value.to_bytes(size, order) + data[place + size :]


def _number(data: bytes, rng: np.random.Generator) -> bytes:
    """Writes another number in the place of one in the text of the head."""
    numbers = list(_NUMBER.finditer(data[:_HEAD]))
    if not numbers:
        return _extreme(data, rng)
    found = numbers[int(rng.integers(len(numbers)))]
    other = _NUMBERS[int(rng.integers(len(_NUMBERS)))].encode()
    return _resized(data[: found.start()] + other + data[found.end() :], len(other), found)


def _resized(data: bytes, length: int, found: re.Match[bytes]) -> bytes:
    """Corrects the length of the header of `.npy` and safetensors files."""
    grown = length - (found.end() - found.start())
    if data.startswith(b"\x93NUMPY\x01"):
        size = struct.unpack("<H", data[8:10])[0] + grown
        return data[:8] + struct.pack("<H", max(size, 0) % 65536) + data[10:]
    if data[8:9] == b"{" and found.start() >= 8:
        size = int.from_bytes(data[:8], "little") + grown
        return size.to_bytes(8, "little") + data[8:]
    return data


def _nest(data: bytes, rng: np.random.Generator) -> bytes:
    """Writes brackets in brackets in the place of a number in the text of the head."""
    numbers = list(_NUMBER.finditer(data[:_HEAD]))
    if not numbers:
        return _noise(data, rng)
    found = numbers[int(rng.integers(len(numbers)))]
    deep = b"[" * 100_000 + b"]" * 100_000
    return _resized(data[: found.start()] + deep + data[found.end() :], len(deep), found)


def _new_checksums(data: bytes, rng: np.random.Generator) -> bytes:
    """Writes an extreme number into a chunk of a PNG file, with the checksum that belongs to it."""
    if not data.startswith(b"\x89PNG"):
        return _extreme(data, rng)
    chunks, place = [], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    at = int(rng.choice([0, int(rng.integers(len(chunks)))]))
    name, content = chunks[at]
    chunks[at] = (name, _extreme(content + b"\0", rng)[: max(len(content), 1)])
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + name + content + _crc(name + content)
        for name, content in chunks
    )


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


BYTES: dict[str, Bytes] = {
    "bits flipped": _flip,
    "bits flipped in the head": _flip_head,
    "cut short": _cut,
    "cut to a few bytes": _cut_head,
    "a piece left out": _leave_out,
    "bytes inserted": _insert,
    "noise behind the head": _noise,
    "an extreme number": _extreme,
    "an extreme number with its checksum": _new_checksums,
    "another number in the text": _number,
    "brackets in brackets": _nest,
}


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    # The name of a socket has about a hundred bytes.
    here = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def _no_file(path: Path) -> None:
    path.symlink_to("nowhere")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


NODES: dict[str, Callable[[Path], None]] = {
    "a pipe": _pipe,
    "a socket": _socket,
    "a folder": Path.mkdir,
    "a link to nothing": _no_file,
    "a link to itself": _loop,
    "a link to /dev/zero": _endless,
}
