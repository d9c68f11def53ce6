"""Photographs and blur kernels in files, 8 or 16 bits a channel, for the command line.

Pillow reads most formats but cuts 16-bit colour down to 8 bits; PNG and TIFF of that kind go
through pypng and tifffile.
"""

import io
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from glra_jax.atomic_files import write_atomically

_GREY_MODES = {"1": "L", "L": "L", "LA": "LA", "I;16": "I;16", "I;16B": "I;16"}
_COLOUR_MODES = {"RGB": "RGB", "RGBA": "RGBA", "P": "RGB", "RGBX": "RGB"}
_WITH_TRANSPARENCY = {"L": "LA", "RGB": "RGBA", "P": "RGBA"}  # one colour that stands for none

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
}
_QUALITY = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95, "exact": True}}
_HOLD_ALPHA = ("PNG", "TIFF", "WEBP")
_HOLD_16_BITS = ("PNG", "TIFF")

_BITS_PER_SAMPLE, _ORIENTATION, _PROFILE = 258, 274, 34675  # TIFF and EXIF tags
_EXIF_HEADER = b"Exif\x00\x00"


@dataclass(frozen=True)
class Photo:
    """A photograph as a file holds it.

    Attributes:
      colour: uint8 or uint16, `(H, W)` or `(H, W, 3)`.
      alpha: `(H, W)` of the same dtype, or None.
      metadata: EXIF and colour profile, handed on to the written file. TIFF takes the profile
        alone, BMP and PPM nothing.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def read_photo(path: Path) -> Photo:
    """Reads a photograph of 8 or 16 bits, grey, RGB or RGBA, upright.

    A camera held sideways notes so in the file; here the pixels are rotated and the note is taken
    out, whatever the format, since not every format can hold it.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an image, truncated, or of another kind of pixels (CMYK, floating point).
    """
    try:
        with Image.open(path) as image:
            if isinstance(image, TiffImageFile) and _tiff_depth(image) > 8:
                return _read_tiff(path)
            if image.format == "PNG" and _png_depth(path) == 16:
                orientation = image.getexif().get(_ORIENTATION, 1)
                metadata = _metadata(ImageOps.exif_transpose(image))
                return _split(_upright(_read_png16(path), orientation), metadata)
            upright = ImageOps.exif_transpose(image)
            metadata = _metadata(upright)
            modes = _GREY_MODES | _COLOUR_MODES
            if "transparency" in upright.info:
                modes |= _WITH_TRANSPARENCY
            if upright.mode not in modes:
                raise ValueError(
                    f"{path} has {upright.mode} pixels; convert it to grey or RGB of 8 or 16 bits "
                    f"first"
                )
            return _split(np.asarray(upright.convert(modes[upright.mode])), metadata)
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        if path.suffix.lower() in (".tif", ".tiff"):
            return _read_tiff(path)
        raise ValueError(f"{path} is not an image that can be read") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read, it may be truncated: {error}") from error


def write_photo(photo: Photo, path: Path, *, overwrite: bool = False) -> None:
    """Writes a photograph in the format of the path's suffix, whole or not at all.

    Raises:
      FileExistsError: the file exists and `overwrite` is False.
      ValueError: an unknown suffix, or a format that cannot hold 16 bits or an alpha channel.
    """
    check_output(photo, path, overwrite=overwrite)
    layers = [np.atleast_3d(photo.colour)]
    if photo.alpha is not None:
        layers.append(photo.alpha[..., None])
    pixels = np.concatenate(layers, axis=2)
    name, buffer = _format(path), io.BytesIO()
    if name == "TIFF":
        _write_tiff(pixels, photo, buffer)
    elif pixels.dtype == np.uint16:
        _write_png16(pixels, photo.metadata, buffer)
    else:
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        image.save(buffer, format=name, **_QUALITY.get(name, {}), **photo.metadata)
    write_atomically(path, buffer.getvalue(), overwrite=overwrite)


def check_output(photo: Photo, path: Path, *, overwrite: bool) -> None:
    """Raises what `write_photo` would, before the work is done."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name, or allow it with --overwrite")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; make it first")
    name = _format(path)
    if photo.colour.dtype == np.uint16 and name not in _HOLD_16_BITS:
        raise ValueError(
            f"{path}: {name} cannot hold 16 bits a channel; write {path.with_suffix('.png')}"
        )
    if photo.alpha is not None and name not in _HOLD_ALPHA:
        raise ValueError(
            f"{path}: {name} cannot hold an alpha channel; write {path.with_suffix('.png')}"
        )


def read_kernel(path: Path) -> np.ndarray:
    """Reads a blur kernel from a `.npy` file or an image; colour channels are averaged.

    Returns:
      float64 `(h, w)`, not normalised.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not readable, or not two-dimensional real numbers.
    """
    if path.suffix.lower() != ".npy":
        return np.atleast_3d(read_photo(path).colour).mean(axis=2)
    try:
        kernel = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a whole .npy file of numbers: {error}") from error
    if kernel.ndim != 2 or kernel.dtype.kind not in "fiub":
        raise ValueError(
            f"{path} holds {kernel.dtype}{kernel.shape}; a kernel is two-dimensional and real"
        )
    return kernel.astype(np.float64)


def _format(path: Path) -> str:
    name = _WRITABLE.get(path.suffix.lower())
    if name is None:
        raise ValueError(f"{path} must end in one of {', '.join(_WRITABLE)} to be written")
    return name


def _metadata(image: Image.Image) -> dict[str, Any]:
    """EXIF, with the header that JPEG wants and WebP lacks, and the colour profile."""
    found = {name: image.info[name] for name in ("exif", "icc_profile") if image.info.get(name)}
    if "exif" in found:
        found["exif"] = _EXIF_HEADER + found["exif"].removeprefix(_EXIF_HEADER)
    return found


def _split(pixels: np.ndarray, metadata: dict[str, Any]) -> Photo:
    """Separates colour from alpha; 16-bit values to the machine's byte order."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.ndim == 2:
        return Photo(pixels, None, metadata)
    channels = pixels.shape[2]
    colour = pixels[..., 0] if channels < 3 else pixels[..., :3]
    return Photo(colour, pixels[..., -1] if channels in (2, 4) else None, metadata)


def _tiff_depth(image: TiffImageFile) -> int:
    return max(image.tag_v2.get(_BITS_PER_SAMPLE, (8,)))


def _png_depth(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]  # in the header that every PNG file begins with


def _read_png16(path: Path) -> np.ndarray:
    import png

    try:
        width, height, rows, info = png.Reader(bytes=path.read_bytes()).read()
        values = np.vstack([np.asarray(row, np.uint16) for row in rows])
    except (png.Error, ValueError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read, it may be truncated: {error}") from error
    return values.reshape(height, width, info["planes"])


def _write_png16(pixels: np.ndarray, metadata: dict[str, Any], buffer: io.BytesIO) -> None:
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
        extra.append((b"eXIf", metadata["exif"].removeprefix(_EXIF_HEADER)))
    png.write_chunks(buffer, [header, *extra, *rest])


def _read_tiff(path: Path) -> Photo:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            pixels = page.asarray()
            separate = pixels.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
            kind = tifffile.PHOTOMETRIC(page.photometric).name
            orientation = page.tags.valueof(_ORIENTATION, 1)
            profile = page.tags.valueof(_PROFILE)
    except Exception as error:  # tifffile raises many kinds
        raise ValueError(f"{path} cannot be read as TIFF, it may be truncated: {error}") from error
    if separate:
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3):
        raise ValueError(
            f"{path} holds {pixels.dtype}{pixels.shape}; convert it to 8 or 16 bits, grey or RGB"
        )
    if kind not in ("MINISBLACK", "RGB") or (pixels.ndim == 3 and pixels.shape[2] > 4):
        raise ValueError(
            f"{path} has {kind} pixels of shape {pixels.shape}; convert it to grey or RGB"
        )
    return _split(_upright(pixels, orientation), {"icc_profile": profile} if profile else {})


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotates and mirrors a picture as its orientation tag says, as Pillow does."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


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
