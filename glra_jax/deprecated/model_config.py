"""`ModelConfig` of version 0.1: what an architecture of the faithful network is now."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from glra_jax.deprecated.keywords import warn
from glra_jax.inverses import Core, Inverse
from glra_jax.networks.glra import Glra


@dataclass(frozen=True)
class ModelConfig:
    """What was static in a model of version 0.1; use `glra_jax.Glra`.

    Attributes:
      support: see `glra_jax.networks.Glra`.
      rank: see `glra_jax.networks.Glra`.
      features: see `glra_jax.networks.Glra`.
      regularization: see `glra_jax.Inverse`.
      noise_weight: see `glra_jax.Inverse`.
      core: see `glra_jax.Inverse`.
    """

    support: int = 151
    rank: int = 50
    features: int = 128
    regularization: float = 0.01
    noise_weight: float = 0.0
    core: Core = "projection"

    def __post_init__(self) -> None:
        _architecture(self)  # raises what is wrong


def _architecture(config: ModelConfig) -> Glra:
    inverse = Inverse(config.regularization, config.noise_weight, config.core)
    return Glra(config.support, config.rank, config.features, inverse)


def config_of(architecture: Any) -> ModelConfig:
    """The former configuration of the faithful network."""
    if not isinstance(architecture, Glra):
        raise AttributeError(f"a model of {architecture} has no config; see its architecture")
    inverse = architecture.inverse
    return ModelConfig(
        architecture.support,
        architecture.rank,
        architecture.features,
        inverse.regularization,
        inverse.noise_weight,
        inverse.core,
    )


def former_fields(init: Callable[..., None]) -> Callable[..., None]:
    """Lets `Model` be made of `basis`, `params` and `config`, as in version 0.1."""

    @wraps(init)
    def wrapper(self: Any, *args: Any, **fields: Any) -> None:
        if "config" in fields or (len(args) == 3 and isinstance(args[2], ModelConfig)):
            args, fields = (), dict(zip(("basis", "params", "config"), args, strict=False)) | fields
        if fields.keys() & {"basis", "config"}:
            warn("Model(basis, params, config)", "Model(architecture, constants, params)")
        if "basis" in fields:
            fields["constants"] = fields.pop("basis")
        if "config" in fields:
            fields["architecture"] = _architecture(fields.pop("config"))
        init(self, *args, **fields)

    return wrapper
