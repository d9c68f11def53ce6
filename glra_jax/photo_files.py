"""Photographs and blur kernels in files, 8 or 16 bits a channel, for the command line.

Pillow reads most formats but cuts 16-bit colour down to 8 bits; PNG and TIFF of that kind go
through pypng and tifffile.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from glra_jax.model import write_atomically

_GREY_MODES = {"1": "L", "L": "L", "LA": "LA", "I;16": "I;16", "I;16B": "I;16"}
_COLOUR_MODES = {"RGB": "RGB", "RGBA": "RGBA", "P": "RGBA", "RGBX": "RGB"}


@dataclass(frozen=True)
class Photo:
    """A photograph as a file holds it.

    Attributes:
      colour: uint8 or uint16, `(H, W)` or `(H, W, 3)`.
      alpha: `(H, W)` of the same dtype, or None.
      metadata: EXIF and colour profile, handed on to the written file where its format has them.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def read_photo(path: Path) -> Photo:
    """Reads a photograph of 8 or 16 bits, grey, RGB or RGBA.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an image, truncated, or of another kind of pixels (CMYK, floating point).
    """
    try:
        with Image.open(path) as image:
            kind, mode = image.format, image.mode
            names: tuple[str, ...] = ("exif", "icc_profile")
            metadata = {name: image.info[name] for name in names if name in image.info}
            if kind == "PNG" and mode in ("LA", "RGB", "RGBA") and _png_depth(path) == 16:
                return _split(_read_png16(path), metadata)
            if isinstance(image, TiffImageFile) and _tiff_depth(image) > 8:
                return _read_tiff(path)
            if mode == "P" and "transparency" not in image.info:
                pixels = np.asarray(image.convert("RGB"))
            elif mode in _GREY_MODES:
                pixels = np.asarray(image.convert(_GREY_MODES[mode]))
            elif mode in _COLOUR_MODES:
                pixels = np.asarray(image.convert(_COLOUR_MODES[mode]))
            else:
                raise ValueError(
                    f"{path} has {mode} pixels; convert it to grey or RGB of 8 or 16 bits first"
                )
            return _split(pixels, metadata)
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
    suffix, buffer = path.suffix.lower(), io.BytesIO()
    if suffix in (".tif", ".tiff"):
        _write_tiff(pixels, photo, buffer)
    elif pixels.dtype == np.uint16:
        _write_png16(pixels, buffer)
    else:
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        options = {"quality": 95, "subsampling": 0} if suffix in (".jpg", ".jpeg") else {}
        image.save(buffer, format=_pillow_format(path), **options, **photo.metadata)
    write_atomically(path, buffer.getvalue(), overwrite=overwrite)


def check_output(photo: Photo, path: Path, *, overwrite: bool) -> None:
    """Raises what `write_photo` would, before the work is done."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name, or allow it with --overwrite")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; make it first")
    suffix = path.suffix.lower()
    name = _pillow_format(path)
    if photo.colour.dtype == np.uint16 and suffix not in (".png", ".tif", ".tiff"):
        raise ValueError(f"{name} cannot hold 16 bits a channel; write {path.with_suffix('.png')}")
    if photo.alpha is not None and suffix not in (".png", ".tif", ".tiff", ".webp"):
        raise ValueError(f"{name} cannot hold an alpha channel; write {path.with_suffix('.png')}")


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


def _pillow_format(path: Path) -> str:
    name = Image.registered_extensions().get(path.suffix.lower())
    if name is None or name not in Image.SAVE:
        raise ValueError(f"{path} has no suffix of an image format that can be written, like .png")
    return name


def _split(pixels: np.ndarray, metadata: dict[str, Any]) -> Photo:
    """Separates colour from alpha; 16-bit values to the machine's byte order."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        colour = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
        return Photo(colour, pixels[..., -1], metadata)
    return Photo(pixels, None, metadata)


def _png_depth(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]  # in the header that every PNG file begins with


def _tiff_depth(image: TiffImageFile) -> int:
    bits = image.tag_v2.get(258, 1)  # BitsPerSample: one value, or one for each channel
    return max(np.atleast_1d(bits))


def _read_png16(path: Path) -> np.ndarray:
    import png

    width, height, rows, info = png.Reader(filename=str(path)).read()
    try:
        values = np.vstack([np.asarray(row, np.uint16) for row in rows])
    except (png.Error, ValueError) as error:
        raise ValueError(f"{path} cannot be read, it may be truncated: {error}") from error
    return values.reshape(height, width, info["planes"])


def _write_png16(pixels: np.ndarray, buffer: io.BytesIO) -> None:
    import png

    height, width, planes = pixels.shape
    writer = png.Writer(
        width, height, greyscale=planes < 3, alpha=planes in (2, 4), bitdepth=16, compression=6
    )
    writer.write(buffer, pixels.reshape(height, width * planes))


def _read_tiff(path: Path) -> Photo:
    import tifffile

    try:
        pixels = tifffile.imread(path)
    except Exception as error:  # tifffile raises many kinds
        raise ValueError(f"{path} cannot be read as TIFF: {error}") from error
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3):
        raise ValueError(
            f"{path} holds {pixels.dtype}{pixels.shape}; convert it to 8 or 16 bits, grey or RGB"
        )
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4):
        raise ValueError(f"{path} has {pixels.shape[2]} channels; convert it to grey or RGB")
    return _split(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels, {})


def _write_tiff(pixels: np.ndarray, photo: Photo, buffer: io.BytesIO) -> None:
    import tifffile

    colour = photo.colour.ndim == 3
    tifffile.imwrite(
        buffer,
        pixels[..., 0] if pixels.shape[2] == 1 else pixels,
        photometric="rgb" if colour else "minisblack",
        extrasamples=["unassalpha"] if photo.alpha is not None else [],
        planarconfig="contig" if pixels.shape[2] > 1 else None,
        iccprofile=photo.metadata.get("icc_profile"),
        metadata=None,
    )
