"""Makes a model that restores untrained: eq. 8 of the paper and local cosine shrinkage."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import jax
import tyro

import glra_jax as gx
from glra_jax.basis_cache import cached_training_basis, default_cache_folder
from glra_jax.training_config import TrainConfig


@dataclass(frozen=True)
class StartModelOptions:
    """Fits a basis and writes the network's starting weights as a model file.

    Attributes:
      output: File to write, .safetensors.
      config: What the model depends on.
    """

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: TrainConfig(start="shrinkage", rank=75, basis_kernels=600)
    )


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    options = tyro.cli(StartModelOptions, args=arguments, prog="python -m experiments.start_model")
    config = options.config
    basis = cached_training_basis(config, default_cache_folder())
    model = gx.initial_model(
        jax.random.key(config.seed),
        basis,
        start=config.start,
        features=config.features,
        regularization=config.regularization,
        noise_weight=config.noise_weight,
        penalty=config.penalty,
    )
    try:
        gx.save_model(model, options.output)
    except OSError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{options.output}: written")


if __name__ == "__main__":
    main()
