"""What photographs from cameras have gone through, drawn at random for training."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from glra_jax import jpeg
from glra_jax.blurring import blur

# Of the light in a scene: files hold its power by 1 / 2.2.
_GAMMA = 2.2
_DARKEST = 1.0 / 64.0
# By how much of itself a scene may be too bright.
_OVEREXPOSED = 0.8


class ImagePair(NamedTuple):
    """A degraded photograph, its truth, and what the noise in it is.

    Attributes:
      blurred: `(H, W, C)` in [0, 1].
      sharp: `(H', W', C)` in [0, 1], what a restoration should give; larger than `blurred` where
        that was made with the boundary `"valid"`.
      noise: `(C,)`, standard deviation of the noise where the image is black.
      shot: `(C,)`, growth of the noise's variance with brightness.
      linear: scalar, whether the images are linear light, which is shown by another curve.
    """

    blurred: jax.Array
    sharp: jax.Array
    noise: jax.Array
    shot: jax.Array
    linear: jax.Array


def camera_pair(
    key: jax.Array,
    x: jax.Array,
    kernel: jax.Array,
    noise: jax.typing.ArrayLike,
    boundary: str,
) -> ImagePair:
    """Degrades a photograph as a camera may have: the protocol `"camera"`.

    Args:
      key: PRNG key.
      x: `(H, W, C)` in [0, 1], as a file holds it.
      kernel: `(h, w)`, sum 1.
      noise: standard deviation of the noise at middle grey, before the file is written.
      boundary: see `blur`.

    Returns:
      The pair; its truth is the saturated scene, sometimes in linear light.
    """
    keys = jax.random.split(key, 12)
    uniform = [partial(jax.random.uniform, key, dtype=x.dtype) for key in keys]
    chance = [partial(jax.random.bernoulli, key) for key in keys]

    in_linear_light = chance[0](0.5)
    light = jnp.where(in_linear_light, x**_GAMMA, x)
    # Highlights: the brightest tenth of the range up to four times as bright.
    boost = uniform[1](maxval=3.0) * chance[2](0.7)
    light = light * (1.0 + boost * (jnp.clip(x.max(axis=-1, keepdims=True) - 0.85, 0) / 0.15) ** 2)
    exposure = jnp.where(chance[3](0.5), 1.0 + _OVEREXPOSED * uniform[4]() ** 2, 1.0)
    scene = exposure * light
    clean = blur(scene, kernel, boundary=boundary)

    # Of the variance at middle grey, this share grows with the brightness.
    share = uniform[5]() * chance[6](0.7)
    variance = jnp.asarray(noise, x.dtype) ** 2 * (
        1.0 - share + 2.0 * share * jnp.clip(clean, 0, 1)
    )
    y = clean + jnp.sqrt(variance) * jax.random.normal(keys[7], clean.shape, clean.dtype)
    y = jnp.clip(y, 0.0, 1.0)

    # The file: 8 bits, of which a dark exposure uses few; some of them JPEG.
    file = jnp.where(in_linear_light, jnp.maximum(y, 1e-6) ** (1.0 / _GAMMA), y)
    brightness = jnp.where(
        chance[8](0.2), jnp.exp(uniform[9](minval=math.log(_DARKEST), maxval=0.0)), 1.0
    )
    rounded = jnp.round(255.0 * brightness * file) / (255.0 * brightness)
    quality = uniform[10](minval=60.0, maxval=100.0)
    compressed = jpeg.compress(brightness * file, quality=quality) / brightness
    file = jnp.minimum(jnp.where(chance[11](0.4), compressed, rounded), 1.0)
    y = jnp.where(in_linear_light, file**_GAMMA, file)

    # What was added, all in all, where nothing is clipped; the share of it that is shot noise.
    seen = (clean > 0.0) & (clean < 1.0)
    count = jnp.maximum(seen.sum(axis=(0, 1)), 1)
    total = jnp.where(seen, (y - clean) ** 2, 0.0).sum(axis=(0, 1)) / count
    mean = jnp.maximum(jnp.clip(clean, 0, 1).mean(axis=(0, 1)), 0.05)
    share = share * mean / (1.0 - share + 2.0 * share * mean) * 2.0
    return ImagePair(
        y,
        jnp.clip(scene, 0.0, 1.0),
        jnp.sqrt((1.0 - share) * total),
        share * total / mean,
        in_linear_light,
    )
