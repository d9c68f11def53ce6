"""The input pipeline: training examples made from photographs inside `jit`.

Crop, mirror, blur kernel, what the network is told of it, blur, noise and saturation are one pure
function of a key, so that a batch depends on `(seed, step)` alone: nothing of it needs saving, and
an accelerator never waits for the host. Where photographs are more than memory holds, the host cuts
the squares (see `glra_jax.datasets.streaming`), and the rest is the same.
"""

from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from glra_jax.blurring import convolution_padding
from glra_jax.camera import ImagePair
from glra_jax.datasets.packing import PackedPhotographs, random_patch, turned
from glra_jax.degradation import degraded_pair
from glra_jax.kernel_families import sample_kernel
from glra_jax.networks.architecture import Condition, Constants, image_facts
from glra_jax.noise import NoiseModel, mean_level
from glra_jax.noise_behind_blur import estimate_noise_behind_blur
from glra_jax.training.config import TrainConfig
from glra_jax.training.wrong_kernels import wrong_size

# All photographs, to cut squares from; or a square an example, uint8 `(N, crop, crop, channels)`.
Photographs: TypeAlias = PackedPhotographs | jax.Array


class Batch(NamedTuple):
    """Training examples.

    Attributes:
      blurred: `(N, patch, patch, C)` in [0, 1], what the network sees.
      condition: what it is told of the blur kernels and the noise, a leading axis of N.
      sharp: `(N, H, W, C)`, what it should give: the patch less the network's margins.
      inside: `(N, patch, patch, 1)`, 1 in the frame and 0 outside, where the blurred patch goes on
        as at the frame's edge.
      linear: `(N,)`, whether they are linear light.
    """

    blurred: jax.Array
    condition: Condition
    sharp: jax.Array
    inside: jax.Array
    linear: jax.Array


def batch_key(seed: int, step: jax.typing.ArrayLike) -> jax.Array:
    """The key of one step's batch."""
    return jax.random.fold_in(jax.random.key(seed), step)


def example_keys(config: TrainConfig, step: jax.typing.ArrayLike) -> jax.Array:
    """The keys of the examples of one step's batch, `(config.batch,)`."""
    return jax.random.split(batch_key(config.seed, step), config.batch)


def training_batch(
    config: TrainConfig,
    step: jax.typing.ArrayLike,
    photographs: Photographs,
    constants: Constants,
) -> Batch:
    """The batch of a step of a run: a pure function of the configuration's seed and the step."""
    return make_batch(batch_key(config.seed, step), config, photographs, constants)


def make_batch(
    key: jax.Array, config: TrainConfig, photographs: Photographs, constants: Constants
) -> Batch:
    """Makes the training examples of one step.

    Args:
      key: PRNG key, see `batch_key`.
      config: of the run.
      photographs: every side at least `config.crop`; as many channels as the network takes
        together. Or the squares of the examples themselves, cut from photographs on the host: uint8
        `(config.batch, config.crop, config.crop, channels)`.
      constants: of the network.

    Returns:
      The batch.
    """
    return make_examples(jax.random.split(key, config.batch), config, photographs, constants)


def make_examples(
    keys: jax.Array, config: TrainConfig, photographs: Photographs, constants: Constants
) -> Batch:
    """Makes training examples, each from a key of its own and by one of the protocols in turn.

    Any part of a batch's keys that begins at a multiple of the number of protocols thus gives the
    same examples as the whole batch has there.

    Args:
      keys: PRNG keys `(N,)`, see `example_keys`; N a multiple of the number of protocols.
      config: of the run.
      photographs: as for `make_batch`; squares are N.
      constants: of the network.

    Returns:
      N examples.

    Raises:
      ValueError: squares of another shape or dtype.
    """
    architecture, families = config.architecture, config.kernels
    # Blurring with `valid` borders leaves just the patch, of which the network restores the middle.
    blurred_margin = convolution_padding(families.max_size)[0]
    (top, _), (left, _) = config.margins
    rows, columns = (
        slice(blurred_margin + margin, blurred_margin + margin + size)
        for margin, size in zip((top, left), config.restored, strict=True)
    )

    squares = None if isinstance(photographs, PackedPhotographs) else photographs
    if squares is not None:
        expected = (*keys.shape, config.crop, config.crop, max(architecture.joint_channels))
        if squares.shape != expected or squares.dtype != jnp.uint8:
            raise ValueError(
                f"squares of the examples must be uint8 {expected}, got {squares.dtype} "
                f"{squares.shape}"
            )

    def example(key: jax.Array, square: Any, protocol: str) -> Batch:
        patch_key, kernel_key, noise_key, degrade_key = jax.random.split(key, 4)
        told_key, grey_key, frame_key = jax.random.split(jax.random.fold_in(key, 1), 3)
        if isinstance(photographs, PackedPhotographs):
            photograph = random_patch(patch_key, photographs, config.crop)
        else:
            photograph = turned(patch_key, square)
        if config.grey:
            grey = jax.random.bernoulli(grey_key, config.grey)
            mean = photograph.mean(axis=2, keepdims=True)
            photograph = jnp.where(grey, mean, photograph)
        kernel = sample_kernel(kernel_key, families)
        low, high = config.noise
        drawn = jax.random.uniform(noise_key, (), jnp.float32)
        level = low + (high - low) * drawn**config.noise_power
        pair = degraded_pair(
            degrade_key, photograph, kernel, protocol=protocol, noise=level, boundary="valid"
        )
        blurred, sharp = pair.blurred, pair.sharp[rows, columns]
        if config.grey:  # one channel, and its noise, three times
            blurred = jnp.where(grey, blurred[..., :1], blurred)
            sharp = jnp.where(grey, sharp[..., :1], sharp)
            first = (jnp.where(grey, part[:1], part) for part in (pair.noise, pair.shot))
            pair = pair._replace(**dict(zip(("noise", "shot"), first, strict=True)))
        facts = image_facts(blurred)
        if config.wrong_kernels:
            wrong_key, error_key = jax.random.split(jax.random.fold_in(key, 2))
            is_wrong = jax.random.bernoulli(wrong_key, config.wrong_kernels)
            kernel = jnp.where(is_wrong, wrong_size(error_key, kernel), kernel)
        told = NoiseModel(*told_noise(told_key, blurred, kernel, pair, config))
        inside = jnp.ones((*blurred.shape[:2], 1), jnp.float32)
        if architecture.sees_frame:
            blurred, inside = framed(frame_key, blurred, config)
        by_image: Any = {"noise": told, "facts": facts}
        condition = architecture.condition(
            constants,
            kernel,
            **(by_image if architecture.by_image else {"noise": mean_level(told)}),
        )
        return Batch(blurred, condition, sharp, inside, pair.linear)

    count = len(config.protocols)
    parts = [
        jax.vmap(partial(example, protocol=protocol))(
            keys[index::count], None if squares is None else squares[index::count]
        )
        for index, protocol in enumerate(config.protocols)
    ]

    def taking_turns(*leaves: jax.Array) -> jax.Array:
        """One example of each protocol after the other."""
        return jnp.stack(leaves, axis=1).reshape(-1, *leaves[0].shape[1:])

    return jax.tree.map(taking_turns, *parts)


def framed(key: jax.Array, blurred: jax.Array, config: TrainConfig) -> tuple[jax.Array, jax.Array]:
    """Lets the frame of the photograph end in a patch at every other side, on the average.

    Args:
      key: PRNG key.
      blurred: `(H, W, C)`.
      config: of the run.

    Returns:
      The patch, going on outside the frame as at its edge, and `(H, W, 1)`, 1 in the frame.
    """
    halo = config.architecture.halo
    inside = jnp.ones((1, 1), jnp.float32)
    keys = jax.random.split(key, 2)
    for axis, (key, margins) in enumerate(zip(keys, config.margins, strict=True)):
        ends_key, depth_key = jax.random.split(key)
        size = blurred.shape[axis]
        depth = jnp.asarray(margins) + jax.random.randint(depth_key, (2,), 0, halo + 1)
        depth = jnp.where(jax.random.bernoulli(ends_key, shape=(2,)), depth, 0)
        place = jnp.arange(size)
        nearest = jnp.clip(place, depth[0], size - 1 - depth[1])
        blurred = jnp.take(blurred, nearest, axis=axis)
        within = (nearest == place).astype(jnp.float32)
        inside = inside * (within[:, None] if axis == 0 else within[None, :])
    return blurred, inside[..., None]


def told_noise(
    key: jax.Array, blurred: jax.Array, kernel: jax.Array, pair: ImagePair, config: TrainConfig
) -> tuple[jax.Array, jax.Array]:
    """What a network is told of the noise of an example.

    Args:
      key: PRNG key.
      blurred: `(H, W, C)` in [0, 1].
      kernel: `(h, w)` that it is told.
      pair: whose noise is the true one.
      config: which errors it has.

    Returns:
      Standard deviation where the image is black, and growth of the variance; `(C,)` each.
    """
    told = pair.noise, pair.shot
    if config.told_noise:
        wrong_key, error_key = jax.random.split(key)
        error = config.told_noise * jax.random.normal(error_key, ())
        factor = jnp.where(jax.random.bernoulli(wrong_key), jnp.exp(error), 1.0)
        told = factor * pair.noise, factor**2 * pair.shot
    if config.estimated_noise:
        is_estimated = jax.random.bernoulli(jax.random.fold_in(key, 2), config.estimated_noise)
        estimate = estimate_noise_behind_blur(blurred, kernel)
        return jnp.where(is_estimated, estimate, told[0]), jnp.where(is_estimated, 0.0, told[1])
    return told
