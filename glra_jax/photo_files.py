"""Photographs and blur kernels in files, for the command line: 8 or 16 bits, or floating point.

Pillow reads most formats but cuts 16-bit colour down to 8 bits; PNG and TIFF of that kind go
through pypng and tifffile, and FITS through astropy.
"""

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from glra_jax.fits_files import is_fits, read_fits
from glra_jax.input_files import UnusableFileError, check_is_file, one_of_many
from glra_jax.jpeg_files import file_noise
from glra_jax.numpy_files import read_array
from glra_jax.photo import EXIF_HEADER, Photo, split_alpha, upright
from glra_jax.photo_writing import check_output, write_photo
from glra_jax.png_files import png_depth, read_png16
from glra_jax.quiet_libraries import without_stderr
from glra_jax.tiff_files import read_tiff

__all__ = [
    "Photo",
    "check_output",
    "quiet_threads",
    "read_kernel",
    "read_mask",
    "read_photo",
    "write_photo",
]

_GREY_MODES = {"1": "L", "L": "L", "LA": "LA"}
_COLOUR_MODES = {"RGB": "RGB", "RGBA": "RGBA", "P": "RGB", "RGBX": "RGB"}
_DEEP_MODES = {"I;16": "I;16", "I;16B": "I;16", "F": "F"}
_WITH_TRANSPARENCY = {"L": "LA", "RGB": "RGBA", "P": "RGBA"}  # one colour that stands for none

_ORIENTATION = 274  # EXIF tag
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Pillow's format for JPEG with previews or a gain map behind the photograph, which comes first.
_WITH_EXTRAS = "MPO"
_RAW = {
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc"),
    *(".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl"),
    *(".sr2", ".srf", ".srw", ".x3f"),
}
_RAW_STARTS = (b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")


def read_photo(path: Path, *, page: int | None = None) -> Photo:
    """Reads a photograph, grey or RGB, with or without alpha, upright.

    A camera held sideways notes so in the file; here the pixels are rotated and the note is taken
    out, whatever the format, since not every format can hold it.

    Args:
      path: the file.
      page: which of its pages, frames or FITS extensions, from 1 on; None for the only one.

    Returns:
      Pixels of 8 or 16 bits, or float32 of floating-point TIFF and FITS.

    Raises:
      OSError: no such file, a folder, or one that may not be read.
      ValueError: not an image, truncated, of several pages, or of another kind of pixels (CMYK,
        a camera's raw file).
    """
    check_is_file(path)
    with _quiet():
        photo = _read(path, page)
    if photo.colour.dtype.kind == "f":
        photo = replace(photo, colour=photo.colour.astype(np.float32))
        if photo.alpha is not None:
            photo = replace(photo, alpha=photo.alpha.astype(np.float32))
    if photo.colour.dtype not in (np.uint8, np.uint16, np.float32):
        raise ValueError(
            f"{path} holds {photo.colour.dtype}{photo.colour.shape}; convert it to 8 or 16 bits or "
            f"floating point, grey or RGB"
        )
    return photo


def read_kernel(path: Path) -> np.ndarray:
    """Reads a blur kernel from a `.npy` file or an image; colour channels are averaged.

    Returns:
      float64 `(h, w)`, not normalised.

    Raises:
      OSError: as `read_photo`.
      ValueError: not readable, or not two-dimensional real numbers.
    """
    return _read_numbers(path, "a kernel")


def read_mask(path: Path) -> np.ndarray:
    """Reads where pixels count from a `.npy` file or an image: where it is not 0, or black.

    Returns:
      Boolean `(h, w)`.

    Raises:
      OSError: as `read_photo`.
      ValueError: not readable, not two-dimensional real numbers, or of several values besides 0.
    """
    values = _read_numbers(path, "a mask")
    counts = values != 0
    if not counts.any():
        raise ValueError(
            f"{path} is 0 everywhere, so that no pixel counts; a mask is 0, or black, only where "
            f"pixels are no data"
        )
    low, high = values[counts].min(), values[counts].max()
    if low != high:  # also NaN
        raise ValueError(
            f"{path} has values from {low:g} to {high:g} besides 0; a mask has two: 0, or black, "
            f"where pixels are no data, and one other, such as white, where they count"
        )
    return counts


def _read_numbers(path: Path, what: str) -> np.ndarray:
    """Reads float64 `(h, w)` from a `.npy` file or an image; colour channels are averaged."""
    check_is_file(path)
    if path.suffix.lower() == ".npy":
        values = read_array(path)
        if values.ndim != 2 or values.dtype.kind not in "fiub":
            raise ValueError(
                f"{path} holds {values.dtype}{values.shape}; {what} is two-dimensional and real"
            )
        return values.astype(np.float64)
    with _quiet():
        colour = _read(path, None).colour
    return np.atleast_3d(colour).astype(np.float64).mean(axis=2)


def _read(path: Path, page: int | None) -> Photo:
    """Reads pixels of any real dtype, that of the file."""
    with path.open("rb") as file:
        start = file.read(16)
    if path.suffix.lower() in _RAW or start.startswith(_RAW_STARTS) or start[8:10] == b"CR":
        raise ValueError(
            f"{path} is a camera's raw file, which has no picture yet; develop it first, into a "
            f"TIFF of 16 bits"
        )
    if is_fits(path):
        return read_fits(path, page=page)
    try:
        with Image.open(path) as image:
            if image.format == "TIFF" and not _is_plain_tiff(image):
                return _read_tiff(path, page)
            return _read_by_pillow(path, image, page)
    except UnidentifiedImageError as error:
        if start[:4] in _TIFF_STARTS:
            return _read_tiff(path, page)
        raise ValueError(f"{path} is not an image that can be read") from error
    except UnusableFileError:
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large: {error}") from error
    except Exception as error:  # damaged files make Pillow raise almost anything
        reason = f"{error}" or type(error).__name__
        raise ValueError(f"{path} cannot be read, it may be truncated: {reason}") from error


def _read_by_pillow(path: Path, image: Image.Image, page: int | None) -> Photo:
    notes: tuple[str, ...] = ()
    frames = getattr(image, "n_frames", 1)
    if image.format == _WITH_EXTRAS and page is None:
        if frames > 1:
            notes = (f"{path} holds {frames} images; the first, the photograph, is taken",)
    else:
        image.seek(one_of_many(path, frames, page))
    if image.format == "PNG" and png_depth(path) == 16:
        orientation = _orientation(image)
        pixels = upright(read_png16(path), orientation)
        return split_alpha(pixels, _metadata(_turned(image, orientation)))
    jpeg = file_noise(image) if image.format in ("JPEG", _WITH_EXTRAS) else None
    turned = _turned(image, _orientation(image))
    modes = _GREY_MODES | _COLOUR_MODES | _DEEP_MODES
    if "transparency" in turned.info:
        modes |= _WITH_TRANSPARENCY
    if turned.mode == "I" and image.format == "PPM":  # a PGM file of 16 bits
        return split_alpha(np.asarray(turned).astype(np.uint16), {})
    if turned.mode not in modes:
        raise UnusableFileError(
            f"{path} has {turned.mode} pixels; convert it to grey or RGB of 8 or 16 bits first"
        )
    photo = split_alpha(np.asarray(turned.convert(modes[turned.mode])), _metadata(turned))
    return replace(photo, jpeg=jpeg, notes=notes)


def _is_plain_tiff(image: Any) -> bool:
    """Tells whether Pillow reads a TIFF file as it is: one picture of unsigned 8 bits."""
    depths, kinds = image.tag_v2.get(258, (1,)), image.tag_v2.get(339, (1,))
    return max(depths) <= 8 and set(kinds) <= {1, 4} and getattr(image, "n_frames", 1) == 1


def _read_tiff(path: Path, page: int | None) -> Photo:
    found = read_tiff(path, page=page)
    pixels, kind = found.pixels, found.kind
    if pixels.ndim not in (2, 3) or pixels.dtype.kind not in "uifb":
        raise UnusableFileError(
            f"{path} holds {pixels.dtype}{pixels.shape}; convert it to 8 or 16 bits, grey or RGB"
        )
    if kind not in ("MINISBLACK", "RGB") or (pixels.ndim == 3 and pixels.shape[2] > 4):
        raise UnusableFileError(
            f"{path} has {kind} pixels of shape {pixels.shape}; convert it to grey or RGB"
        )
    metadata = {"icc_profile": found.profile} if found.profile else {}
    return split_alpha(upright(pixels, found.orientation), metadata)


def _orientation(image: Image.Image) -> int:
    """How the camera was held; upright where the note of it cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF makes Pillow raise almost anything
        return 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    if orientation == 1:
        image.load()
        return image
    return ImageOps.exif_transpose(image)


def _metadata(image: Image.Image) -> dict[str, Any]:
    """EXIF, with the header that JPEG wants and WebP lacks, and the colour profile."""
    found = {name: image.info[name] for name in ("exif", "icc_profile") if image.info.get(name)}
    if "exif" in found:
        try:
            image.getexif()
        except Exception:  # could not be written either
            del found["exif"]
        else:
            found["exif"] = EXIF_HEADER + found["exif"].removeprefix(EXIF_HEADER)
    return found


@contextlib.contextmanager
def quiet_threads() -> Iterator[None]:
    """Keeps other libraries' warnings back while threads read photographs.

    What is warned of is a matter of the whole process, so that `read_photo` leaves it alone outside
    the main thread; this is for the main thread, around the life of the others.
    """
    with _without_warnings(module=r"PIL\b"):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps other libraries' warnings back: what is wrong with a file is said in an error.

    Some come from C libraries, such as libtiff, which know the error stream by its number alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _without_warnings(), without_stderr():
        yield


@contextlib.contextmanager
def _without_warnings(**which: Any) -> Iterator[None]:
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", **which)
            yield
    finally:
        logger.setLevel(level)
