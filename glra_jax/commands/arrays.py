"""Restoring an array of a `.npy` file into another, neither of which need fit into memory."""

import time
from pathlib import Path

import numpy as np

from glra_jax.atomic_files import check_writable, written_atomically
from glra_jax.commands.deblur_options import Deblur, check_numbers
from glra_jax.commands.file_kernels import SEVERAL, file_kernel
from glra_jax.commands.one_photo import told_inverse
from glra_jax.input_files import check_is_file
from glra_jax.large_images import restore_large, take_room
from glra_jax.model_files import load_model
from glra_jax.numpy_files import read_array
from glra_jax.photo_files import read_kernel
from glra_jax.restorer import even_tile, prepare

_ENDING = ".npy"


def is_array(path: Path) -> bool:
    """Tells by its name whether a photograph is an array of NumPy."""
    return path.name.lower().endswith(_ENDING)


def deblur_array(options: Deblur, output: Path) -> None:
    """Restores an array, `(H, W)` or `(H, W, 3)`, into a file of its dtype.

    Raises:
      OSError: files that are missing, in the way, or may not be read or written; a full disk.
      ValueError: what cannot be restored, or options that are for photographs.
    """
    path = options.first
    _check_options(options, output)
    check_is_file(path)
    y = read_array(path, mapped=True)
    if y.ndim not in (2, 3) or (y.ndim == 3 and y.shape[2] not in (1, 3)) or 0 in y.shape:
        raise ValueError(f"{path} has the shape {y.shape}; a photograph is (H, W) or (H, W, 3)")
    if y.dtype.kind != "f" and y.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{path} holds {y.dtype}; convert it to float32, or to uint8 or uint16 of which the "
            f"largest is white"
        )
    check_writable(output, overwrite=options.overwrite)
    check_numbers(options)
    raw = read_kernel(options.kernel)
    model = load_model(options.model)
    inverse = told_inverse(options, model)
    kernel = file_kernel(options, options.kernel, raw, model.architecture)
    for line in (f"{path}: {y.shape}, {y.dtype}", *kernel.described):
        print(line)
    tile = even_tile(*y.shape[:2], largest=model.architecture.tile_side)
    started = time.perf_counter()
    restorer = prepare(model, kernel.values, tile=tile, noise=_noise(options, y), inverse=inverse)
    with written_atomically(output, overwrite=options.overwrite) as temporary:
        out = _new_array(temporary, y)
        try:
            beyond = restore_large(
                *(restorer, y, out), boundary=options.boundary, scale=options.scale, progress=True
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        out.flush()
    if beyond:
        print(f"{beyond} of {y.size} values are beyond black or white, and written as these")
    print(f"{output}: written after {time.perf_counter() - started:.1f} s")


def _check_options(options: Deblur, output: Path) -> None:
    if not is_array(output):
        raise ValueError(
            f"{options.first} is an array, and is restored into one; give -o {output.stem}{_ENDING}"
        )
    for name, given in (
        ("--mask", options.mask is not None),
        ("--page", options.page is not None),
        ("--preview", options.preview),
        ("--light linear", options.light == "linear"),
        ("--refine-kernel", options.refine_kernel),
        (f"a {SEVERAL} of kernels", options.kernel.suffix.lower() == SEVERAL),
    ):
        if given:
            raise ValueError(
                f"{name} is for photographs that fit into memory, and {options.first} is an array; "
                f"leave it out, or save a TIFF"
            )


def _noise(options: Deblur, y: np.ndarray) -> float | None:
    """The noise level in the unit of the array, as the restorer takes it."""
    if options.noise is None:
        return None
    full = options.scale or (float(np.iinfo(y.dtype).max) if y.dtype.kind == "u" else 1.0)
    return options.noise * full


def _new_array(path: Path, y: np.ndarray) -> np.memmap:
    """A file for an array of a shape and dtype, whose room on the disk is taken at once."""
    dtype = y.dtype.newbyteorder("=")
    out = np.lib.format.open_memmap(path, "w+", dtype, y.shape)
    with path.open("rb+") as file:
        take_room(file.fileno(), path.stat().st_size, path.parent)
    return out
