"""PNG files of 16 bits a channel, of which Pillow would keep eight."""

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from glra_jax.input_files import UnusableFileError
from glra_jax.photo import EXIF_HEADER


def png_depth(path: Path) -> int:
    """Bits a channel, from the header that every PNG file begins with."""
    with path.open("rb") as file:
        return file.read(25)[24]


def read_png16(path: Path) -> np.ndarray:
    """Reads uint16 `(H, W, C)`; a colour that stands for transparency becomes an alpha channel.

    Raises:
      ValueError: a truncated or damaged file.
    """
    import png

    try:
        width, height, rows, info = png.Reader(bytes=path.read_bytes()).read()
        values = np.vstack([np.asarray(row, np.uint16) for row in rows])
        pixels = values.reshape(height, width, info["planes"])
    except Exception as error:  # pypng raises many kinds
        raise UnusableFileError(f"{path} cannot be read, it may be truncated: {error}") from error
    if "transparent" not in info:
        return pixels
    clear = np.all(pixels == np.asarray(info["transparent"], np.uint16), axis=2, keepdims=True)
    return np.concatenate([pixels, np.where(clear, 0, 65535).astype(np.uint16)], axis=2)


def write_png16(pixels: np.ndarray, metadata: dict[str, Any], buffer: io.BytesIO) -> None:
    """Writes uint16 `(H, W, C)` with EXIF and colour profile."""
    import png

    height, width, channels = pixels.shape
    writer = png.Writer(
        width, height, greyscale=channels < 3, alpha=channels in (2, 4), bitdepth=16, compression=6
    )
    plain = io.BytesIO()
    writer.write(plain, pixels.reshape(height, width * channels))
    header, *rest = png.Reader(bytes=plain.getvalue()).chunks()
    extra = []
    if "icc_profile" in metadata:
        profile = b"ICC profile\x00\x00" + zlib.compress(metadata["icc_profile"])
        extra.append((b"iCCP", profile))
    if "exif" in metadata:
        extra.append((b"eXIf", metadata["exif"].removeprefix(EXIF_HEADER)))
    png.write_chunks(buffer, [header, *extra, *rest])
