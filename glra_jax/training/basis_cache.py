"""The starting basis of a training run, fitted once and kept on disk by its inputs."""

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
from glra_jax.lowrank import Basis
from glra_jax.training.config import TrainConfig
from glra_jax.training.step import training_basis

# Raise when a change in the library changes the basis that the same inputs give.
_VERSION = 3


def default_cache_folder() -> Path:
    """Folder for what can be computed again: `$XDG_CACHE_HOME/glra_jax`, or in `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "glra_jax"


def cached_training_basis(config: TrainConfig, folder: Path) -> Basis:
    """`training_basis`, from disk if it was fitted before from the same inputs.

    Args:
      config: of the training run; kernels, their number, support, rank, regularisation and seed
        count.
      folder: of the cache, made if missing. A damaged entry is fitted again.

    Returns:
      The basis.
    """
    inputs = {
        "version": _VERSION,
        "jax": jax.__version__,
        "backend": jax.default_backend(),
        "kernels": asdict(config.kernels),
        "count": config.basis_kernels,
        "support": config.support,
        "rank": config.rank,
        "regularization": config.regularization,
        "noise_weight": config.noise_weight,
        "noise": [config.protocol, *config.noise] if config.noise_weight else None,
        "seed": config.seed,
    }
    name = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:24]
    path = folder / f"basis-{name}.safetensors"
    try:
        arrays = safetensors.numpy.load(path.read_bytes())
        return Basis(jnp.asarray(arrays["left"]), jnp.asarray(arrays["right"]))
    except (FileNotFoundError, KeyError, safetensors.SafetensorError):
        basis = training_basis(config)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"left": np.asarray(basis.left), "right": np.asarray(basis.right)}
    write_atomically(path, safetensors.numpy.save(arrays), overwrite=True)
    return basis
