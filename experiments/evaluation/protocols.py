"""How photographs are degraded for an evaluation, and what is scored of their restorations.

The protocols of `glra_jax.degradation` blur circularly and clip. `PROTOCOLS` lists others:

* `"valid"`, that of published scoreboards: what the blur needs beyond the frame is cut off, so that
  nobody knows it. Gaussian noise is added to floats, and values below 0 and above 1 stay.
  Restorations are clipped and rounded to 8 bits; 30 pixels on each side do not count. See Schmidt,
  Roth, "Shrinkage Fields for Effective Image Restoration", CVPR 2014, and Kruse, Rother, Schmidt,
  "Learning to Push the Limits of Efficient FFT-based Image Deconvolution", ICCV 2017.
* `"circular"`, that of scoreboards whose blur wraps around: nothing is lost at the borders, and
  methods may know that. Noise and outputs as with `"valid"`. See Zhang, Li, Zuo, Zhang, Van Gool,
  Timofte, "Plug-and-Play Image Restoration with Deep Denoiser Prior", TPAMI 2021.
* `"camera-file"`, what a camera stores of a shaken photograph, see `experiments.evaluation.camera`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments.evaluation.camera import make_camera_file
from experiments.evaluation.cases import Case, as_floats, valid_part
from glra_jax import validation
from glra_jax.blurring import blur
from glra_jax.degradation import (
    DEGRADATIONS,
    Degradation,
    degradation_named,
    degraded_pair,
    noise_deviation,
)

Borders = Literal["crop", "full"]


@dataclass(frozen=True)
class Protocol:
    """A protocol of an evaluation.

    Attributes:
      name: on the command line and in results.
      make: `make(name, pixels, kernel, key, noise=)` makes the case of a photograph, integer
        pixels, and a kernel; with `camera=` in place of `noise=` where noise is a camera's.
      noise_deviation: gives the standard deviation of noise of a level; None where noise is a
        camera's and differs from image to image.
      valid: whether the blurred photograph is smaller than the sharp one, by what the blur needs.
      borders: what is scored if nothing is said.
      margin: pixels that are left out on each side if nothing is said and not all is scored.
      note: on what is scored, for the tables.
    """

    name: str
    make: Callable[..., Case]
    noise_deviation: Callable[[float], float] | None
    valid: bool = False
    borders: Borders = "crop"
    margin: int = 75
    note: str = ""

    def blurred_shape(
        self, shape: tuple[int, ...], kernel_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Shape of the blurred photograph; 0 where the kernel leaves nothing."""
        if not self.valid:
            return shape
        sides = (max(size - taken + 1, 0) for size, taken in zip(shape, kernel_shape, strict=False))
        return (*sides, *shape[2:])


def protocol_named(name: str) -> Protocol:
    """Looks up a protocol.

    Args:
      name: one in `glra_jax.degradation.DEGRADATIONS` or `PROTOCOLS`.

    Returns:
      Its record.

    Raises:
      ValueError: unknown name.
    """
    validation.check_choice(name, "protocol", (*DEGRADATIONS, *PROTOCOLS))
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    return Protocol(
        name, partial(_make_circular, protocol=name), partial(noise_deviation, protocol=name)
    )


def round_to_8_bits(image: np.ndarray) -> np.ndarray:
    """Clips an image and rounds it to the levels of an 8-bit file."""
    return np.round(255.0 * np.clip(image, 0.0, 1.0)) / np.float32(255.0)


_degrade = jax.jit(degraded_pair, static_argnames=("protocol",))


def _make_circular(
    name: str,
    pixels: np.ndarray,
    kernel: np.ndarray,
    key: jax.Array,
    *,
    protocol: str,
    noise: float,
) -> Case:
    x = as_floats(pixels)
    pair = _degrade(key, x, kernel, protocol=protocol, noise=noise)
    record = degradation_named(protocol)
    draw_gain = record.draw_gain if isinstance(record, Degradation) else None
    gain = None if draw_gain is None else float(draw_gain(key, 1)[0])
    return Case(name, np.asarray(pair.blurred), np.asarray(pair.sharp), kernel, gain)


def _make_unclipped(
    name: str,
    pixels: np.ndarray,
    kernel: np.ndarray,
    key: jax.Array,
    *,
    noise: float,
    boundary: str,
) -> Case:
    x = as_floats(pixels)
    y = blur(jnp.asarray(x), jnp.asarray(kernel), boundary=boundary)
    y = y + noise * jax.random.normal(key, y.shape, y.dtype)
    sharp = valid_part(x, kernel.shape) if boundary == "valid" else x
    return Case(name, np.asarray(y), sharp, kernel, None, finish=round_to_8_bits)


_RECORDS = (
    Protocol(
        "valid",
        make=partial(_make_unclipped, boundary="valid"),
        noise_deviation=lambda noise: noise,
        valid=True,
        margin=30,
        note="The blurred images end at their borders and are not clipped, and every output is "
        "rounded to 8 bits.",
    ),
    Protocol(
        "circular",
        make=partial(_make_unclipped, boundary="wrap"),
        noise_deviation=lambda noise: noise,
        borders="full",
        note="The blurred images are not clipped, and every output is rounded to 8 bits.",
    ),
    Protocol(
        "camera-file",
        make=make_camera_file,
        noise_deviation=None,
        valid=True,
        borders="full",
        note="The blurred images end at their borders, were blurred in linear light and are 8-bit "
        "sRGB, as are the scores. Methods that are told the noise are told that of each image.",
    ),
)
PROTOCOLS: dict[str, Protocol] = {record.name: record for record in _RECORDS}
