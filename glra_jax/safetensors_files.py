"""Safetensors files that are the same, byte for byte, for the same content, and its digest."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import safetensors.numpy

_LENGTH = 8  # bytes that say how long the header is; it is padded to a multiple of as many


def to_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """Lays out a safetensors file whose header is sorted; the library's is in random order.

    Args:
      arrays: by name.
      metadata: text by name.

    Returns:
      What the file holds.
    """
    data = safetensors.numpy.save(dict(arrays), metadata=dict(metadata) if metadata else None)
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    header = json.dumps(json.loads(data[_LENGTH:end]), sort_keys=True, separators=(",", ":"))
    encoded = header.encode()
    encoded += b" " * (-len(encoded) % _LENGTH)
    return len(encoded).to_bytes(_LENGTH, "little") + encoded + data[end:]


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays with their names, dtypes and shapes, in hexadecimal digits."""
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
