"""The faithful network of Ren et al. 2018 as an architecture."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from glra_jax.correlation.correlate import prepare_filters
from glra_jax.lowrank import Basis
from glra_jax.networks.architecture import Architecture, Constants, Params
from glra_jax.networks.deconv_net import DeconvNet
from glra_jax.networks.initialization import (
    INITIALIZATIONS,
    PASSING,
    check_initialization,
    init_params,
    undo_brightness,
)
from glra_jax.networks.layers import PREPARED
from glra_jax.networks.low_rank import CoreCondition, LowRank
from glra_jax.networks.tying import untie

_prepare_filters = jax.jit(prepare_filters, static_argnames=("images", "padding", "method"))


@dataclass(frozen=True)
class Glra(LowRank):
    """Three linear layers around the core of the blur kernel, and three that refine; `DeconvNet`.

    Attributes:
      support: side of the pseudo-inverse kernels in pixels, `d`.
      rank: columns of the bases, `m`.
      features: maps between layers 4 and 6.
      inverse: how blur kernels are inverted.
      data_step: step back to the data behind the network, by a low-rank inverse of its basis.
    """

    name: ClassVar[str] = "glra"
    initializations: ClassVar[tuple[str, ...]] = INITIALIZATIONS
    # Adam moves every weight by about the learning rate, so that a layer's output moves by the rate
    # times the number of products that it sums: 7,550 in layer 3, 11,250 in layer 4, 128 in layer
    # 5, 6,272 in layer 6. Layers 1 to 3 hold orthonormal filters besides, which must not be lost.
    layer_rates: ClassVar[Mapping[str, float]] = {
        "vertical": 3e-4,
        "core": 3e-4,
        "horizontal": 3e-4,
        "refine_1": 3e-4,
        "refine_2": 3e-3,
        "refine_3": 5e-4,
    }

    def module(self, *, method: str = "auto") -> DeconvNet:
        """The Flax module that the params belong to."""
        return DeconvNet(self.support, self.rank, self.features, method=method)

    def check_initialization(self, name: str) -> None:
        """Raises ValueError for an unknown initialisation, or too few features for it."""
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
        """Starts as `glra_jax.networks.initialization` says."""
        params = init_params(key, constants, initialization=initialization, features=self.features)
        if initialization in PASSING and (gain, offset) != (1.0, 0.0):
            params = undo_brightness(params, gain=gain, offset=offset)
        return params

    def adopt(
        self, other: Architecture, constants: Constants, params: Params
    ) -> tuple[Basis | None, Params]:
        """From a model of the same sizes with its own basis, of all layers or of layers 4 to 6."""
        if not isinstance(other, LowRank):
            return super().adopt(other, constants, params)
        self.check_adopted(other, ("support", "rank", "features"))
        if not isinstance(other, Glra):
            linear = init_params(
                jax.random.key(0), constants, initialization="identity", features=self.features
            )
            params = untie(params, linear)
        return constants, params

    def prepare(self, params: Params, images: tuple[int, int, int], *, method: str) -> Any:
        """Transforms the filters once, where they are applied through DFTs."""
        count, height, width = images
        inner = height - self.support + 1, width - self.support + 1
        shapes = {
            "vertical": (count, height, width),
            "horizontal": (count, inner[0], width),
            "refine_1": (count, *inner),
            "refine_3": (count, *inner),
        }
        pads = {"refine_1": 7, "refine_3": 3}
        prepared = {}
        for layer, shape in shapes.items():
            filters = _prepare_filters(
                params[layer]["kernel"],
                images=shape,
                padding=pads.get(layer, "valid"),
                method=method,
            )
            if filters is not None:
                prepared[layer] = {"kernel": filters}
        return prepared

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
        """Applies the six layers."""
        del constants  # its vectors stand in the weights of layers 1 and 3
        core = jnp.broadcast_to(condition.core, (y.shape[0], self.rank, self.rank))
        variables = {"params": params} | ({PREPARED: prepared} if prepared else {})
        restored = self.module(method=method).apply(variables, y, core)
        assert isinstance(restored, jax.Array)
        return restored
