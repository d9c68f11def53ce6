"""A photograph as a file holds it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

EXIF_HEADER = b"Exif\x00\x00"


@dataclass(frozen=True)
class Photo:
    """A photograph as a file holds it.

    Attributes:
      colour: uint8, uint16 or float32, `(H, W)` or `(H, W, 3)`.
      alpha: `(H, W)` of the same dtype, or None.
      metadata: what is handed on to the written file, as far as its format takes it: `"exif"` and
        `"icc_profile"`, and `"fits"`, the cards of a FITS header. TIFF takes the profile alone, BMP
        and PPM nothing.
      jpeg: noise that the steps of a JPEG file stand for, standard deviation as a part of the full
        range; None for other files.
      notes: what is to be said of how the file was read.
      known: `(H, W)` Boolean, False where the file says that there is no data, NaN in FITS; None
        where it says so of no pixel.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    jpeg: float | None = None
    notes: tuple[str, ...] = ()
    known: np.ndarray | None = None


def split_alpha(pixels: np.ndarray, metadata: dict[str, Any]) -> Photo:
    """Separates colour from alpha; values to the machine's byte order."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.ndim == 2:
        return Photo(pixels, None, metadata)
    channels = pixels.shape[2]
    colour = pixels[..., 0] if channels < 3 else pixels[..., :3]
    return Photo(colour, pixels[..., -1] if channels in (2, 4) else None, metadata)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotates and mirrors a picture as its orientation tag says, as Pillow does."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels
