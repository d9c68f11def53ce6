"""What a network is told of a blur kernel and of an image that it is to restore."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.blurring import batched
from glra_jax.file_noise import noise_with_jpeg
from glra_jax.geometry import as_batch, goes_together, mask_as_batch
from glra_jax.inverses import Inverse
from glra_jax.masks import as_masks
from glra_jax.networks.architecture import (
    WHITE,
    Architecture,
    Condition,
    Constants,
    ImageFacts,
    image_facts,
)
from glra_jax.noise import NoiseModel, estimate_noise, mean_level, noise_level
from glra_jax.noise_behind_blur import estimate_noise_behind_blur, middle

# Of images without clipped pixels, so that none is taken for one.
_HEADROOM = 1.25


def condition_for(
    architecture: Architecture,
    constants: Constants,
    kernel: jax.Array,
    y: jax.Array | np.ndarray | None,
    *,
    noise: jax.typing.ArrayLike | NoiseModel | None,
    inverse: Inverse | None,
    mask: Any = None,
) -> Condition:
    """Computes what a network is told of a blur kernel and of the noise in an image.

    Args:
      architecture: of the network.
      constants: of the network.
      kernel: `(h, w)`.
      y: the image, which is looked at where the noise level is needed and not given.
      noise: standard deviation, a model of the noise, or None.
      inverse: in place of the architecture's own, or None.
      mask: where the image is data, see `glra_jax.masks`; None everywhere.

    Returns:
      The condition.

    Raises:
      ValueError: the network cannot restore this kernel; what `estimate_noise` refuses.
    """
    looked_at: Any = y if noise is None and architecture.uses_noise(inverse) else None
    in_numpy = isinstance(looked_at, np.ndarray) and isinstance(mask, np.ndarray | None)
    if looked_at is None:
        mask = None
    elif in_numpy:  # where nothing is compiled for the size of the image
        noise, looked_at, mask = estimate_noise(looked_at, mask=mask), None, None
    condition = _condition(
        constants, kernel, looked_at, noise, inverse, mask, architecture=architecture
    )
    if all(validation.is_known(leaf) for leaf in jax.tree.leaves(condition)):
        architecture.check_condition(condition, kernel)
    return condition


@partial(jax.jit, static_argnames="architecture")
def _condition(
    constants: Constants,
    kernel: jax.Array,
    y: jax.Array | None,
    noise: jax.typing.ArrayLike | NoiseModel | None,
    inverse: Inverse | None,
    mask: jax.Array | None,
    *,
    architecture: Architecture,
) -> Condition:
    level = noise_level(y, None if noise is None else mean_level(noise), mask=mask)
    return architecture.condition(constants, kernel, noise=level, inverse=inverse)


class Told(NamedTuple):
    """All that restoring an image needs besides a model.

    Attributes:
      condition: what the network is told, leaves with a leading axis of 1 or of the number of
        images that go through it.
      scale: `(1, 1, 1, 1)` or one for each of those images, by which they are divided.
      white: largest value of their restorations, shaped alike; infinite where nothing is clipped.
    """

    condition: Condition
    scale: jax.Array
    white: jax.Array

    def of(self, index: int) -> "Told":
        """What is told of one of the images."""
        return self.of_each([index])

    def of_each(self, indices: list[int]) -> "Told":
        """What is told of some of the images; leaves of one for all stay so."""

        def pick(leaf: jax.Array) -> jax.Array | np.ndarray:
            if leaf.shape[0] == 1:
                return leaf
            return np.asarray(leaf)[indices]  # JAX would compile a program for each index

        return Told(*jax.tree.map(pick, tuple(self)))


def told_for(
    architecture: Architecture,
    constants: Constants,
    kernel: jax.Array,
    y: jax.Array | np.ndarray,
    *,
    noise: jax.typing.ArrayLike | NoiseModel | None,
    inverse: Inverse | None,
    mask: Any = None,
    whole: tuple[np.ndarray, ImageFacts] | None = None,
) -> Told:
    """Computes all that restoring an image needs besides a model; see `condition_for`.

    Where the image is a part of a larger one, its noise stands for that of the larger, of which
    `whole` has the brightest value and the facts, of each image that goes through the network.

    The noise in an image that went through JPEG, where it is not given, is estimated with JPEG's.
    An image with a mask is one that has been filled in, see `glra_jax.masks`.
    """
    noise = noise_with_jpeg(y, kernel, noise, architecture, inverse, mask=mask)
    if architecture.by_image:
        _check_channels(noise, y)
        return _told_by_image(architecture, constants, kernel, y, noise, mask, whole)
    condition = condition_for(
        architecture, constants, kernel, y, noise=noise, inverse=inverse, mask=mask
    )
    return told_alike(condition)


def _check_channels(
    noise: jax.typing.ArrayLike | NoiseModel | None, y: jax.Array | np.ndarray
) -> None:
    """Raises ValueError for a noise of other channels than the image has."""
    channels = 1 if y.ndim == 2 else y.shape[-1]
    for value in noise if isinstance(noise, NoiseModel) else (noise,):
        if value is not None and np.ndim(value) == 1 and np.shape(value) != (channels,):
            raise ValueError(
                f"noise has {np.size(value)} levels, and y of shape {y.shape} {channels} channels; "
                f"give one level for all channels, or one for each"
            )


def told_alike(condition: Condition) -> Told:
    """The same condition for all images, none of which is scaled."""
    one = jnp.ones((1, 1, 1, 1), jnp.float32)
    return Told(jax.tree.map(lambda leaf: leaf[None], condition), one, jnp.inf * one)


def _told_by_image(
    architecture: Architecture,
    constants: Constants,
    kernel: jax.Array,
    y: Any,
    noise: jax.typing.ArrayLike | NoiseModel | None,
    mask: Any,
    whole: tuple[np.ndarray, ImageFacts] | None,
) -> Told:
    together = goes_together(y, architecture)
    images = as_batch(batched(y), together=together).astype(np.float32)  # NumPy's stay NumPy's
    known = None
    if mask is not None and noise is None:
        known = mask_as_batch(as_masks(mask), batched(y).shape[-1], together=together)
    looked_at, seen = images[:, :1, :1], None
    if noise is None:
        looked_at, seen = middle(images, known)
    brightest, facts = whole or (images.max(axis=(1, 2, 3)), image_facts(images))
    return _told_of_each(
        constants,
        kernel,
        looked_at,
        brightest,
        facts,
        noise,
        seen,
        architecture=architecture,
    )


@partial(jax.jit, static_argnames="architecture")
def _told_of_each(
    constants: Constants,
    kernel: jax.Array,
    looked_at: jax.Array,
    brightest: jax.Array,
    facts: ImageFacts,
    noise: jax.typing.ArrayLike | NoiseModel | None,
    seen: jax.Array | None,
    *,
    architecture: Architecture,
) -> Told:
    def one(
        image: jax.Array, brightest: jax.Array, facts: ImageFacts, mask: jax.Array | None
    ) -> Told:
        saturated = brightest >= WHITE
        scale = jnp.where(saturated | (not architecture.scale_free), 1.0, _HEADROOM * brightest)
        scale = jnp.where(scale > 0, scale, 1.0)
        level = estimate_noise_behind_blur(image, kernel, mask=mask) if noise is None else noise
        told = level if isinstance(level, NoiseModel) else NoiseModel(level)
        level, shot = (jnp.asarray(part, jnp.float32) for part in told)
        looked_up: Any = {"facts": facts._replace(brightness=facts.brightness / scale)}
        condition = architecture.condition(
            constants, kernel, noise=NoiseModel(level / scale, shot / scale), **looked_up
        )
        white = jnp.where(saturated, 1.0, jnp.inf)
        return Told(condition, scale[None, None, None], white[None, None, None])

    if seen is not None:
        seen = jnp.broadcast_to(seen[..., 0] > 0, looked_at.shape[:3])
    return jax.vmap(one)(looked_at, brightest, facts, seen)
