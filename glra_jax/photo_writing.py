"""Writing photographs, and saying beforehand whether that can be done."""

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from glra_jax import fits_files
from glra_jax.atomic_files import check_name, check_writable, write_atomically
from glra_jax.photo import Photo
from glra_jax.png_files import write_png16

# Formats that hold a photograph as it is: no palette, no pages, no fixed sizes.
_WRITABLE = {
    ".bmp": "BMP",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    **dict.fromkeys(fits_files.SUFFIXES, "FITS"),
}
WRITABLE_SUFFIXES = tuple(_WRITABLE)
_QUALITY = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95, "exact": True}}
_HOLD_ALPHA = ("PNG", "TIFF", "WEBP")
_HOLD_16_BITS = ("PNG", "TIFF", "FITS")
_HOLD_FLOATS = ("TIFF", "FITS")
_LARGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}


def write_photo(photo: Photo, path: Path, *, overwrite: bool = False) -> None:
    """Writes a photograph in the format of the path's suffix, whole or not at all.

    Raises:
      FileExistsError: the file exists and `overwrite` is False.
      OSError: a folder that is missing or may not be written in, or a name that is too long.
      ValueError: an unknown suffix, or a format that cannot hold such pixels, an alpha channel, a
        side so long or so much EXIF.
    """
    check_output(photo, path, overwrite=overwrite)
    write_atomically(path, _encoded(photo, path), overwrite=overwrite)


def check_output(photo: Photo, path: Path, *, overwrite: bool) -> None:
    """Raises what `write_photo` would, before the work is done."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; make it first")
    check_name(path)
    if os.path.lexists(path) and not path.is_dir() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name, or allow it with --overwrite")
    name = _format(path)
    other = path.with_suffix(".tif" if photo.colour.dtype == np.float32 else ".png")
    if photo.colour.dtype == np.float32 and name not in _HOLD_FLOATS:
        raise ValueError(f"{path}: {name} cannot hold floating-point pixels; write {other}")
    if photo.colour.dtype == np.uint16 and name not in _HOLD_16_BITS:
        raise ValueError(f"{path}: {name} cannot hold 16 bits a channel; write {other}")
    if photo.alpha is not None and name not in _HOLD_ALPHA:
        raise ValueError(f"{path}: {name} cannot hold an alpha channel; write {other}")
    longest = max(photo.colour.shape[:2])
    if longest > _LARGEST_SIDE.get(name, longest):
        raise ValueError(
            f"{path}: {name} holds at most {_LARGEST_SIDE[name]} pixels a side, and the photograph "
            f"has {longest}; write {other}"
        )
    if name == "FITS":
        fits_files.check_astropy(path)
    corner = replace(
        photo,
        colour=photo.colour[:1, :1],
        alpha=None if photo.alpha is None else photo.alpha[:1, :1],
    )
    try:
        _encoded(corner, path)  # metadata that are too much
    except Exception as error:  # the libraries raise many kinds
        raise ValueError(
            f"{path}: {name} cannot hold the photograph with its metadata ({error}); write {other}"
        ) from error
    check_writable(path, overwrite=overwrite)


def _encoded(photo: Photo, path: Path) -> bytes:
    layers = [np.atleast_3d(photo.colour)]
    if photo.alpha is not None:
        layers.append(photo.alpha[..., None])
    pixels = np.concatenate(layers, axis=2)
    name, buffer = _format(path), io.BytesIO()
    if name == "FITS":
        fits_files.write_fits(photo, buffer)
    elif name == "TIFF":
        _write_tiff(pixels, photo, buffer)
    elif pixels.dtype == np.uint16:
        write_png16(pixels, photo.metadata, buffer)
    else:
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        kept = {k: v for k, v in photo.metadata.items() if k in ("exif", "icc_profile")}
        image.save(buffer, format=name, **_QUALITY.get(name, {}), **kept)
    return buffer.getvalue()


def _format(path: Path) -> str:
    name = _WRITABLE.get(path.suffix.lower())
    if name is None:
        raise ValueError(f"{path} must end in one of {', '.join(_WRITABLE)} to be written")
    return name


def _write_tiff(pixels: np.ndarray, photo: Photo, buffer: io.BytesIO) -> None:
    import tifffile

    tifffile.imwrite(
        buffer,
        pixels[..., 0] if pixels.shape[2] == 1 else pixels,
        photometric="rgb" if photo.colour.ndim == 3 else "minisblack",
        extrasamples=["unassalpha"] if photo.alpha is not None else [],
        planarconfig="contig" if pixels.shape[2] > 1 else None,
        iccprofile=photo.metadata.get("icc_profile"),
        metadata=None,
    )
