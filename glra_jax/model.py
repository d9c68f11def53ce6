"""A model: basis, weights and what must be known to use them, as one pytree; load and save.

A model file is one safetensors file, readable from JAX, NumPy and PyTorch, with the arrays
`basis.left`, `basis.right` and `params.<layer>.<kernel|bias>`, and the configuration as JSON in
the header's metadata.
"""

import json
import numbers
import os
from dataclasses import asdict, dataclass, fields
from functools import cache, partial
from importlib import resources
from pathlib import Path

import jax
import numpy as np
import safetensors
import safetensors.numpy

from glra_jax import validation
from glra_jax.atomic_files import write_atomically
from glra_jax.cores import CORES, Core
from glra_jax.lowrank import Basis
from glra_jax.networks.glra import DeconvNet, Params
from glra_jax.networks.initialization import init_params

DEFAULT_MODEL = "glra"

_FORMAT = "glra_jax-model-2"
_FORMER = "glra_jax-model-1"  # its noise weight was one of the regularisation


@dataclass(frozen=True)
class ModelConfig:
    """What is static in a model.

    Attributes:
      support: side of the pseudo-inverse kernels, `d`.
      rank: columns of the bases, `m`.
      features: maps between layers 4 and 6.
      regularization: of the pseudo-inverse without noise, as in training.
      noise_weight: of the noise level's square in its smoothness, see
        `glra_jax.noise.smoothness_for`.
      core: how cores are computed when restoring, see `glra_jax.cores.deconvolution_core`.
    """

    support: int = 151
    rank: int = 50
    features: int = 128
    regularization: float = 0.01
    noise_weight: float = 0.0
    core: Core = "projection"

    def __post_init__(self) -> None:
        for name in ("support", "rank", "features"):
            validation.check_size(getattr(self, name), name)
        for name in ("regularization", "noise_weight"):
            if not isinstance(getattr(self, name), numbers.Real):
                raise TypeError(f"{name} must be a number, got {getattr(self, name)!r}")
            object.__setattr__(self, name, float(getattr(self, name)))
        validation.check_positive(self.regularization, "regularization")
        validation.check_non_negative(self.noise_weight, "noise_weight")
        validation.check_choice(self.core, "core", CORES)
        if self.rank > self.support:
            raise ValueError(f"rank {self.rank} is above the support {self.support}")


@partial(jax.tree_util.register_dataclass, data_fields=("basis", "params"), meta_fields=("config",))
@dataclass(frozen=True)
class Model:
    """A network with its basis: what `deconvolve` needs. A pytree; `config` is static.

    Attributes:
      basis: the low-rank basis in which cores are computed.
      params: weights of the network.
      config: sizes and regularisation.
    """

    basis: Basis
    params: Params
    config: ModelConfig

    def network(self, *, method: str = "auto") -> DeconvNet:
        """The Flax module that `params` belong to."""
        config = self.config
        return DeconvNet(config.support, config.rank, config.features, method=method)


def initial_model(
    key: jax.Array,
    basis: Basis,
    *,
    start: str = "identity",
    features: int = 128,
    regularization: float = 0.01,
    noise_weight: float = 0.0,
    core: Core = "projection",
) -> Model:
    """An untrained model; with the default start it restores by eq. 8 of the paper.

    Args:
      key: PRNG key.
      basis: from `fit_glra`.
      start: see `glra_jax.networks.initialization`.
      features: maps between layers 4 and 6.
      regularization: of the pseudo-inverse.
      noise_weight: see `ModelConfig`.
      core: see `ModelConfig`.

    Returns:
      A model.
    """
    support, rank = basis.left.shape
    params = init_params(key, basis, start=start, features=features)
    config = ModelConfig(support, rank, features, regularization, noise_weight, core)
    return Model(basis, params, config)


def _flatten(model: Model) -> dict[str, np.ndarray]:
    arrays = {"basis.left": model.basis.left, "basis.right": model.basis.right}
    for layer, weights in model.params.items():
        for name, value in weights.items():
            arrays[f"params.{layer}.{name}"] = value
    return {name: np.asarray(value) for name, value in arrays.items()}


def _expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    d, m, f = config.support, config.rank, config.features
    kernels = {
        "vertical": (d, 1, 1, m),
        "core": None,
        "horizontal": (1, d, m, m),
        "refine_1": (15, 15, m, f),
        "refine_2": (1, 1, f, f),
        "refine_3": (7, 7, f, 1),
    }
    shapes: dict[str, tuple[int, ...]] = {"basis.left": (d, m), "basis.right": (d, m)}
    for layer, shape in kernels.items():
        shapes[f"params.{layer}.bias"] = (m,) if shape is None else (shape[3],)
        if shape is not None:
            shapes[f"params.{layer}.kernel"] = shape
    return shapes


def save_model(model: Model, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes a model to one safetensors file.

    Args:
      model: what to write.
      path: file name, usually with the suffix `.safetensors`.
      overwrite: whether an existing file may be replaced.

    Raises:
      FileExistsError: the file exists and `overwrite` is False.
    """
    metadata = {"format": _FORMAT, "config": json.dumps(asdict(model.config))}
    data = safetensors.numpy.save(_flatten(model), metadata=metadata)
    write_atomically(Path(path), data, overwrite=overwrite)


def available_models() -> list[str]:
    """Names of the models that come with the package.

    Returns:
      What `load_model` takes besides paths, sorted.
    """
    weights = resources.files("glra_jax") / "weights"
    if not weights.is_dir():
        return []
    names = (entry.name for entry in weights.iterdir())
    return sorted(n.removesuffix(".safetensors") for n in names if n.endswith(".safetensors"))


def model_file(path_or_name: str | os.PathLike[str]) -> Path:
    """File that `load_model` reads: one that comes with the package, if a string is its name.

    Raises:
      FileNotFoundError: neither a known name nor a file.
      IsADirectoryError: a folder.
    """
    name, shipped = str(path_or_name), available_models()
    if isinstance(path_or_name, str) and name in shipped:
        return Path(str(resources.files("glra_jax") / "weights" / f"{name}.safetensors"))
    path = Path(path_or_name)
    if not path.exists():
        raise FileNotFoundError(
            f"no model file {name!r}, and the models that come with the package are: "
            f"{', '.join(shipped) or 'none'}"
        )
    if path.is_dir():
        raise IsADirectoryError(f"{name} is a folder; give the file in it")
    return path


@cache
def default_model() -> Model:
    """The model that is used where none is named, read once."""
    with jax.ensure_compile_time_eval():  # arrays, also where the first call is traced
        return load_model(DEFAULT_MODEL)


def load_model(path_or_name: str | os.PathLike[str]) -> Model:
    """Reads a model from a file, or by name one that comes with the package.

    Args:
      path_or_name: a name of `available_models()`, as a string; or the path of a file written by
        `save_model`.

    Returns:
      The model, float32 arrays on the default device.

    Raises:
      FileNotFoundError: neither a file nor a known name.
      IsADirectoryError: a folder.
      ValueError: a truncated file, one of another kind, or one whose arrays do not fit its own
        configuration (all that are wrong are listed).
    """
    path = model_file(path_or_name)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); it may be truncated: copy it again"
        ) from error
    if metadata.get("format") not in (_FORMAT, _FORMER):
        raise ValueError(
            f"{path} is a safetensors file but not a glra_jax model "
            f"(format {metadata.get('format')!r}, expected {_FORMAT!r})"
        )
    try:
        raw = dict(json.loads(metadata["config"]))
        known = {field.name for field in fields(ModelConfig)}
        config = ModelConfig(**{key: value for key, value in raw.items() if key in known})
        if metadata["format"] == _FORMER and config.noise_weight > 0:
            raise ValueError(
                f"a noise weight of {config.noise_weight} in a file of the former format, where it "
                f"meant something else; train the model again"
            )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has an unreadable configuration: {error}") from error
    _check_arrays(path, arrays, config)
    params: dict[str, dict[str, jax.Array]] = {}
    for name, value in arrays.items():
        if name.startswith("params."):
            _, layer, weight = name.split(".")
            params.setdefault(layer, {})[weight] = jax.numpy.asarray(value)
    basis = Basis(jax.numpy.asarray(arrays["basis.left"]), jax.numpy.asarray(arrays["basis.right"]))
    return Model(basis, params, config)


def _check_arrays(path: Path, arrays: dict[str, np.ndarray], config: ModelConfig) -> None:
    expected = _expected_shapes(config)
    faults = [f"missing {name} {shape}" for name, shape in expected.items() if name not in arrays]
    faults += [f"unknown {name}" for name in arrays if name not in expected]
    faults += [
        f"{name} is {arrays[name].dtype}{arrays[name].shape}, expected float32{shape}"
        for name, shape in expected.items()
        if name in arrays and (arrays[name].shape != shape or arrays[name].dtype != np.float32)
    ]
    faults += [
        f"{name} holds NaN or infinite values"
        for name, value in arrays.items()
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all()
    ]
    if faults:
        raise ValueError(
            f"{path} does not hold the model that it says it holds: " + "; ".join(faults)
        )
