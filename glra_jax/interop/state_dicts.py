"""Renaming and laying out weights; the conventions are stated in `glra_jax.interop`."""

from collections import Counter
from collections.abc import Mapping
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
      ValueError: entries that are missing, unknown, of another shape or dtype, or hold NaN; all of
        them are listed.
    """
    names = _checked_names(names)
    entries = {(layer, kind): f"{names[layer]}.{kind}" for layer, kind in _ENTRIES}
    sizes = _sizes({key: _shape(state_dict.get(name)) for key, name in entries.items()})
    shapes = {
        name: tuple(size if isinstance(size, int) else sizes[size] for size in _ENTRIES[key])
        for key, name in entries.items()
    }
    _check_entries(state_dict, shapes)
    params: dict[str, dict[str, jax.Array]] = {layer: {} for layer in LAYERS}
    for (layer, kind), name in entries.items():
        array = _to_numpy(state_dict[name])
        if kind == "weight":
            array = array.transpose(2, 3, 1, 0)
        params[layer]["kernel" if kind == "weight" else kind] = jnp.asarray(array)
    return params


def model_to_state_dict(model: Model) -> dict[str, np.ndarray]:
    """A model's weights and basis as NumPy arrays by state dict name (see `glra_jax.interop`).

    For `nn.Module.load_state_dict`, wrap each with `torch.from_numpy`. The regularisation of the
    pseudo-inverse is not among them: hand the model's `regularization` and `noise_weight` to
    `model_from_state_dict`.
    """
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
      regularization: of the pseudo-inverse, as in training.
      noise_weight: see `ModelConfig`.
      names: see `params_from_state_dict`.

    Returns:
      The model.

    Raises:
      ValueError: as `params_from_state_dict`; or no basis, two of them, or one that does not fit.
    """
    weights = dict(state_dict)
    stored = {name: weights.pop(name) for name in _BASIS if name in weights}
    if basis is not None and stored:
        raise ValueError(
            f"the state dict holds {' and '.join(stored)}, and another basis was given; give none, "
            f"or take the state dict's out of it"
        )
    try:
        params = params_from_state_dict(weights, names=names)
    except ValueError as error:
        raise ValueError(f"{error}{_faults_of_basis(weights, stored, names)}") from error
    support, _, _, rank = params["vertical"]["kernel"].shape
    if basis is None:
        if not stored:
            raise ValueError(
                "the state dict holds no basis.left and basis.right, so that no core can be "
                "computed; give the basis that the network was trained with (basis=Basis(left, "
                "right))"
            )
        _check_entries(stored, dict.fromkeys(_BASIS, (support, rank)))
        basis = Basis(*(jnp.asarray(_to_numpy(stored[name])) for name in _BASIS))
    for name, side in zip(_BASIS, basis, strict=True):
        if jnp.shape(side) != (support, rank):
            raise ValueError(
                f"{name} has the shape {jnp.shape(side)}, and the weights have support {support} "
                f"and rank {rank}; give the basis that they were trained with"
            )
    check_basis(basis)
    features = params["refine_2"]["bias"].shape[0]
    config = ModelConfig(
        support=support,
        rank=rank,
        features=features,
        regularization=regularization,
        noise_weight=noise_weight,
    )
    return Model(basis, params, config)


def _faults_of_basis(
    weights: Mapping[str, Any], stored: Mapping[str, Any], names: Mapping[str, str] | None
) -> str:
    """What is wrong with a stored basis, to follow what is wrong with the weights."""
    if not stored:
        return ""
    names = _checked_names(names)
    sizes = _sizes({key: _shape(weights.get(f"{names[key[0]]}.{key[1]}")) for key in _ENTRIES})
    try:
        _check_entries(stored, dict.fromkeys(_BASIS, (sizes["d"], sizes["m"])))
    except ValueError as error:
        return f"; and the basis: {error}"
    return ""


def check_basis(basis: Basis) -> None:
    """Raises ValueError unless both sides are finite, with orthonormal columns."""
    for name, side in zip(_BASIS, basis, strict=True):
        values = np.asarray(side, np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds NaN or infinite values")
        error = float(np.abs(values.T @ values - np.eye(values.shape[1])).max())
        if error > 1e-2:
            raise ValueError(
                f"the columns of {name} are not orthonormal (an inner product is off by "
                f"{error:.3g}); give a basis as fit_glra makes it"
            )


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
                if isinstance(symbol, str):
                    votes[symbol][size] += 1
    fallback = {"d": default.support, "m": default.rank, "f": default.features}
    return {
        symbol: counts.most_common(1)[0][0] if counts else fallback[symbol]
        for symbol, counts in votes.items()
    }


def _check_entries(state_dict: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
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
        elif not np.isfinite(_to_numpy(value)).all():
            faults.append(f"{name} holds NaN or infinite values")
    if faults:
        raise ValueError("the weights do not fit the network: " + "; ".join(faults))
