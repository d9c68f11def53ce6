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
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from glra_jax import jpeg, spectra, validation

BOUNDARIES = ("reflect", "edge", "wrap", "valid")

PAPER_GAIN = 1.2
RELEASE_GAINS = (1.0, 1.2)

Number = TypeVar("Number", float, jax.Array)


@dataclass(frozen=True)
class Degradation:
    """A protocol by which photographs are degraded.

    The degraded image is `clip(add_noise(gain · (kernel * sharp_target(x))))`. Protocols that are
    not of that form, or whose truth is drawn too, have `draw_pair` instead of the functions.

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
      draw_pair: `draw_pair(key, x, kernel, noise, boundary)` makes an `ImagePair` of a photograph
        `(H, W, C)`, where truth and noise are drawn too; None where they are not.
    """

    name: str
    sharp_target: Callable[[Any], jax.Array]
    add_noise: Callable[[jax.Array, jax.Array, jax.typing.ArrayLike], jax.Array]
    noise_deviation: Callable[[Any], Any]
    mean_offset: Callable[[Any], Any]
    draw_gain: Callable[[jax.Array, int], jax.Array] | None = None
    mean_gain: float = 1.0
    draw_pair: Callable[..., "ImagePair"] | None = None


class ImagePair(NamedTuple):
    """A degraded photograph, its truth, and what the noise in it is.

    Attributes:
      blurred: `(H, W, C)` in [0, 1].
      sharp: `(H', W', C)` in [0, 1], what a restoration should give; larger than `blurred` where
        that was made with the boundary `"valid"`.
      noise: `(C,)`, standard deviation of the noise where the image is black.
      shot: `(C,)`, growth of the noise's variance with brightness.
    """

    blurred: jax.Array
    sharp: jax.Array
    noise: jax.Array
    shot: jax.Array


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
    if record.draw_pair is not None:
        validation.check_float(x, "x")
        validation.check_non_negative(noise, "noise")
        pair = record.draw_pair(key, batched(x)[0], kernel, noise, boundary)
        blurred, sharp = (unbatched(image[None], x.ndim) for image in pair[:2])
        return ImagePair(blurred, sharp, pair.noise, pair.shot)
    blurred = degrade(key, x, kernel, protocol=protocol, noise=noise, boundary=boundary)
    level = jnp.asarray(record.noise_deviation(noise), blurred.dtype)
    level = jnp.broadcast_to(level, (1 if x.ndim == 2 else x.shape[-1],))
    return ImagePair(blurred, record.sharp_target(x), level, jnp.zeros_like(level))


def degradation_named(name: str) -> Degradation:
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


def convolution_padding(size: int) -> tuple[int, int]:
    """Counts the pixels before and after that a true convolution with a centred kernel looks at.

    Output `i` sums `k[t] x[i + size // 2 - t]`, for `t` from 0 to `size - 1`.
    """
    return size - 1 - size // 2, size // 2


def pad_for_kernel(x: jax.Array, shape: tuple[int, ...], boundary: str) -> jax.Array:
    """Continues `(N, H, W, C)` images by what a kernel of a shape needs; `"valid"` by nothing."""
    validation.check_choice(boundary, "boundary", BOUNDARIES)
    if boundary == "valid":
        return x
    pads = [convolution_padding(size) for size in shape]
    return jnp.pad(x, [(0, 0), *pads, (0, 0)], mode=boundary)


def batched(x: jax.Array) -> jax.Array:
    """Views `(H, W)`, `(H, W, C)` or `(N, H, W, C)` as the last."""
    if x.ndim == 2:
        return x[None, :, :, None]
    return x[None] if x.ndim == 3 else x


def unbatched(x: jax.Array, ndim: int) -> jax.Array:
    """Undoes `batched`."""
    if ndim == 2:
        return x[0, :, :, 0]
    return x[0] if ndim == 3 else x


def blur(x: jax.Array, kernel: jax.Array, *, boundary: str = "wrap") -> jax.Array:
    """Convolves images with a blur kernel, through FFTs.

    Args:
      x: `(H, W)`, `(H, W, C)` or `(N, H, W, C)`.
      kernel: `(h, w)`, sum 1, not larger than the image.
      boundary: how the image goes on outside: `"wrap"` (as in the released data), `"reflect"`,
        `"edge"`; or `"valid"`, where only pixels that need nothing from outside are given back.

    Returns:
      Array of the shape of `x`, `h - 1` and `w - 1` smaller for `"valid"`.

    Raises:
      TypeError: integer images or kernels.
      ValueError: what `check_image` and `check_kernel` refuse, or a kernel larger than the image.
    """
    validation.check_image(x, "x")
    validation.check_kernel(kernel)
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    rank, dtype = x.ndim, x.dtype
    # FFTs know no half precision.
    x = batched(x).astype(jnp.promote_types(dtype, jnp.float32))
    if kernel.shape[0] > x.shape[1] or kernel.shape[1] > x.shape[2]:
        raise ValueError(f"kernel {kernel.shape} is larger than the image {x.shape[1:3]}")
    x = pad_for_kernel(x, kernel.shape, boundary)
    out = spectra.convolve_valid(x, kernel.astype(x.dtype))
    return unbatched(out, rank).astype(dtype)


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
    if degradation.draw_pair is not None:
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
      `noise` for `"paper"`; `noise / √12` for `"release"`, whose noise is uniform in [0, `noise`].

    Raises:
      ValueError: unknown protocol.
    """
    return degradation_named(protocol).noise_deviation(noise)


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
    if degradation.draw_pair is not None:
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


# Of the light in a scene: files hold its power by 1 / 2.2.
_GAMMA = 2.2
_DARKEST = 1.0 / 64.0


def _camera_pair(
    key: jax.Array,
    x: jax.Array,
    kernel: jax.Array,
    noise: jax.typing.ArrayLike,
    boundary: str,
) -> ImagePair:
    keys = jax.random.split(key, 12)
    uniform = [partial(jax.random.uniform, key, dtype=x.dtype) for key in keys]
    chance = [partial(jax.random.bernoulli, key) for key in keys]

    in_linear_light = chance[0](0.5)
    light = jnp.where(in_linear_light, x**_GAMMA, x)
    # Highlights: the brightest tenth of the range up to four times as bright.
    boost = uniform[1](maxval=3.0) * chance[2](0.7)
    light = light * (1.0 + boost * (jnp.clip(x.max(axis=-1, keepdims=True) - 0.85, 0) / 0.15) ** 2)
    exposure = jnp.where(chance[3](0.5), uniform[4](minval=1.0, maxval=1.2), 1.0)
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
    compressed = jpeg.compress(file, quality=quality)
    file = jnp.where(chance[11](0.4), compressed, rounded)
    y = jnp.where(in_linear_light, file**_GAMMA, file)

    # What was added, all in all, where nothing is clipped; the share of it that is shot noise.
    seen = (clean > 0.0) & (clean < 1.0)
    count = jnp.maximum(seen.sum(axis=(0, 1)), 1)
    total = jnp.where(seen, (y - clean) ** 2, 0.0).sum(axis=(0, 1)) / count
    mean = jnp.maximum(jnp.clip(clean, 0, 1).mean(axis=(0, 1)), 0.05)
    share = share * mean / (1.0 - share + 2.0 * share * mean) * 2.0
    return ImagePair(
        y, jnp.clip(scene, 0.0, 1.0), jnp.sqrt((1.0 - share) * total), share * total / mean
    )


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
    Degradation(
        "camera",
        sharp_target=_keep,
        add_noise=_add_gaussian,
        noise_deviation=lambda noise: noise,
        mean_offset=lambda noise: 0.0 * noise,
        draw_pair=_camera_pair,
    ),
)
DEGRADATIONS: dict[str, Degradation] = {record.name: record for record in _RECORDS}
