"""The contract of a baseline: its record, the checks of its inputs, and its loop over channels.

A baseline's function is `restore(y, kernel, *, noise, family, ...) -> x`. `y` is `(H, W)` or
`(H, W, C)` float32 in [0, 1]. The result has its shape, is float32, and is not clipped. Every
channel is restored independently. `noise` is the standard deviation of the noise, above 0 (a / √12
for the uniform noise in [0, a] of protocol "release"). Parameters that are left out are the tuned
ones for that noise and that family of blur kernels, see `tuned`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.baselines import boundaries
from experiments.baselines.tuned import ANY_FAMILY, Tuning
from glra_jax import validation


@dataclass(frozen=True)
class Baseline:
    """A classical method of deconvolution.

    Attributes:
      name: on the command line and in tables.
      restore: the function, see the module.
      boundaries: continuations that it offers, its default first, see `boundaries`.
      tuning: its tuned parameter.
      description: one line on what it assumes.
      reference: where it was published.
      digests: of further files that it learned from photographs: by their name in results, a
        function that computes the file's hash.
    """

    name: str
    restore: Callable[..., jax.Array]
    boundaries: tuple[str, ...]
    tuning: Tuning
    description: str
    reference: str
    digests: Mapping[str, Callable[[], str]] = field(default_factory=dict)

    def learned(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Record of what a call takes from files: tuned values by noise level, and hashes.

        Args:
          options: of the call.

        Returns:
          Plain values for results.

        Raises:
          ValueError: an unknown family.
        """
        found: dict[str, Any] = {}
        if self.tuning.parameter not in options:
            chosen = self.tuning.chosen(options.get("family", ANY_FAMILY))
            found["tuned"] = {self.tuning.parameter: chosen}
        return found | {name: digest() for name, digest in self.digests.items()}


def check_inputs(
    y: jax.Array,
    kernel: jax.Array,
    noise: jax.typing.ArrayLike,
    boundary: str,
    allowed: tuple[str, ...],
) -> None:
    """Raises unless a baseline can be run on these.

    Raises:
      TypeError: integer image or kernel.
      ValueError: an image that is not `(H, W)` or `(H, W, C)`, NaN; a kernel that is not 2-D, of a
        sum other than 1 or larger than the image; noise not above 0; a boundary not allowed.
    """
    validation.check_choice(boundary, "boundary", allowed)
    validation.check_image(y, "y")
    if np.ndim(y) == 4:
        raise ValueError(
            f"y must be (H, W) or (H, W, C), got shape {np.shape(y)}; use jax.vmap for a batch"
        )
    validation.check_kernel(kernel)
    frame = np.shape(y)[:2]
    if any(k > n for k, n in zip(np.shape(kernel), frame, strict=True)):
        raise ValueError(
            f"kernel {np.shape(kernel)} is larger than the image {frame}; crop it to its "
            f"non-zero part"
        )
    validation.check_positive(noise, "noise")


def by_channel(
    restore_channel: Callable[[jax.Array], jax.Array], y: jax.Array, *, at_once: bool = True
) -> jax.Array:
    """Applies a method for one channel to every channel of an image.

    Args:
      restore_channel: from `(H, W)` float32 to the same.
      y: `(H, W)` or `(H, W, C)`.
      at_once: all channels together, or one after the other to save memory.

    Returns:
      float32 of the shape of `y`.
    """
    y = jnp.asarray(y, jnp.float32)
    if y.ndim == 2:
        return restore_channel(y)
    channels = jnp.moveaxis(y, 2, 0)
    loop = jax.vmap(restore_channel) if at_once else partial(jax.lax.map, restore_channel)
    return jnp.moveaxis(loop(channels), 0, 2)


def restore_extended(
    restore_periodic: Callable[[jax.Array, jax.Array], jax.Array],
    y: jax.Array,
    kernel: jax.Array,
    boundary: str,
    *,
    at_once: bool = True,
) -> jax.Array:
    """Continues every channel, applies a method for periodic channels, and crops.

    Args:
      restore_periodic: from a channel and its mask of observed pixels to the restored channel.
      y: `(H, W)` or `(H, W, C)`.
      kernel: `(h, w)`.
      boundary: see `boundaries`.
      at_once: see `by_channel`.

    Returns:
      float32 of the shape of `y`.
    """
    pads = boundaries.margins(y.shape[:2], kernel.shape, boundary)
    observed = boundaries.observed_mask(y.shape[:2], pads)

    def restore_channel(channel: jax.Array) -> jax.Array:
        extended = boundaries.extend(channel, kernel, boundary=boundary)
        return boundaries.crop(restore_periodic(extended, observed), pads)

    return by_channel(restore_channel, y, at_once=at_once)
