"""Plan of a correlation for `overlap_save`: its tiles, and their estimated cost."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Rates of a CPU with two cores, for choosing between shapes; only their ratios matter.
_MULTIPLY_ADDS = 6.0e10  # a second, in matrix products
_FLOATS_MOVED = 2.5e9  # float32 values written or read a second
_CHUNK_FLOATS = 1 << 20  # working set of one step of the loop over frequencies: 4 MiB


class Plan(NamedTuple):
    """Tiles of one correlation. Pairs are (vertical, horizontal); all in pixels.

    Attributes:
      window: of the filters; `(1, w)` makes tiles one-dimensional.
      tile: size of the tiles and of their DFT.
      counts: tiles along each axis.
      chunk: first-stage frequencies that one step of the loop works on.
    """

    window: tuple[int, int]
    tile: tuple[int, int]
    counts: tuple[int, int]
    chunk: int

    @property
    def step(self) -> tuple[int, int]:
        """Outputs that one tile gives."""
        return self.tile[0] - self.window[0] + 1, self.tile[1] - self.window[1] + 1

    @property
    def axes(self) -> tuple[int, int]:
        """Lengths of the first and second stage's transforms."""
        if self.window[0] > 1:
            return self.tile[1], self.tile[0]
        return self.tile[1] // _fold(self.tile[1]), _fold(self.tile[1])

    @property
    def filter_axes(self) -> tuple[int, int]:
        """Extent of the filters along the two stages."""
        if self.window[0] > 1:
            return self.window[1], self.window[0]
        return -(-self.window[1] // self.axes[1]), self.axes[1]

    @property
    def output_axes(self) -> tuple[int, int]:
        """Extent of the outputs along the two stages."""
        if self.window[0] > 1:
            return self.step[1], self.step[0]
        return -(-self.step[1] // self.axes[1]), self.axes[1]

    @property
    def frequencies(self) -> int:
        """First-stage frequencies (half the spectrum), filled up to whole chunks."""
        half = self.axes[0] // 2 + 1
        return -(-half // self.chunk) * self.chunk


def _fold(length: int) -> int:
    """Length of the second stage of a one-dimensional transform: the divisor nearest the root."""
    divisors = [n for n in range(1, length + 1) if length % n == 0]
    return min(divisors, key=lambda n: (abs(math.log(n * n / length)), n))


def _tile_sizes(length: int, window: int, multiple: int) -> Iterator[int]:
    """Tile sizes worth trying along one axis: those that divide the outputs into equal parts."""
    if window == 1 and multiple == 1:
        yield 1
        return
    outputs = length - window + 1
    sizes = set()
    for count in range(1, outputs + 1):
        size = -(-outputs // count) + window - 1
        size = -(-size // multiple) * multiple
        if size < 1.25 * window and count > 1:
            break
        if size <= 1024 or count == outputs:
            sizes.add(size)
    yield from sorted(sizes) or [-(-window // multiple) * multiple]


def estimate_seconds(plan: Plan, batch: int, channels: tuple[int, int]) -> float:
    """Estimated time of the forward pass: multiply-adds and values moved, at fixed rates."""
    (t1, t2), (k1, k2), (s1, s2) = plan.axes, plan.filter_axes, plan.output_axes
    c, o = channels
    f = t1 // 2 + 1
    n = batch * plan.counts[0] * plan.counts[1]
    tiles = (2 * f * t1 * t2 + 6 * f * t2 * t2) * n * c
    filters = (2 * f * k1 * k2 + 6 * f * t2 * k2) * c * o
    outputs = (6 * f * t2 * s2 + 2 * f * s1 * s2) * n * o
    products = 3 * f * t2 * n * c * o
    moved = (t1 * t2 + 10 * f * t2) * n * c + (4 * f * k2 + 6 * f * t2) * c * o
    moved += (6 * f * t2 + 4 * f * s2 + s1 * s2) * n * o
    return (tiles + filters + outputs + products) / _MULTIPLY_ADDS + moved / _FLOATS_MOVED


def make_plan(batch: int, size: tuple[int, ...], filters: tuple[int, ...]) -> Plan:
    """The plan with the lowest estimate.

    Args:
      batch: number of images.
      size: `(H, W)`, padding included.
      filters: `(h, w, C, O)`, `w` above 1.

    Returns:
      The plan.
    """
    window, channels = (filters[0], filters[1]), (filters[2], filters[3])
    one_dimensional = window[0] == 1
    heights = [1] if one_dimensional else _tile_sizes(size[0], window[0], 2)
    widths = list(_tile_sizes(size[1], window[1], 16 if one_dimensional else 2))
    plans = [_with_tile(batch, size, window, channels, (th, tw)) for th in heights for tw in widths]
    return min(plans, key=lambda plan: estimate_seconds(plan, batch, channels))


def _with_tile(
    batch: int,
    size: tuple[int, ...],
    window: tuple[int, int],
    channels: tuple[int, int],
    tile: tuple[int, int],
) -> Plan:
    counts = [-(-(n - k + 1) // (t - k + 1)) for n, k, t in zip(size, window, tile, strict=True)]
    plan = Plan(window, tile, (counts[0], counts[1]), 1)
    n, (c, o) = batch * counts[0] * counts[1], channels
    floats = 3 * plan.axes[1] * (n * c + c * o + n * o)
    return plan._replace(chunk=int(np.clip(_CHUNK_FLOATS // floats, 1, plan.axes[0] // 2 + 1)))
