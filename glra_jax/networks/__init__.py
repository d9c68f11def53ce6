"""The networks, by name. A new one is one module here and one line in the registry below."""

from glra_jax import validation
from glra_jax.networks.architecture import Architecture
from glra_jax.networks.glra import Glra
from glra_jax.networks.refinement import Refinement
from glra_jax.networks.unrolled import Unrolled

ARCHITECTURES: dict[str, type[Architecture]] = {
    architecture.name: architecture for architecture in (Glra, Refinement, Unrolled)
}


def architecture_named(name: str) -> type[Architecture]:
    """Finds an architecture.

    Args:
      name: as in a model file.

    Returns:
      Its class.

    Raises:
      ValueError: an unknown name.
    """
    validation.check_choice(name, "architecture", tuple(ARCHITECTURES))
    return ARCHITECTURES[name]


__all__ = ["ARCHITECTURES", "Architecture", "Glra", "Refinement", "Unrolled", "architecture_named"]
