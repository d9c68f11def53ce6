"""Blur kernels that the page makes: by family, or drawn by hand."""

import jax
import numpy as np

from glra_jax.kernel_families import KernelFamilies, blur_family, sample_kernel
from glra_jax.validation import check_size

SIZES = (3, 49)  # of a side in pixels; the default model is made for blur of up to 49


def family_kernel(family: str, *, size: int, variation: int = 0) -> np.ndarray:
    """Makes a kernel of a family.

    Args:
      family: one in `glra_jax.kernel_families.FAMILIES`.
      size: side in pixels, odd, at least 3.
      variation: 0 for the family's example, other numbers for random ones, each always the same.

    Returns:
      float32 `(size, size)` of sum 1.

    Raises:
      ValueError: an unknown family, or a size that is even or too small.
    """
    example = blur_family(family).example
    _check_odd(size)
    if variation == 0:
        return np.asarray(example(size))
    families = KernelFamilies(families=(family,), min_size=size, max_size=size)
    return np.asarray(sample_kernel(jax.random.key(variation), families))


def drawn_kernel(drawing: np.ndarray, *, size: int) -> np.ndarray:
    """Makes a kernel of a drawing: its brightness, averaged over the area of the kernel's pixels.

    Args:
      drawing: uint8 `(H, W)`, `(H, W, 3)` or, with transparency over black, `(H, W, 4)`; each side
        at least `size`.
      size: side of the kernel in pixels, odd, at least 3.

    Returns:
      float32 `(size, size)` of sum 1.

    Raises:
      ValueError: a drawing that is black everywhere, or has fewer pixels than the kernel; a size
        that is even or too small.
    """
    _check_odd(size)
    light = brightness(drawing)
    if min(light.shape) < size:
        raise ValueError(
            f"the drawing has {light.shape[0]}×{light.shape[1]} pixels, fewer than the {size}×"
            f"{size} of the kernel; draw on a larger canvas"
        )
    if not light.any():
        raise ValueError(
            "the drawing is empty: draw the path of a point of light in white, such as a short line"
        )
    rows, columns = (_averages(side, size) for side in light.shape)
    kernel = rows @ light @ columns.T
    return (kernel / kernel.sum()).astype(np.float32)


def brightness(drawing: np.ndarray) -> np.ndarray:
    """Mean of a drawing's channels, float64 `(H, W)`; what is transparent lies over black."""
    channels = np.atleast_3d(drawing).astype(np.float64)
    if channels.shape[2] == 4:
        channels = channels[..., :3] * channels[..., 3:] / 255.0
    mean: np.ndarray = channels.mean(axis=2)
    return mean


def _averages(side: int, size: int) -> np.ndarray:
    """Weights `(size, side)` by which `side` pixels are averaged over `size` parts of an axis."""
    step = side / size
    starts, pixels = step * np.arange(size)[:, None], np.arange(side)[None, :]
    covered = np.minimum(starts + step, pixels + 1) - np.maximum(starts, pixels)
    return np.clip(covered, 0.0, 1.0) / step


def _check_odd(size: int) -> None:
    check_size(size, minimum=3)
    if size % 2 == 0:
        raise ValueError(f"the kernel's size must be odd, got {size}: take {size + 1}")
