"""Files hold sRGB values; lenses and shutters blur the light that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax.noise import NoiseModel

# The square of the curve's slope is 5.2·L^1.17 but near black, where it is 1/12.92²: about linear.
_SLOPE_AT_BLACK = 1.0 / 12.92
_GROWTH = 4.6
# The curve is straight up to here.
_STRAIGHT_TO = 0.0031308


def to_linear(values: np.ndarray) -> np.ndarray:
    """Decodes sRGB to linear light (IEC 61966-2-1), also above 1; float64 stays it, or float32."""
    values = _floats(values)
    bent = ((np.maximum(values, 0.0) + 0.055) / 1.055) ** 2.4
    return np.where(values <= 0.04045, values / 12.92, bent)


def to_srgb(light: np.ndarray) -> np.ndarray:
    """Encodes linear light as sRGB, also above 1; float64 stays it, or float32."""
    light = _floats(light)
    bent = 1.055 * np.maximum(light, 0.0) ** (1.0 / 2.4) - 0.055
    return np.where(light <= _STRAIGHT_TO, 12.92 * light, bent)


def traced_to_srgb(light: jax.Array) -> jax.Array:
    """As `to_srgb`, inside `jit` and with a slope everywhere; straight below 0; 1 stays 1."""
    bent = 1.0 + 1.055 * (jnp.maximum(light, _STRAIGHT_TO) ** (1.0 / 2.4) - 1.0)
    return jnp.where(light <= _STRAIGHT_TO, 12.92 * light, bent)


def noise_in_linear_light(noise: float | np.ndarray) -> NoiseModel:
    """Noise that is equally strong in all sRGB values, as it is in linear light.

    Decoding multiplies it by the slope of the curve: by 0.08 where the image is black, 2.3 where it
    is white.

    Args:
      noise: standard deviation in sRGB, one or one a channel.
    """
    level = jnp.asarray(noise, jnp.float32)
    return NoiseModel(_SLOPE_AT_BLACK * level, _GROWTH * level**2)


def _floats(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    return values if values.dtype == np.float64 else values.astype(np.float32)
