"""Tiles of images: where they lie, and how they are cut out with what is around them.

Images are `(N, H, W, C)`: NumPy arrays, or what is indexed as these are.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from glra_jax import validation
from glra_jax.networks.architecture import Margins


class Tile(NamedTuple):
    """A piece of a batch of images: which image, its top left corner, which channels.

    `position` counts what goes through the network: images, or their channels.
    """

    position: int
    image: int
    top: int
    left: int
    channels: slice


def widened(size: tuple[int, int], margins: Margins) -> tuple[int, int]:
    """Height and width of a tile with margins."""
    height, width = (side + sum(margin) for side, margin in zip(size, margins, strict=True))
    return height, width


def cut(
    images: Any, tile: Tile, sizes: tuple[int, int], margins: Margins, boundary: str
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a tile with margins out of images, which go on outside of their frame.

    Args:
      images: `(N, H, W, C)`.
      tile: which.
      sizes: height and width to cut.
      margins: what of them lies before the tile; what lies behind it follows from `sizes`.
      boundary: how the images go on.

    Returns:
      float32 `(height, width, C)`, and 1 where it lies in the frame and 0 outside, `(1, height,
      width, 1)`; 1 everywhere with `"wrap"`.
    """
    start = tile.top - margins[0][0], tile.left - margins[1][0]
    rows, columns = _places(start, sizes, images.shape[1:3], boundary)
    part = images[tile.image, rows, columns, tile.channels]
    inside = np.ones((1, *sizes, 1), np.float32)
    if boundary != "wrap":
        inside = _in_frame(start, sizes, images.shape[1:3])
    return part.astype(np.float32), inside


def cut_mask(
    masks: np.ndarray | None,
    tile: Tile,
    sizes: tuple[int, int],
    margins: Margins,
    boundary: str,
) -> np.ndarray | None:
    """Cuts masks `(N, H, W)`, N 1 or that of the images, as `cut` does: 0 outside the frame."""
    if masks is None:
        return None
    start = tile.top - margins[0][0], tile.left - margins[1][0]
    rows, columns = _places(start, sizes, masks.shape[1:], boundary)
    part = masks[tile.image if len(masks) > 1 else 0, rows, columns].astype(np.float32)
    if boundary != "wrap":
        return part[None, ..., None] * _in_frame(start, sizes, masks.shape[1:])
    return part[None, ..., None]


def put_tile(images: np.ndarray, tile: Tile, out: np.ndarray) -> None:
    """Writes a restored tile where it belongs, as far as it lies in the image."""
    height, width = out.shape[:2]
    place = images[
        tile.image, tile.top : tile.top + height, tile.left : tile.left + width, tile.channels
    ]
    place[...] = out[: place.shape[0], : place.shape[1]]


def _places(
    start: tuple[int, int], sizes: tuple[int, int], shape: tuple[int, ...], boundary: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of an image that stand for those of a tile, `(h, 1)` and `(1, w)`."""
    rows, columns = (
        _inside(first, first + size, whole, boundary)
        for first, size, whole in zip(start, sizes, shape, strict=True)
    )
    return rows[:, None], columns[None, :]


def tiles_of(shape: tuple[int, ...], tile: tuple[int, int], *, together: bool) -> Iterator[Tile]:
    """Yields the tiles of a batch, row by row; channels together, or one by one."""
    count, height, width, channels = shape
    groups = [slice(None)] if together else [slice(c, c + 1) for c in range(channels)]
    for image in range(count):
        for top in range(0, height, tile[0]):
            for left in range(0, width, tile[1]):
                for place, group in enumerate(groups):
                    yield Tile(image * len(groups) + place, image, top, left, group)


def _inside(start: int, stop: int, size: int, boundary: str) -> np.ndarray:
    """Positions that stand for `start ... stop - 1` along an axis, as `numpy.pad` has it."""
    validation.check_choice(boundary, "boundary", ("edge", "reflect", "wrap"))
    index = np.arange(start, stop)
    if boundary == "edge" or size == 1:
        return np.clip(index, 0, size - 1)
    if boundary == "wrap":
        return index % size
    return np.abs((index + size - 1) % (2 * size - 2) - (size - 1))


def _in_frame(start: tuple[int, int], sizes: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Mask of a tile, `(1, H, W, 1)`: 1 where it lies in an image of a shape."""
    rows, columns = (
        (np.arange(first, first + size) >= 0) & (np.arange(first, first + size) < whole)
        for first, size, whole in zip(start, sizes, shape, strict=True)
    )
    return (rows[:, None] & columns[None, :]).astype(np.float32)[None, ..., None]
