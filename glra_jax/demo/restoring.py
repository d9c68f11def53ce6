"""What the page computes, from files to files, as `glra-jax deblur` does.

The options of a restoration are those of the command, `Deblur`: its first file is the photograph,
its second the kernel. What it is restored to is what the command writes, to the last bit.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image

from glra_jax.blurring import blur
from glra_jax.commands.deblur_options import Deblur, check_numbers
from glra_jax.commands.file_kernels import FileKernel, file_kernel
from glra_jax.commands.one_photo import Bench, file_pixels, known_of, white_of
from glra_jax.commands.previews import eight_bits
from glra_jax.light import to_linear, to_srgb
from glra_jax.metrics import psnr
from glra_jax.model import Model
from glra_jax.model_files import DEFAULT_MODEL, load_model
from glra_jax.photo import Photo
from glra_jax.photo_files import check_output, read_kernel, read_photo, write_photo
from glra_jax.validation import check_non_negative

Say = Callable[[str], None]

_LEAST_SIDE = 16  # pixels that blurring must leave of a photograph
_SHOWN = 4_000_000  # pixels of a picture on the page
_SEED = 0  # of the noise that is added


@dataclass(frozen=True)
class Blurred:
    """A photograph that was blurred.

    Attributes:
      path: file of it.
      sharp: what was blurred, as far as the blurred one reaches.
    """

    path: Path
    sharp: Photo


@dataclass(frozen=True)
class Restored:
    """A restored photograph.

    Attributes:
      before: the blurred photograph.
      after: the restored one.
      white: value of white in both.
      path: file of the restored one.
    """

    before: Photo
    after: Photo
    white: float
    path: Path


def write_kernel(kernel: np.ndarray, path: Path) -> Path:
    """Writes a kernel as `.npy` and returns the path; an earlier file of the name is replaced."""
    np.save(path, kernel)
    return path


def opened(options: Deblur) -> tuple[np.ndarray, str]:
    """Reads a photograph to be looked at.

    Args:
      options: the photograph, `scale` and `page`.

    Returns:
      Its picture, and words on its size and pixels.

    Raises:
      OSError: as `read_photo`.
      ValueError: as `read_photo`, or what the command refuses of its values.
    """
    check_numbers(options)
    photo = read_photo(options.first, page=options.page)
    known = known_of(options, options.first, photo, None)
    white = white_of(options, options.first, photo, known)
    height, width = photo.colour.shape[:2]
    kind = "grey" if photo.colour.ndim == 2 else "RGB"
    kind += " with alpha" if photo.alpha is not None else ""
    floating = photo.colour.dtype == np.float32
    bits = "floating point" if floating else f"{8 * photo.colour.dtype.itemsize} bits"
    words = f"{height}×{width} pixels, {kind}, {bits}"
    return picture(photo, white=white), words


def blur_photo(options: Deblur, folder: Path, *, noise: float, say: Say) -> Blurred:
    """Blurs a sharp photograph as a camera would, and writes it losslessly into a folder.

    Pixels whose blur needs what is outside of the frame are left out, so that nothing is made up:
    a kernel of 25×25 pixels takes 12 off each side. Gaussian noise is added to the values of the
    file, and they are rounded as the file's kind of pixels asks.

    Args:
      options: the sharp photograph, the kernel, `light`, `scale`, `page` and `kernel_background`.
      folder: for NAME.blurred.png, or .tif or .fits of floating-point pixels.
      noise: standard deviation of the noise as a part of the full range; the same at every call.
      say: takes lines on what is done.

    Returns:
      The file, and the sharp photograph without its border.

    Raises:
      OSError: files that cannot be read or written.
      ValueError: what `restore_photo` refuses, a photograph with pixels that are no data, or one
        that is too small for the kernel.
    """
    check_numbers(options)
    check_non_negative(noise, "the noise to add")
    path = options.first
    photo = read_photo(path, page=options.page)
    known = known_of(options, path, photo, None)
    if not known.all():
        raise ValueError(
            f"{path} has {np.sum(~known)} pixels that are no data, which cannot be blurred; take "
            f"another photograph to blur"
        )
    white = white_of(options, path, photo, known)
    kernel = _kernel(options, model_named(options.model)).values
    sharp = _inner(photo, kernel.shape)

    x = photo.colour.astype(np.float32) / np.float32(white)
    x = to_linear(x) if options.light == "linear" else x
    channels = np.moveaxis(np.atleast_3d(x), 2, 0)  # one by one: FFTs take memory
    blurred = np.stack([blur(jnp.asarray(c), kernel, boundary="valid") for c in channels], axis=2)
    blurred = to_srgb(blurred) if options.light == "linear" else blurred
    deviates = np.random.default_rng(_SEED).standard_normal(blurred.shape, np.float32)
    blurred = (blurred + np.float32(noise) * deviates).reshape(sharp.colour.shape)
    pixels = file_pixels(blurred * np.float32(white), photo.colour.dtype, _ignored)

    written = replace(sharp, colour=pixels)
    out = _output(photo, path, folder, "blurred")
    write_photo(written, out, overwrite=True)
    sizes = ["×".join(map(str, p.colour.shape[:2])) for p in (photo, written)]
    say(
        f"{path}: blurred, with noise of {100 * noise:g} % added; of {sizes[0]} pixels {sizes[1]} "
        f"remain, since those at the border need what is outside"
    )
    return Blurred(out, sharp)


def restore_photo(options: Deblur, folder: Path, *, say: Say) -> Restored:
    """Restores a blurred photograph into a folder, as `glra-jax deblur` does.

    Args:
      options: of the command.
      folder: for NAME.restored.png, or .tif or .fits of floating-point pixels.
      say: takes lines on what is done.

    Returns:
      The photograph before and after, and its file. A progress bar of tqdm counts the tiles.

    Raises:
      OSError: files that cannot be read or written.
      ValueError: what the command refuses, or a kernel larger than the photograph.
    """
    check_numbers(options)
    path = options.first
    photo = read_photo(path, page=options.page)
    out = _output(photo, path, folder, "restored")
    check_output(photo, out, overwrite=True)
    known = known_of(options, path, photo, None)
    white = white_of(options, path, photo, known)
    model = model_named(options.model)
    kernel = _kernel(options, model)
    _check_smaller(kernel.values.shape, photo, 0)
    for line in (*photo.notes, *kernel.described[1:]):
        say(line)
    bench = Bench(options, model, None, None, many=False)
    restored = bench.restore(path, photo, kernel, white=white, known=known, say=say)
    write_photo(restored, out, overwrite=True)
    return Restored(photo, restored, white, out)


def decibels(restored: Restored, sharp: Photo) -> tuple[float, float]:
    """PSNR of the blurred and of the restored photograph, white being the peak."""
    white = np.float32(restored.white)
    truth, before, after = (
        jnp.asarray(photo.colour.astype(np.float32) / white)
        for photo in (sharp, restored.before, restored.after)
    )
    return float(psnr(before, truth)), float(psnr(after, truth))


def picture(photo: Photo, *, white: float) -> np.ndarray:
    """Picture of a photograph for the page, uint8: reduced to at most four million pixels."""
    levels = eight_bits(photo.colour, white)
    factor = reduction(photo)
    return levels if factor == 1 else np.asarray(Image.fromarray(levels).reduce(factor))


def reduction(photo: Photo) -> int:
    """By how much `picture` reduces each side of a photograph."""
    height, width = photo.colour.shape[:2]
    return int(np.ceil(np.sqrt(height * width / _SHOWN)))


def deblur_command(options: Deblur, output: Path) -> str:
    """The shell command that restores the same; files by their names alone."""
    words = ["glra-jax", "deblur", options.first.name, options.kernel.name, "-o", output.name]
    if options.model != DEFAULT_MODEL:
        words += ["--model", options.model]
    for name in ("noise", "scale", "page"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name}", f"{value:.12g}"]
    if options.light != "srgb":
        words += ["--light", options.light]
    if options.kernel_background != "keep":
        words += ["--kernel-background", options.kernel_background]
    return shlex.join(words)


@lru_cache(maxsize=2)
def model_named(name: str) -> Model:
    """Reads a model, and keeps the last ones."""
    return load_model(name)


def _kernel(options: Deblur, model: Model) -> FileKernel:
    raw = read_kernel(options.kernel)
    return file_kernel(options, options.kernel, raw, model.architecture)


def _check_smaller(kernel: tuple[int, ...], photo: Photo, rest: int) -> None:
    shape = photo.colour.shape[:2]
    if any(side + rest > whole for side, whole in zip(kernel, shape, strict=True)):
        sizes = ["×".join(map(str, size)) for size in (kernel, shape)]
        remain = f", of which blurring must leave {rest + 1}×{rest + 1}" if rest else ""
        raise ValueError(
            f"the kernel of {sizes[0]} pixels is too large for the photograph of {sizes[1]}"
            f"{remain}; take a smaller kernel or a larger photograph"
        )


def _inner(photo: Photo, kernel: tuple[int, ...]) -> Photo:
    """A photograph without the border whose blur needs what is outside; of no JPEG file."""
    _check_smaller(kernel, photo, _LEAST_SIDE - 1)
    # Blurring by a kernel centred at size // 2 looks at so many pixels before.
    rows, columns = (
        slice(size - 1 - size // 2, whole - size // 2)
        for size, whole in zip(kernel, photo.colour.shape[:2], strict=True)
    )
    alpha = None if photo.alpha is None else photo.alpha[rows, columns]
    colour = photo.colour[rows, columns]
    return replace(photo, colour=colour, alpha=alpha, jpeg=None, notes=(), known=None)


def _output(photo: Photo, path: Path, folder: Path, word: str) -> Path:
    suffix = ".png"
    if photo.colour.dtype == np.float32:
        suffix = ".fits" if "fits" in photo.metadata else ".tif"
    return folder / f"{path.stem.removesuffix('.blurred')}.{word}{suffix}"


def _ignored(line: str) -> None:
    del line
