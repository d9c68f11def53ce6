"""The constants of a training run, such as a basis: fitted once, kept on disk by their inputs."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from glra_jax.atomic_files import write_atomically
from glra_jax.model_files import configuration, named_arrays, unflatten_named
from glra_jax.networks.architecture import Constants
from glra_jax.safetensors_files import to_bytes
from glra_jax.training.config import TrainConfig
from glra_jax.training.step import training_constants

# Raise when a change in the library changes the constants that the same inputs give.
_VERSION = 4


def default_cache_folder() -> Path:
    """Folder for what can be computed again: `$XDG_CACHE_HOME/glra_jax`, or in `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "glra_jax"


def cached_training_constants(config: TrainConfig, folder: Path) -> Constants:
    """`training_constants`, from disk if they were fitted before from the same inputs.

    Args:
      config: of the training run; architecture, kernels, their number, noise and seed count.
      folder: of the cache, made if missing. A damaged entry is fitted again.

    Returns:
      The constants.
    """
    inputs = {
        "version": _VERSION,
        "jax": jax.__version__,
        "backend": jax.default_backend(),
        "architecture": configuration(config.architecture),
        "kernels": asdict(config.kernels),
        "count": config.basis_kernels,
        "noise": [config.protocols[0], *config.noise],
        "seed": config.seed,
    }
    name = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:24]
    path = folder / f"constants-{name}.safetensors"
    expected = config.architecture.abstract_constants()
    try:
        found = safetensors.numpy.load(path.read_bytes())
        arrays = {name: jnp.asarray(value) for name, value in found.items()}
        constants = unflatten_named(expected, arrays)
    except (FileNotFoundError, KeyError, safetensors.SafetensorError):
        constants = training_constants(config)
    else:
        return constants
    folder.mkdir(parents=True, exist_ok=True)
    data = {name: np.asarray(value) for name, value in named_arrays(constants).items()}
    write_atomically(path, to_bytes(data), overwrite=True)
    return constants
