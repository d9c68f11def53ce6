"""Model files: saved, loaded, and found by name.

A model file is one safetensors file, readable from JAX, NumPy and PyTorch. It holds the arrays
`constants.<name>` and `params.<layer>.<name>`, and in the header's metadata the name of the
architecture and its configuration as JSON.
"""

import dataclasses
import json
import os
from dataclasses import asdict
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from glra_jax.atomic_files import write_atomically
from glra_jax.input_files import check_is_file
from glra_jax.inverses import Inverse
from glra_jax.model import Model, abstract_model
from glra_jax.networks import Architecture, Glra, architecture_named
from glra_jax.safetensors_files import digest, to_bytes

DEFAULT_MODEL = "unrolled"
# Whose basis and inverse the linear restoration takes where none is named.
LINEAR_MODEL = "glra"

_FORMAT = "glra_jax-model-3"
_DIGEST = "sha256"  # of the arrays, in the metadata; files of earlier versions lack it
_DTYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
# Formats 1 and 2 are of the faithful network alone, with `basis.left` and `basis.right`. The noise
# weight of format 1 was one of the regularisation.
_FORMER = ("glra_jax-model-1", "glra_jax-model-2")


def configuration(architecture: Architecture) -> dict[str, Any]:
    """Record of an architecture in files: its name and its fields, as JSON knows them."""
    return {"architecture": architecture.name, **asdict(architecture)}


def architecture_from(name: str, fields: dict[str, Any]) -> Architecture:
    """The architecture of a name with fields as they come from JSON.

    Raises:
      ValueError: an unknown name or field, or a value that does not do.
      TypeError: a value of another type.
    """
    found: Architecture = _from_fields(architecture_named(name), fields)
    return found


def _from_fields(kind: Any, values: dict[str, Any]) -> Any:
    """A dataclass of plain values and of dataclasses of them."""
    known = get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(values.keys() - names):
        raise ValueError(f"{kind.__name__} has no field {unknown[0]!r}")
    found = {}
    for name, value in values.items():
        inner = known[name]
        if dataclasses.is_dataclass(inner) and isinstance(value, dict):
            value = _from_fields(inner, value)
        found[name] = tuple(value) if isinstance(value, list) else value
    return kind(**found)


def named_arrays(tree: Any) -> dict[str, Any]:
    """Leaves by their path, such as `params.vertical.kernel`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def unflatten_named(like: Any, arrays: dict[str, Any]) -> Any:
    """Undoes `named_arrays` for a tree of the structure of `like`; KeyError if one is missing."""
    leaves = [arrays[name] for name in named_arrays(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def save_model(
    model: Model,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    half_precision: bool = False,
) -> None:
    """Writes a model to one safetensors file.

    Args:
      model: what to write.
      path: file name, usually with the suffix `.safetensors`.
      overwrite: whether an existing file may be replaced.
      half_precision: whether weights are rounded to float16, which halves the file; they are
        float32 again when it is loaded.

    Raises:
      FileExistsError: the file exists and `overwrite` is False.
      ValueError: weights that `load_model` would refuse, NaN or infinite; too large for float16
        among them.
    """
    config = configuration(model.architecture)
    name = config.pop("architecture")
    metadata = {"format": _FORMAT, "architecture": name, "config": json.dumps(config)}
    arrays = {name: np.asarray(value) for name, value in named_arrays(_parts(model)).items()}
    if half_precision:
        arrays = {
            name: value.astype(np.float16) if name.startswith("params.") else value
            for name, value in arrays.items()
        }
    metadata[_DIGEST] = digest(arrays)
    if faults := _not_finite(arrays):
        raise ValueError(f"{path} is not written: " + "; ".join(faults))
    write_atomically(Path(path), to_bytes(arrays, metadata), overwrite=overwrite)


def _parts(model: Model) -> dict[str, Any]:
    return {"constants": model.constants, "params": model.params}


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


@cache
def linear_model() -> Model:
    """The model whose basis the linear restoration takes where none is named, read once."""
    with jax.ensure_compile_time_eval():
        return load_model(LINEAR_MODEL)


def load_model(path_or_name: str | os.PathLike[str]) -> Model:
    """Reads a model from a file, or by name one that comes with the package.

    Args:
      path_or_name: a name of `available_models()`, as a string; or the path of a file written by
        `save_model`.

    Returns:
      The model, arrays on the default device.

    Raises:
      FileNotFoundError: neither a file nor a known name.
      IsADirectoryError: a folder.
      ValueError: a truncated file, one of another kind, or one whose arrays do not fit its own
        configuration (all that are wrong are listed).
    """
    path = model_file(path_or_name)
    check_is_file(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            dtypes = {n: str(file.get_slice(n).get_dtype()) for n in file.keys()}  # noqa: SIM118
            # Of other dtypes some have none in NumPy.
            arrays = {n: file.get_tensor(n) for n, kind in dtypes.items() if kind in _DTYPES}
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); it may be truncated: copy it again"
        ) from error
    if metadata.get("format") not in (_FORMAT, *_FORMER):
        raise ValueError(
            f"{path} is a safetensors file but not a glra_jax model "
            f"(format {metadata.get('format')!r}, expected {_FORMAT!r})"
        )
    if others := [f"{name} is {kind}" for name, kind in dtypes.items() if kind not in _DTYPES]:
        raise ValueError(
            f"{path} holds numbers that no model has: " + "; ".join(others) + "; save it anew"
        )
    try:
        _check_numbers(json.loads(metadata["config"]), largest=path.stat().st_size)
        architecture = _architecture_of(metadata)
        expected = _parts(abstract_model(architecture))
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{path} has an unreadable configuration: {error}") from error
    written = digest(arrays)
    if metadata["format"] in _FORMER:
        arrays = {
            f"constants.{name.removeprefix('basis.')}" if name.startswith("basis.") else name: array
            for name, array in arrays.items()
        }
    _check_arrays(path, arrays, named_arrays(expected))
    if metadata.get(_DIGEST, written) != written:
        raise ValueError(
            f"{path} is damaged: its arrays are not those that were written; copy it again"
        )
    arrays = {
        name: value.astype(np.float32) if value.dtype == np.float16 else value
        for name, value in arrays.items()
    }
    parts = unflatten_named(expected, {name: jnp.asarray(value) for name, value in arrays.items()})
    return Model(architecture, parts["constants"], parts["params"])


def _architecture_of(metadata: dict[str, str]) -> Architecture:
    values = dict(json.loads(metadata["config"]))
    if metadata["format"] not in _FORMER:
        return architecture_from(metadata["architecture"], values)
    if metadata["format"] == _FORMER[0] and values.get("noise_weight", 0.0) > 0:
        raise ValueError(
            f"a noise weight of {values['noise_weight']} in a file of the first format, where it "
            f"meant something else; train the model again"
        )
    sizes = {name: values[name] for name in ("support", "rank", "features") if name in values}
    strengths = ("regularization", "noise_weight", "core")
    inverse = Inverse(**{name: values[name] for name in strengths if name in values})
    return Glra(**sizes, inverse=inverse)


def _check_numbers(values: Any, *, largest: int) -> None:
    """Raises for sizes that no arrays of the file can have: finding shapes would take for ever."""
    if isinstance(values, int) and abs(values) > largest:
        raise ValueError(f"a number has {len(str(values))} digits, and the file {largest} bytes")
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            _check_numbers(value, largest=largest)


def _not_finite(arrays: dict[str, np.ndarray]) -> list[str]:
    return [
        f"{name} holds NaN or infinite values"
        for name, value in arrays.items()
        if jnp.issubdtype(value.dtype, jnp.floating) and not np.isfinite(value).all()
    ]


def _check_arrays(
    path: Path, arrays: dict[str, np.ndarray], expected: dict[str, jax.ShapeDtypeStruct]
) -> None:
    faults = [
        f"missing {name} {like.shape}" for name, like in expected.items() if name not in arrays
    ]
    faults += [f"unknown {name}" for name in arrays if name not in expected]
    faults += [
        f"{name} is {arrays[name].dtype}{arrays[name].shape}, expected {like.dtype}{like.shape}"
        for name, like in expected.items()
        if name in arrays
        and (arrays[name].shape != like.shape or arrays[name].dtype not in (like.dtype, np.float16))
    ]
    faults += _not_finite(arrays)
    if faults:
        raise ValueError(
            f"{path} does not hold the model that it says it holds: " + "; ".join(faults)
        )
