"""Pseudo-inverses for the figures: kernels to fit on, bases, and the linear restoration.

Photographs are blurred and deconvolved circularly, so that no figure shows effects of the borders.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

import glra_jax as gx
from glra_jax.kernel_families import FAMILIES


def draw_kernels(
    key: jax.Array, families: gx.KernelFamilies, *, count: int
) -> dict[str, jax.Array]:
    """Random blur kernels of each family.

    Args:
      key: PRNG key; the kernels of a family do not depend on the other families.
      families: the distribution.
      count: how many of each.

    Returns:
      By family, `(count, max_size, max_size)` float32, each of sum 1.
    """
    kernels: dict[str, jax.Array] = {}
    for family in families.families:
        keys = jax.random.split(jax.random.fold_in(key, list(FAMILIES).index(family)), count)
        alone = replace(families, families=(family,))
        kernels[family] = _draw(keys, families=alone)
    return kernels


@partial(jax.jit, static_argnames=("families",))
def _draw(keys: jax.Array, families: gx.KernelFamilies) -> jax.Array:
    return jax.vmap(partial(gx.sample_kernel, families=families))(keys)


@partial(jax.jit, static_argnames=("support",))
def invert(kernels: jax.Array, *, support: int, regularization: float) -> jax.Array:
    """Pseudo-inverses of `(n, k, k)` blur kernels, `(n, support, support)`."""
    inverse = partial(gx.pseudo_inverse, support=support, regularization=regularization)
    return jax.vmap(inverse)(kernels)


def mix(stacks: dict[str, jax.Array]) -> jax.Array:
    """Takes the same share of each family, as many in all as one family has (rounded down).

    Bases of one family and of the mixture are then fitted on equally many kernels.
    """
    share = max(1, len(next(iter(stacks.values()))) // len(stacks))
    return jnp.concatenate([stack[:share] for stack in stacks.values()])


@jax.jit
def whole_inverse(inverse: jax.Array) -> jax.Array:
    """A pseudo-inverse divided by its sum."""
    return inverse / inverse.sum()


@jax.jit
def truncated_inverse(basis: gx.Basis, inverse: jax.Array) -> jax.Array:
    """The low-rank kernel `L M Rᵀ` (eq. 8): a pseudo-inverse in a basis, divided by its sum."""
    return whole_inverse(gx.reconstruct(basis, gx.project(basis, inverse)))


@jax.jit
def blurred_photographs(
    key: jax.Array, sharp: jax.Array, kernel: jax.Array, noise: float
) -> jax.Array:
    """Brightens by 1.2, blurs, adds noise and saturates, as the paper's text has it."""
    return gx.degrade(key, sharp, kernel, protocol="paper", noise=noise, boundary="wrap")


@jax.jit
def apply_inverse(y: jax.Array, inverse: jax.Array) -> jax.Array:
    """Deconvolves photographs with an inverse of sum 1, circularly, and clips to [0, 1]."""
    return jnp.clip(gx.blur(y, inverse, boundary="wrap"), 0.0, 1.0)
