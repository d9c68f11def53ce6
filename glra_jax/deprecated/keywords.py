"""Keywords of version 0.1, translated into today's."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from glra_jax.inverses import Inverse

P = ParamSpec("P")
T = TypeVar("T")


def warn(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warns the caller of a public function that what it used has another name."""
    warnings.warn(
        f"{old} is deprecated and goes in the next version; use {new}",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def renamed_keywords(**renamed: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Lets a function take keywords by their former names, `former="present"`."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **options: P.kwargs) -> T:
            for former in renamed.keys() & options.keys():
                warn(f"{former}=", f"{renamed[former]}=")
                options[renamed[former]] = options.pop(former)
            return function(*args, **options)

        return wrapper

    return decorate


INVERSE = ("regularization", "noise_weight", "core")  # fields that were keywords one by one


def take_out(options: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Takes those of some keywords that are given out of a call's."""
    return {name: options.pop(name) for name in names if name in options}


def loose_inverse(function: Callable[P, T]) -> Callable[P, T]:
    """Lets a function take the fields of `inverse=Inverse(...)` one by one."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **options: P.kwargs) -> T:
        loose = take_out(options, INVERSE)
        if loose:
            warn(", ".join(f"{name}=" for name in loose), "inverse=Inverse(...)")
            options["inverse"] = Inverse(**loose)
        return function(*args, **options)

    return wrapper


def core_keywords(function: Callable[P, T]) -> Callable[P, T]:
    """Lets `deconvolution_core` take `core`, `regularization` and `smoothness` one by one."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **options: P.kwargs) -> T:
        loose = take_out(options, ("core", "regularization", "smoothness"))
        if loose:
            warn(", ".join(f"{name}=" for name in loose), "inverse=Inverse(...) and noise=")
            # At a noise level of 1 the smoothness is the noise weight.
            options["inverse"] = Inverse(
                regularization=loose.get("regularization", 0.01),
                noise_weight=loose.get("smoothness", 0.0),
                core=loose.get("core", "projection"),
            )
            options["noise"] = 1.0
        return function(*args, **options)

    return wrapper
