"""Blurring photographs: the degradation model `y = c(k * x) + n`.

Images are float32 in [0, 1], `(H, W)`, `(H, W, C)` or `(N, H, W, C)`. `DEGRADATIONS` lists the
protocols: what the blurred image is made of and what a restored one is compared with. Two of them,
because the paper's text and its released data differ:

* `"paper"`, the text: the sharp image is brightened by 1.2 and clipped; it is blurred, Gaussian
  noise is added, and the sum is clipped. The truth to compare with is the brightened image.
* `"release"`, as measured on the released BSD100 set: the image is blurred, multiplied by a factor
  drawn uniformly from [1, 1.2], noise uniform in [0, `noise`] is added, and the sum is clipped. The
  truth is the image as it was, so that nobody can know the factor.

A third one is what photographs from cameras have gone through, each to another degree:

* `"camera"`: highlights brighter than white, blur in linear light or in that of the file, noise
  that grows with brightness, exposures from dark to 1.2, saturation, 8 bits and JPEG. The truth is
  the saturated scene.

A new protocol, as another noise, is a record in that list; every program then knows it by its name.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from glra_jax import validation
from glra_jax.blurring import batched, blur, unbatched
from glra_jax.camera import ImagePair, camera_pair

PAPER_GAIN = 1.2
RELEASE_GAINS = (1.0, 1.2)

Number = TypeVar("Number", float, jax.Array)


@dataclass(frozen=True)
class Degradation:
    """A protocol by which photographs are degraded.

    The degraded image is `clip(add_noise(gain · (kernel * sharp_target(x))))`.

    Attributes:
      name: By which programs and `degrade` know it.
      sharp_target: `sharp_target(x)` gives the truth, which is blurred, of a photograph.
      add_noise: `add_noise(key, y, noise)` adds noise of a level to a blurred image; the level may
        be traced.
      noise_deviation: `noise_deviation(noise)` gives the standard deviation of noise of a level.
      mean_offset: `mean_offset(noise)` gives its mean.
      draw_gain: `draw_gain(key, count)` draws the unknown brightness factors of `count` images from
        the key that `degrade` is given; None where there are none.
      mean_gain: The mean of those factors.
    """

    name: str
    sharp_target: Callable[[Any], jax.Array]
    add_noise: Callable[[jax.Array, jax.Array, jax.typing.ArrayLike], jax.Array]
    noise_deviation: Callable[[Any], Any]
    mean_offset: Callable[[Any], Any]
    draw_gain: Callable[[jax.Array, int], jax.Array] | None = None
    mean_gain: float = 1.0


@dataclass(frozen=True)
class DrawnDegradation:
    """A protocol of any form, whose truth and noise are drawn too.

    Attributes:
      name: By which programs and `degrade` know it.
      draw_pair: `draw_pair(key, x, kernel, noise, boundary)` makes an `ImagePair` of a photograph
        `(H, W, C)`; the standard deviation of its noise is about `noise`.
    """

    name: str
    draw_pair: Callable[..., ImagePair]


def degraded_pair(
    key: jax.Array,
    x: jax.Array,
    kernel: jax.Array,
    *,
    protocol: str = "paper",
    noise: jax.typing.ArrayLike = 0.01,
    boundary: str = "wrap",
) -> ImagePair:
    """Degrades a photograph, and says what became of it; see `degrade`.

    Args:
      key: see `degrade`.
      x: `(H, W)` or `(H, W, C)` in [0, 1].
      kernel: see `degrade`.
      protocol: see `degrade`.
      noise: see `degrade`.
      boundary: see `degrade`.

    Returns:
      The pair, images of the rank of `x`.

    Raises:
      TypeError: as `degrade`.
      ValueError: as `degrade`.
    """
    record = degradation_named(protocol)
    if isinstance(record, DrawnDegradation):
        validation.check_float(x, "x")
        validation.check_non_negative(noise, "noise")
        pair = record.draw_pair(key, batched(x)[0], kernel, noise, boundary)
        blurred, sharp = (unbatched(image[None], x.ndim) for image in pair[:2])
        return pair._replace(blurred=blurred, sharp=sharp)
    blurred = degrade(key, x, kernel, protocol=protocol, noise=noise, boundary=boundary)
    level = jnp.asarray(record.noise_deviation(noise), blurred.dtype)
    level = jnp.broadcast_to(level, (1 if x.ndim == 2 else x.shape[-1],))
    return ImagePair(
        blurred, record.sharp_target(x), level, jnp.zeros_like(level), jnp.asarray(False)
    )


def degradation_named(name: str) -> Degradation | DrawnDegradation:
    """Looks up a protocol.

    Args:
      name: one in `DEGRADATIONS`.

    Returns:
      Its record.

    Raises:
      ValueError: unknown name.
    """
    validation.check_choice(name, "protocol", tuple(DEGRADATIONS))
    return DEGRADATIONS[name]


def sharp_target(x: jax.Array, *, protocol: str = "paper") -> jax.Array:
    """Makes the truth that a restored image is compared with under a protocol.

    Args:
      x: photograph in [0, 1].
      protocol: a name in `DEGRADATIONS`, as `"paper"` or `"release"`.

    Returns:
      `clip(1.2 x, 0, 1)` for `"paper"`, `x` itself for `"release"`.

    Raises:
      TypeError: integer images.
      ValueError: unknown protocol, or one whose truth is drawn, as `"camera"`.
    """
    validation.check_float(x, "x")
    degradation = degradation_named(protocol)
    if isinstance(degradation, DrawnDegradation):
        raise ValueError(f"the truth of protocol {protocol!r} is drawn; see degraded_pair")
    return degradation.sharp_target(x)


def release_gain(key: jax.Array, count: int) -> jax.Array:
    """Draws the unknown brightness factors of `degrade` with protocol `"release"`.

    Args:
      key: the key handed to `degrade`.
      count: number of images in the batch, 1 for a single image.

    Returns:
      `(count,)` float32, uniform in [1, 1.2].
    """
    low, high = RELEASE_GAINS
    return jax.random.uniform(jax.random.fold_in(key, 0), (count,), minval=low, maxval=high)


def noise_deviation(noise: Number, *, protocol: str) -> Number:
    """Computes the standard deviation of the noise that `degrade` adds.

    Args:
      noise: as handed to `degrade`; may be traced.
      protocol: a name in `DEGRADATIONS`.

    Returns:
      `noise` for `"paper"` and `"camera"`; `noise / √12` for `"release"`, whose noise is uniform in
      [0, `noise`].

    Raises:
      ValueError: unknown protocol.
    """
    degradation = degradation_named(protocol)
    if isinstance(degradation, DrawnDegradation):
        return noise
    return degradation.noise_deviation(noise)


def degrade(
    key: jax.Array,
    x: jax.Array,
    kernel: jax.Array,
    *,
    protocol: str = "paper",
    noise: jax.typing.ArrayLike = 0.01,
    boundary: str = "wrap",
) -> jax.Array:
    """Blurs photographs, adds noise and saturates, by a protocol (module docstring).

    Args:
      key: PRNG key; the same key and image give the same result to the bit.
      x: `(H, W)`, `(H, W, C)` or `(N, H, W, C)` in [0, 1].
      kernel: blur kernel, `(h, w)`, sum 1.
      protocol: a name in `DEGRADATIONS`, as `"paper"` or `"release"`.
      noise: standard deviation (`"paper"`) or largest value (`"release"`) of the noise; may be
        traced.
      boundary: see `blur`.

    Returns:
      Image in [0, 1] of the shape of `x` (smaller for `boundary="valid"`).

    Raises:
      TypeError: integer images or kernels.
      ValueError: what `blur` refuses, an unknown protocol, or negative noise.
    """
    degradation = degradation_named(protocol)
    validation.check_non_negative(noise, "noise")
    if isinstance(degradation, DrawnDegradation):
        validation.check_image(x, "x")
        pair = partial(degraded_pair, protocol=protocol, noise=noise, boundary=boundary)
        if x.ndim < 4:
            return pair(key, x, kernel).blurred
        return jax.vmap(lambda key, x: pair(key, x, kernel).blurred)(
            jax.random.split(key, x.shape[0]), x
        )
    y = blur(sharp_target(x, protocol=protocol), kernel, boundary=boundary)
    if degradation.draw_gain is not None:
        gain = degradation.draw_gain(key, x.shape[0] if x.ndim == 4 else 1).astype(y.dtype)
        y = y * (gain[:, None, None, None] if x.ndim == 4 else gain[0])
    y = degradation.add_noise(jax.random.fold_in(key, 1), y, noise)
    return jnp.clip(y, 0.0, 1.0)


def _brighten(x: jax.Array) -> jax.Array:
    return jnp.clip(PAPER_GAIN * x, 0.0, 1.0)


def _keep(x: jax.Array) -> jax.Array:
    return x


def _add_gaussian(key: jax.Array, y: jax.Array, noise: jax.typing.ArrayLike) -> jax.Array:
    return y + noise * jax.random.normal(key, y.shape, y.dtype)


def _add_uniform(key: jax.Array, y: jax.Array, noise: jax.typing.ArrayLike) -> jax.Array:
    return y + noise * jax.random.uniform(key, y.shape, y.dtype)


_RECORDS = (
    Degradation(
        "paper",
        sharp_target=_brighten,
        add_noise=_add_gaussian,
        noise_deviation=lambda noise: noise,
        mean_offset=lambda noise: 0.0 * noise,
    ),
    Degradation(
        "release",
        sharp_target=_keep,
        add_noise=_add_uniform,
        noise_deviation=lambda noise: noise / math.sqrt(12.0),
        mean_offset=lambda noise: noise / 2,
        draw_gain=release_gain,
        mean_gain=sum(RELEASE_GAINS) / 2,
    ),
    DrawnDegradation("camera", camera_pair),
)
DEGRADATIONS: dict[str, Degradation | DrawnDegradation] = {
    record.name: record for record in _RECORDS
}
