"""A model: an architecture with its constants and weights, as one pytree."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from glra_jax.deprecated.keywords import warn
from glra_jax.deprecated.model_config import ModelConfig, config_of, former_fields
from glra_jax.deprecated.model_keywords import initial_model_keywords
from glra_jax.lowrank import Basis
from glra_jax.networks import Architecture, Glra
from glra_jax.networks.architecture import Constants, Params
from glra_jax.networks.deconv_net import DeconvNet


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("constants", "params"),
    meta_fields=("architecture",),
)
@dataclass(frozen=True)
class Model:
    """A network ready to restore: what `deconvolve` needs. A pytree; the architecture is static.

    Attributes:
      architecture: what the network is; its fields are the configuration.
      constants: arrays that are not trained; of the faithful network, its low-rank `Basis`.
      params: weights.
    """

    architecture: Architecture
    constants: Constants
    params: Params

    @property
    def basis(self) -> Basis:
        """Deprecated: `constants`."""
        warn("Model.basis", "Model.constants")
        return self.constants

    @property
    def config(self) -> ModelConfig:
        """Deprecated: `architecture`."""
        warn("Model.config", "Model.architecture")
        return config_of(self.architecture)

    def network(self, *, method: str = "auto") -> DeconvNet:
        """Deprecated: `architecture.module()`."""
        warn("Model.network()", "Model.architecture.module()")
        if not isinstance(self.architecture, Glra):
            raise AttributeError(f"a model of {self.architecture} has no DeconvNet")
        return self.architecture.module(method=method)


Model.__init__ = former_fields(Model.__init__)  # type: ignore[method-assign]


@initial_model_keywords
def initial_model(
    key: jax.Array,
    architecture: Architecture,
    constants: Constants,
    *,
    initialization: str | None = None,
) -> Model:
    """Makes an untrained model; the faithful network starts as the linear low-rank restoration.

    Args:
      key: PRNG key.
      architecture: such as `glra_jax.networks.Glra(...)`.
      constants: what it needs besides weights; for the low-rank networks, the basis from
        `fit_glra`.
      initialization: one of `architecture.initializations`; None takes the first.

    Returns:
      A model.

    Raises:
      TypeError: `architecture` is none.
      ValueError: an unknown initialisation, or constants of another structure or shape.
    """
    if not isinstance(architecture, Architecture):
        raise TypeError(f"architecture must be one, such as Glra(), got {architecture!r}")
    name = architecture.initializations[0] if initialization is None else initialization
    architecture.check_initialization(name)
    expected = architecture.abstract_constants()
    found, wanted = (str(jax.tree.structure(tree)) for tree in (constants, expected))
    if found != wanted:
        raise ValueError(f"constants are {found}, and {architecture} needs {wanted}")
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (constants, expected)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"constants have the shapes {shapes[0]}, and {architecture} {shapes[1]}")
    params = architecture.init(key, constants, initialization=name)
    return Model(architecture, constants, params)


def abstract_model(architecture: Architecture) -> Model:
    """Shapes and dtypes of a model of an architecture, as `jax.ShapeDtypeStruct`s."""
    constants = architecture.abstract_constants()
    start = partial(architecture.init, initialization=architecture.initializations[-1])
    params = jax.eval_shape(start, jax.random.key(0), constants)
    return Model(architecture, constants, params)
