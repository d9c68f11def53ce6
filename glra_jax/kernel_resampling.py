"""Blur kernels of another size and turned, by cubic interpolation."""

import math

import jax
import jax.numpy as jnp
import numpy as np

# What a kernel has beyond, of its largest value, is no part of its extent.
_FAINT = 1e-4
# Half sides of the squares that kernels are embedded in are multiples of it.
_STEP = 8


def resampled_kernel(
    kernel: jax.Array, *, scale: jax.typing.ArrayLike, angle: jax.typing.ArrayLike
) -> jax.Array:
    """Scales and turns a kernel about its centroid, which stays where it is.

    Differentiable with respect to scale and angle.

    Args:
      kernel: `(h, w)`; what reaches outside after the change is cut off.
      scale: factor of the kernel's size.
      angle: counter-clockwise, as the kernel is shown with its first row at the top; in radians.

    Returns:
      Array of that shape, none of it below 0, of sum 1.

    References:
      Keys, "Cubic Convolution Interpolation for Digital Image Processing", IEEE Trans. ASSP 29(6),
      1981.
    """
    height, width = kernel.shape
    kernel = kernel / kernel.sum()
    rows = jnp.arange(height, dtype=kernel.dtype)
    columns = jnp.arange(width, dtype=kernel.dtype)
    middle_row = jnp.sum(kernel.sum(axis=1) * rows)
    middle_column = jnp.sum(kernel.sum(axis=0) * columns)
    down, across = (rows - middle_row)[:, None], (columns - middle_column)[None, :]
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    row = middle_row + cos * down + sin * across
    column = middle_column + cos * across - sin * down
    top, left = (jax.lax.stop_gradient(jnp.floor(place)) for place in (row, column))
    near = jnp.arange(-1, 3)[:, None, None]
    above, beside = _cubic(row - top - near), _cubic(column - left - near)
    at_row = jnp.clip(top + near + 3, 0, height + 5).astype(jnp.int32)
    at_column = jnp.clip(left + near + 3, 0, width + 5).astype(jnp.int32)
    values = jnp.pad(kernel, 3)[at_row[:, None], at_column]
    total = jnp.maximum(jnp.sum(above[:, None] * beside * values, axis=(0, 1)), 0.0)
    return total / total.sum()


def extent(kernel: np.ndarray) -> float:
    """Distance in pixels from a kernel's centroid that all but its faintest are within."""
    kernel = np.asarray(kernel, np.float64)
    rows, columns = np.indices(kernel.shape)
    total = kernel.sum()
    distance = np.hypot(
        rows - (kernel * rows).sum() / total, columns - (kernel * columns).sum() / total
    )
    return float(distance[np.abs(kernel) > _FAINT * np.abs(kernel).max()].max()) + 0.5


def embedded(kernel: np.ndarray, largest_scale: float) -> np.ndarray:
    """Puts a kernel into the middle of a square that it fits in after any change.

    Args:
      kernel: `(h, w)`.
      largest_scale: the most that it is scaled by.

    Returns:
      `(n, n)`, n odd and one of few numbers, so that little is compiled.
    """
    reach = extent(kernel) * largest_scale + 2.0
    weights = np.asarray(kernel, np.float64) / np.sum(kernel, dtype=np.float64)
    halves = []
    for axis, size in enumerate(kernel.shape):
        middle = float((weights.sum(axis=1 - axis) * np.arange(size)).sum())
        halves += [reach + abs(middle - size // 2), size // 2]
    half = _STEP * math.ceil(max(halves) / _STEP)
    pads = [(half - size // 2, half - (size - 1 - size // 2)) for size in kernel.shape]
    return np.pad(kernel, pads)


def cut_out(square: np.ndarray, least: tuple[int, int]) -> np.ndarray:
    """Takes a kernel out of the middle of its square.

    Args:
      square: `(n, n)`, n odd.
      least: `(h, w)`, shape that it has at least; it is larger alike on both sides where there is
        more than its faintest.

    Returns:
      `(h + 2 i, w + 2 j)`.
    """
    half = square.shape[0] // 2
    slices = []
    for axis, size in enumerate(least):
        used = np.flatnonzero(square.max(axis=1 - axis) > _FAINT * square.max()) - half
        before, after = size // 2, size - 1 - size // 2
        more = max(0, -before - int(used.min()), int(used.max()) - after)
        more = min(more, half - before, half - after)
        slices.append(slice(half - before - more, half + after + more + 1))
    return square[slices[0], slices[1]]


def _cubic(distance: jax.Array) -> jax.Array:
    """Weight of a pixel at a distance: Keys' cubic, exact for parabolas."""
    d = jnp.abs(distance)
    near, far = (1.5 * d - 2.5) * d * d + 1.0, ((2.5 - 0.5 * d) * d - 4.0) * d + 2.0
    return jnp.where(d < 1.0, near, jnp.where(d < 2.0, far, 0.0))
