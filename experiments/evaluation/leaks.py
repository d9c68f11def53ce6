"""Record of the methods in results, above all whether they have seen the scored images."""

from collections.abc import Sequence
from typing import Any

from experiments.baselines import AUTHORS_NETWORKS
from experiments.evaluation.method_specs import BLURRED, LINEAR
from experiments.evaluation.methods import Method
from experiments.evaluation.options import EvaluateOptions

LEAK, NO_LEAK, UNKNOWN_LEAK = "leak", "no leak", "not said"
# What the baselines' parameters and the patch prior were tuned and learnt on, and what the models
# of the package were trained on: splits of the datasets of which it is known.
_BASELINES_SPLITS = {"bsds500": ("train",), "embedded": ()}
_MODELS_SPLITS = {"bsds500": ("train", "test"), "embedded": ()}
# Kinds of methods that learned nothing from photographs; a basis is fitted to kernels.
_NOT_LEARNT = (BLURRED, LINEAR)
_RANDOM_MODEL = "glra-random-init"


def describe_methods(methods: Sequence[Method], options: EvaluateOptions) -> list[dict[str, Any]]:
    """Records what is known of the methods."""
    return [
        {"label": method.label, "kind": method.kind, "leak": leak_of(method, options)}
        | ({"random_start": starts_random(method, options)} if method.kind == "model" else {})
        | method.about
        for method in methods
    ]


def leak_of(method: Method, options: EvaluateOptions) -> str:
    """Tells whether a method has seen what is scored: "leak", "no leak" or "not said"."""
    if method.kind in _NOT_LEARNT:
        return NO_LEAK
    if method.label in options.leaky:
        return LEAK
    if method.label in options.clean:
        return NO_LEAK
    foreign = method.kind == "model" and not method.about["shipped"]
    if foreign or method.kind in AUTHORS_NETWORKS:
        return UNKNOWN_LEAK
    learned_from = _MODELS_SPLITS if method.kind == "model" else _BASELINES_SPLITS
    # Of triplets and other datasets nothing is known: any photographs may lie there.
    if options.triplets or options.dataset not in learned_from:
        return UNKNOWN_LEAK
    return LEAK if options.used_split in learned_from[options.dataset] else NO_LEAK


def starts_random(method: Method, options: EvaluateOptions) -> bool:
    """Tells whether layers 1 and 3 of a model are known to have started from random weights."""
    if method.label in options.random:
        return True
    return bool(method.about["shipped"]) and method.about["source"] == _RANDOM_MODEL


def check_labels(methods: Sequence[Method], options: EvaluateOptions) -> None:
    """Raises ValueError if `leaky`, `clean` or `random` name what is not there, or contradict."""
    if both := sorted(set(options.leaky) & set(options.clean)):
        raise ValueError(f"--leaky and --clean both name {both[0]!r}; it is one or the other")
    learned = [method.label for method in methods if method.kind not in _NOT_LEARNT]
    models = [method.label for method in methods if method.kind == "model"]
    for label in (*options.leaky, *options.clean):
        if label not in learned:
            raise ValueError(
                f"--leaky and --clean: no model or baseline is called {label!r}; there are: "
                f"{', '.join(learned) or 'none'}"
            )
    for label in options.random:
        if label not in models:
            raise ValueError(
                f"--random: no model is called {label!r}; there are: {', '.join(models) or 'none'}"
            )
