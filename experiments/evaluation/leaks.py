"""What is recorded of the methods: above all, whether they have seen the images that are scored."""

from collections.abc import Sequence
from typing import Any

from experiments.evaluation.methods import Method
from experiments.evaluation.options import EvaluateOptions

LEAK, NO_LEAK, UNKNOWN_LEAK = "leak", "no leak", "not said"
# What the baselines' parameters and the patch prior were tuned and learnt on.
_BASELINES_SPLITS = ("train",)
# What the models of the package were trained on.
_MODELS_SPLITS = ("train", "test")
# Kinds of methods that learnt nothing from photographs; the basis of eq. 8 is fitted to kernels.
_NOT_LEARNT = ("blurred", "eq8")
_RANDOM_MODEL = "glra-random-init"


def describe_methods(methods: Sequence[Method], options: EvaluateOptions) -> list[dict[str, Any]]:
    """What is recorded of the methods."""
    return [
        {"label": method.label, "kind": method.kind, "leak": leak_of(method, options)}
        | ({"random_start": starts_random(method, options)} if method.kind == "model" else {})
        | method.about
        for method in methods
    ]


def leak_of(method: Method, options: EvaluateOptions) -> str:
    """Whether a method has seen the images that are scored: "leak", "no leak" or "not said"."""
    if method.kind in _NOT_LEARNT:
        return NO_LEAK
    if method.label in options.leaky:
        return LEAK
    if method.label in options.clean:
        return NO_LEAK
    if method.kind == "model" and not method.about["shipped"]:
        return UNKNOWN_LEAK
    if options.images or options.triplets:  # any photographs may lie there
        return UNKNOWN_LEAK
    learnt_from = _MODELS_SPLITS if method.kind == "model" else _BASELINES_SPLITS
    return LEAK if options.bsds500 in learnt_from else NO_LEAK


def starts_random(method: Method, options: EvaluateOptions) -> bool:
    """Whether layers 1 and 3 of a model started from random weights, as far as it is known."""
    if method.label in options.random:
        return True
    return bool(method.about["shipped"]) and method.about["source"] == _RANDOM_MODEL


def check_labels(methods: Sequence[Method], options: EvaluateOptions) -> None:
    """Raises ValueError if `leaky`, `clean` or `random` name what is not there, or contradict."""
    if both := sorted(set(options.leaky) & set(options.clean)):
        raise ValueError(f"--leaky and --clean both name {both[0]!r}; it is one or the other")
    learnt = [method.label for method in methods if method.kind not in _NOT_LEARNT]
    models = [method.label for method in methods if method.kind == "model"]
    for label in (*options.leaky, *options.clean):
        if label not in learnt:
            raise ValueError(
                f"--leaky and --clean: no model or baseline is called {label!r}; there are: "
                f"{', '.join(learnt) or 'none'}"
            )
    for label in options.random:
        if label not in models:
            raise ValueError(
                f"--random: no model is called {label!r}; there are: {', '.join(models) or 'none'}"
            )
