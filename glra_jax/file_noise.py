"""Strength of the noise in what comes from a file: as estimated, and what JPEG leaves."""

from typing import Any

import jax
import numpy as np

from glra_jax import validation
from glra_jax.inverses import Inverse
from glra_jax.jpeg_files import pixel_noise
from glra_jax.networks.architecture import Architecture
from glra_jax.noise import NoiseModel, estimate_noise
from glra_jax.noise_behind_blur import estimate_noise_behind_blur, middle


def estimated_levels(
    y: Any, kernel: Any, architecture: Architecture, *, jpeg: float = 0.0, mask: Any = None
) -> float | np.ndarray:
    """Estimates the noise of an image as a network is told it.

    Args:
      y: `(H, W)` or `(H, W, C)` float in [0, 1], known.
      kernel: `(h, w)`, sum 1.
      architecture: of the network.
      jpeg: standard deviation of what JPEG left; the result is not less.
      mask: `(H, W)`, where the image is data, see `glra_jax.masks`; None everywhere.

    Returns:
      One standard deviation, or one for each of the channels that the network takes together.
    """
    if not architecture.by_image:
        known: Any = None if mask is None else np.asarray(mask)
        pixels: Any = np.asarray(y)  # JAX would compile a program for every size
        return max(float(estimate_noise(pixels, mask=known)), jpeg)
    known = None if mask is None else np.asarray(mask)[None, ..., None]
    pixels, known = middle(np.atleast_3d(np.asarray(y))[None], known)
    seen = None if known is None else known[0, ..., 0]
    estimate = jax.jit(estimate_noise_behind_blur)
    levels = np.maximum(np.asarray(estimate(pixels[0], kernel, mask=seen)), jpeg)
    together = levels.size in architecture.joint_channels
    return levels if levels.size > 1 and together else float(levels.max())


def noise_with_jpeg(
    y: Any,
    kernel: Any,
    noise: "jax.typing.ArrayLike | NoiseModel | None",
    architecture: Architecture,
    inverse: Inverse | None,
    *,
    mask: Any = None,
) -> "jax.typing.ArrayLike | NoiseModel | None":
    """The noise that is given; or, of one image that went through JPEG, estimated with that.

    JPEG has removed fine detail and its noise alike, so that estimates from fine detail see next to
    none. None, to be estimated as ever, for all other images, for batches, and while tracing.
    """
    known = all(validation.is_known(part) for part in (y, kernel, mask))
    needed = architecture.uses_noise(inverse)
    if noise is not None or not known or not needed or y.ndim == 4:
        return noise
    jpeg = pixel_noise(y, mask=mask)
    if jpeg == 0:
        return None
    return estimated_levels(y, kernel, architecture, jpeg=jpeg, mask=mask)
