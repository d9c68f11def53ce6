"""Parts that networks on a generalized low-rank approximation share: basis, cores, geometry."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glra_jax import validation
from glra_jax.blurring import convolution_padding
from glra_jax.cores import deconvolution_core, unscaled_core
from glra_jax.glra import fit_glra
from glra_jax.inverses import Inverse, sample_inverses
from glra_jax.kernel_families import KernelFamilies
from glra_jax.lowrank import Basis, dc_gain, reconstruct
from glra_jax.networks.architecture import Architecture, Margins
from glra_jax.networks.data_step import DataStep, StepFilters

# Layers 4 and 6 pad their maps with 7 and 3 zeros; a pixel so far inside does not see them.
HALO = 10
# A basis that keeps less of the mean brightness does not hold the inverse of the blur kernel.
_SMALLEST_GAIN = 0.1


class CoreCondition(NamedTuple):
    """Condition of a low-rank network: the core of a blur kernel.

    Attributes:
      unscaled: `(..., m, m)`, the core before it is divided by its DC gain.
      gain: `(...)`, that DC gain, near 1 where the basis holds the inverse.
      step: filters of the step back to the data; None without one.
    """

    unscaled: jax.Array
    gain: jax.Array
    step: StepFilters | None = None

    @property
    def core(self) -> jax.Array:
        """`(..., m, m)`, of DC gain 1: the network's second layer."""
        return self.unscaled / self.gain[..., None, None]


@dataclass(frozen=True)
class LowRank(Architecture):
    """Base of the networks on a low-rank basis.

    Attributes:
      support: side of the pseudo-inverse kernels in pixels, `d`.
      rank: columns of the bases, `m`.
      features: maps between layers 4 and 6.
      inverse: how blur kernels are inverted.
      data_step: step back to the data behind the network, by a low-rank inverse of its basis.
    """

    support: int = 151
    rank: int = 50
    features: int = 128
    inverse: Inverse = field(default_factory=Inverse)
    data_step: DataStep = field(default_factory=DataStep)

    def __post_init__(self) -> None:
        for name in ("support", "rank", "features"):
            validation.check_size(getattr(self, name), name)
        if not isinstance(self.inverse, Inverse):
            raise TypeError(f"inverse must be a glra_jax.Inverse, got {self.inverse!r}")
        self.inverse.check_values()
        if not isinstance(self.data_step, DataStep):
            raise TypeError(f"data_step must be a glra_jax.DataStep, got {self.data_step!r}")
        for name in ("regularization", "noise_weight"):  # they are static here, and go into files
            value = getattr(self.inverse, name)
            if not isinstance(value, float):
                raise TypeError(f"{name} of an architecture must be a float, got {value!r}")
        if self.rank > self.support:
            raise ValueError(f"rank {self.rank} is above the support {self.support}")

    def margins(self, kernel: tuple[int, int]) -> Margins:
        """Half the support on each side."""
        del kernel
        return (convolution_padding(self.support),) * 2

    @property
    def halo(self) -> int:
        """The reach of layers 4 and 6."""
        return HALO

    @property
    def largest_kernel(self) -> int:
        """The support."""
        return self.support

    def abstract_constants(self) -> Basis:
        """The basis, `(d, m)` twice."""
        side: Any = jax.ShapeDtypeStruct((self.support, self.rank), jnp.float32)
        return Basis(side, side)

    def fit_constants(
        self,
        key: jax.Array,
        families: KernelFamilies,
        *,
        count: int,
        noise: tuple[float, float],
    ) -> Basis:
        """The basis that GLRA finds for the inverses of random blur kernels."""
        inverses = sample_inverses(
            key, families, count=count, support=self.support, inverse=self.inverse, noise=noise
        )
        return fit_glra(inverses, rank=self.rank)[0]

    @property
    def default_inverse(self) -> Inverse:
        """The model's own."""
        return self.inverse

    def check_adopted(self, other: "LowRank", sizes: tuple[str, ...]) -> None:
        """Raises ValueError unless a model to start from has the same of these sizes."""
        for size in sizes:
            found, wanted = getattr(other, size), getattr(self, size)
            if found != wanted:
                raise ValueError(
                    f"the initial model has {size} {found}, and the run {wanted}; give the run "
                    f"--architecture.{size} {found}, or another model"
                )

    def chosen(self, inverse: Inverse | None) -> Inverse:
        """The inverse that is given, or the model's own."""
        return self.inverse if inverse is None else inverse

    def uses_noise(self, inverse: Inverse | None) -> bool:
        """Tells whether a noise weight is not 0 (or not known)."""
        weights = self.chosen(inverse).noise_weight, self.data_step.noise_weight
        return any(not validation.is_known(weight) or float(weight) > 0 for weight in weights)

    def condition(
        self,
        constants: Basis,
        kernel: jax.Array,
        *,
        noise: jax.typing.ArrayLike,
        inverse: Inverse | None = None,
    ) -> CoreCondition:
        """The core of a blur kernel, and the filters of a step back to the data."""
        unscaled = unscaled_core(constants, kernel, inverse=self.chosen(inverse), noise=noise)
        step = self._step(constants, kernel, noise) if self.data_step else None
        return CoreCondition(unscaled, dc_gain(constants, unscaled), step)

    def _step(self, basis: Basis, kernel: jax.Array, noise: jax.typing.ArrayLike) -> StepFilters:
        strength = self.data_step.regularization, self.data_step.noise_weight
        inverse = Inverse(*strength, core="least-squares")
        core = deconvolution_core(basis, kernel, inverse=inverse, noise=noise)
        return StepFilters(jnp.asarray(kernel, jnp.float32), reconstruct(basis, core))

    def step_filters(self, condition: CoreCondition) -> StepFilters | None:
        """Those of `data_step`."""
        return condition.step

    def check_condition(self, condition: CoreCondition, kernel: jax.Array) -> None:
        """Raises ValueError where the basis does not hold the inverse of the blur kernel."""
        gain = float(condition.gain)
        if not (math.isfinite(gain) and gain >= _SMALLEST_GAIN):
            raise ValueError(
                f"the model's basis of rank {self.rank} does not hold the pseudo-inverse of this "
                f"kernel of shape {kernel.shape}: it would turn 1 into {gain:.3g}; centre the "
                f"kernel, take a larger regularisation, or fit a basis on kernels like it"
            )
