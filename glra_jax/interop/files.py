"""Reading and writing files of PyTorch state dicts."""

import io
import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from glra_jax.atomic_files import write_atomically
from glra_jax.deprecated.model_keywords import read_inverse_keywords
from glra_jax.input_files import check_is_file
from glra_jax.interop.file_kinds import (
    PYTORCH,
    SAFETENSORS,
    kind_of,
    reason_of,
    unreadable,
)
from glra_jax.interop.pickles import check_pickles, largest_unpacked
from glra_jax.interop.state_dicts import model_from_state_dict, model_to_state_dict
from glra_jax.inverses import CORES, Inverse
from glra_jax.lowrank import Basis
from glra_jax.model import Model
from glra_jax.safetensors_files import to_bytes

TORCH_SUFFIXES = (".pt", ".pth")

_SAFE_TORCH = "2.10"  # the first whose `weights_only=True` can be relied on
_ZIP = b"PK"

# What no tensor says: how cores are computed. In the metadata of a safetensors file, as JSON.
_INVERSE_KEY = "glra_jax.inverse"

# The dtypes of safetensors files that NumPy can hold (bfloat16 by way of JAX).
_NUMPY_DTYPES = {
    *("F64", "F32", "F16", "BF16", "C64", "BOOL"),
    *("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8"),
}


@dataclass(frozen=True)
class UnreadEntry:
    """An entry of a safetensors file in a dtype that NumPy lacks, such as float8.

    Attributes:
      shape: sizes of its axes.
      dtype: as the file calls it, for instance `"F8_E4M3"`.
    """

    shape: tuple[int, ...]
    dtype: str


@read_inverse_keywords
def load_torch_model(
    path: str | os.PathLike[str],
    *,
    basis: Basis | None = None,
    inverse: Inverse | None = None,
    names: Mapping[str, str] | None = None,
) -> Model:
    """Reads a model from a file that holds a PyTorch state dict.

    Args:
      path: `.pt` or `.pth`, written by `torch.save(module.state_dict(), path)`; or `.safetensors`.
      basis: see `model_from_state_dict`.
      inverse: how cores are computed, as in training. None takes what `save_torch_model` wrote
        into a `.safetensors` file, and `Inverse()`, the paper's, for all other files: a `.pt` file
        cannot say it, so that a model of this library needs its `architecture.inverse` here.
      names: see `params_from_state_dict`.

    Returns:
      The model.

    Raises:
      ImportError: PyTorch is missing, for `.pt` and `.pth`.
      OSError: no such file, a folder, or one that may not be read.
      TypeError: `basis` or `names` of another type.
      ValueError: what `read_state_dict` and `model_from_state_dict` refuse; or a file that
        `glra_jax.save_model` wrote.
    """
    state = read_state_dict(path)
    written = _read_inverse(Path(path))
    try:
        return model_from_state_dict(
            state, basis=basis, names=names, inverse=written if inverse is None else inverse
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def save_torch_model(
    model: Model, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Writes a model's state dict (see `model_to_state_dict`) for PyTorch.

    A `.safetensors` file also says how cores are computed, in its metadata. A `.pt` or `.pth` file
    does not: give the model's inverse to `load_torch_model` when it is to come back.

    Args:
      model: what to write.
      path: `.pt` or `.pth` (for `torch.load`), or `.safetensors`.
      overwrite: whether an existing file may be replaced.

    Raises:
      FileExistsError: the file exists and `overwrite` is False.
      ImportError: PyTorch is missing, for `.pt` and `.pth`.
      TypeError: not a model.
      ValueError: another suffix; weights that could not be read back, as half precision or NaN.
    """
    path = Path(path)
    torch_file = _is_torch_file(path)
    state = model_to_state_dict(model)
    try:
        model_from_state_dict(state)
    except ValueError as error:
        raise ValueError(f"{path} is not written, it could not be read back: {error}") from error
    if torch_file:
        torch = _import_torch()
        buffer = io.BytesIO()
        torch.save({name: torch.from_numpy(array) for name, array in state.items()}, buffer)
        data = buffer.getvalue()
    else:
        inverse = model.architecture.default_inverse
        assert inverse is not None  # a model of the faithful network has one
        metadata = {"format": "pt", _INVERSE_KEY: json.dumps(asdict(inverse))}
        data = to_bytes(state, metadata)
    write_atomically(path, data, overwrite=overwrite)


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a state dict without running any code that the file may hold.

    Args:
      path: `.pt`, `.pth` or `.safetensors`.

    Returns:
      Tensors (`.pt`, `.pth`) or NumPy arrays (`.safetensors`) by name, unchecked; `UnreadEntry`
      for what NumPy has no dtype for.

    Raises:
      ImportError: PyTorch is missing, for `.pt` and `.pth`.
      OSError: no such file, a folder, or one that may not be read.
      ValueError: another suffix; a truncated or damaged file or one of another kind; a pickle that
        holds more than tensors and plain values, and would have to run code to be opened.
    """
    path = Path(path)
    torch_file = _is_torch_file(path)
    check_is_file(path)
    state = _read_torch(path) if torch_file else _read_safetensors(path)
    if not isinstance(state, Mapping):
        raise ValueError(
            f"{path} holds a {type(state).__name__}, not a state dict; save module.state_dict()"
        )
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, np.ndarray | UnreadEntry]:
    with path.open("rb") as opened:  # safetensors gives no reason why a file may not be read
        start = opened.read(512)
    state: dict[str, np.ndarray | UnreadEntry] = {}
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118
                entry = file.get_slice(name)
                dtype = str(entry.get_dtype())
                if dtype in _NUMPY_DTYPES:
                    state[name] = file.get_tensor(name)
                else:
                    state[name] = UnreadEntry(tuple(entry.get_shape()), dtype)
    except safetensors.SafetensorError as error:
        raise ValueError(unreadable(path, start, SAFETENSORS, reason_of(error))) from error
    return state


def _read_inverse(path: Path) -> Inverse:
    """Reads how cores are computed, as far as a file says; raises for glra_jax's own files."""
    if _is_torch_file(path):
        return Inverse()
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
    if metadata.get("format", "").startswith("glra_jax-model-"):
        raise ValueError(f"{path} is a file of glra_jax itself, use gx.load_model to read it")
    if _INVERSE_KEY not in metadata:
        return Inverse()
    try:
        written = dict(json.loads(metadata[_INVERSE_KEY]))
        return Inverse(
            regularization=float(written["regularization"]),
            noise_weight=float(written["noise_weight"]),
            core=written.get("core", "projection"),  # files from before there were two lack it
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} has unreadable metadata, {_INVERSE_KEY} = {metadata[_INVERSE_KEY]!r}; it "
            f"must be JSON with the numbers regularization and noise_weight, and core, one of "
            f"{CORES}"
        ) from error


def _read_torch(path: Path) -> Any:
    torch = _import_torch()
    if torch.__version__ < _SAFE_TORCH:
        raise ImportError(
            f"PyTorch {torch.__version__} may run code that a file holds even when it is told not "
            f"to (CVE-2025-32434, CVE-2026-24747): pip install 'torch>={_SAFE_TORCH}', or take a "
            f"safetensors file"
        )
    data = path.read_bytes()  # once: what is checked is what is opened
    _check_zip(path, data)
    check_pickles(path, data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, which errors name below
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes PyTorch raise almost anything
        raise ValueError(_refusal(path, data, error)) from None


class _BombError(ValueError):
    """An archive that unpacks to far more than it holds."""


def _check_zip(path: Path, data: bytes) -> None:
    """Raises for a zip archive that is cut short or damaged."""
    if not data.startswith(_ZIP):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            announced = sum(entry.file_size for entry in archive.infolist())
            if announced > largest_unpacked(len(data)):
                raise _BombError(f"it unpacks to {announced} bytes, and has {len(data)}")
            # PyTorch can be told to write no checksums, which are 0 then.
            has_checksums = any(entry.CRC for entry in archive.infolist())
            damaged = archive.testzip() if has_checksums else None
    except MemoryError:
        raise
    except _BombError as error:
        raise ValueError(f"{path} is not opened: {error}; save module.state_dict() anew") from None
    except Exception as error:  # damage makes zipfile raise almost anything
        raise ValueError(unreadable(path, data, PYTORCH, reason_of(error))) from error
    if damaged is not None:
        raise ValueError(
            f"{path} is damaged: the checksum of {damaged} in it is wrong; copy the file again"
        )


def _refusal(path: Path, data: bytes, error: Exception) -> str:
    """Says why PyTorch did not open a file."""
    # PyTorch's own text on pickles advises to load them unsafely: only the name is taken from it.
    unpickling = isinstance(error, pickle.UnpicklingError)
    named = re.search(r"GLOBAL (\S+)", str(error)) if unpickling else None
    # A name that the file breaks off in is not the one that it had.
    if named and b"\n%b\n" % named[1].rpartition(".")[2].encode() in _pickle_of(data):
        return (
            f"{path} wants to call {named[1]} when it is opened, and was refused: a pickle of more "
            f"than tensors can run any code. If it is yours, save module.state_dict() alone, or a "
            f"safetensors file"
        )
    reason = type(error).__name__ if unpickling else reason_of(error)
    if kind_of(data) == PYTORCH:
        protocol = _pickle_of(data)[1]
        if protocol > 3:
            return (
                f"{path} is pickled with protocol {protocol}, which PyTorch does not open safely: "
                f"save it without pickle_protocol"
            )
        if data.startswith(_ZIP):
            return (
                f"{path} is whole, but this PyTorch cannot open it safely ({reason}): save "
                f"module.state_dict() with torch.save once more"
            )
    return unreadable(path, data, PYTORCH, reason)


def _pickle_of(data: bytes) -> bytes:
    """Finds the pickle in a file of PyTorch's; one without tensors' values, if it is a zip."""
    if not data.startswith(_ZIP):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("data.pkl"))
        del entry.CRC  # not to be checked: PyTorch can be told to write none
        return archive.read(entry)


def _is_torch_file(path: Path) -> bool:
    """Tells whether PyTorch is needed; raises for suffixes that are not known."""
    if path.suffix not in (*TORCH_SUFFIXES, ".safetensors"):
        raise ValueError(
            f"{path} must end in one of {', '.join(TORCH_SUFFIXES)}, .safetensors, "
            f"got {path.suffix!r}"
        )
    return path.suffix in TORCH_SUFFIXES


def _import_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            ".pt and .pth files need PyTorch: pip install 'glra-jax[torch]'; .safetensors files "
            "do not"
        ) from error
    return torch
