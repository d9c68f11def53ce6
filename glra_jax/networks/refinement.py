"""Layers 4 to 6 alone, on the linear restoration: a cheap way to train most of the network.

With one image going in in place of `m` maps a step costs a fraction, and the gradients are those of
a small and well-conditioned network. What is trained so can be continued as the faithful network
(`Glra.adopt`), or restore as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import jax

from glra_jax.lowrank import Basis, reconstruct
from glra_jax.networks.architecture import Architecture, Constants, Params
from glra_jax.networks.glra import Glra
from glra_jax.networks.initialization import PASSING, check_initialization
from glra_jax.networks.layers import Correlate
from glra_jax.networks.low_rank import CoreCondition, LowRank
from glra_jax.networks.tying import tie
from glra_jax.spectra import convolve_valid


class RefinementNet(nn.Module):
    """Layers 4 to 6 of `DeconvNet` with one map going in.

    Attributes:
      features: number of maps between the layers.
      method: of computing the correlations, see `glra_jax.correlate`.
    """

    features: int = 128
    method: str = "auto"

    def setup(self) -> None:
        """Names the layers."""
        self.refine_1 = Correlate(self.features, (15, 15), 7, method=self.method)
        self.refine_2 = Correlate(self.features, (1, 1), method=self.method)
        self.refine_3 = Correlate(1, (7, 7), 3, method=self.method)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `(N, H, W, 1)` to the same shape, in (0, 1)."""
        x = nn.leaky_relu(self.refine_1(x), 0.2)
        x = nn.leaky_relu(self.refine_2(x), 0.2)
        return nn.sigmoid(self.refine_3(x))


@dataclass(frozen=True)
class Refinement(LowRank):
    """The linear low-rank restoration, and layers 4 to 6 of the faithful network behind it.

    Attributes:
      support: side of the pseudo-inverse kernels in pixels, `d`.
      rank: columns of the bases, `m`.
      features: maps between layers 4 and 6.
      inverse: how blur kernels are inverted.
      data_step: step back to the data behind the network, by a low-rank inverse of its basis.
    """

    name: ClassVar[str] = "refinement"
    initializations: ClassVar[tuple[str, ...]] = PASSING
    # The layers sum 225, 128 and 6,272 products.
    layer_rates: ClassVar[Mapping[str, float]] = {"refine_1": 0.3, "refine_2": 1.0, "refine_3": 0.3}

    def check_initialization(self, name: str) -> None:
        """Raises ValueError for an unknown initialisation, or too few features for it."""
        super().check_initialization(name)
        check_initialization(name, self.features)

    def init(
        self,
        key: jax.Array,
        constants: Basis,
        *,
        initialization: str,
        gain: float = 1.0,
        offset: float = 0.0,
    ) -> Params:
        """Layers 4 to 6 of the faithful network's start, tied."""
        whole = Glra(self.support, self.rank, self.features, self.inverse)
        return tie(
            whole.init(key, constants, initialization=initialization, gain=gain, offset=offset)
        )

    def adopt(
        self, other: Architecture, constants: Constants, params: Params
    ) -> tuple[Basis | None, Params]:
        """From layers 4 to 6 of a model of as many features; they do not depend on the basis."""
        if not isinstance(other, LowRank):
            return super().adopt(other, constants, params)
        self.check_adopted(other, ("features",))
        return None, tie(params)

    def apply(
        self,
        params: Params,
        constants: Basis,
        y: jax.Array,
        condition: CoreCondition,
        *,
        prepared: Any = None,
        method: str = "auto",
    ) -> jax.Array:
        """Restores linearly and refines."""
        del prepared  # there is nothing to prepare
        linear = low_rank_restoration(y, condition.core, constants)
        restored = RefinementNet(self.features, method).apply({"params": params}, linear)
        assert isinstance(restored, jax.Array)
        return restored


def low_rank_restoration(y: jax.Array, core: jax.Array, basis: Basis) -> jax.Array:
    """The linear restoration (Ren et al. 2018, eq. 8) where nothing outside the images is needed.

    Args:
      y: `(N, H, W, C)`, each side at least the support `d`.
      core: `(N, m, m)`, or `(1, m, m)` for all images alike.
      basis: `(d, m)`.

    Returns:
      `(N, H - d + 1, W - d + 1, C)`.
    """
    return convolve_valid(y, reconstruct(basis, core))
