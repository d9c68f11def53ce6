"""Strength of the noise in an image.

Images are floats in [0, 1]; noise levels are standard deviations in the same unit.
"""

import functools
import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import scipy.special

from glra_jax import validation
from glra_jax.masks import MASK_THEM, fill_masked

# Median of |x| for standard normal x.
_NORMAL_MEDIAN = 0.6745

# Side of the blocks that are transformed: not the 8 of JPEG, so that few stand on its grid.
_BLOCK = 7
# Coefficients (u, v) by their frequency √(u² + v²), rounded. Below the lowest that is looked at,
# blocks without detail are too few.
_FREQUENCIES = np.rint(np.hypot(*np.indices((_BLOCK, _BLOCK)))).astype(int)
_LOWEST = 3
# Share of the blocks that is taken for free of detail.
_SMOOTH = 0.2
# The most that noise has been smoothed: standard deviation of a Gaussian in pixels.
_SMOOTHED = 0.7
# The most of a block that may be clipped.
_CLIPPED = 0.25
_COSINES = scipy.fft.dct(np.eye(_BLOCK, dtype=np.float32), axis=0, norm="ortho")
_LOOKED_AT = range(_LOWEST, _FREQUENCIES.max() + 1)
_COUNTS = np.array([np.sum(np.equal(_FREQUENCIES, f)) for f in _LOOKED_AT], np.float32)
_MEANS = np.stack([np.equal(_FREQUENCIES, f) for f in _LOOKED_AT]) / _COUNTS[:, None, None]
# The lowest stands for all below it, too.
_SHARES = _COUNTS / _BLOCK**2
_SHARES[0] = 1.0 - np.sum(_SHARES[1:])
# That share's quantile of a mean of squares of white noise: of χ² over its degrees of freedom.
_EXPECTED = np.float32(2.0 * scipy.special.gammaincinv(_COUNTS / 2, _SMOOTH) / _COUNTS)
# By how much the logarithm of power at a frequency may exceed that at the next, for the most.
_STEEPEST = np.array(
    [(_SMOOTHED * math.pi / _BLOCK) ** 2 * (2 * f + 1) for f in _LOOKED_AT], np.float32
)
# The steepness is seen at so many frequencies, the highest, and may be so much larger at others.
_HIGHEST = 3
_STEEPER = 1.5
# Counts of a larger mean are drawn from the normal distribution, which lacks a skewness of 0.003
# then: in float32 `jax.random.poisson` gives them another variance, by 46 % at a mean of 1e8.
_LARGEST_COUNT = 1e5
# Of values rounded to 8 bits.
_ROUNDING = 1.0 / 255.0 / math.sqrt(12.0)


class NoiseModel(NamedTuple):
    """Noise whose variance is `level² + shot · brightness`.

    Attributes:
      level: standard deviation where the image is black, a scalar or one a channel, `(C,)`.
      shot: growth of the variance with brightness, shaped alike; 0 for noise that is the same
        everywhere.
    """

    level: jax.typing.ArrayLike
    shot: jax.typing.ArrayLike = 0.0

    @classmethod
    def of_sensor(
        cls, *, full_well: jax.typing.ArrayLike, read_noise: jax.typing.ArrayLike = 0.0
    ) -> "NoiseModel":
        """Noise of a sensor that counts electrons.

        Args:
          full_well: electrons that white stands for; of a photograph with a gain of g electrons a
            level, g times the level of white.
          read_noise: standard deviation in electrons of what reading out adds.

        Returns:
          The level `read_noise / full_well` and the growth `1 / full_well`.

        Raises:
          ValueError: a full well that is not above 0, or a negative read noise.
        """
        if validation.is_known(full_well) and not np.all(
            np.isfinite(full_well) & (np.asarray(full_well) > 0)
        ):
            raise ValueError(f"full_well must be finite and above 0, got {full_well}")
        validation.check_non_negative(read_noise, "read_noise")
        return cls(read_noise / full_well, 1.0 / full_well)


def add_noise(key: jax.Array, y: jax.Array, noise: NoiseModel) -> jax.Array:
    """Draws photons and adds noise of reading out: `shot · Poisson(y / shot) + level · N(0, 1)`.

    The mean is `y`, and the variance `level² + shot · y`. Below 0 there are no photons; where more
    than 100,000 are expected they are drawn from the normal distribution. Slopes for `y` are those
    of the mean, since counts have none; for the level those of each draw, and for `shot` 0.

    Args:
      key: PRNG key, threefry, which `jax.random.poisson` asks for.
      y: `(..., C)`, or `(H, W)` with scalars as noise.
      noise: scalars, or one a channel.

    Returns:
      Array of the shape and dtype of `y`, not clipped.
    """
    count_key, many_key, read_key = jax.random.split(key, 3)
    dtype = y.dtype
    y = y.astype(jnp.promote_types(dtype, jnp.float32))
    level, shot = (jnp.asarray(part, y.dtype) for part in noise)
    shot, light = jax.lax.stop_gradient((shot, y))
    counts = shot > 0
    unit = jnp.where(counts, shot, 1.0)
    rate = jnp.where(counts, jnp.maximum(light, 0.0) / unit, 0.0)
    few = rate <= _LARGEST_COUNT
    count = jax.random.poisson(count_key, jnp.where(few, rate, 0.0), y.shape).astype(y.dtype)
    many = rate + jnp.sqrt(rate) * jax.random.normal(many_key, y.shape, y.dtype)
    drawn = jnp.where(counts, unit * jnp.where(few, count, many), light)
    drawn = drawn + (y - light)  # nothing but a slope
    return (drawn + level * jax.random.normal(read_key, y.shape, y.dtype)).astype(dtype)


def mean_level(noise: "jax.typing.ArrayLike | NoiseModel") -> jax.typing.ArrayLike:
    """One standard deviation for all channels, at middle grey.

    Args:
      noise: a model, or a standard deviation, which is given back.

    Returns:
      Scalar.
    """
    if not isinstance(noise, NoiseModel):
        return noise
    return jnp.sqrt(jnp.mean(jnp.square(noise.level) + 0.5 * jnp.asarray(noise.shot)))


def estimate_noise(y: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Estimates the standard deviation of white noise in a blurred image.

    A second difference along both axes leaves next to nothing of a blurred image, and noise six
    times as strong; its median is not led astray by what edges are left. Clipped pixels have no
    noise and are left out.

    Args:
      y: `(H, W)`, `(H, W, C)` or `(N, H, W, C)` float in [0, 1], 3 pixels or more a side; all
        channels and images together.
      mask: where pixels count, see `glra_jax.deconvolve`; None everywhere.

    Returns:
      float32 scalar; 0 where all is clipped, or more than half of what is not is flat.

    Raises:
      TypeError: integer image.
      ValueError: an image of another rank, NaN, or smaller than 3×3.

    References:
      Immerkær, "Fast Noise Variance Estimation", CVIU 64(2), 1996; with the median of Donoho and
      Johnstone, Biometrika 81(3), 1994, in place of the mean.
    """
    y = fill_masked(y, mask)
    validation.check_image(y, "y", fix=MASK_THEM)
    validation.check_range(y, "y")
    xp: Any = np if isinstance(y, np.ndarray) and isinstance(mask, np.ndarray | None) else jnp
    rows = 1 if y.ndim == 4 else 0
    if min(y.shape[rows : rows + 2]) < 3:
        raise ValueError(
            f"y of shape {y.shape} is smaller than the 3×3 pixels that an estimate of the noise "
            f"needs; name the noise level instead"
        )
    y = xp.moveaxis(xp.asarray(y, np.float32), (rows, rows + 1), (-2, -1))

    def windows(values: Any) -> list[list[Any]]:
        height, width = values.shape[-2:]
        return [
            [values[..., i : height - 2 + i, j : width - 2 + j] for j in range(3)] for i in range(3)
        ]

    weights = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))
    difference: Any = sum(
        weight * value
        for row, values in zip(weights, windows(y), strict=True)
        for weight, value in zip(row, values, strict=True)
    )
    clipped = (y <= 0.0) | (y >= 1.0)
    if mask is not None:
        clipped |= ~(mask[:, None] if mask.ndim == 3 else mask)
    unseen = windows(clipped)
    seen = ~functools.reduce(operator.or_, [value for row in unseen for value in row])
    if xp is np:  # JAX would compile a program for every size
        differences = np.abs(difference)[seen]
        median = np.median(differences) if differences.size else 0.0
        return jnp.asarray(median / (6.0 * _NORMAL_MEDIAN), jnp.float32)
    median = quantile(jnp.abs(difference).reshape(-1), seen.reshape(-1), 0.5)
    return median / (6.0 * _NORMAL_MEDIAN)


def estimate_noise_by_channel(y: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Estimates the standard deviation of the noise of any colour in each channel of a photograph.

    Meant is everything in a file that is not the clean blurred image: noise of the sensor, be it
    white or smoothed by demosaicing or resizing, errors of JPEG, and rounding to 8 bits. Blocks of
    7×7 pixels are cosine-transformed. For each of six frequencies, the power that a fifth of the
    blocks stay below shows the noise, since a fifth of a photograph has no detail; it is corrected
    for being the lowest fifth. Lower frequencies are given the power of the lowest that is looked
    at. How fast the power of the noise falls with the frequency is seen at the three highest, where
    a blurred photograph has none; but no faster than that of noise smoothed by a Gaussian of 0.7
    pixels. Power that falls faster is the photograph's and left out.

    Sharp texture all over an image is taken for noise: 6 % of it in a photograph of grass.
    A channel of whole levels of 8 bits, and more than one of them, has at least the noise of
    rounding, 1/255/√12; all else scales with the image.

    Args:
      y: `(H, W, C)` float in [0, 1], 7 pixels or more a side. Pixels that remain at the bottom or
        right are left out, and so are blocks of which more than a quarter is clipped or masked,
        where there are others.
      mask: `(H, W)`, where pixels count, see `glra_jax.deconvolve`; None everywhere.

    Returns:
      `(C,)` float32; 0 where a channel is constant.

    Raises:
      TypeError: integer image.
      ValueError: an image of another rank, NaN, or smaller than 7×7.

    References:
      Blocks without detail, and a low quantile: Ponomarenko et al., "An automatic approach to
      lossy compression of AVIRIS images", IGARSS 2007.
    """
    y = fill_masked(y, mask)
    validation.check_image(y, "y", fix=MASK_THEM)
    validation.check_range(y, "y")
    if y.ndim != 3:
        raise ValueError(f"y must be (H, W, C), got shape {y.shape}; add an axis, or use jax.vmap")
    if min(y.shape[:2]) < _BLOCK:
        raise ValueError(
            f"y of shape {y.shape} is smaller than the {_BLOCK}×{_BLOCK} pixels that an estimate "
            f"of the noise needs; name the noise level instead"
        )
    return jax.vmap(_level_of_channel, in_axes=(2, None))(jnp.asarray(y, jnp.float32), mask)


def _level_of_channel(y: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Estimates the noise in `(H, W)`; see `estimate_noise_by_channel`."""
    height, width = (size // _BLOCK for size in y.shape)

    def in_blocks(values: jax.Array) -> jax.Array:
        whole = values[: height * _BLOCK, : width * _BLOCK]
        return whole.reshape(height, _BLOCK, width, _BLOCK)

    blocks = in_blocks(y)
    clipped = (blocks <= 0.0) | (blocks >= 1.0)
    if mask is not None:
        clipped |= ~in_blocks(mask)
    clipped = jnp.mean(clipped, axis=(1, 3))
    seen = clipped <= jnp.maximum(_CLIPPED, clipped.min())
    # The mean does not count; without a corner's value, constant blocks are zero to the bit.
    coefficients = jnp.einsum(
        "ui,aibj,vj->abuv",
        _COSINES,
        blocks - blocks[:, :1, :, :1],
        _COSINES,
        precision=jax.lax.Precision.HIGHEST,
    )
    energies = jnp.einsum(
        "abuv,fuv->fab", coefficients**2, _MEANS, precision=jax.lax.Precision.HIGHEST
    ).reshape(len(_MEANS), -1)
    if mask is not None:  # what is filled in has next to no noise
        energies /= jnp.maximum(jnp.mean(in_blocks(mask), axis=(1, 3)), 0.5).reshape(-1)
    lowest = jax.vmap(lambda energy: quantile(energy, seen.reshape(-1), _SMOOTH))(energies)
    powers = lowest / _EXPECTED
    steepest = jnp.exp(_steepness(powers) * _STEEPEST)
    power, variance = powers[-1], jnp.float32(0.0)
    for index in reversed(range(len(_MEANS))):
        power = jnp.minimum(powers[index], power * steepest[index])
        variance += power * _SHARES[index]
    return jnp.maximum(root(variance), jnp.where(is_rounded(y, mask), _ROUNDING, 0.0))


def _steepness(powers: jax.Array) -> jax.Array:
    """How fast the noise's power may fall, 1 for the most, from that at all frequencies."""
    first, last = powers[-_HIGHEST], powers[-1]
    known = (first > 0.0) & (last > 0.0)
    fall = jnp.log(jnp.where(known, first, 1.0)) - jnp.log(jnp.where(known, last, 1.0))
    seen = _STEEPER * fall / np.sum(_STEEPEST[-_HIGHEST:-1])
    return jnp.where(known, jnp.clip(seen, 0.0, 1.0), 1.0)


def quantile(values: jax.Array, seen: jax.Array, share: float) -> jax.Array:
    """The value that a share of those that are seen stay below, between two interpolated.

    Nothing on the way is NaN, so that JAX can look for what ought not to be.

    Args:
      values: `(n,)`, at least one.
      seen: `(n,)`, True for those that count.
      share: from 0 to 1.

    Returns:
      Scalar; 0 where none is seen. What is not finite is not seen.
    """
    seen = seen & jnp.isfinite(values)
    ordered = jnp.sort(jnp.where(seen, values, jnp.finfo(values.dtype).max))
    last = jnp.maximum(jnp.sum(seen) - 1, 0)
    place = share * last
    below = jnp.floor(place).astype(jnp.int32)
    lower, upper = ordered[below], ordered[jnp.minimum(below + 1, last)]
    part = (place - below).astype(values.dtype)
    return jnp.where(jnp.any(seen), lower + part * (upper - lower), 0.0)


def root(variance: jax.Array) -> jax.Array:
    """Square root, with the slope 0 at 0, where it is infinite."""
    return jnp.where(variance > 0.0, jnp.sqrt(jnp.where(variance > 0.0, variance, 1.0)), 0.0)


def is_rounded(y: Any, mask: jax.Array | None = None) -> Any:
    """Tells whether an image is of whole levels of 8 bits, and of more than one of them.

    Where the image is NumPy's, so is the arithmetic. Only where its mask is True does it count; the
    brightest pixel does.
    """
    levels = 255.0 * (y if mask is None else jnp.where(mask, y, y.max()))
    whole = levels.round()
    return (abs(levels - whole) < 1e-3).all() & (whole.max() > whole.min())


def noise_level(
    y: jax.Array | None,
    noise: jax.typing.ArrayLike | None,
    *,
    mask: jax.Array | None = None,
) -> jax.typing.ArrayLike:
    """Decides the noise level that a restoration goes by.

    Args:
      y: the image, see `estimate_noise`; None where nothing depends on the level.
      noise: its standard deviation if it is known.
      mask: where the image counts, see `estimate_noise`.

    Returns:
      `noise` where it is given; else an estimate from the image, 0 without one.

    Raises:
      TypeError: as `estimate_noise`.
      ValueError: as `estimate_noise`.
    """
    if noise is not None:
        return noise
    return 0.0 if y is None else estimate_noise(y, mask=mask)
