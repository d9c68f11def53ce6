"""The entries of a state dict: their sizes, their values, and what can be wrong with them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from glra_jax.lowrank import Basis
from glra_jax.networks.glra import Glra

LAYERS = ("vertical", "core", "horizontal", "refine_1", "refine_2", "refine_3")

# Sizes of each entry: numbers, or d (support), m (rank) and f (features).
ENTRIES: dict[tuple[str, str], tuple[int | str, ...]] = {
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
BASIS = ("basis.left", "basis.right")


def shape_of(value: Any) -> tuple[int, ...]:
    """Sizes of an array's or tensor's axes; none for what has none."""
    try:
        return tuple(getattr(value, "shape", ()))
    except RuntimeError:  # tensors that are nested or not initialised
        return ()


def dtype_of(value: Any) -> str:
    """Name of an array's or tensor's dtype, or of the type of anything else."""
    return str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")


def to_numpy(value: Any) -> np.ndarray:
    """An array or tensor, on any device, as a NumPy array."""
    return np.asarray(value.detach().cpu().resolve_neg() if hasattr(value, "detach") else value)


def entry_names(names: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Lists what a state dict calls each entry, given what it calls each layer."""
    return {(layer, kind): f"{names[layer]}.{kind}" for layer, kind in ENTRIES}


def faults_of_weights(
    state_dict: Mapping[str, Any], names: Mapping[str, str], *, basis: Iterable[Any]
) -> tuple[list[str], dict[str, int]]:
    """Lists what is wrong with weights.

    Args:
      state_dict: entries without those of the basis.
      names: what it calls each layer.
      basis: sides of the basis that goes with the weights, as far as there are any, `(d, m)`.

    Returns:
      Faults, in words; and support (d), rank (m) and features (f), which follow from most entries.
    """
    entries = entry_names(names)
    seen = [(ENTRIES[key], shape_of(state_dict.get(name))) for key, name in entries.items()]
    sizes = _sizes([*seen, *((("d", "m"), shape_of(side)) for side in basis)])
    shapes = {
        name: tuple(size if isinstance(size, int) else sizes[size] for size in ENTRIES[key])
        for key, name in entries.items()
    }
    return faults_of_entries(state_dict, shapes), sizes


def _sizes(seen: list[tuple[tuple[int | str, ...], tuple[int, ...]]]) -> dict[str, int]:
    """Support, rank and features: what most entries say, so that the odd one out is reported."""
    default = Glra()
    votes = {"d": Counter[int](), "m": Counter[int](), "f": Counter[int]()}
    for expected, shape in seen:
        # An entry whose axes are in another order says nothing.
        if len(shape) == len(expected) and all(
            isinstance(e, str) or e == size for e, size in zip(expected, shape, strict=True)
        ):
            for symbol, size in zip(expected, shape, strict=True):
                if isinstance(symbol, str) and size > 0:
                    votes[symbol][size] += 1
    fallback = {"d": default.support, "m": default.rank, "f": default.features}
    return {
        symbol: counts.most_common(1)[0][0] if counts else fallback[symbol]
        for symbol, counts in votes.items()
    }


def _fault_of_values(value: Any) -> str | None:
    """Says what keeps the values of an entry from being used, to follow its name."""
    if getattr(value, "is_meta", False):
        return "is a meta tensor, which has no values (load it onto the CPU)"
    layout = str(getattr(value, "layout", "torch.strided")).removeprefix("torch.")
    if layout != "strided":
        return f"is {layout}, not a dense array (call .to_dense() first)"
    if not hasattr(value, "__array__"):  # as the sparse arrays of SciPy
        return f"is a {type(value).__name__}, not an array"
    if isinstance(value, np.ma.MaskedArray):
        return "is a masked array (call .filled() with what should stand there)"
    if dtype_of(value) not in ("float32", "float64"):
        return f"is {dtype_of(value)}, expected float32"
    try:
        array = to_numpy(value)
    except RuntimeError as error:  # tensors of special kinds
        return f"cannot be read as an array ({str(error).splitlines()[0]})"
    if not np.isfinite(array).all():
        return "holds NaN or infinite values"
    return None


def fault_of_side(value: Any) -> str | None:
    """Says what keeps one side of a basis, `(d, m)`, from being used, to follow its name."""
    if fault := _fault_of_values(value):
        return fault
    side = np.asarray(to_numpy(value), np.float64)
    error = float(np.abs(side.T @ side - np.eye(side.shape[1])).max())
    if error > 1e-2:
        return (
            f"has columns that are not orthonormal (an inner product is off by {error:.3g}): give "
            f"a basis as fit_glra makes it"
        )
    return None


def faults_of_entries(
    state_dict: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    fault_of_values: Callable[[Any], str | None] = _fault_of_values,
) -> list[str]:
    """Lists what is wrong with entries that must have these shapes and be float32."""
    faults = [f"missing {name} {shape}" for name, shape in shapes.items() if name not in state_dict]
    faults += [
        f"unknown {name} {shape_of(value)}"
        for name, value in state_dict.items()
        if name not in shapes
    ]
    for name, shape in shapes.items():
        if name not in state_dict:
            continue
        value = state_dict[name]
        if shape_of(value) != shape or dtype_of(value) != "float32":
            faults.append(f"{name} is {dtype_of(value)}{shape_of(value)}, expected float32{shape}")
        elif fault := fault_of_values(value):
            faults.append(f"{name} {fault}")
    return faults


def check_basis(basis: Basis) -> None:
    """Raises ValueError unless both sides are `(d, m)`, finite, with orthonormal columns."""
    sides = dict(zip(BASIS, basis, strict=True))
    shapes = {name: shape_of(side) for name, side in sides.items()}
    first = shapes[BASIS[0]]
    if len(first) != 2 or 0 in first or len(set(shapes.values())) != 1:
        raise ValueError(f"both sides of a basis must be (d, m), got {shapes}")
    faults = [f"{name} {fault}" for name, side in sides.items() if (fault := fault_of_side(side))]
    if faults:
        raise ValueError("; ".join(faults))
