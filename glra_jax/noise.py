"""How strong the noise is, and how smooth a pseudo-inverse must be for it.

Images are floats in [0, 1]; noise levels are standard deviations in the same unit.
"""

import jax
import jax.numpy as jnp

from glra_jax import validation

# Median of |x| for standard normal x.
_NORMAL_MEDIAN = 0.6745


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


def smoothness_for(noise: jax.typing.ArrayLike, *, noise_weight: float) -> jax.Array:
    """Smoothness of the pseudo-inverse for a noise level, `noise_weight * noise²`.

    The Wiener filter adds the ratio of the powers of noise and signal to `|K|²`. It grows as
    `noise²`, and, since the power of photographs falls off as `1 / |ω|²`, with `|ω|²`: see `μ` of
    `glra_jax.kernels.pseudo_inverse`.

    Args:
      noise: standard deviation, at least 0.
      noise_weight: at least 0; 0 for the same pseudo-inverse at all levels, as in the paper.

    Returns:
      float32, of the shape of `noise`.

    Raises:
      ValueError: a value outside its range.
    """
    validation.check_non_negative(noise, "noise")
    validation.check_non_negative(noise_weight, "noise_weight")
    return jnp.float32(noise_weight) * jnp.square(jnp.asarray(noise, jnp.float32))
