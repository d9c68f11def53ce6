"""`smoothness_for` of version 0.1: `Inverse.smoothness` now."""

import jax

from glra_jax.deprecated.keywords import warn
from glra_jax.inverses import Inverse


def smoothness_for(noise: jax.typing.ArrayLike, *, noise_weight: float) -> jax.Array:
    """Smoothness of the pseudo-inverse for a noise level; use `Inverse.smoothness`.

    Args:
      noise: standard deviation, at least 0.
      noise_weight: at least 0.

    Returns:
      float32, of the shape of `noise`.

    Raises:
      ValueError: a value outside its range.
    """
    warn("smoothness_for", "Inverse(noise_weight=...).smoothness(noise)")
    return Inverse(noise_weight=noise_weight).smoothness(noise)
