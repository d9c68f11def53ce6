"""Command line: `glra-jax deblur PHOTO KERNEL -o OUT`."""

import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from glra_jax.file_noise import estimated_levels
from glra_jax.inverses import Inverse
from glra_jax.jpeg_files import pixel_noise
from glra_jax.kernel_backgrounds import background_share, without_background
from glra_jax.kernels import normalize_kernel
from glra_jax.light import noise_in_linear_light, to_linear, to_srgb
from glra_jax.model import Model
from glra_jax.model_files import DEFAULT_MODEL, load_model
from glra_jax.networks import Architecture
from glra_jax.noise import NoiseModel
from glra_jax.photo_files import Photo, check_output, read_kernel, read_photo, write_photo
from glra_jax.programs import program
from glra_jax.restorer import even_tile, prepare
from glra_jax.validation import check_kernel, check_non_negative


@dataclass(frozen=True)
class Deblur:
    """Restores a blurred photograph whose blur kernel is known.

    Attributes:
      photo: Blurred photograph, 8 or 16 bits or floating point; grey, RGB or RGBA (alpha is kept).
      kernel: Blur kernel: .npy or an image, at most as large as the model takes. The default model
        is made for blur of up to 49 pixels, the others for 27.
      output: File to write; its suffix says the format.
      model: Name of a model that comes with the package, or a model file.
      boundary: How the scene is taken to go on outside the photograph.
      noise: Standard deviation of the noise as part of the full range, at least 0; estimated if
        not given, where the model depends on it.
      regularization: Of the pseudo-inverse, above 0; the model's own if not given. For models
        whose inverse can be told.
      scale: Value of white in the photograph, such as 4095 for 12 bits in a file of 16; the largest
        that the file can hold if not given, 1 for floating point. The result has the same unit.
      light: Where the blur was: in the values as the file holds them, or in the light that they
        stand for as sRGB, as in cameras.
      page: Which page, frame or FITS extension of the photograph, from 1 on, if there are several.
      kernel_background: Whether to subtract what is not black around the kernel.
      overwrite: Allow the output file to be replaced.
    """

    photo: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PHOTO")]
    kernel: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="KERNEL")]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    model: str = DEFAULT_MODEL
    boundary: Literal["edge", "reflect", "wrap"] = "edge"
    noise: float | None = None
    regularization: float | None = None
    scale: float | None = None
    light: Literal["srgb", "linear"] = "srgb"
    page: int | None = None
    kernel_background: Literal["keep", "subtract"] = "keep"
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False


def main(arguments: list[str] | None = None) -> None:
    """Runs the program; errors of the user's making are one line and exit status 1."""
    with program("glra-jax", also=(TypeError,)):
        command = tyro.extras.subcommand_cli_from_dict(
            {"deblur": Deblur},
            prog="glra-jax",
            description="Non-blind image deconvolution by generalized low-rank approximation.",
            args=arguments,
        )
        deblur(command)


def deblur(options: Deblur) -> None:
    """Reads, restores and writes one photograph."""
    photo = read_photo(options.photo, page=options.page)
    check_output(photo, options.output, overwrite=options.overwrite)
    white = _white(options, photo)
    raw = read_kernel(options.kernel)
    model = load_model(options.model)
    architecture = model.architecture
    inverse = _inverse(options, model)
    if options.noise is not None:
        check_non_negative(options.noise, "noise")
    share = background_share(raw)
    if options.kernel_background == "subtract":
        raw = without_background(raw)
    kernel = _checked_kernel(options, raw, architecture)

    for note in photo.notes:
        print(note)
    print(f"{options.photo}: {photo.colour.shape}, {photo.colour.dtype}")
    rows, columns = kernel.shape
    print(f"{options.kernel}: {rows}×{columns}, divided by its sum {raw.sum():g}")
    if share > 0:
        done = "subtracted" if options.kernel_background == "subtract" else "kept as blur"
        print(
            f"{options.kernel}: a background of {100 * share:.0f} % of the sum is {done} "
            f"(--kernel-background keep or subtract)"
        )
    started = time.perf_counter()
    blurred = photo.colour.astype(np.float32) / np.float32(white)
    noise: float | np.ndarray | NoiseModel | None = _noise(
        options, photo, blurred, kernel, model, inverse
    )
    if options.light == "linear":
        blurred = to_linear(blurred)
        if noise is not None and not isinstance(noise, NoiseModel):
            noise = noise_in_linear_light(noise)
    restorer = prepare(
        model,
        kernel,
        tile=even_tile(*photo.colour.shape[:2], largest=architecture.tile_side),
        noise=noise,
        inverse=inverse,
    )
    restored = restorer(blurred, boundary=options.boundary, progress=True)
    if not np.isfinite(restored).all():
        raise ValueError(
            f"{options.photo} is restored to NaN or infinite values by {options.model}; nothing is "
            f"written: take another model, or a larger --regularization"
        )
    if options.light == "linear":
        restored = to_srgb(restored)
    written = replace(photo, colour=_pixels(restored * np.float32(white), photo.colour.dtype))
    write_photo(written, options.output, overwrite=options.overwrite)
    print(f"{options.output}: written after {time.perf_counter() - started:.1f} s")


def _white(options: Deblur, photo: Photo) -> float:
    """Value of white; raises for floating-point values that no white is known of."""
    if options.scale is not None:
        if not (np.isfinite(options.scale) and options.scale > 0):
            raise ValueError(f"--scale must be finite and above 0, got {options.scale:g}")
        return options.scale
    if photo.colour.dtype != np.float32:
        return float(np.iinfo(photo.colour.dtype).max)
    if not np.isfinite(photo.colour).all():
        bad = int(photo.colour.size - np.isfinite(photo.colour).sum())
        raise ValueError(
            f"{options.photo} holds {bad} NaN or infinite values of {photo.colour.size}; replace "
            f"them"
        )
    low, high = float(photo.colour.min()), float(photo.colour.max())
    if low < -1.0 or high > 2.0:
        raise ValueError(
            f"{options.photo} has values from {low:.4g} to {high:.4g}, and white is 1 in "
            f"floating-point files; give the value of white by --scale, such as --scale {high:.4g}"
        )
    return 1.0


def _checked_kernel(options: Deblur, raw: np.ndarray, architecture: Architecture) -> jax.Array:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the background, which is printed
            kernel = normalize_kernel(raw).astype(np.float32)
        check_kernel(kernel, support=architecture.largest_kernel)
    except ValueError as error:
        raise ValueError(f"{options.kernel}: {error}") from error
    return kernel


def _noise(
    options: Deblur,
    photo: Photo,
    blurred: np.ndarray,
    kernel: jax.Array,
    model: Model,
    inverse: Inverse | None,
) -> float | np.ndarray | None:
    """The noise level that is told or estimated, and said; None where nothing depends on it."""
    needed = model.architecture.uses_noise(inverse)
    if options.noise is not None and not needed:
        print(f"--noise {options.noise:g} changes nothing: {options.model} restores all alike")
    if options.noise is not None or not needed:
        return options.noise
    jpeg = pixel_noise(blurred) if photo.jpeg is None else photo.jpeg
    noise = estimated_levels(blurred, kernel, model.architecture, jpeg=jpeg)
    levels = ", ".join(f"{100 * level:.2f}" for level in np.atleast_1d(noise))
    seen = f", JPEG's of {100 * jpeg:.2f} % with it" if jpeg > 0 else ""
    print(f"{options.photo}: noise of {levels} %{seen} (--noise to set it)")
    return noise


def _pixels(restored: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values as the file holds them; says what it cannot hold."""
    if dtype == np.float32:
        return restored.astype(np.float32)
    top = np.iinfo(dtype).max
    if brighter := int((restored > top).sum()):
        print(f"{brighter} of {restored.size} values are brighter than white, and written as white")
    return np.rint(np.clip(restored, 0.0, top)).astype(dtype)


def _inverse(options: Deblur, model: Model) -> Inverse | None:
    """Inverse of the kernel, if not the model's own."""
    own = model.architecture.default_inverse
    if options.regularization is None:
        return None
    if own is None:
        raise ValueError(
            f"--regularization {options.regularization:g} is for models whose inverse can be told, "
            f"and {options.model} is of the architecture {model.architecture.name}; leave it out"
        )
    return replace(own, regularization=options.regularization)


if __name__ == "__main__":
    main()
