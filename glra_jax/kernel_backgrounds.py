"""Kernel images that are not black where the kernel is zero.

A camera's offset or JPEG leaves a background of a few levels. It is small, but everywhere: one
level of 255 may be a fifth of the kernel's sum, and is then taken for blur.
"""

import numpy as np

# What part of the sum a background must have to be spoken of.
_SHARE = 0.02
# A border as bright as this part of the peak belongs to the kernel.
_BRIGHT = 0.1
# By how much most pixels may exceed the border, and by how much those just inside it: a kernel that
# fades away is brighter there.
_ALIKE, _FLAT = 2.5, 1.5
_SMALLEST = 5  # of a side, in pixels: a smaller kernel has no border to speak of
_SPREADS = 4.0  # standard deviations of the background that are taken off with it
# Nine tenths of the border are background; so many of |x| are below this for standard normal x.
_MOST, _NORMAL_MOST = 0.9, 1.6449


def kernel_background(kernel: np.ndarray) -> float:
    """Level of a kernel's background, 0 where there is none.

    A background is seen on the border: alike all around and just inside, dark against the peak, of
    the same level as half of all pixels or more, and of 2 % of the sum or more.

    Args:
      kernel: `(h, w)`, of any unit.
    """
    kernel = np.asarray(kernel, np.float64)
    if kernel.ndim != 2 or min(kernel.shape) < _SMALLEST or not np.isfinite(kernel).all():
        return 0.0
    level, total = float(np.median(_border(kernel))), float(kernel.sum())
    inside = max(1, min(kernel.shape) // 8)
    sides = (kernel[0], kernel[-1], kernel[:, 0], kernel[:, -1])
    alike = all(0 < np.median(side) < 3.0 * level for side in sides)
    if (
        level <= 0
        or not alike
        or level * kernel.size < _SHARE * total
        or np.median(kernel) > _ALIKE * level
        or np.median(_border(kernel[inside:-inside, inside:-inside])) > _FLAT * level
        or level > _BRIGHT * kernel.max()
    ):
        return 0.0
    return level


def without_background(kernel: np.ndarray) -> np.ndarray:
    """Takes a kernel's background off, and what varies in it; the same kernel if it has none."""
    level = kernel_background(kernel)
    if level == 0:
        return kernel
    kernel = np.asarray(kernel, np.float64)
    border = _border(kernel)
    spread = np.quantile(np.abs(border - level), _MOST) / _NORMAL_MOST  # of whole levels, too
    above = np.maximum(kernel - level, 0.0)
    return np.where(above > _SPREADS * spread, above, 0.0)


def background_share(kernel: np.ndarray) -> float:
    """Part of a kernel's sum that is background, 0 to 1."""
    total = float(np.sum(kernel, dtype=np.float64))
    return min(1.0, kernel_background(kernel) * np.size(kernel) / total) if total > 0 else 0.0


def _border(kernel: np.ndarray) -> np.ndarray:
    return np.concatenate([kernel[0], kernel[-1], kernel[1:-1, 0], kernel[1:-1, -1]])
