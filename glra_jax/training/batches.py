"""The input pipeline: training examples made from photographs inside `jit`.

Crop, mirror, blur kernel, what the network is told of it, blur, noise and saturation are one pure
function of a key, so that a batch depends on `(seed, step)` alone: nothing of it needs saving, and
an accelerator never waits for the host.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from glra_jax.datasets.packing import PackedPhotographs, random_patch
from glra_jax.degradation import convolution_padding, degrade, noise_deviation, sharp_target
from glra_jax.kernel_families import sample_kernel
from glra_jax.networks.architecture import Condition, Constants
from glra_jax.training.config import TrainConfig


class Batch(NamedTuple):
    """Training examples.

    Attributes:
      blurred: `(N, patch, patch, C)` in [0, 1], what the network sees.
      condition: what it is told of the blur kernels and the noise, a leading axis of N.
      sharp: `(N, H, W, C)`, what it should give: the patch less the network's margins.
    """

    blurred: jax.Array
    condition: Condition
    sharp: jax.Array


def batch_key(seed: int, step: jax.typing.ArrayLike) -> jax.Array:
    """The key of one step's batch."""
    return jax.random.fold_in(jax.random.key(seed), step)


def training_batch(
    config: TrainConfig,
    step: jax.typing.ArrayLike,
    photographs: PackedPhotographs,
    constants: Constants,
) -> Batch:
    """The batch of a step of a run: a pure function of the configuration's seed and the step."""
    return make_batch(batch_key(config.seed, step), config, photographs, constants)


def make_batch(
    key: jax.Array, config: TrainConfig, photographs: PackedPhotographs, constants: Constants
) -> Batch:
    """Makes the training examples of one step.

    Args:
      key: PRNG key, see `batch_key`.
      config: of the run.
      photographs: every side at least `config.crop`; as many channels as the network takes
        together.
      constants: of the network.

    Returns:
      The batch.
    """
    architecture, families = config.architecture, config.kernels
    # Blurring with `valid` borders leaves just the patch, of which the network restores the middle.
    blurred_margin = convolution_padding(families.max_size)[0]
    (top, _), (left, _) = architecture.margins
    rows, columns = (
        slice(blurred_margin + margin, blurred_margin + margin + size)
        for margin, size in zip((top, left), config.restored, strict=True)
    )

    def example(key: jax.Array) -> Batch:
        patch_key, kernel_key, noise_key, degrade_key = jax.random.split(key, 4)
        photograph = random_patch(patch_key, photographs, config.crop)
        kernel = sample_kernel(kernel_key, families)
        level = jax.random.uniform(noise_key, (), jnp.float32, *config.noise)
        blurred = degrade(
            degrade_key, photograph, kernel, protocol=config.protocol, noise=level, boundary="valid"
        )
        sharp = sharp_target(photograph, protocol=config.protocol)[rows, columns]
        condition = architecture.condition(
            constants, kernel, noise=noise_deviation(level, protocol=config.protocol)
        )
        return Batch(blurred, condition, sharp)

    return jax.vmap(example)(jax.random.split(key, config.batch))
