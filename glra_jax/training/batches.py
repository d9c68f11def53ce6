"""The input pipeline: training examples made from photographs inside `jit`.

Crop, mirror, blur kernel, pseudo-inverse, core, blur, noise and saturation are one pure function of
a key, so that a batch depends on `(seed, step)` alone: nothing of it needs saving, and an
accelerator never waits for the host.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from glra_jax.cores import deconvolution_core
from glra_jax.datasets.planes import Planes, random_patch
from glra_jax.degradation import degrade, noise_deviation, sharp_target
from glra_jax.kernel_families import KernelFamilies, sample_kernel
from glra_jax.lowrank import Basis
from glra_jax.noise import smoothness_for


class Batch(NamedTuple):
    """Training examples.

    Attributes:
      blurred: `(N, patch, patch, 1)` in [0, 1], what the network sees.
      core: `(N, m, m)`, cores of the blur kernels.
      sharp: `(N, patch - support + 1, patch - support + 1, 1)`, what it should give.
    """

    blurred: jax.Array
    core: jax.Array
    sharp: jax.Array


def batch_key(seed: int, step: jax.typing.ArrayLike) -> jax.Array:
    """The key of one step's batch."""
    return jax.random.fold_in(jax.random.key(seed), step)


def make_batch(
    key: jax.Array,
    planes: Planes,
    basis: Basis,
    *,
    size: int,
    patch: int,
    families: KernelFamilies,
    protocol: str,
    noise: tuple[float, float],
    core: str = "projection",
    regularization: float,
    noise_weight: float = 0.0,
) -> Batch:
    """Makes the training examples of one step.

    Args:
      key: PRNG key, see `batch_key`.
      planes: photographs, every side at least `patch + families.max_size - 1`.
      basis: in which the cores are computed.
      size: number of examples.
      patch: side of the blurred patches.
      families: distribution of blur kernels.
      protocol: see `glra_jax.degradation`.
      noise: range from which each example's noise level is drawn evenly.
      core: see `glra_jax.cores.deconvolution_core`.
      regularization: of the pseudo-inverse.
      noise_weight: see `glra_jax.noise.smoothness_for`.

    Returns:
      The batch.
    """
    support = basis.left.shape[0]
    # Blurring with `valid` borders leaves just the patch, of which the network restores the middle.
    margin = families.max_size // 2 + support - 1 - support // 2
    target = patch - support + 1

    def example(key: jax.Array) -> Batch:
        patch_key, kernel_key, noise_key, degrade_key = jax.random.split(key, 4)
        photograph = random_patch(patch_key, planes, patch + families.max_size - 1)
        kernel = sample_kernel(kernel_key, families)
        level = jax.random.uniform(noise_key, (), jnp.float32, noise[0], noise[1])
        blurred = degrade(
            degrade_key, photograph, kernel, protocol=protocol, noise=level, boundary="valid"
        )
        sharp = sharp_target(photograph, protocol=protocol)
        sharp = sharp[margin : margin + target, margin : margin + target]
        smoothness = smoothness_for(
            noise_deviation(level, protocol=protocol), noise_weight=noise_weight
        )
        found = deconvolution_core(
            basis, kernel, core=core, regularization=regularization, smoothness=smoothness
        )
        return Batch(blurred[..., None], found, sharp[..., None])

    return jax.vmap(example)(jax.random.split(key, size))
