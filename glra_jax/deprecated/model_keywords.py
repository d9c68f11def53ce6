"""Arguments of version 0.1 of what makes, takes or applies a model."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from glra_jax.deprecated.keywords import INVERSE, take_out, warn
from glra_jax.inverses import Inverse
from glra_jax.lowrank import Basis
from glra_jax.networks.glra import Glra

P = ParamSpec("P")
T = TypeVar("T")


def initial_model_keywords(function: Callable[..., T]) -> Callable[..., T]:
    """Lets `initial_model(key, basis, start=..., features=..., ...)` be called as before."""

    @functools.wraps(function)
    def wrapper(*args: Any, **options: Any) -> Any:
        basis = args[1] if len(args) > 1 else options.pop("basis", None)
        if not isinstance(basis, Basis):
            return function(*args, **options)
        warn("initial_model(key, basis)", "initial_model(key, Glra(...), basis)")
        inverse = Inverse(**_popped(options))
        support, rank = basis.left.shape
        architecture = Glra(support, rank, options.pop("features", 128), inverse)
        if "start" in options:
            options["initialization"] = options.pop("start")
        key = args[0] if args else options.pop("key")
        return function(key, architecture, basis, **options)

    return wrapper


def _popped(options: dict[str, Any]) -> dict[str, Any]:
    """Takes the fields of an inverse that are given out of a call's keywords."""
    given = take_out(options, INVERSE)
    return {name: value for name, value in given.items() if value is not None}


def read_inverse_keywords(read: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a reader of models take the fields of an inverse, in place of those of the file."""

    @functools.wraps(read)
    def wrapper(*args: Any, **options: Any) -> Any:
        loose = _popped(options)
        model = read(*args, **options)
        if not loose:
            return model
        warn(", ".join(f"{name}=" for name in loose), "inverse=Inverse(...)")
        inverse = replace(model.architecture.inverse, **loose)
        return replace(model, architecture=replace(model.architecture, inverse=inverse))

    return wrapper


def _own_inverse(model: Any) -> Inverse:
    own = model.architecture.default_inverse
    if own is None:
        raise ValueError(
            f"a model of {model.architecture.name} takes no inverse; name a low-rank model, such "
            f"as load_model('glra')"
        )
    assert isinstance(own, Inverse)
    return own


def inverse_keywords(
    default_model: Callable[[], Any], *, where: int
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Lets a function of a model take `regularization` in place of `inverse`.

    Args:
      default_model: what stands for a model that is not given.
      where: place of the model, or of a restorer, among the positional arguments.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            if "regularization" in options:
                strength = options.pop("regularization")
                warn("regularization=", "inverse=")
                if strength is not None:
                    model = args[where] if len(args) > where else options.get("model")
                    model = default_model() if model is None else getattr(model, "model", model)
                    options["inverse"] = replace(_own_inverse(model), regularization=strength)
            return function(*args, **options)

        return wrapper

    return decorate


def linear_keywords(
    default_model: Callable[[], Any], is_model: Callable[[Any], bool]
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Lets `deconvolve_linear(y, kernel, model, noise_weight=...)` be called as before."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            loose = _popped(options)
            model = options.pop("model", None)
            if len(args) > 2 and (is_model(args[2]) or args[2] is None):
                args, model = args[:2], args[2]
            if model is not None or loose:
                warn(
                    "deconvolve_linear(y, kernel, model, noise_weight=..., regularization=...)",
                    "deconvolve_linear(y, kernel, model.constants, inverse=Inverse(...))",
                )
                model = default_model() if model is None else model
                options.setdefault("basis", model.constants)
                options.setdefault("inverse", replace(_own_inverse(model), **loose))
            return function(*args, **options)

        return wrapper

    return decorate
