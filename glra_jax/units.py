"""The unit of an image: what white is in it."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.masks import MASK_THEM
from glra_jax.noise import NoiseModel

# The mean of 3×3 pixels exceeds white by noise of 5 % hardly by this, and by ringing neither.
ABOVE_WHITE = 1.1
# An image with values above white has no white: its brightest is this far below.
HEADROOM = 1.25

_Array = TypeVar("_Array", jax.Array, np.ndarray)


def unit_of(y: Any, scale: jax.typing.ArrayLike | None) -> jax.typing.ArrayLike:
    """Value that an image is divided by before it is restored.

    Args:
      y: the image.
      scale: value of white in it; None takes 1, but the image's own brightest value and a quarter
        more, if a mean of 3×3 pixels exceeds 1.1: such values are no noise on white.

    Returns:
      A scalar, traced if the image or the scale is; the float 1 where nothing is to be divided.

    Raises:
      TypeError: as `validation.check_image`.
      ValueError: as `validation.check_image` and, without a scale, `validation.check_range`; or a
        scale that is not finite and above 0.
    """
    validation.check_image(y, "y", fix=MASK_THEM)
    if scale is not None:
        validation.check_positive(scale, "scale")
        return float(scale) if validation.is_known(scale) else scale  # type: ignore[arg-type]
    if not validation.is_known(y):
        y = jax.lax.stop_gradient(jnp.asarray(y, jnp.float32))
        return jnp.where(means_of_nine(y, jnp).max() > ABOVE_WHITE, HEADROOM * y.max(), 1.0)
    validation.check_range(y, "y")  # before a unit is found in which any value would do
    if not validation.extremes(y)[1] > ABOVE_WHITE:
        return 1.0
    y = np.asarray(y, np.float32)
    return HEADROOM * float(y.max()) if means_of_nine(y, np).max() > ABOVE_WHITE else 1.0


def in_unit(y: _Array, unit: jax.typing.ArrayLike) -> _Array:
    """Divides an image by its unit; of the same dtype."""
    return y if _is_one(unit) else (y / unit).astype(y.dtype)


def out_of_unit(y: _Array, unit: jax.typing.ArrayLike) -> _Array:
    """Undoes `in_unit`."""
    return y if _is_one(unit) else (y * unit).astype(y.dtype)


def noise_in_unit(
    noise: "jax.typing.ArrayLike | NoiseModel | None", unit: jax.typing.ArrayLike
) -> "jax.typing.ArrayLike | NoiseModel | None":
    """Divides what is known of an image's noise as the image is."""
    if noise is None or _is_one(unit):
        return noise
    if isinstance(noise, NoiseModel):
        return NoiseModel(jnp.asarray(noise.level) / unit, jnp.asarray(noise.shot) / unit)
    return jnp.asarray(noise) / unit


def _is_one(unit: jax.typing.ArrayLike) -> bool:
    return isinstance(unit, float) and unit == 1.0


def means_of_nine(y: Any, xp: Any) -> Any:
    """Means of 3×3 pixels; of fewer at the border, where they are repeated."""
    rows = 1 if y.ndim == 4 else 0
    for axis in (rows, rows + 1):
        pads = [(1, 1) if a == axis else (0, 0) for a in range(y.ndim)]
        padded = xp.moveaxis(xp.pad(y, pads, mode="edge"), axis, 0)
        y = xp.moveaxis((padded[:-2] + padded[1:-1] + padded[2:]) / 3.0, 0, axis)
    return y
