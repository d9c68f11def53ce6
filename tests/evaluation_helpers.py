"""What the tests of the evaluation share."""

from pathlib import Path

import numpy as np
from PIL import Image

from experiments import evaluate
from experiments.evaluation.synthetic import synthetic_cases

TRIPLETS = "GLRA_JAX_RELEASE_TRIPLETS"


MARGIN = 10


INNER = (slice(MARGIN, -MARGIN),) * 2


NAMES = ("a", "b", "c")


def png(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


def make_all(photographs, **options):
    how = {"kernel": "motion", "protocol": "release", "noise": 0.01, "seed": 3} | options
    return {c.name: c.make() for c in synthetic_cases(photographs, **how)}


def record_restorations(monkeypatch):
    """A list that grows by the case and the method of whatever the program restores."""
    done = []
    original = evaluate.restore_timed

    def restore(method, case, *, compiled):
        done.append((case.name, method.label))
        return original(method, case, compiled=compiled)

    monkeypatch.setattr(evaluate, "restore_timed", restore)
    return done
