"""Photographs to play with, where scikit-image is installed."""

import importlib.util
from pathlib import Path

import numpy as np

from glra_jax.photo import Photo
from glra_jax.photo_files import write_photo

_NAMES = ("astronaut", "coffee", "chelsea")  # those in its wheel, in colour


def example_names() -> tuple[str, ...]:
    """Names of the photographs; none without scikit-image."""
    return _NAMES if importlib.util.find_spec("skimage") is not None else ()


def write_example(name: str, folder: Path) -> Path:
    """Writes a photograph of 8 bits as PNG into a folder.

    Raises:
      ValueError: an unknown name.
    """
    if name not in _NAMES:
        raise ValueError(f"no example {name!r}; there are {', '.join(_NAMES)}")
    from skimage import data

    path = folder / f"{name}.png"
    write_photo(Photo(np.asarray(getattr(data, name)())), path)
    return path
