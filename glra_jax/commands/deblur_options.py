"""Options of `glra-jax deblur`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from glra_jax.model_files import DEFAULT_MODEL
from glra_jax.validation import check_non_negative


@dataclass(frozen=True)
class Deblur:
    """Restores blurred photographs whose blur kernel is known.

    The last of the files is the blur kernel: `.npy` or an image, at most as large as the model
    takes. The default model is made for blur of up to 49 pixels, the others for 27. Blur that
    varies over the photograph is an `.npz` file of the arrays `kernels`, K x h x w, and `centres`,
    K x 2: the rows and columns of the pixels where they hold, which form a grid. With
    `--output-dir` it may be a folder, of one kernel for each photograph, by the names without
    endings.

    A photograph in a `.npy` file is restored into another, tile by tile, and need not fit into
    memory.

    Attributes:
      first: Blurred photograph, 8 or 16 bits or floating point; grey, RGB or RGBA (alpha is kept).
        With --output-dir also a folder of photographs.
      second: More of them, and the blur kernel.
      rest: The kernel is the last of all.
      output: File to write for one photograph; its suffix says the format.
      output_dir: Folder to write many photographs into, under their own names. What is there
        already is skipped, so that the same command resumes. Several processes may run it at once:
        they share the photographs.
      suffix: Format of what is written into --output-dir, such as .png; that of each photograph if
        not given, and .png for formats that are not written.
      preview: Also write the photograph before and after, side by side, as NAME.preview.png of 8
        bits.
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
      mask: Image or .npy file of the photograph's size: 0, or black, where pixels are no data, such
        as dead ones, and one other value where they count. They are restored from those around. Of
        many photographs it is the mask of each. Pixels that are NaN in FITS are masked in any case.
      page: Which page, frame or FITS extension of the photograph, from 1 on, if there are several.
      kernel_background: Whether to subtract what is not black around the kernel.
      refine_kernel: Improve the kernel first, by what the photograph shows of its size, up to a
        quarter larger or smaller, and its angle, up to 10 degrees.
      overwrite: Allow files to be replaced.
    """

    # tyro gives a sequence that is followed by one more file none of the files between options.
    first: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PHOTO")]
    second: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="[PHOTO...] KERNEL")]
    rest: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="")] = ()
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="OUT")] = None
    output_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    suffix: str | None = None
    preview: tyro.conf.FlagCreatePairsOff[bool] = False
    model: str = DEFAULT_MODEL
    boundary: Literal["edge", "reflect", "wrap"] = "edge"
    noise: float | None = None
    regularization: float | None = None
    scale: float | None = None
    light: Literal["srgb", "linear"] = "srgb"
    mask: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    page: int | None = None
    kernel_background: Literal["keep", "subtract"] = "keep"
    refine_kernel: tyro.conf.FlagCreatePairsOff[bool] = False
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False

    @property
    def photos(self) -> tuple[Path, ...]:
        """Photographs and folders of them."""
        return (self.first, self.second, *self.rest)[:-1]

    @property
    def kernel(self) -> Path:
        """The kernel, or the folder of kernels."""
        return (self.first, self.second, *self.rest)[-1]


def check_numbers(options: Deblur) -> None:
    """Raises ValueError for a noise level or a value of white that none can be."""
    if options.scale is not None and not (np.isfinite(options.scale) and options.scale > 0):
        raise ValueError(f"--scale must be finite and above 0, got {options.scale:g}")
    if options.noise is not None:
        check_non_negative(options.noise, "noise")


def check_outputs(options: Deblur) -> None:
    """Raises ValueError unless it is plain where to write: one file, or a folder for many."""
    count = len(options.photos)
    if options.output is None and options.output_dir is None:
        raise ValueError(
            "say where to write: -o OUT for one photograph, --output-dir DIR for many or a folder"
        )
    if options.output is not None and options.output_dir is not None:
        raise ValueError(
            f"-o {options.output} and --output-dir {options.output_dir} are both given; -o is for "
            f"one photograph and --output-dir for many, leave one out"
        )
    if options.output is None:
        return
    if count > 1:
        raise ValueError(
            f"-o {options.output} is one file, and {count} photographs are given before the kernel "
            f"{options.kernel}; give a folder to write into, --output-dir DIR"
        )
    for path in (options.first, options.kernel):
        if path.is_dir():
            raise ValueError(
                f"{path} is a folder, and -o {options.output} is one file; give a folder to write "
                f"into, --output-dir DIR, or a file in {path}"
            )
    if options.suffix is not None:
        raise ValueError(
            f"--suffix {options.suffix} is for --output-dir; the suffix of -o {options.output} "
            f"says the format"
        )
