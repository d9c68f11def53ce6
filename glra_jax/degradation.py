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
  that grows with brightness, exposures from dark to 1.8, saturation, 8 bits and JPEG. The truth is
  the saturated scene.

A fourth one is what a sensor that counts photons makes of light, which nothing else happens to:

* `"poisson"`: the image is blurred, photons are drawn by Poisson's distribution, Gaussian noise of
  reading out is added, and the sum is clipped. `noise` is a `glra_jax.NoiseModel`, such as
  `NoiseModel.of_sensor(full_well=5000, read_noise=3)`; a number is the standard deviation at middle
  grey of photons alone. The truth is the image as it was.

A new protocol, as another noise, is a record in that list; every program then knows it by its name.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.blurring import batched, blur, unbatched
from glra_jax.camera import ImagePair, camera_pair
from glra_jax.noise import NoiseModel, add_noise, mean_level

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
      noise_model: `noise_model(noise)` gives the model of noise that grows with brightness, of a
        level or of a model, which the protocol takes too; None for noise that is the same
        everywhere.
    """

    name: str
    sharp_target: Callable[[Any], jax.Array]
    add_noise: Callable[[jax.Array, jax.Array, Any], jax.Array]
    noise_deviation: Callable[[Any], Any]
    mean_offset: Callable[[Any], Any]
    draw_gain: Callable[[jax.Array, int], jax.Array] | None = None
    mean_gain: float = 1.0
    noise_model: Callable[[Any], NoiseModel] | None = None


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
    noise: jax.typing.ArrayLike | NoiseModel = 0.01,
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
        _check_noise(noise, record, x)
        pair = record.draw_pair(key, batched(x)[0], kernel, noise, boundary)
        blurred, sharp = (unbatched(image[None], x.ndim) for image in pair[:2])
        return pair._replace(blurred=blurred, sharp=sharp)
    blurred = degrade(key, x, kernel, protocol=protocol, noise=noise, boundary=boundary)
    if record.noise_model is None:
        model = NoiseModel(record.noise_deviation(noise))
    else:
        model = record.noise_model(noise)
    level, shot = (
        jnp.broadcast_to(jnp.asarray(part, blurred.dtype), (1 if x.ndim == 2 else x.shape[-1],))
        for part in model
    )
    return ImagePair(blurred, record.sharp_target(x), level, shot, jnp.asarray(False))


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
      `clip(1.2 x, 0, 1)` for `"paper"`, `x` itself for `"release"` and `"poisson"`.

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
      `noise` for `"paper"`, `"camera"` and `"poisson"`, there at middle grey; `noise / √12` for
      `"release"`, whose noise is uniform in [0, `noise`].

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
    noise: jax.typing.ArrayLike | NoiseModel = 0.01,
    boundary: str = "wrap",
) -> jax.Array:
    """Blurs photographs, adds noise and saturates, by a protocol (module docstring).

    Works under `jit`, `vmap`, and `grad` with respect to image and kernel; slopes of photons that
    are drawn are those of their mean.

    Args:
      key: PRNG key; the same key and image give the same result to the bit.
      x: `(H, W)`, `(H, W, C)` or `(N, H, W, C)` in [0, 1].
      kernel: blur kernel, `(h, w)`, sum 1.
      protocol: a name in `DEGRADATIONS`, as `"paper"` or `"release"`.
      noise: standard deviation (`"paper"`; at middle grey `"camera"` and `"poisson"`) or largest
        value (`"release"`) of the noise; for `"poisson"` also a `NoiseModel`, of scalars or one a
        channel. May be traced.
      boundary: see `blur`.

    Returns:
      Image in [0, 1] of the shape of `x` (smaller for `boundary="valid"`).

    Raises:
      TypeError: integer images or kernels.
      ValueError: what `blur` refuses, an unknown protocol, negative noise, or a `NoiseModel` for a
        protocol that takes none.
    """
    degradation = degradation_named(protocol)
    _check_noise(noise, degradation, x)
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


def _check_noise(
    noise: jax.typing.ArrayLike | NoiseModel, record: Degradation | DrawnDegradation, x: jax.Array
) -> None:
    """Raises what `degrade` says of the noise."""
    if not isinstance(noise, NoiseModel):
        validation.check_non_negative(noise, "noise")
        return
    if isinstance(record, DrawnDegradation) or record.noise_model is None:
        raise ValueError(
            f"noise of protocol {record.name!r} is one level, got {noise}; a NoiseModel is for "
            f'protocol "poisson"'
        )
    validation.check_array(x, "x")
    shapes = ((),) if x.ndim == 2 else ((), (x.shape[-1],))
    for name, value in noise._asdict().items():
        validation.check_non_negative(value, f"noise.{name}")
        if np.shape(value) not in shapes:
            raise ValueError(
                f"noise.{name} must be a scalar, or one for each channel of x of shape {x.shape}, "
                f"got shape {np.shape(value)}"
            )


def _brighten(x: jax.Array) -> jax.Array:
    return jnp.clip(PAPER_GAIN * x, 0.0, 1.0)


def _keep(x: jax.Array) -> jax.Array:
    return x


def _add_gaussian(key: jax.Array, y: jax.Array, noise: jax.typing.ArrayLike) -> jax.Array:
    return y + noise * jax.random.normal(key, y.shape, y.dtype)


def _add_uniform(key: jax.Array, y: jax.Array, noise: jax.typing.ArrayLike) -> jax.Array:
    return y + noise * jax.random.uniform(key, y.shape, y.dtype)


def _photons(noise: jax.typing.ArrayLike | NoiseModel) -> NoiseModel:
    """The model itself, or that of photons alone whose noise at middle grey is a number."""
    if isinstance(noise, NoiseModel):
        return noise
    return NoiseModel(0.0, 2.0 * jnp.square(noise))


def _add_poisson(
    key: jax.Array, y: jax.Array, noise: jax.typing.ArrayLike | NoiseModel
) -> jax.Array:
    return add_noise(key, y, _photons(noise))


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
    Degradation(
        "poisson",
        sharp_target=_keep,
        add_noise=_add_poisson,
        noise_deviation=mean_level,
        mean_offset=lambda noise: 0.0,
        noise_model=_photons,
    ),
)
DEGRADATIONS: dict[str, Degradation | DrawnDegradation] = {
    record.name: record for record in _RECORDS
}
