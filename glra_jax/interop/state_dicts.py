"""Renaming and laying out weights; the conventions are stated in `glra_jax.interop`."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax.deprecated.keywords import loose_inverse
from glra_jax.interop.entries import (
    BASIS,
    LAYERS,
    entry_names,
    fault_of_side,
    faults_of_entries,
    faults_of_weights,
    shape_of,
    to_numpy,
)
from glra_jax.inverses import Inverse
from glra_jax.lowrank import Basis
from glra_jax.model import Model
from glra_jax.networks.architecture import Params
from glra_jax.networks.glra import Glra


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
      TypeError: not a state dict; names that are not a mapping of text to text.
      ValueError: two layers of one name; entries that are missing, unknown, of another shape or
        dtype, sparse, masked, without values (PyTorch's device `meta`), or hold NaN; all of them
        are listed.
    """
    _check_mapping(state_dict)
    names = _checked_names(names)
    faults, _ = faults_of_weights(state_dict, names, basis=())
    if faults:
        faults = _hints(state_dict, names) + faults
        raise ValueError("the weights do not fit the network: " + "; ".join(faults))
    return _laid_out(state_dict, names)


def _laid_out(
    state_dict: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, dict[str, jax.Array]]:
    """Params from entries without faults."""
    params: dict[str, dict[str, jax.Array]] = {layer: {} for layer in LAYERS}
    for (layer, kind), name in entry_names(names).items():
        array = to_numpy(state_dict[name])
        if kind == "weight":
            array = array.transpose(2, 3, 1, 0)
        params[layer]["kernel" if kind == "weight" else kind] = jnp.asarray(array)
    return params


def model_to_state_dict(model: Model) -> dict[str, np.ndarray]:
    """A model's weights and basis as NumPy arrays by state dict name (see `glra_jax.interop`).

    For `nn.Module.load_state_dict`, wrap each with `torch.from_numpy`. How cores are computed
    is not among them, and must go back with the weights: `model_from_state_dict(state,
    inverse=model.architecture.inverse)`.

    Raises:
      TypeError: not a model, or one of another network than the faithful one.
    """
    if not isinstance(model, Model):
        raise TypeError(
            f"model must be a glra_jax Model (as load_model, initial_model and trainings give it), "
            f"got {_quoted(model)}"
        )
    if not isinstance(model.architecture, Glra):
        raise TypeError(
            f"model must be of the faithful network, which PyTorch's state dicts describe, got "
            f"architecture {model.architecture.name!r}"
        )
    left, right = (np.array(side) for side in model.constants)
    return params_to_state_dict(model.params) | {"basis.left": left, "basis.right": right}


@loose_inverse
def model_from_state_dict(
    state_dict: Mapping[str, Any],
    *,
    basis: Basis | None = None,
    inverse: Inverse | None = None,
    names: Mapping[str, str] | None = None,
) -> Model:
    """A model with the weights of a PyTorch state dict.

    Args:
      state_dict: PyTorch tensors (on any device) or NumPy arrays by name, float32.
      basis: in which cores are computed, `(d, m)`; None takes the state dict's own entries
        `basis.left` and `basis.right`.
      inverse: how cores are computed, as in training; None takes `Inverse()`, the paper's. No state
        dict holds it: for the weights of a model of this library, give its `architecture.inverse`.
      names: see `params_from_state_dict`.

    Returns:
      The model.

    Raises:
      TypeError: as `params_from_state_dict`; or a basis that is no pair.
      ValueError: as `params_from_state_dict`; or no basis, two of them, or one that is misshapen,
        NaN or not orthonormal. All that is wrong with weights and basis is listed.
    """
    _check_mapping(state_dict)
    names = _checked_names(names)
    if basis is not None and not (isinstance(basis, tuple) and len(basis) == 2):
        raise TypeError(f"basis must be a pair, Basis(left, right), got {_quoted(basis)}")
    weights = dict(state_dict)
    stored = {name: weights.pop(name) for name in BASIS if name in weights}
    given: dict[str, Any] = {} if basis is None else dict(zip(BASIS, basis, strict=True))
    faults, sizes = faults_of_weights(weights, names, basis=(*stored.values(), *given.values()))
    shape = (sizes["d"], sizes["m"])
    if not given and not stored:
        faults.append(
            "the state dict holds no basis.left and basis.right, so that no core can be computed "
            "(give the basis that the network was trained with, basis=Basis(left, right))"
        )
    elif given and stored:
        faults.append(
            f"the state dict holds {' and '.join(stored)}, and another basis was given (give none, "
            f"or take the state dict's out of it)"
        )
    if stored:
        shapes = dict.fromkeys(BASIS, shape)
        faults += faults_of_entries(stored, shapes, fault_of_values=fault_of_side)
    for name, side in given.items():
        if shape_of(side) != shape:
            faults.append(
                f"{name} has the shape {shape_of(side)}, and the weights have support {shape[0]} "
                f"and rank {shape[1]} (give the basis that they were trained with)"
            )
        elif fault := fault_of_side(side):
            faults.append(f"{name} {fault}")
    if faults:
        faults = _hints(state_dict, names) + faults
        raise ValueError("the weights and basis do not fit the network: " + "; ".join(faults))
    params = _laid_out(weights, names)
    sides = stored or given
    architecture = Glra(
        sizes["d"], sizes["m"], sizes["f"], Inverse() if inverse is None else inverse
    )
    basis = Basis(*(jnp.asarray(to_numpy(sides[name])) for name in BASIS))
    return Model(architecture, basis, params)


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
    if not isinstance(names, Mapping) or not all(
        isinstance(name, str) for pair in names.items() for name in pair
    ):
        raise TypeError(
            f"names must map each of {', '.join(LAYERS)} to text, the layer's name in the state "
            f"dict, got {names!r}"
        )
    wrong = sorted(set(names) ^ set(LAYERS))
    if wrong:
        raise ValueError(
            f"names must have the keys {', '.join(LAYERS)}; missing or unknown: {', '.join(wrong)}"
        )
    for name, count in Counter(names.values()).items():
        if count > 1:
            layers = " and ".join(layer for layer in LAYERS if names[layer] == name)
            raise ValueError(f"names gives {layers} the same name, {name!r}: give each its own")
    return dict(names)


def _hints(state_dict: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Says why none of the entries may be there, where the state dict shows it."""
    if any(entry in state_dict for entry in (*entry_names(names).values(), *BASIS)):
        return []
    hints = [
        f"it holds a state dict under {name!r} (hand that one to model_from_state_dict)"
        for name, value in state_dict.items()
        if isinstance(value, Mapping) and any(shape_of(entry) for entry in value.values())
    ]
    starts = {str(name).partition(".")[0] for name in state_dict if "." in str(name)}
    if len(starts) == 1 and all("." in str(name) for name in state_dict):
        prefix = f"{starts.pop()}."
        hints.append(
            f"all names begin with {prefix!r} (take it off: {{name.removeprefix({prefix!r}): value "
            f"for name, value in state_dict.items()}})"
        )
    return hints
