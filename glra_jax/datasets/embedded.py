"""The photographs that come in scikit-image's wheel: the default data, no download needed."""

import os

import numpy as np

from glra_jax import validation
from glra_jax.datasets.dataset import Dataset

SPLITS = {
    "train": ("astronaut", "brick", "camera", "chelsea", "grass", "gravel", "rocket"),
    "test": ("coffee", "coins"),
}


def embedded_photographs(
    split: str, *, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, np.ndarray]:
    """Photographs by name.

    Args:
      split: `"train"` or `"test"`; no photograph is in both.
      data_dir: None, since they come with scikit-image.

    Returns:
      uint8 arrays, `(H, W)` or `(H, W, 3)`.

    Raises:
      ValueError: unknown split, or a `data_dir`.
      ImportError: scikit-image is missing (extra `experiments`).
    """
    validation.check_choice(split, "split", tuple(SPLITS))
    if data_dir is not None:
        raise ValueError(
            f"the embedded photographs come with scikit-image, and not from {str(data_dir)!r}: "
            f"leave data_dir out, or choose another dataset (as folder)"
        )
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            "the embedded photographs come with scikit-image: pip install 'glra-jax[experiments]'"
        ) from error
    return {name: np.asarray(getattr(data, name)()) for name in SPLITS[split]}


DATASET = Dataset(
    "embedded",
    load=embedded_photographs,
    splits={split: split for split in SPLITS},
    training_splits=("train",),
    test_split="test",
    words="embedded {split} photographs",
    scored={"test": "the photographs that every training run is scored on at its end"},
    licence="Public domain or CC0, see scikit-image's skimage/data/README.txt",
)
