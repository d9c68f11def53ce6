"""Cases of an evaluation: blurred photographs with their kernels and the sharp truth.

All photographs are read first, so that errors in them are found before the computation; each is
degraded when its turn comes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from glra_jax.blurring import convolution_padding
from glra_jax.metrics import SMALLEST_SSIM_SIDE


@dataclass(frozen=True)
class Case:
    """One photograph to restore. Arrays are float32.

    Attributes:
      name: of the photograph, and of the kernel if there are several for each.
      blurred: `(H, W)` or `(H, W, C)`, as methods are given it; in [0, 1], or beyond by as much as
        its noise where a protocol does not clip.
      sharp: the truth to compare with, of the same shape, in [0, 1].
      kernel: `(h, w)`, sum 1.
      gain: factor by which the blurred image is too bright, which methods do not know; None if
        the protocol has none.
      finish: what becomes of a restored image before it is scored; None if nothing.
      noise: standard deviation of the noise in `blurred`, which methods are told; None where it is
        the same for all cases.
    """

    name: str
    blurred: np.ndarray
    sharp: np.ndarray
    kernel: np.ndarray
    gain: float | None
    finish: Callable[[np.ndarray], np.ndarray] | None = None
    noise: float | None = None


@dataclass(frozen=True)
class PendingCase:
    """A case whose arrays are made when they are needed.

    Attributes:
      name: of the case.
      shape: of the blurred image.
      kernel_shape: of the blur kernel.
      make: gives the case, the same to the bit each time.
      photograph: its name; None if the case is called so itself.
      family: of the blur kernel, where it is known.
    """

    name: str
    shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    make: Callable[[], Case]
    photograph: str | None = None
    family: str | None = None


def check_cases(
    cases: Sequence[PendingCase], *, margin: int, supports: dict[str, int] | None = None
) -> None:
    """Raises unless every case can be restored and scored.

    Args:
      cases: what will be evaluated.
      margin: pixels left out on each side.
      supports: largest kernel by method.

    Raises:
      ValueError: no case, two of one name, an image of which too little is left for SSIM, or a
        kernel larger than the image or a model's support.
    """
    if not cases:
        raise ValueError("there is nothing to evaluate: no photograph was found")
    names = [case.name for case in cases]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several photographs are named {twice[0]!r}; rename all but one")
    window = SMALLEST_SSIM_SIDE
    smallest = 2 * margin + window
    for case in cases:
        height, width = case.shape[:2]
        if min(height, width) < smallest:
            raise ValueError(
                f"{case.name} has {height}x{width} pixels; with {margin} left out on each side and "
                f"{window}x{window} for SSIM, it must have {smallest}x{smallest} at "
                f"least: leave it out, or ask for --borders full or a smaller --margin"
            )
        kernel_height, kernel_width = case.kernel_shape
        if kernel_height > height or kernel_width > width:
            raise ValueError(
                f"the kernel of {case.name}, {kernel_height}x{kernel_width}, is larger than the "
                f"image, {height}x{width}"
            )
        for method, support in (supports or {}).items():
            if max(case.kernel_shape) > support:
                raise ValueError(
                    f"the kernel of {case.name}, {kernel_height}x{kernel_width}, is larger than "
                    f"the support {support} of {method!r}; crop it to its non-zero part or leave "
                    f"{method!r} out"
                )


def as_floats(pixels: np.ndarray) -> np.ndarray:
    """8- or 16-bit pixels as float32 in [0, 1]."""
    return (pixels / np.float32(np.iinfo(pixels.dtype).max)).astype(np.float32)


def valid_part(image: np.ndarray, kernel_shape: tuple[int, ...]) -> np.ndarray:
    """The part of an image that lies where its blur with boundary "valid" does, pixel by pixel."""
    rows, columns = (
        slice(before, size - after)
        for size, (before, after) in zip(
            image.shape, map(convolution_padding, kernel_shape), strict=False
        )
    )
    return image[rows, columns]


def scored_part(image: np.ndarray, margin: int) -> np.ndarray:
    """The image without `margin` pixels on each side."""
    return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]
