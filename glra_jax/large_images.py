"""Restoring images that need not fit into memory, such as `numpy.memmap`s, into others of the kind.

The image is read twice, in pieces: once for what a tile cannot know of the whole, such as its mean
brightness, and once tile by tile. Time grows with the number of pixels, and memory does not.
"""

import errno
import math
import mmap
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from glra_jax import validation
from glra_jax.conditions import told_for
from glra_jax.geometry import goes_together
from glra_jax.networks.architecture import ImageFacts
from glra_jax.noise_behind_blur import middle
from glra_jax.restoration import check_photograph
from glra_jax.restorer import Restorer
from glra_jax.tiles import Tile
from glra_jax.units import ABOVE_WHITE, HEADROOM, means_of_nine, noise_in_unit

# Values that are read at a time while looking at the whole.
_PIECE = 1 << 22
# The most pixels from which the noise is estimated.
_LOOKED_AT = 1 << 20


def restore_large(
    restorer: Restorer,
    y: np.ndarray,
    out: np.ndarray,
    *,
    boundary: str = "edge",
    scale: float | None = None,
    progress: bool = False,
) -> int:
    """Restores an image into another array, tile by tile; neither is ever in memory as a whole.

    Args:
      restorer: from `prepare`.
      y: `(H, W)` or `(H, W, C)`, floating, uint8 or uint16; such as `numpy.load(path,
        mmap_mode="r")`.
      out: where to write, of the shape of `y` and its dtype or a floating one; such as
        `numpy.lib.format.open_memmap(path, "w+", y.dtype, y.shape)`. No part of `y`.
      boundary: how the image goes on outside, `"edge"`, `"reflect"` or `"wrap"`; see `deconvolve`.
      scale: value of white in `y`; None takes the largest of its integers, and for floats what
        `deconvolve` does.
      progress: whether to show a bar with the time left.

    Returns:
      Number of values that integers of `out` cannot hold, and that are written as 0 or white.
      `out` then holds what calling the restorer gives, in the unit of `y`, rounded if it holds
      integers. The noise, where it is not given and a low-rank model depends on it, is estimated
      from the middle, of at most 1024×1024 pixels.

    Raises:
      OSError: no room for the temporary file of a model that ends with a step back to the data.
      TypeError: arrays of other dtypes.
      ValueError: as `deconvolve`; `out` of another shape, or in the place of `y`.
    """
    _check_arrays(y, out)
    validation.check_choice(boundary, "boundary", ("edge", "reflect", "wrap"))
    if scale is not None:
        validation.check_positive(scale, "scale")
    images = y.reshape((1, *y.shape, *(1,) * (3 - y.ndim)))
    facts = _look(images)
    unit = _unit(y, facts, scale)
    seen = _Scaled(images, unit)
    architecture = restorer.model.architecture
    check_photograph(seen[:, :1, :1][0], boundary, architecture, restorer.kernel)
    if restorer.noise is not None and unit != 1.0:
        noise = noise_in_unit(restorer.noise, unit)
        restorer = restorer.with_kernel(restorer.kernel, noise=noise, inverse=restorer.inverse)
    small = math.prod(y.shape[:2]) <= _LOOKED_AT
    part = (seen[:] if small and not architecture.by_image else middle(seen)[0])[0]
    together = goes_together(part, architecture)
    told = told_for(
        *(architecture, restorer.model.constants, restorer.kernel, part),
        noise=restorer.noise,
        inverse=restorer.inverse,
        whole=facts.of_images(unit, together=together),
    )
    sink = _Sink(out.reshape(images.shape), unit)
    files = [images, out]

    def release() -> None:
        for file in files:
            let_go(file)

    def scratch() -> np.ndarray:
        # Without a name, so that nothing is left of it however the process ends.
        with tempfile.TemporaryFile(prefix="glra-jax-") as file:
            size = images.size * np.dtype(np.float32).itemsize
            take_room(file.fileno(), size, tempfile.gettempdir(), how="name another by TMPDIR")
            files.append(np.memmap(file, np.float32, "w+", shape=images.shape))
        return files[-1]

    restorer.restore_tiles(
        seen,
        None,
        told,
        boundary=boundary,
        put=sink.put,
        scratch=scratch,
        after_tile=release,
        progress=progress,
    )
    return sink.beyond


def _check_arrays(y: Any, out: Any) -> None:
    """Raises what `restore_large` says of its arrays."""
    for name, array in (("y", y), ("out", out)):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
        if array.dtype.kind != "f" and array.dtype not in (np.uint8, np.uint16):
            raise TypeError(f"{name} must be floating, uint8 or uint16, got {array.dtype}")
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(
                f"{name} is a masked array, whose masked values would be taken as they are; fill "
                f"them in and pass {name}.filled(...)"
            )
    if y.ndim not in (2, 3) or 0 in y.shape:
        raise ValueError(f"y must be (H, W) or (H, W, C) with pixels, got shape {y.shape}")
    if out.shape != y.shape:
        raise ValueError(f"out of shape {out.shape} must have the shape of y, {y.shape}")
    if out.dtype.kind != "f" and out.dtype != y.dtype:
        raise TypeError(f"out must be floating or {y.dtype}, as y is, got {out.dtype}")
    names = [getattr(array, "filename", None) for array in (y, out)]
    # A name may be text or a path, and lead over links.
    files = [None if name is None else os.path.realpath(name) for name in names]
    if np.may_share_memory(y, out) or (files[0] is not None and files[0] == files[1]):
        raise ValueError("out is in the place of y, which is still read; give another array")


@dataclass(frozen=True)
class _Facts:
    """What is seen by looking at all of an image `(1, H, W, C)`, in its own unit.

    Attributes:
      bad: number of values that are NaN or infinite.
      low: least value.
      high: greatest value of each channel, `(C,)`.
      smooth: greatest mean of 3×3 pixels; -inf for integers, where it is not needed.
      mean: of each channel, `(C,)`.
      grey: whether all channels are the same.
    """

    bad: int
    low: float
    high: np.ndarray
    smooth: float
    mean: np.ndarray
    grey: bool

    def of_images(self, unit: float, *, together: bool) -> tuple[np.ndarray, ImageFacts]:
        """What is told of the images that go through a network: all channels, or each."""
        high, mean = ((part / unit).astype(np.float32) for part in (self.high, self.mean))
        if together:
            grey = np.array([self.grey], np.float32)
            return high.max(keepdims=True), ImageFacts(grey, mean[None])
        return high, ImageFacts(np.ones(len(mean), np.float32), mean[:, None])


def _look(images: np.ndarray) -> _Facts:
    _, height, width, channels = images.shape
    bad, low, smooth, grey = 0, math.inf, -math.inf, True
    high, total = np.full(channels, -math.inf), np.zeros(channels)
    floating = images.dtype.kind == "f"
    for first, last in _pieces(height, width * channels):
        start = max(0, first - 1)  # a row more on both sides, for the means of 3×3
        piece = np.asarray(images[:, start : last + 1])
        within = slice(first - start, last - start)
        rows = piece[0, within]
        if floating:
            rows = rows.astype(np.float32)
            missing = validation.count_not_finite(rows)
            bad += missing
            if missing:
                continue
            if piece.max() > ABOVE_WHITE:
                means = means_of_nine(piece.astype(np.float32), np)[:, within]
                smooth = max(smooth, float(means.max()))
        low = min(low, float(rows.min()))
        high = np.maximum(high, rows.max(axis=(0, 1)))
        total += rows.sum(axis=(0, 1), dtype=np.float64)
        grey = grey and bool((rows == rows[..., :1]).all())
        let_go(images)
    return _Facts(bad, low, high, smooth, total / (height * width), grey)


def _pieces(height: int, row: int) -> Iterator[tuple[int, int]]:
    rows = max(1, _PIECE // row)
    for first in range(0, height, rows):
        yield first, min(height, first + rows)


def _unit(y: np.ndarray, facts: _Facts, scale: float | None) -> float:
    """Value of white, as `glra_jax.units.unit_of` has it; raises for values that cannot be."""
    if facts.bad:
        raise ValueError(f"y holds {facts.bad} NaN or infinite values of {y.size}; replace them")
    high = float(facts.high.max())
    if scale is not None:
        unit = float(scale)
    elif y.dtype.kind == "u":
        unit = float(np.iinfo(y.dtype).max)
    else:
        unit = 1.0
    validation.check_range(np.array([facts.low, high], np.float32), "y", unit=unit)
    if scale is None and facts.smooth > ABOVE_WHITE:
        return HEADROOM * high
    return unit


@dataclass(frozen=True)
class _Scaled:
    """Images in a unit, read where they are indexed: float32, white is 1."""

    array: np.ndarray
    unit: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def ndim(self) -> int:
        return self.array.ndim

    def __getitem__(self, key: Any) -> np.ndarray:
        part = np.asarray(self.array[key]).astype(np.float32)
        return part if self.unit == 1.0 else part / np.float32(self.unit)


class _Sink:
    """Takes restored tiles into an array, in its unit.

    Attributes:
      beyond: number of values that integers could not hold.
    """

    def __init__(self, array: np.ndarray, unit: float) -> None:
        self._array, self._unit = array, unit
        self.beyond = 0

    def put(self, tile: Tile, out: np.ndarray) -> None:
        place = self._array[
            tile.image,
            tile.top : tile.top + out.shape[0],
            tile.left : tile.left + out.shape[1],
            tile.channels,
        ]
        values = out[: place.shape[0], : place.shape[1]].astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(
                f"the tile at row {tile.top}, column {tile.left} is restored to NaN or infinite "
                f"values; take another model, or a larger regularization"
            )
        values = values if self._unit == 1.0 else values * np.float32(self._unit)
        if self._array.dtype.kind == "u":
            top = np.iinfo(self._array.dtype).max
            self.beyond += int(((values > top + 0.5) | (values < -0.5)).sum())
            values = np.rint(np.clip(values, 0.0, top))
        place[...] = values


def take_room(
    file: int, size: int, folder: str | os.PathLike[str], *, how: str = "choose another"
) -> None:
    """Takes room on the disk for a file that is to be mapped, where the system can.

    Without it, a disk that is full later would end the process, without a word.

    Args:
      file: number of the open file.
      size: of it, in bytes.
      folder: that an error names.
      how: what it says to do.

    Raises:
      OSError: the disk has no room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot
            return
        raise OSError(
            error.errno,
            f"the folder {folder} has no room for {size} bytes; {how}: {error.strerror}",
        ) from error


def let_go(array: np.ndarray) -> None:
    """Lets the system take back what a file's pages occupy in memory; their contents are kept.

    Without it, all of a file that was looked at counts as memory of the process, until something
    else asks for it.
    """
    owner: Any = array
    while owner is not None:
        mode = getattr(owner, "mode", None)
        if isinstance(owner, np.memmap) and mode in ("r", "r+", "w+"):  # "c" is in memory alone
            pages: Any = vars(owner).get("_mmap")
            if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
                pages.madvise(mmap.MADV_DONTNEED)
            return
        owner = getattr(owner, "base", None)
