"""What the tests of the evaluation share."""

from pathlib import Path

import numpy as np
from PIL import Image

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
