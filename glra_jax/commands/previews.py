"""Pictures of a photograph before and after, side by side."""

from pathlib import Path

import numpy as np

from glra_jax.photo import Photo
from glra_jax.photo_writing import write_photo

_ENDING = ".preview.png"


def preview_path(output: Path) -> Path:
    """Where the preview of a written file belongs: beside it."""
    return output.with_name(output.stem + _ENDING)


def is_preview(path: Path) -> bool:
    """Tells a preview from other files by its name."""
    return path.name.endswith(_ENDING)


def write_preview(
    before: Photo, after: Photo, path: Path, *, white: float, overwrite: bool
) -> None:
    """Writes two photographs of one size side by side, as PNG of 8 bits without alpha.

    Args:
      before: on the left.
      after: on the right.
      path: the file to write.
      white: value of white in both.
      overwrite: whether a file may be replaced.

    Raises:
      FileExistsError: the file exists and `overwrite` is False.
      OSError: what else `write_photo` raises.
    """
    both = np.concatenate([eight_bits(p.colour, white) for p in (before, after)], axis=1)
    profile = {k: v for k, v in before.metadata.items() if k == "icc_profile"}
    write_photo(Photo(both, None, profile), path, overwrite=overwrite)


def eight_bits(colour: np.ndarray, white: float) -> np.ndarray:
    """A photograph's values as a screen shows them, uint8; black where there are none."""
    shown = np.clip(colour.astype(np.float32) / np.float32(white), 0.0, 1.0)
    return np.rint(255.0 * np.nan_to_num(shown)).astype(np.uint8)
