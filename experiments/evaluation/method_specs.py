"""Methods as they are written on a command line: `NAME` or `NAME:option=value,option=value`."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from types import UnionType
from typing import Any, Union, get_args, get_origin

import jax

from experiments.baselines import AUTHORS_NETWORKS, BASELINES
from experiments.evaluation.model_files import low_rank
from glra_jax.model import Model
from glra_jax.restoration import deconvolve_linear

BLURRED = "blurred"  # the blurred image itself
LINEAR = "linear"  # convolution with the low-rank pseudo-inverse, eq. 8 of the paper


def restore_linear(
    y: jax.Array,
    kernel: jax.Array,
    *,
    model: Model,
    core: str | None = None,
    boundary: str = "edge",
    noise: float | None = None,
    noise_weight: float | None = None,
    regularization: float | None = None,
) -> jax.Array:
    """Restores by `deconvolve_linear` with a model's basis.

    Args:
      y: blurred image.
      kernel: blur kernel.
      model: has the basis; the weights do not matter.
      core: see `glra_jax.cores`; this and all below are the model's own if None.
      boundary: see `glra_jax.deconvolve`.
      noise: standard deviation of the noise; None estimates it.
      noise_weight: how strongly the pseudo-inverse depends on the noise.
      regularization: of the pseudo-inverse.

    Returns:
      The restored image.
    """
    settings = {"regularization": regularization, "noise_weight": noise_weight, "core": core}
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    inverse = replace(low_rank(model).inverse, **given)
    return deconvolve_linear(
        y, kernel, model.constants, inverse=inverse, boundary=boundary, noise=noise
    )


def parse_method(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a method.

    Args:
      spec: for instance `wiener:noise_to_signal=0.001`.

    Returns:
      `BLURRED`, `LINEAR` or a name in `BASELINES` or `AUTHORS_NETWORKS`; and the options, of the
      types of its function.

    Raises:
      ValueError: an unknown name or option, an option twice, or a value of another type.
    """
    name, separator, rest = spec.partition(":")
    known = (BLURRED, LINEAR, *BASELINES, *AUTHORS_NETWORKS)
    if name not in known:
        raise ValueError(
            f"unknown method {name!r}; there are {', '.join(known)}; a model of this library is "
            f"given with --models"
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


def method_title(label: str, kind: str) -> str:
    """Name of a method in tables and pictures: its label, with the equation of the linear one."""
    return label.replace(LINEAR, f"{LINEAR} (eq. 8)", 1) if kind == LINEAR else label


def _kinds(name: str) -> dict[str, type]:
    """Options of a method with their types: bool, int, str, or float for any number."""
    if name == BLURRED:
        return {}
    if name == LINEAR:
        return {"model": str} | _parameters(restore_linear)
    if name in AUTHORS_NETWORKS:
        return _parameters(AUTHORS_NETWORKS[name].restore)
    return _parameters(BASELINES[name].restore)


def _parameters(function: Callable[..., Any]) -> dict[str, type]:
    """The keywords of a function that can be written as text."""
    found: dict[str, type] = {}
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        kinds: tuple[Any, ...] = (parameter.annotation,)
        if get_origin(parameter.annotation) in (Union, UnionType):
            kinds = get_args(parameter.annotation)
        exact = [kind for kind in (bool, int, str) if kind in kinds]
        if float in kinds:
            found[key] = float
        elif exact:
            found[key] = exact[0]
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
