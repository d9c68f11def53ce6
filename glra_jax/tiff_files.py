"""Pages of TIFF files as arrays, of any real dtype.

tifffile knows the format, libtiff (within Pillow) most compressions: segments that the one cannot
decompress go through the other.
"""

import io
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from glra_jax.input_files import UnusableFileError, one_of_many

_ORIENTATION, _PROFILE = 274, 34675
_CONTIGUOUS = 1
_NO_PREDICTOR, _DIFFERENCES, _FLOATS = 1, 2, 3
# LZW, deflate, packbits, LZMA, zstd: what gives bytes, whatever they mean.
_BY_LIBTIFF = (5, 8, 32946, 32773, 34925, 50000)


class TiffPage(NamedTuple):
    """One page of a TIFF file.

    Attributes:
      pixels: as stored, `(H, W)` or `(H, W, C)`.
      kind: what they mean, such as `"RGB"`.
      orientation: as in EXIF, 1 to 8.
      profile: the colour profile, or None.
    """

    pixels: np.ndarray
    kind: str
    orientation: int
    profile: bytes | None


def read_tiff(path: Path, *, page: int | None = None) -> TiffPage:
    """Reads a TIFF file of one picture, or the picture of a number.

    Previews and masks do not count: pages that the file calls reduced or transparency masks.

    Args:
      path: the file.
      page: which, from 1 on; None for the only one.

    Raises:
      ValueError: several pictures and no `page`, no such page, or what cannot be read.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            every: list[Any] = list(file.pages)
            pages = [p for p in every if not (p.is_reduced or p.is_mask)]
            pages = pages or [file.pages.first]
            images = _count_images(file, pages)
            found = pages[one_of_many(path, images, page)]
            if isinstance(found, tifffile.TiffFrame):
                found = found.aspage()
            _check_depth(path, found)
            pixels = _pixels(found)
            if pixels.ndim == 3 and found.planarconfig != _CONTIGUOUS:
                pixels = np.moveaxis(pixels, 0, 2)
            return TiffPage(
                pixels,
                tifffile.PHOTOMETRIC(found.photometric).name,
                found.tags.valueof(_ORIENTATION, 1),
                found.tags.valueof(_PROFILE),
            )
    except UnusableFileError:
        raise
    except Exception as error:  # tifffile raises many kinds
        reason = f"{type(error).__name__}: {error}"
        if "imagecodecs" in str(error):
            raise UnusableFileError(
                f"{path} is compressed or packed as few programs can read ({error}); save it "
                f"anew, uncompressed and of 8 or 16 bits, or pip install imagecodecs"
            ) from error
        raise UnusableFileError(
            f"{path} cannot be read as TIFF, it may be truncated: {reason}"
        ) from error


def _count_images(file: Any, pages: list[Any]) -> int:
    """Number of pictures; ImageJ may keep those of a stack behind the only page."""
    if len(pages) == 1 and file.is_imagej:
        declared = (file.imagej_metadata or {}).get("images", 1)
        if int(declared) > 1:
            raise UnusableFileError(
                f"{file.filehandle.path} is a stack of {declared} pictures behind one page, as "
                f"ImageJ writes large ones; save one of them as a file of its own"
            )
    return len(pages)


def _check_depth(path: Path, page: Any) -> None:
    """Raises for a volume in one page, which is no picture."""
    if page.imagedepth > 1:
        raise UnusableFileError(
            f"{path} holds a volume of {page.imagedepth} slices; save one of them as a file of its "
            f"own"
        )


def _pixels(page: Any) -> np.ndarray:
    if page.compression not in _BY_LIBTIFF or page.bitspersample % 8 or page.fillorder != 1:
        return page.asarray()
    dtype = np.dtype(page.parent.byteorder + page.dtype.char)
    together = page.planarconfig == _CONTIGUOUS
    channels = page.samplesperpixel if together else 1
    height, width = page.imagelength, page.imagewidth
    rows, columns = (
        (page.tilelength, page.tilewidth)
        if page.is_tiled
        else (min(page.rowsperstrip, height), width)
    )
    down, across = -(-height // rows), -(-width // columns)
    layers = 1 if together else page.samplesperpixel
    out = np.zeros((layers, down * rows, across * columns, channels), dtype.newbyteorder("="))
    file = page.parent.filehandle
    for index, (offset, length) in enumerate(
        zip(page.dataoffsets, page.databytecounts, strict=True)
    ):
        layer, place = divmod(index, down * across)
        top, left = (place // across) * rows, (place % across) * columns
        here = rows if page.is_tiled else min(rows, height - top)
        if length == 0:
            continue  # left out: zeros
        file.seek(offset)
        plain = _decompressed(file.read(length), page.compression, here, columns * channels, dtype)
        values = _without_predictor(plain, page.predictor, (here, columns, channels), dtype)
        out[layer, top : top + here, left : left + columns] = values
    out = out[:, :height, :width]
    return out[0] if together and channels > 1 else out[0, ..., 0] if layers == 1 else out[..., 0]


def _decompressed(data: bytes, scheme: int, rows: int, values: int, dtype: np.dtype) -> np.ndarray:
    """Bytes of a segment, `(rows, bytes a row)`, through libtiff as if they were grey pixels."""
    width = values * dtype.itemsize
    tags = [
        *((256, 4, width), (257, 4, rows), (258, 3, 8), (259, 3, scheme), (262, 3, 1)),
        *((273, 4, 8), (277, 3, 1), (278, 4, rows), (279, 4, len(data))),
    ]
    padded = data + b"\0" * (len(data) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(padded)) + padded
    fields = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    directory = struct.pack("<H", len(tags)) + fields + b"\0" * 4
    with Image.open(io.BytesIO(head + directory), formats=("TIFF",)) as image:
        return np.asarray(image)


def _without_predictor(
    plain: np.ndarray, predictor: int, shape: tuple[int, int, int], dtype: np.dtype
) -> np.ndarray:
    """Values of a segment, `(rows, columns, channels)`; TIFF 6.0, section 14, and its note 3."""
    rows, _, channels = shape
    if predictor == _FLOATS:
        bytewise = plain.reshape(rows, -1, channels)
        summed = np.cumsum(bytewise, axis=1, dtype=np.uint8).reshape(rows, dtype.itemsize, -1)
        order = np.ascontiguousarray(summed.swapaxes(1, 2))  # the most significant byte first
        return order.reshape(-1).view(dtype.newbyteorder(">")).reshape(shape)
    values = np.frombuffer(plain.tobytes(), dtype).reshape(shape)
    if predictor == _DIFFERENCES:
        whole = values.astype(dtype.newbyteorder("="))
        bits = whole.view(f"u{dtype.itemsize}")
        return np.cumsum(bits, axis=1, dtype=bits.dtype).view(whole.dtype)
    if predictor != _NO_PREDICTOR:
        raise ValueError(f"predictor {predictor} is not known")
    return values
