"""Noise that JPEG leaves in an image, known from the file or seen in the pixels.

The cosine coefficients of blocks of 8×8 pixels are rounded to multiples of steps. A coefficient
that is not zero afterwards has an error of step/√12. Smaller ones are zero, and as wrong as they
were large: to a restoration that is noise as well, of the larger steps of higher frequencies. The
noise is that of luma, which has the detail.
"""

from typing import Any

import numpy as np
import scipy.fft
from PIL import Image

from glra_jax.noise import is_rounded

_BLOCK = 8
# Side of what is looked at, in the middle of an image.
_LOOKED_AT, _LOOKED_AT_IN_FILES = 192, 1024
# Coefficients that are looked at: of low frequency, so that many are not zero.
_PLACES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0))
# As many of them must be of multiples, each of so many different values.
_FEWEST_PLACES, _FEWEST_VALUES = 3, 12
_STEPS = np.arange(3, 61)
# Blocks begin at one place; a drawing may look as if they began at many.
_MOST_STARTS = 3
# Rounding to whole levels adds 0.29 to a coefficient, standard deviation: 0.23 in the mean.
_ROUNDED, _ABOVE_ROUNDING = 0.36, 1.2
# By how much steps of the first coefficients that are zero exceed those of the last that are not.
_BEYOND = 1.3
_LUMA = (0.299, 0.587, 0.114)


def file_noise(image: Image.Image) -> float | None:
    """Noise that the steps of a JPEG file stand for, as a part of the full range.

    Args:
      image: as Pillow opened it, grey or RGB, not yet rotated.

    Returns:
      Standard deviation; None for other files.
    """
    tables = getattr(image, "quantization", None)
    if not tables or image.mode not in ("L", "RGB"):
        return None
    layers: Any = getattr(image, "layer", [(1, 1, 1, 0)])  # the fourth number is the table
    steps = np.asarray(tables[layers[0][3]], np.float64).reshape(_BLOCK, _BLOCK)
    luma = np.asarray(image.convert("L"))
    rows, columns = (
        slice(start := max(0, size - _LOOKED_AT_IN_FILES) // 2 // _BLOCK * _BLOCK, size - start)
        for size in luma.shape
    )
    coefficients = np.abs(_coefficients(luma[rows, columns].astype(np.float32)))
    coded = coefficients > np.maximum(0.5 * steps, _ABOVE_ROUNDING)
    coded[:, 0, 0] = False
    if not coded.any():
        return 0.0
    return _noise_of(np.broadcast_to(steps, coded.shape)[coded])


def pixel_noise(y: Any, *, mask: Any = None) -> float:
    """Noise of JPEG in an image that was one, whatever holds it now; 0 where none is seen.

    Args:
      y: `(H, W)` or `(H, W, C)`, in [0, 1]. The blocks may begin anywhere: a file may be cropped.
      mask: `(H, W)`, where it is data, see `glra_jax.masks`; None everywhere.

    Returns:
      Standard deviation, in the same unit.
    """
    y = np.asarray(y)
    if y.ndim not in (2, 3) or (y.ndim == 3 and y.shape[2] not in (1, 3)):
        return 0.0
    top, left = (max(0, size - _LOOKED_AT) // 2 for size in y.shape[:2])
    place = slice(top, top + _LOOKED_AT), slice(left, left + _LOOKED_AT)
    y = y[place].astype(np.float32)
    known = np.ones(y.shape[:2], bool) if mask is None else np.asarray(mask)[place]
    if min(y.shape[:2]) < 4 * _BLOCK or not known.any() or not is_rounded(y[known]):
        return 0.0
    weights = np.asarray(_LUMA if y.ndim == 3 and y.shape[2] == 3 else (1.0,), np.float32)
    levels = 255.0 * (np.atleast_3d(y) @ weights)
    starts = np.ndindex(_BLOCK, _BLOCK)
    found = [
        steps
        for row, column in starts
        if (steps := _steps(levels[row:, column:], known[row:, column:]))
    ]
    if not 0 < len(found) <= _MOST_STARTS:
        return 0.0
    return _noise_of(np.asarray(max(found, key=len)))


def _noise_of(steps: np.ndarray) -> float:
    return _BEYOND * float(np.sqrt(np.mean(np.square(steps)) / 12.0)) / 255.0


def _steps(levels: np.ndarray, known: np.ndarray) -> list[float]:
    """The step of every coded coefficient looked at; none if the blocks do not begin here.

    Blocks that are not known whole are left out.
    """
    coefficients = _coefficients(levels)
    if not known.all():
        coefficients = coefficients[_blocks(known).all(axis=(1, 3)).reshape(-1)]
    found: list[float] = []
    places = 0
    for number, place in enumerate(_PLACES):
        if places + len(_PLACES) - number < _FEWEST_PLACES:
            return []
        values = coefficients[:, place[0], place[1]]
        values = values[np.abs(values) > _ABOVE_ROUNDING]
        if len(np.unique(np.round(values, 1))) < _FEWEST_VALUES:
            continue
        multiples = values / _STEPS[:, None]
        errors = np.mean(np.abs(multiples - np.round(multiples)), axis=1) * _STEPS
        fitting = _STEPS[errors < _ROUNDED]
        if len(fitting):
            places += 1
            found += [float(fitting[-1])] * len(values)
    return found if places >= _FEWEST_PLACES else []


def _coefficients(levels: np.ndarray) -> np.ndarray:
    """Cosine coefficients of whole blocks, `(n, 8, 8)`."""
    found = scipy.fft.dctn(_blocks(levels) - 128.0, axes=(1, 3), norm="ortho")
    return found.swapaxes(1, 2).reshape(-1, _BLOCK, _BLOCK)


def _blocks(values: np.ndarray) -> np.ndarray:
    """`(H, W)` as whole blocks, `(rows, 8, columns, 8)`."""
    height, width = (size // _BLOCK for size in values.shape)
    whole = values[: height * _BLOCK, : width * _BLOCK]
    return whole.reshape(height, _BLOCK, width, _BLOCK)
