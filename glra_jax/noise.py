"""Strength of the noise in an image.

Images are floats in [0, 1]; noise levels are standard deviations in the same unit.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from glra_jax import validation

# Median of |x| for standard normal x.
_NORMAL_MEDIAN = 0.6745


class NoiseModel(NamedTuple):
    """Noise whose variance is `level² + shot · brightness`.

    Attributes:
      level: standard deviation where the image is black, a scalar or one a channel, `(C,)`.
      shot: growth of the variance with brightness, shaped alike; 0 for noise that is the same
        everywhere.
    """

    level: jax.typing.ArrayLike
    shot: jax.typing.ArrayLike = 0.0


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


def estimate_noise(y: jax.Array) -> jax.Array:
    """Estimates the standard deviation of white noise in a blurred image.

    A second difference along both axes leaves next to nothing of a blurred image, and noise six
    times as strong; its median is not led astray by what edges are left. Clipped pixels have no
    noise and are left out.

    Args:
      y: `(H, W)`, `(H, W, C)` or `(N, H, W, C)` float in [0, 1], 3 pixels or more a side; all
        channels and images together.

    Returns:
      float32 scalar; 0 where all is clipped, or more than half of what is not is flat.

    Raises:
      TypeError: integer image.
      ValueError: an image of another rank, NaN, or smaller than 3×3.

    References:
      Immerkær, "Fast Noise Variance Estimation", CVIU 64(2), 1996; with the median of Donoho and
      Johnstone, Biometrika 81(3), 1994, in place of the mean.
    """
    validation.check_image(y, "y")
    validation.check_range(y, "y")
    rows = 1 if y.ndim == 4 else 0
    if min(y.shape[rows : rows + 2]) < 3:
        raise ValueError(
            f"y of shape {y.shape} is smaller than the 3×3 pixels that an estimate of the noise "
            f"needs; name the noise level instead"
        )
    y = jnp.moveaxis(jnp.asarray(y, jnp.float32), (rows, rows + 1), (-2, -1))

    def windows(values: jax.Array) -> list[list[jax.Array]]:
        height, width = values.shape[-2:]
        return [
            [values[..., i : height - 2 + i, j : width - 2 + j] for j in range(3)] for i in range(3)
        ]

    weights = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))
    difference = sum(
        weight * value
        for row, values in zip(weights, windows(y), strict=True)
        for weight, value in zip(row, values, strict=True)
    )
    clipped = (y <= 0.0) | (y >= 1.0)
    seen = ~jnp.any(jnp.stack([value for row in windows(clipped) for value in row]), axis=0)
    median = jnp.nanmedian(jnp.where(seen, jnp.abs(difference), jnp.nan))
    return jnp.nan_to_num(median) / (6.0 * _NORMAL_MEDIAN)


def noise_level(y: jax.Array | None, noise: jax.typing.ArrayLike | None) -> jax.typing.ArrayLike:
    """Decides the noise level that a restoration goes by.

    Args:
      y: the image, see `estimate_noise`; None where nothing depends on the level.
      noise: its standard deviation if it is known.

    Returns:
      `noise` where it is given; else an estimate from the image, 0 without one.

    Raises:
      TypeError: as `estimate_noise`.
      ValueError: as `estimate_noise`.
    """
    if noise is not None:
        return noise
    return 0.0 if y is None else estimate_noise(y)
