"""The parameters that `experiments.baselines.tune` chose, by noise level and kernel family.

They lie in `tuned.json` beside this file, with the score of every candidate.
"""

import functools
import json
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp

from glra_jax import validation
from glra_jax.kernel_families import FAMILIES

ANY_FAMILY = "any"
FAMILY_CHOICES = (ANY_FAMILY, *FAMILIES)


@functools.cache
def tuning_record() -> dict[str, Any]:
    """Everything in `tuned.json`: how it was made, what was chosen, and all scores."""
    return json.loads(resources.files(__package__).joinpath("tuned.json").read_text("utf-8"))


def tuned_parameter(
    method: str, noise: jax.typing.ArrayLike, *, family: str = ANY_FAMILY, power: float = 0.0
) -> jax.Array:
    """The tuned parameter of a method at a noise level.

    Between the noise levels that were tuned it is interpolated on logarithmic axes;
    beyond them it goes on as `noise ** power`.

    Args:
      method: a name in `BASELINES`.
      noise: standard deviation of the noise; may be traced.
      family: kernel family for which it was tuned, or `"any"` for all of them together.
      power: how the parameter ought to depend on the noise, by the method's theory.

    Returns:
      float32 scalar.

    Raises:
      ValueError: unknown family.
      KeyError: a method that was not tuned.
    """
    validation.check_choice(family, "family", FAMILY_CHOICES)
    chosen = tuning_record()["chosen"][method][family]
    levels = jnp.asarray([float(level) for level in chosen], jnp.float32)
    values = jnp.asarray(list(chosen.values()), jnp.float32)
    inside = jnp.interp(jnp.log(noise), jnp.log(levels), jnp.log(values))
    beyond = jnp.log(noise) - jnp.clip(jnp.log(noise), jnp.log(levels[0]), jnp.log(levels[-1]))
    return jnp.exp(inside + power * beyond)
