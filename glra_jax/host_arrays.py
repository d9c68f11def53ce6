"""NumPy arrays at the door: of another byte order, of more bits than JAX knows, or masked."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


def native(value: Any, name: str = "array") -> Any:
    """Turns a NumPy array into one that JAX takes; gives everything else back as it is.

    Big-endian files (FITS, some TIFF and `.npy`) give arrays of the other byte order, and C's long
    double has more bits than float64.

    Raises:
      ValueError: an array of which some is masked.
    """
    if not isinstance(value, np.ndarray):
        return value
    if isinstance(value, np.ma.MaskedArray):
        if masked := int(np.count_nonzero(np.ma.getmaskarray(value))):
            raise ValueError(
                f"{name} has {masked} masked values of {value.size}, which would be taken as they "
                f"are; fill them first, by {name}.filled(...), and give deconvolve as mask= where "
                f"pixels count, ~{name}.mask"
            )
        value = value.data
    dtype = value.dtype
    if dtype.kind == "f" and dtype.itemsize > 8:
        return value.astype(np.float64)
    return value if dtype.isnative else value.astype(dtype.newbyteorder("="))


def native_arrays(function: Callable[P, R]) -> Callable[P, R]:
    """Lets a function take NumPy arrays of any byte order, as all do; see `native`."""
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def with_native(*args: P.args, **kwargs: P.kwargs) -> R:
        places: list[Any] = [*args]
        for place, name in enumerate(names[: len(places)]):
            places[place] = native(places[place], name)
        options: dict[str, Any] = {name: native(value, name) for name, value in kwargs.items()}
        return function(*places, **options)

    return with_native
