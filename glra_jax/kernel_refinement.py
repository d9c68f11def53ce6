"""Blur kernels that are slightly wrong, improved by the photograph that they blurred."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import spectra, validation
from glra_jax.host_arrays import native_arrays
from glra_jax.kernel_evidence import (
    BlurredSpectrum,
    Explanation,
    best_explanation,
    blurred_spectrum,
    first_explanation,
)
from glra_jax.kernel_resampling import cut_out, embedded, extent, resampled_kernel
from glra_jax.masks import MASK_THEM, fill_masked

# Side of the blocks that are looked at: the larger ones for kernels wider than so many pixels.
_BLOCKS, _WIDE = (128, 256), 40
_SMALLEST = 48
# Pixels that a kernel's border moves from one start to the next, and most starts on either side.
_SPACING, _MOST = 1.0, (4, 2)
# Steps from each start, and from the best ones.
_SHORT, _LONG, _KEPT = 5, 25, 3
# By how much the logarithm of the probability must rise, for a change to be taken.
_LEAST_GAIN = 30.0


class RefinedKernel(NamedTuple):
    """What `refine_kernel` finds.

    Attributes:
      kernel: `(h, w)` float32 of sum 1; larger than that given where it needs to be.
      scale: factor of its size.
      angle: degrees that it is turned by, counter-clockwise as the first row is shown at the top.
      objective_before: of the kernel given: minus the logarithm of its probability, but for a
        constant.
      objective: of the kernel found, not above that.
    """

    kernel: jax.Array
    scale: float
    angle: float
    objective_before: float
    objective: float


@native_arrays
def refine_kernel(
    y: jax.Array | np.ndarray,
    kernel: jax.Array | np.ndarray,
    *,
    largest_scale: float = 1.25,
    largest_angle: float = 10.0,
    mask: jax.Array | np.ndarray | None = None,
) -> RefinedKernel:
    """Improves a blur kernel that is slightly too large, too small or turned.

    The photograph itself shows it: the zeros and valleys of a blur lie in its spectrum at places
    that depend on the kernel's size and direction. Scale and angle are found at which a smooth
    spectrum, as photographs have it, times that of the kernel, and white noise explain the spectrum
    of the photograph's gradients best (Whittle's likelihood of the mean of its blocks). A kernel
    for which nothing better is found is given back as it is.

    A shift is not found: a shifted kernel explains a photograph as well, and shifts its
    restoration. The kernel's centroid stays where it is. Nor is another shape.

    Blur with zeros, as of a lens out of focus or a shaken camera, is found: with 1 % noise, widths
    off by a pixel to 0.1 pixels for disks and 0.3 for paths, and angles off by 5 degrees mostly to
    between 1 and 3. A Gaussian has no zeros. Its size is found from how fast the spectrum falls,
    about which photographs differ, to about a tenth, and the angle of a tilted one often not at
    all; regular textures, such as bricks, mislead. A right kernel of zeros stays; a right Gaussian
    may be changed by a tenth. Least is seen in strong noise and in strongly compressed JPEG.

    Takes seconds, most of them to compile for kernels of about that size. Not for `jit`.

    Args:
      y: `(H, W)` or `(H, W, C)` float in [0, 1], of whose channels the mean is looked at; 49 pixels
        or more a side, some hundred are better. Of what light the kernel blurs: linear light for
        a kernel that was measured.
      kernel: `(h, w)`, sum 1.
      largest_scale: bound on the factor of the kernel's size, up or down, 1 or more; 1 leaves the
        size as it is. A result at the bound says that it should be larger.
      largest_angle: bound on the angle in degrees, either way, up to 45; 0 leaves it as it is.
      mask: `(H, W)`, where pixels count, see `glra_jax.deconvolve`; None everywhere.

    Returns:
      The kernel and what was changed. It has no negative values if it was changed.

    Raises:
      TypeError: integer image or kernel, a mask that is not Boolean, or a traced array.
      ValueError: an image of another rank, NaN, or too small; what `deconvolve` says of kernels and
        masks; bounds that none can be.

    References:
      Whittle, "Estimation and information in stationary time series", Arkiv för Matematik 2(5),
      1953. Zeros of a blur in the spectrum of an image: Cannon, "Blind deconvolution of spatially
      invariant image blurs with phase", IEEE Trans. ASSP 24(1), 1976.
    """
    _check_bound(largest_scale, "largest_scale", 1.0, 2.0)
    _check_bound(largest_angle, "largest_angle", 0.0, 45.0)
    for name, value in (("y", y), ("kernel", kernel), ("mask", mask)):
        if not validation.is_known(value):
            raise TypeError(f"{name} is traced, and refine_kernel needs its values; call it before")
    validation.check_kernel(kernel)
    grey = _grey(y, mask)
    given = np.asarray(kernel, np.float32)
    block = _block(grey.shape, given)
    known = None if mask is None else np.asarray(mask)
    spectrum = blurred_spectrum(grey, block=block, known=known)
    unchanged = RefinedKernel(jnp.asarray(given), 1.0, 0.0, 0.0, 0.0)
    if not spectrum.power.any():  # a constant image
        return unchanged
    square = embedded(given, largest_scale)
    explain = partial(_explained, spectrum, square)
    first, cost = explain(first_explanation(spectrum.power), np.zeros(2, np.float32), _LONG)
    before = best = float(cost)
    change = np.zeros(2)
    # The angle is taken last, and only where it is seen: that of a disk is not.
    for degrees in (0.0, largest_angle):
        bounds = np.array([math.log(largest_scale), math.radians(degrees)], np.float32)
        found, cost = _best(explain, first, bounds, extent(given))
        if best - cost > _LEAST_GAIN:
            change, best = found, cost
    if not change.any():
        return unchanged._replace(objective_before=before, objective=before)
    scale, angle = math.exp(change[0]), float(change[1])
    refined = cut_out(np.asarray(_resampled(square, scale=scale, angle=angle)), given.shape)
    refined = refined / refined.sum()
    return RefinedKernel(jnp.asarray(refined), scale, math.degrees(angle), before, best)


def _best(
    explain: Callable[..., tuple[Explanation, jax.Array]],
    first: Explanation,
    bounds: np.ndarray,
    reach: float,
) -> tuple[np.ndarray, float]:
    """The best change of a kernel within bounds, and its cost."""
    tried = [explain(first._replace(change=c), bounds, _SHORT) for c in _starts(bounds, reach)]
    tried = sorted(tried, key=lambda one: float(one[1]))[:_KEPT]
    tried = [explain(one, bounds, _LONG) for one, _ in tried]
    found, cost = min(tried, key=lambda one: float(one[1]))
    return np.asarray(found.change, np.float64), float(cost)


def _check_bound(value: float, name: str, least: float, most: float) -> None:
    validation.check_scalar(value, name)
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least:g} to {most:g}, got {value}")


def _grey(y: jax.Array | np.ndarray, mask: jax.Array | np.ndarray | None) -> np.ndarray:
    """The mean of an image's channels; raises what `refine_kernel` says of images and masks."""
    y = fill_masked(y, mask)
    validation.check_image(y, "y", fix=MASK_THEM)
    validation.check_range(y, "y")
    if y.ndim == 4:
        raise ValueError(f"y must be (H, W) or (H, W, C), got shape {y.shape}; give one image")
    values = np.asarray(y, np.float32)
    return values.mean(axis=2) if y.ndim == 3 else values


def _block(shape: tuple[int, ...], kernel: np.ndarray) -> int:
    """Side of the blocks to look at; raises ValueError where none is large enough."""
    diameter = 2.0 * extent(kernel)
    side = min(_BLOCKS[diameter > _WIDE], *(size - 1 for size in shape))
    least = max(_SMALLEST, math.ceil(diameter))
    if side < least:
        raise ValueError(
            f"y of {shape[0]}×{shape[1]} pixels shows too little of a kernel of "
            f"{kernel.shape[0]}×{kernel.shape[1]}; give an image of {least + 1} or more a side"
        )
    return side - side % 2


def _starts(bounds: np.ndarray, reach: float) -> np.ndarray:
    """Changes that the search starts from, `(n, 2)`."""
    axes = []
    for bound, most in zip(bounds, _MOST, strict=True):
        count = min(most, math.ceil(float(bound) * reach / _SPACING - 0.5))
        axes.append(np.arange(-count, count + 1) * bound / (count + 0.5))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)


_resampled = jax.jit(resampled_kernel)


@jax.jit
def _explained(
    spectrum: BlurredSpectrum,
    kernel: jax.Array,
    start: Explanation,
    bounds: jax.Array,
    steps: int,
) -> tuple[Explanation, jax.Array]:
    """The best explanation near one, and its cost."""
    grid = 2 * spectrum.power.shape[0]

    def transfer_power(change: jax.Array) -> jax.Array:
        changed = resampled_kernel(kernel, scale=jnp.exp(change[0]), angle=change[1])
        return _power(changed, grid)

    return best_explanation(spectrum, transfer_power, start, bounds, steps=steps)


def _power(kernel: jax.Array, grid: int) -> jax.Array:
    """`|K|²` on a grid of `rfft2`, on which a larger kernel is folded."""
    spectrum = jnp.fft.rfft2(spectra.folded(kernel, grid))
    return spectrum.real**2 + spectrum.imag**2
