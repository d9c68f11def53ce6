"""Command line: `glra-jax deblur PHOTO KERNEL -o OUT`."""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image

from glra_jax.inverses import Inverse
from glra_jax.kernels import normalize_kernel
from glra_jax.model import Model
from glra_jax.model_files import DEFAULT_MODEL, load_model
from glra_jax.networks import Architecture
from glra_jax.noise import estimate_noise
from glra_jax.noise_behind_blur import estimate_noise_behind_blur
from glra_jax.photo_files import Photo, check_output, read_kernel, read_photo, write_photo
from glra_jax.restorer import even_tile, prepare
from glra_jax.validation import check_kernel


@dataclass(frozen=True)
class Deblur:
    """Restores a blurred photograph whose blur kernel is known.

    Attributes:
      photo: Blurred photograph, 8 or 16 bits; grey, RGB or RGBA (alpha is kept).
      kernel: Blur kernel: .npy or an image, at most as large as the model takes. The default model
        is made for blur of up to 49 pixels, the others for 27.
      output: File to write; its suffix says the format.
      model: Name of a model that comes with the package, or a model file.
      boundary: How the scene is taken to go on outside the photograph.
      noise: Standard deviation of the noise as part of the full range, at least 0; estimated if
        not given, where the model depends on it.
      regularization: Of the pseudo-inverse, above 0; the model's own if not given. For models
        whose inverse can be told.
      overwrite: Allow the output file to be replaced.
    """

    photo: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PHOTO")]
    kernel: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="KERNEL")]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    model: str = DEFAULT_MODEL
    boundary: Literal["edge", "reflect", "wrap"] = "edge"
    noise: float | None = None
    regularization: float | None = None
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False


def main(arguments: list[str] | None = None) -> None:
    """Runs the program; errors of the user's making are one line and exit status 1."""
    command = tyro.extras.subcommand_cli_from_dict(
        {"deblur": Deblur},
        prog="glra-jax",
        description="Non-blind image deconvolution by generalized low-rank approximation.",
        args=arguments,
    )
    try:
        deblur(command)
    except (OSError, ValueError, TypeError, Image.DecompressionBombError) as error:
        sys.exit(f"glra-jax: {error}")


def deblur(options: Deblur) -> None:
    """Reads, restores and writes one photograph."""
    photo = read_photo(options.photo)
    check_output(photo, options.output, overwrite=options.overwrite)
    raw = read_kernel(options.kernel)
    model = load_model(options.model)
    architecture = model.architecture
    inverse = _inverse(options, model)
    try:
        kernel = normalize_kernel(jnp.asarray(raw, jnp.float32))
        check_kernel(kernel, support=architecture.largest_kernel)
    except ValueError as error:
        raise ValueError(f"{options.kernel}: {error}") from error

    print(f"{options.photo}: {photo.colour.shape}, {photo.colour.dtype}")
    rows, columns = kernel.shape
    print(f"{options.kernel}: {rows}×{columns}, divided by its sum {raw.sum():g}")
    started = time.perf_counter()
    top = np.iinfo(photo.colour.dtype).max
    blurred = photo.colour.astype(np.float32) / top
    noise: float | np.ndarray | None = options.noise
    needed = architecture.uses_noise(inverse)
    if noise is not None and not needed:
        print(f"--noise {noise:g} changes nothing: {options.model} restores all levels alike")
    if noise is None and needed:
        noise = _estimated_noise(blurred, kernel, architecture)
        levels = ", ".join(f"{100 * level:.2f}" for level in np.atleast_1d(noise))
        print(f"{options.photo}: noise of {levels} % (--noise to set it)")
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
    if brighter := int((restored > 1).sum()):
        print(f"{brighter} of {restored.size} values are brighter than white, and written as white")
    pixels = np.rint(np.minimum(restored, 1.0) * top).astype(photo.colour.dtype)
    write_photo(
        Photo(pixels, photo.alpha, photo.metadata), options.output, overwrite=options.overwrite
    )
    print(f"{options.output}: written after {time.perf_counter() - started:.1f} s")


def _estimated_noise(
    blurred: np.ndarray, kernel: jax.Array, architecture: Architecture
) -> float | np.ndarray:
    """One level, or one for each of the channels that a network takes together."""
    if not architecture.by_image:
        return float(jax.jit(estimate_noise)(blurred))
    levels = np.asarray(jax.jit(estimate_noise_behind_blur)(np.atleast_3d(blurred), kernel))
    return levels if levels.size > 1 else float(levels[0])


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
