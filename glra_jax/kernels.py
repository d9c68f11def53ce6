"""Blur kernels (point-spread functions) and their regularised inverses.

A kernel is a 2-D float32 array of sum 1, of odd or even size, whose centre (the pixel of no
shift) is at `size // 2` on each axis. It blurs by true convolution, not correlation.
Functions make one kernel; use `jax.vmap` for many.
"""

import math
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.host_arrays import native_arrays
from glra_jax.kernel_backgrounds import background_share, kernel_background, without_background


def pixel_offsets(size: int) -> jax.Array:
    """Pixel positions along one axis, counted from the centre, float32 `(size,)`."""
    return jnp.arange(size, dtype=jnp.float32) - size // 2


@native_arrays
def normalize_kernel(
    kernel: jax.Array | np.ndarray, *, subtract_background: bool = False
) -> jax.Array:
    """Divides a kernel by its sum, so that blurring keeps the mean brightness.

    Args:
      kernel: 2-D array of any real dtype; integers (an 8-bit kernel image) are taken as they are.
      subtract_background: whether to take off first what is not black around the kernel, such as a
        camera's offset or what JPEG leaves. Not while tracing.

    Returns:
      float array of the same shape, sum 1 (float32 for integer input).

    Raises:
      TypeError: complex numbers, or a traced kernel whose background is to be subtracted.
      ValueError: not 2-D, empty, NaN, or a sum that is not positive.

    Warns:
      UserWarning: the kernel has a background, and it is not subtracted.
    """
    known = validation.is_known(kernel)
    if known:
        validation.check_real(kernel, "kernel")
    elif subtract_background:
        raise TypeError("the background of a traced kernel cannot be found; subtract it before")
    if np.ndim(kernel) != 2 or np.size(kernel) == 0:
        raise ValueError(f"kernel must be 2-D and not empty, got shape {np.shape(kernel)}")
    if known:
        return _normalized(np.asarray(kernel), subtract_background=subtract_background)
    kernel = jnp.asarray(kernel)
    if not jnp.issubdtype(kernel.dtype, jnp.floating):
        kernel = kernel.astype(jnp.float32)
    return kernel / kernel.sum()


def _normalized(kernel: np.ndarray, *, subtract_background: bool) -> jax.Array:
    """Divides a known kernel by its sum; compiles nothing."""
    floating = jnp.issubdtype(kernel.dtype, jnp.floating)
    dtype = jax.dtypes.canonicalize_dtype(kernel.dtype) if floating else np.float32
    # In half precision the sum itself would be off by a part in a hundred.
    values = np.asarray(kernel, np.float64)
    if subtract_background:
        values = without_background(values)
    total = float(values.sum())
    if not (math.isfinite(total) and total > 0):
        raise ValueError(f"kernel has the sum {total:.6g}; it must be finite and positive")
    if level := 0.0 if subtract_background else kernel_background(values):
        warnings.warn(
            f"kernel has a background of {level:.3g}, {100 * background_share(values):.0f} % of "
            f"its sum, which counts as blur; if it is no part of the blur, pass "
            f"subtract_background=True",
            stacklevel=4,
        )
    return jax.device_put((values / total).astype(dtype))


def gaussian_kernel(*, sigma: jax.typing.ArrayLike, size: int) -> jax.Array:
    """Isotropic Gaussian blur, sampled at pixel centres.

    Args:
      sigma: standard deviation in pixels, above 0; may be traced.
      size: side of the kernel in pixels.

    Returns:
      `(size, size)` float32 of sum 1.

    Raises:
      ValueError: `sigma` not positive or `size` below 1.
    """
    validation.check_size(size)
    validation.check_positive(sigma, "sigma")
    # A softmax of the exponents has sum 1 without underflow, however small sigma is.
    profile = jax.nn.softmax(-0.5 * (pixel_offsets(size) / jnp.asarray(sigma, jnp.float32)) ** 2)
    return jnp.outer(profile, profile)


def disk_kernel(*, radius: jax.typing.ArrayLike, size: int) -> jax.Array:
    """Out-of-focus blur: each pixel's weight is the area of it that a disk covers.

    Args:
      radius: radius of the disk in pixels, above 0; may be traced.
      size: side of the kernel in pixels; what reaches outside is cut off.

    Returns:
      `(size, size)` float32 of sum 1.

    Raises:
      ValueError: `radius` not positive or `size` below 1.
    """
    validation.check_size(size)
    validation.check_positive(radius, "radius")
    # Beyond these radii nothing changes any more, but squares run out of float32's range.
    r = jnp.clip(jnp.asarray(radius, jnp.float32), 1e-6, 4.0 * size)
    distance = jnp.abs(pixel_offsets(size))
    # By symmetry only the quadrant x, y >= 0; the central pixel reaches half a pixel into it.
    near, far = jnp.maximum(distance - 0.5, 0.0), distance + 0.5
    x0, x1 = near[None, :], far[None, :]
    y0, y1 = near[:, None], far[:, None]

    def half_chord(y: jax.Array) -> jax.Array:
        inside = jnp.maximum(r * r - y * y, 0.0)
        return jnp.where(inside > 0, jnp.sqrt(jnp.where(inside > 0, inside, 1.0)), 0.0)

    def area_under_arc(x: jax.Array) -> jax.Array:
        """Integral of sqrt(r² - t²) for t from 0 to x <= r."""
        u = jnp.minimum(x / r, 1.0)
        rim = u >= 1.0
        u = jnp.where(rim, 0.0, u)
        inner = 0.5 * r * r * (u * jnp.sqrt(1.0 - u * u) + jnp.arcsin(u))
        return jnp.where(rim, 0.25 * jnp.pi * r * r, inner)

    full = jnp.clip(half_chord(y1), x0, x1)  # up to here the pixel's column is covered whole
    part = jnp.clip(half_chord(y0), x0, x1)  # up to here in part, beyond not at all
    area = (
        (full - x0) * (y1 - y0) + area_under_arc(part) - area_under_arc(full) - y0 * (part - full)
    )
    double = jnp.where(distance == 0, 2.0, 1.0)
    area = jnp.maximum(area, 0.0) * double[:, None] * double[None, :]
    return area / area.sum()


def motion_kernel(
    key: jax.Array,
    *,
    size: int,
    extent: jax.typing.ArrayLike | None = None,
    num_points: int = 256,
) -> jax.Array:
    """Random camera-shake blur, drawn with sub-pixel precision.

    A hand-held camera is taken as a body with random, smooth acceleration: its velocity follows a
    damped random walk in three dimensions (two shifts and the rotation about the optical axis, seen
    at a point off the axis). The path of one image point during the exposure is projected on the
    image, moved so that its centroid is the centre, scaled to the wanted extent and drawn with
    bilinear weights; slow stretches come out bright, as in real kernels. After Zhang et al.,
    "Learning Fully Convolutional Networks for Iterative Non-Blind Deconvolution" (CVPR 2017), who
    project random camera trajectories and centre them.

    Args:
      key: PRNG key.
      size: side of the kernel in pixels (the paper uses 9 to 27), at least 3.
      extent: largest reach of the path from the centre in pixels, above 0 and at most
        `(size - 1) // 2`; drawn uniformly between a half and the whole of that if None. May be
        traced.
      num_points: samples along the path.

    Returns:
      `(size, size)` float32, non-negative, of sum 1.

    Raises:
      ValueError: `size` below 3, `num_points` below 2, or `extent` out of its range.
    """
    validation.check_size(size, minimum=3)
    validation.check_size(num_points, "num_points", minimum=2)
    reach = (size - 1) // 2
    draw = partial(jax.random.uniform, dtype=jnp.float32)
    walk_key, start_key, shape_key, extent_key = jax.random.split(key, 4)
    if extent is None:
        extent = reach * draw(extent_key, minval=0.5, maxval=1.0)
    else:
        validation.check_positive(extent, "extent")
        if validation.is_known(extent) and float(extent) > reach:  # type: ignore[arg-type]
            raise ValueError(f"extent must be at most (size - 1) // 2 = {reach}, got {extent}")

    # Velocity: from almost constant (a smear) to one that turns several times (a tangle).
    memory_key, turn_key, lever_key = jax.random.split(shape_key, 3)
    memory = num_points * jnp.exp(draw(memory_key, minval=-2.5, maxval=1.0))
    keep = jnp.exp(-1.0 / memory)
    shocks = jax.random.normal(walk_key, (num_points, 3), jnp.float32)

    def accelerate(velocity: jax.Array, shock: jax.Array) -> tuple[jax.Array, jax.Array]:
        velocity = keep * velocity + jnp.sqrt(1.0 - keep**2) * shock
        return velocity, velocity

    _, velocity = jax.lax.scan(accelerate, jax.random.normal(start_key, (3,), jnp.float32), shocks)
    pose = jnp.cumsum(velocity, axis=0) / num_points
    angle = pose[:, 2] * draw(turn_key)
    lever = 2.0 * jax.random.normal(lever_key, (2,), jnp.float32)
    rotated = jnp.stack(
        [
            jnp.cos(angle) * lever[0] - jnp.sin(angle) * lever[1],
            jnp.sin(angle) * lever[0] + jnp.cos(angle) * lever[1],
        ],
        axis=1,
    )
    path = pose[:, :2] + rotated
    path = path - path.mean(axis=0)
    path = path * (jnp.asarray(extent, jnp.float32) / jnp.abs(path).max())

    def hat(position: jax.Array) -> jax.Array:
        return jnp.maximum(1.0 - jnp.abs(position[:, None] - pixel_offsets(size)[None, :]), 0.0)

    return hat(path[:, 1]).T @ hat(path[:, 0]) / num_points
