"""Photographs that the figures show."""

from pathlib import Path

import numpy as np

from glra_jax import datasets


def load_photographs(
    dataset: str, split: str | None = None, *, data_dir: Path | None = None, count: int, side: int
) -> list[np.ndarray]:
    """Reads the middles of the first photographs of a dataset.

    Args:
      dataset: name, see `glra_jax.datasets`.
      split: of the dataset; None takes the one meant for tests.
      data_dir: where the dataset lies.
      count: how many at most.
      side: of the square that is cut out, in pixels.

    Returns:
      float32 in [0, 1], `(side, side)` or `(side, side, 3)`.

    Raises:
      OSError: the dataset is not there.
      ValueError: a photograph smaller than `side`, or what `glra_jax.datasets` refuses.
    """
    found = list(datasets.load_photographs(dataset, split, data_dir=data_dir).values())
    return [cut_middle(photograph, side) for photograph in found[:count]]


def cut_middle(photograph: np.ndarray, side: int) -> np.ndarray:
    """Cuts out the middle square of an 8-bit photograph, float32 in [0, 1].

    Raises:
      ValueError: the photograph is smaller.
    """
    height, width = photograph.shape[:2]
    if min(height, width) < side:
        raise ValueError(
            f"a photograph of {height}×{width} pixels is smaller than the {side}×{side} that the "
            f"figures show; choose a smaller --crop or other photographs"
        )
    top, left = (height - side) // 2, (width - side) // 2
    cut = photograph[top : top + side, left : left + side].astype(np.float32)
    return cut / np.float32(255.0)


def grey(photograph: np.ndarray) -> np.ndarray:
    """Averages the colour channels, `(H, W)`."""
    return photograph if photograph.ndim == 2 else np.asarray(photograph.mean(axis=2))
