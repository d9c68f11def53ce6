"""Methods as they are written on a command line: `NAME` or `NAME:option=value,option=value`."""

import inspect
from collections.abc import Callable
from typing import Any, get_args

from experiments.baselines import BASELINES
from glra_jax.restoration import deconvolve_linear

# Told by the evaluation itself, or not to be written as text.
_NOT_OPTIONS = ("y", "kernel", "model", "method", "prior")


def parse_method(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a method.

    Args:
      spec: for instance `wiener:noise_to_signal=0.001`.

    Returns:
      "blurred", "eq8" or a name in `BASELINES`; and the options, of the types of its function.

    Raises:
      ValueError: an unknown name or option, an option twice, or a value of another type.
    """
    name, separator, rest = spec.partition(":")
    if name not in ("blurred", "eq8", *BASELINES):
        raise ValueError(
            f"unknown method {name!r}; there are blurred, eq8, {', '.join(BASELINES)}; a network "
            f"is given with --models"
        )
    kinds = _kinds(name)
    options: dict[str, Any] = {}
    for item in rest.split(",") if separator else ():
        key, equals, text = item.partition("=")
        if not (key and equals and text):
            raise ValueError(f"{spec!r}: {item!r} is not option=value")
        if key in options:
            raise ValueError(f"{spec!r} gives {key!r} twice")
        if key not in kinds:
            raise ValueError(
                f"{spec!r}: {name} has no option {key!r}; it has: {', '.join(kinds) or 'none'}"
            )
        options[key] = _value(f"{spec!r}: {key}", text, kinds[key])
    return name, options


def _kinds(name: str) -> dict[str, type]:
    """Options of a method, and what they are: bool, int, str, or float for any number."""
    if name == "blurred":
        return {}
    if name == "eq8":
        return {"model": str, "core": str} | _parameters(deconvolve_linear)
    return _parameters(BASELINES[name])


def _parameters(function: Callable[..., Any]) -> dict[str, type]:
    parameters = inspect.signature(function).parameters
    found: dict[str, type] = {}
    for key, parameter in parameters.items():
        if key not in _NOT_OPTIONS:
            kinds = get_args(parameter.annotation) or (parameter.annotation,)
            exact = [kind for kind in (bool, int, str) if kind in kinds and float not in kinds]
            found[key] = exact[0] if exact else float
    return found


def _value(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError(f"{name} must be true or false, got {text!r}")
        return text == "true"
    if kind is str:
        return text
    for number in (int,) if kind is int else (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    raise ValueError(f"{name} must be {'an integer' if kind is int else 'a number'}, got {text!r}")
