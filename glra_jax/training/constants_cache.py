"""The constants of a training run, such as a basis: fitted once, kept on disk by their inputs."""

import hashlib
import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from glra_jax.atomic_files import write_atomically
from glra_jax.input_files import check_is_file
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
      folder: of the cache, made if missing. A damaged entry is fitted again; where nothing can be
        written, a warning says so.

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
        check_is_file(path)
        found = safetensors.numpy.load(path.read_bytes())
        _check_entry(found, named_arrays(expected))
        arrays = {name: jnp.asarray(value) for name, value in found.items()}
        return unflatten_named(expected, arrays)
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError):
        constants = training_constants(config)
    data = {name: np.asarray(value) for name, value in named_arrays(constants).items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_bytes(data), overwrite=True)
    except OSError as error:  # the run needs no cache
        warnings.warn(f"what was fitted is not kept for the next run: {error}", stacklevel=2)
    return constants


def _check_entry(found: dict[str, np.ndarray], expected: dict[str, jax.ShapeDtypeStruct]) -> None:
    """Raises ValueError unless an entry holds what a fit gives: shapes, dtypes, finite values."""
    for name, like in expected.items():
        array = found[name]
        if array.shape != like.shape or array.dtype != like.dtype:
            raise ValueError(f"{name} is {array.dtype}{array.shape}")
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinite values")
