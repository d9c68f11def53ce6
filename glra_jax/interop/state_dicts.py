"""Renaming and laying out weights; the conventions are stated in `glra_jax.interop`."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax.lowrank import Basis
from glra_jax.model import Model, ModelConfig
from glra_jax.network import Params

LAYERS = ("vertical", "core", "horizontal", "refine_1", "refine_2", "refine_3")

# Sizes of each entry: numbers, or d (support), m (rank) and f (features).
_ENTRIES: dict[tuple[str, str], tuple[int | str, ...]] = {
    ("vertical", "weight"): ("m", 1, "d", 1),
    ("vertical", "bias"): ("m",),
    ("core", "bias"): ("m",),
    ("horizontal", "weight"): ("m", "m", 1, "d"),
    ("horizontal", "bias"): ("m",),
    ("refine_1", "weight"): ("f", "m", 15, 15),
    ("refine_1", "bias"): ("f",),
    ("refine_2", "weight"): ("f", "f", 1, 1),
    ("refine_2", "bias"): ("f",),
    ("refine_3", "weight"): (1, "f", 7, 7),
    ("refine_3", "bias"): (1,),
}
_BASIS = ("basis.left", "basis.right")


def params_to_state_dict(params: Params) -> dict[str, np.ndarray]:
    """Renames and lays out params, or anything of their structure (gradients), as PyTorch does.

    Args:
      params: as from `init_params`; any dtype.

    Returns:
      New NumPy arrays of the same dtype by state dict name, filters OIHW.
    """
    state = {}
    for layer, weights in params.items():
        for name, value in weights.items():
            array = np.asarray(value)
            if name == "kernel":
                array = array.transpose(3, 2, 0, 1)
            entry = f"{layer}.{'weight' if name == 'kernel' else name}"
            state[entry] = np.array(array, order="C")  # a copy, which PyTorch may write to
    return state


def params_from_state_dict(
    state_dict: Mapping[str, Any], *, names: Mapping[str, str] | None = None
) -> dict[str, dict[str, jax.Array]]:
    """Undoes `params_to_state_dict`. Support, rank and features follow from the entries.

    Args:
      state_dict: PyTorch tensors (on any device) or NumPy arrays by name, float32.
      names: what the state dict calls each of `LAYERS`, where it has names of its own; for
        instance `{"vertical": "conv0", ...}`. None: as they are called here.

    Returns:
      Params, float32.

    Raises:
      TypeError: not a state dict.
      ValueError: entries that are missing, unknown, of another shape or dtype, sparse, without
        values (PyTorch's device `meta`), or hold NaN; all of them are listed.
    """
    _check_mapping(state_dict)
    names = _checked_names(names)
    faults, _ = _faults_of_weights(state_dict, names)
    if faults:
        raise ValueError("the weights do not fit the network: " + "; ".join(faults))
    return _laid_out(state_dict, names)


def _laid_out(
    state_dict: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, dict[str, jax.Array]]:
    """Params from entries without faults."""
    params: dict[str, dict[str, jax.Array]] = {layer: {} for layer in LAYERS}
    for layer, kind in _ENTRIES:
        array = _to_numpy(state_dict[f"{names[layer]}.{kind}"])
        if kind == "weight":
            array = array.transpose(2, 3, 1, 0)
        params[layer]["kernel" if kind == "weight" else kind] = jnp.asarray(array)
    return params


def model_to_state_dict(model: Model) -> dict[str, np.ndarray]:
    """A model's weights and basis as NumPy arrays by state dict name (see `glra_jax.interop`).

    For `nn.Module.load_state_dict`, wrap each with `torch.from_numpy`. The regularisation of the
    pseudo-inverse is not among them, and must go back with the weights:
    `model_from_state_dict(state, regularization=model.config.regularization,
    noise_weight=model.config.noise_weight)`.

    Raises:
      TypeError: not a model.
    """
    if not isinstance(model, Model):
        raise TypeError(
            f"model must be a glra_jax Model (as load_model, initial_model and trainings give it), "
            f"got {_quoted(model)}"
        )
    left, right = (np.array(side) for side in model.basis)
    return params_to_state_dict(model.params) | {"basis.left": left, "basis.right": right}


def model_from_state_dict(
    state_dict: Mapping[str, Any],
    *,
    basis: Basis | None = None,
    regularization: float = 0.01,
    noise_weight: float = 0.0,
    names: Mapping[str, str] | None = None,
) -> Model:
    """A model with the weights of a PyTorch state dict.

    Args:
      state_dict: PyTorch tensors (on any device) or NumPy arrays by name, float32.
      basis: in which cores are computed, `(d, m)`; None takes the state dict's own entries
        `basis.left` and `basis.right`.
      regularization: of the pseudo-inverse, as in training. No state dict holds it: for the
        weights of a model of this library, give its `config.regularization`.
      noise_weight: see `ModelConfig`; likewise, its `config.noise_weight`.
      names: see `params_from_state_dict`.

    Returns:
      The model.

    Raises:
      TypeError: not a state dict.
      ValueError: as `params_from_state_dict`; or no basis, two of them, or one that is misshapen,
        NaN or not orthonormal. All that is wrong with weights and basis is listed.
    """
    _check_mapping(state_dict)
    names = _checked_names(names)
    weights = dict(state_dict)
    stored = {name: weights.pop(name) for name in _BASIS if name in weights}
    faults, sizes = _faults_of_weights(weights, names)
    shape = (sizes["d"], sizes["m"])
    if basis is None and not stored:
        faults.append(
            "the state dict holds no basis.left and basis.right, so that no core can be computed "
            "(give the basis that the network was trained with, basis=Basis(left, right))"
        )
    elif basis is not None and stored:
        faults.append(
            f"the state dict holds {' and '.join(stored)}, and another basis was given (give none, "
            f"or take the state dict's out of it)"
        )
    if stored:
        shapes = dict.fromkeys(_BASIS, shape)
        faults += _faults_of_entries(stored, shapes, fault_of_values=_fault_of_side)
    if basis is not None:
        given = dict(zip(_BASIS, basis, strict=True))
        for name, side in given.items():
            if _shape(side) != shape:
                faults.append(
                    f"{name} has the shape {_shape(side)}, and the weights have support {shape[0]} "
                    f"and rank {shape[1]} (give the basis that they were trained with)"
                )
            elif fault := _fault_of_side(side):
                faults.append(f"{name} {fault}")
    if faults:
        raise ValueError("the weights and basis do not fit the network: " + "; ".join(faults))
    params = _laid_out(weights, names)
    sides = stored if basis is None else given
    config = ModelConfig(
        support=sizes["d"],
        rank=sizes["m"],
        features=sizes["f"],
        regularization=regularization,
        noise_weight=noise_weight,
    )
    basis = Basis(*(jnp.asarray(_to_numpy(sides[name])) for name in _BASIS))
    return Model(basis, params, config)


def check_basis(basis: Basis) -> None:
    """Raises ValueError unless both sides are `(d, m)`, finite, with orthonormal columns."""
    sides = dict(zip(_BASIS, basis, strict=True))
    shapes = {name: _shape(side) for name, side in sides.items()}
    first = shapes[_BASIS[0]]
    if len(first) != 2 or 0 in first or len(set(shapes.values())) != 1:
        raise ValueError(f"both sides of a basis must be (d, m), got {shapes}")
    faults = [f"{name} {fault}" for name, side in sides.items() if (fault := _fault_of_side(side))]
    if faults:
        raise ValueError("; ".join(faults))


def _check_mapping(state_dict: Any) -> None:
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict must map names to tensors, got {_quoted(state_dict)}; of a PyTorch "
            f"module, call .state_dict()"
        )


def _quoted(value: Any) -> str:
    """A short value as it is, the type of a long one."""
    return repr(value) if value is None or isinstance(value, str) else type(value).__name__


def _checked_names(names: Mapping[str, str] | None) -> dict[str, str]:
    if names is None:
        return {layer: layer for layer in LAYERS}
    wrong = sorted(set(names) ^ set(LAYERS))
    if wrong:
        raise ValueError(
            f"names must have the keys {', '.join(LAYERS)}; missing or unknown: {', '.join(wrong)}"
        )
    return dict(names)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def _dtype(value: Any) -> str:
    return str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")


def _to_numpy(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _sizes(shapes: Mapping[tuple[str, str], tuple[int, ...]]) -> dict[str, int]:
    """Support, rank and features: what most entries say, so that the odd one out is reported."""
    default = ModelConfig()
    votes = {"d": Counter[int](), "m": Counter[int](), "f": Counter[int]()}
    for key, shape in shapes.items():
        if len(shape) == len(_ENTRIES[key]):
            for symbol, size in zip(_ENTRIES[key], shape, strict=True):
                if isinstance(symbol, str) and size > 0:
                    votes[symbol][size] += 1
    fallback = {"d": default.support, "m": default.rank, "f": default.features}
    return {
        symbol: counts.most_common(1)[0][0] if counts else fallback[symbol]
        for symbol, counts in votes.items()
    }


def _faults_of_weights(
    state_dict: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[list[str], dict[str, int]]:
    """What is wrong with the weights; support, rank and features, which follow from them."""
    entries = {(layer, kind): f"{names[layer]}.{kind}" for layer, kind in _ENTRIES}
    sizes = _sizes({key: _shape(state_dict.get(name)) for key, name in entries.items()})
    shapes = {
        name: tuple(size if isinstance(size, int) else sizes[size] for size in _ENTRIES[key])
        for key, name in entries.items()
    }
    return _faults_of_entries(state_dict, shapes), sizes


def _fault_of_values(value: Any) -> str | None:
    """What keeps the values of an entry from being used, to follow its name."""
    if getattr(value, "is_meta", False):
        return "is a meta tensor, which has no values (load it onto the CPU)"
    layout = str(getattr(value, "layout", "torch.strided")).removeprefix("torch.")
    if layout != "strided":
        return f"is {layout}, not a dense array (call .to_dense() first)"
    if not hasattr(value, "__array__"):  # as the sparse arrays of SciPy
        return f"is a {type(value).__name__}, not an array"
    if _dtype(value) not in ("float32", "float64"):
        return f"is {_dtype(value)}, expected float32"
    if not np.isfinite(_to_numpy(value)).all():
        return "holds NaN or infinite values"
    return None


def _fault_of_side(value: Any) -> str | None:
    """The same for one side of a basis, `(d, m)`."""
    if fault := _fault_of_values(value):
        return fault
    side = np.asarray(_to_numpy(value), np.float64)
    error = float(np.abs(side.T @ side - np.eye(side.shape[1])).max())
    if error > 1e-2:
        return (
            f"has columns that are not orthonormal (an inner product is off by {error:.3g}): give "
            f"a basis as fit_glra makes it"
        )
    return None


def _faults_of_entries(
    state_dict: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    fault_of_values: Callable[[Any], str | None] = _fault_of_values,
) -> list[str]:
    faults = [f"missing {name} {shape}" for name, shape in shapes.items() if name not in state_dict]
    faults += [
        f"unknown {name} {_shape(value)}"
        for name, value in state_dict.items()
        if name not in shapes
    ]
    for name, shape in shapes.items():
        if name not in state_dict:
            continue
        value = state_dict[name]
        if _shape(value) != shape or _dtype(value) != "float32":
            faults.append(f"{name} is {_dtype(value)}{_shape(value)}, expected float32{shape}")
        elif fault := fault_of_values(value):
            faults.append(f"{name} {fault}")
    return faults
