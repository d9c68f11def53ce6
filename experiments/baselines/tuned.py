"""The parameters that `experiments.baselines.tune` chose, by noise level and kernel family.

They are in `tuned.json` beside this file, with the score of every candidate.
"""

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp

from glra_jax import validation

ANY_FAMILY = "any"


@functools.cache
def tuning_record() -> dict[str, Any]:
    """Everything in `tuned.json`: how it was made, what was chosen, and all scores."""
    return json.loads(resources.files(__package__).joinpath("tuned.json").read_text("utf-8"))


def geometric_grid(first: float, ratio: float, count: int) -> tuple[float, ...]:
    """Candidates that rise by one factor, rounded to three digits."""
    return tuple(float(f"{first * ratio**step:.3g}") for step in range(count))


@dataclass(frozen=True)
class Tuning:
    """Tuned parameter of a baseline, the only one.

    Attributes:
      baseline: name of the baseline.
      parameter: keyword of its function.
      candidates: values to try, rising.
      power: beyond the tuned noise levels the parameter is proportional to `noise ** power`, as
        the method's theory has it.
    """

    baseline: str
    parameter: str
    candidates: tuple[float, ...]
    power: float = 0.0

    def chosen(self, family: str = ANY_FAMILY) -> dict[str, float]:
        """The chosen values by noise level.

        Args:
          family: kernel family they were tuned for, or `"any"` for all of them together.

        Raises:
          ValueError: a baseline or a family that was not tuned.
        """
        tuned = tuning_record()["chosen"]
        if self.baseline not in tuned:
            raise ValueError(
                f"{self.baseline} was never tuned: give its {self.parameter}, or tune it with "
                f"python -m experiments.baselines.tune --methods {self.baseline}"
            )
        validation.check_choice(family, "family", tuple(tuned[self.baseline]))
        return tuned[self.baseline][family]

    def value(self, noise: jax.typing.ArrayLike, *, family: str = ANY_FAMILY) -> jax.Array:
        """The parameter for a noise level.

        Between the tuned noise levels it is interpolated on logarithmic axes.

        Args:
          noise: standard deviation of the noise; may be traced.
          family: see `chosen`.

        Returns:
          float32 scalar.

        Raises:
          ValueError: see `chosen`.
        """
        chosen = self.chosen(family)
        levels = jnp.asarray([float(level) for level in chosen], jnp.float32)
        values = jnp.asarray(list(chosen.values()), jnp.float32)
        inside = jnp.interp(jnp.log(noise), jnp.log(levels), jnp.log(values))
        beyond = jnp.log(noise) - jnp.clip(jnp.log(noise), jnp.log(levels[0]), jnp.log(levels[-1]))
        return jnp.exp(inside + self.power * beyond)
