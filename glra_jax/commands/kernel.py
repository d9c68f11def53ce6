"""The work of `glra-jax kernel`: a file of a blur kernel, and a picture of it."""

import io
import os
from pathlib import Path

import numpy as np

from glra_jax.atomic_files import check_writable, write_atomically
from glra_jax.commands.kernel_shapes import KernelShape
from glra_jax.photo import Photo
from glra_jax.photo_writing import write_photo

_SUFFIXES = (".npy", ".tif", ".tiff", ".png")
_PICTURE_SIDE = 384  # pixels that a picture has at least


def make_kernel(shape: KernelShape) -> None:
    """Writes a blur kernel.

    Raises:
      OSError: files that are in the way or may not be written.
      ValueError: a suffix that is not written, a width that none can be, or a size that is even or
        too small.
    """
    output, picture = shape.output, shape.picture
    if output.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{output} must end in one of {', '.join(_SUFFIXES)} to be written")
    if picture is not None:
        if picture.suffix.lower() != ".png":
            raise ValueError(f"--picture {picture} must end in .png")
        if os.path.realpath(picture) == os.path.realpath(output):
            raise ValueError(f"--picture {picture} is the output, too; choose another name")
    for path in (output, picture):
        if path is not None:
            _check_free(path, overwrite=shape.overwrite)
    size = shape.chosen_size()
    kernel = np.asarray(shape.make(size))
    _write(kernel, output, overwrite=shape.overwrite)
    cut = 100 * shape.cut_off(size / 2)
    lost = f", {cut:.{0 if cut >= 10 else 2}f} % of it cut off" if cut >= 0.01 else ""
    print(f"{output}: {size}×{size}, {shape.words()}{lost}")
    if picture is not None:
        _draw(kernel, picture, overwrite=shape.overwrite)
        print(f"{picture}: a picture of it, its largest value white")


def _check_free(path: Path, *, overwrite: bool) -> None:
    try:
        check_writable(path, overwrite=overwrite)
    except FileExistsError:
        if not path.is_file():  # no option replaces that
            raise
        raise FileExistsError(f"{path} exists; choose another name or add --overwrite") from None


def _write(kernel: np.ndarray, path: Path, *, overwrite: bool) -> None:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, kernel)
        write_atomically(path, buffer.getvalue(), overwrite=overwrite)
        return
    values = kernel if suffix != ".png" else np.rint(65535 * kernel / kernel.max())
    dtype = np.uint16 if suffix == ".png" else np.float32
    write_photo(Photo(values.astype(dtype)), path, overwrite=overwrite)


def kernel_picture(kernel: np.ndarray) -> np.ndarray:
    """Draws a kernel, its largest value white; each of its pixels is a square.

    Args:
      kernel: `(h, w)`.

    Returns:
      uint8, at least 384 pixels on the longer side.
    """
    square = -(-_PICTURE_SIDE // max(kernel.shape))
    levels = np.rint(255 * np.clip(kernel / kernel.max(), 0.0, 1.0)).astype(np.uint8)
    return levels.repeat(square, axis=0).repeat(square, axis=1)


def _draw(kernel: np.ndarray, picture: Path, *, overwrite: bool) -> None:
    write_photo(Photo(kernel_picture(kernel)), picture, overwrite=overwrite)
