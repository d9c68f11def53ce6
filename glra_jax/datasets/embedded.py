"""The photographs that come in scikit-image's wheel: the default data, no download needed."""

import numpy as np

from glra_jax import validation

SPLITS = {
    "train": ("astronaut", "brick", "camera", "chelsea", "grass", "gravel", "rocket"),
    "test": ("coffee", "coins"),
}


def embedded_photographs(split: str) -> dict[str, np.ndarray]:
    """Photographs by name.

    Args:
      split: `"train"` or `"test"`; no photograph is in both.

    Returns:
      uint8 arrays, `(H, W)` or `(H, W, 3)`.

    Raises:
      ValueError: unknown split.
      ImportError: scikit-image is missing (extra `experiments`).
    """
    validation.check_choice(split, "split", tuple(SPLITS))
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            "the embedded photographs come with scikit-image: pip install 'glra-jax[experiments]'"
        ) from error
    return {name: np.asarray(getattr(data, name)()) for name in SPLITS[split]}
