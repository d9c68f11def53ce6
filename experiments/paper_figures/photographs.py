"""Photographs that the figures show."""

from pathlib import Path

import numpy as np

from glra_jax.datasets import embedded_photographs, read_folder


def load_photographs(folder: Path | None, *, count: int, side: int) -> list[np.ndarray]:
    """The middles of the first photographs in a folder.

    Args:
      folder: of photographs; None takes the test photographs that come with scikit-image.
      count: how many at most.
      side: of the square that is cut out, in pixels.

    Returns:
      float32 in [0, 1], `(side, side)` or `(side, side, 3)`.

    Raises:
      ValueError: a photograph smaller than `side`, or what `read_folder` refuses.
      NotADirectoryError: no such folder.
    """
    found = list(embedded_photographs("test").values()) if folder is None else read_folder(folder)
    return [cut_middle(photograph, side) for photograph in found[:count]]


def cut_middle(photograph: np.ndarray, side: int) -> np.ndarray:
    """The middle square of an 8-bit photograph, float32 in [0, 1].

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
    """The mean of the colour channels, `(H, W)`."""
    return photograph if photograph.ndim == 2 else np.asarray(photograph.mean(axis=2))
