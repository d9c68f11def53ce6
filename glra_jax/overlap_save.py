"""Correlation through small DFTs written as matrix products: the spectral way of `correlate`.

Overlap-save: the image is cut into overlapping tiles, tiles and filters are transformed by a DFT of
the tile's size, multiplied frequency by frequency, and only the outputs that no wrap-around touches
are kept. Everything is real arithmetic in matrix products:

* a tile is transformed in two stages, rows and columns, each a product with constant matrices. A
  two-dimensional tile has its own two axes; a one-dimensional tile of length `T1 T2` is folded into
  `T1` rows of `T2` (Cooley & Tukey 1965), and the twiddle factors are part of the second matrices;
* a complex product takes three real ones (Gauss): with `X = c + id` and `W = a + ib`,
  `k1 = a(c + d)`, `k2 = c(b - a)`, `k3 = d(a + b)`, `X W = (k1 - k3) + i(k1 + k2)`. The sums are
  folded into the constant matrices, so that they cost nothing;
* a loop over the frequencies of the first stage keeps what it works on in the processor's cache,
  and the spectra of the filters (30 times their size) never lie in memory as a whole.

Arrays inside are `(first axis, second axis, images or channels ...)`, the first axis being the
width of a two-dimensional tile: `fold_*` and `unfold_outputs` translate.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Rates of a CPU with two cores, for choosing between shapes; only their ratios matter.
_MULTIPLY_ADDS = 6.0e10  # a second, in matrix products
_FLOATS_MOVED = 2.5e9  # float32 values written or read a second
_CHUNK_FLOATS = 1 << 20  # working set of one step of the loop over frequencies: 4 MiB


class Plan(NamedTuple):
    """How one correlation is cut up. Pairs are (vertical, horizontal); all in pixels.

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
    """Tile sizes worth trying along one axis: those that share the outputs out evenly."""
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
    if plan.window[0] == 1:
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


# --- constant matrices ------------------------------------------------------------------------


class _Matrices(NamedTuple):
    """Constant matrices of a plan, float32.

    `rows` act on the first axis and have a row (for outputs: a column) for the real and for the
    imaginary part of each frequency. `columns` act on the second axis: `(frequencies or 1, out,
    in)`, the complex parts on one side, the three parts of Gauss' product on the other.
    """

    tile_rows: np.ndarray
    tile_columns: np.ndarray
    filter_rows: np.ndarray
    filter_columns: np.ndarray
    output_columns: np.ndarray
    output_rows: np.ndarray


def _gauss_tile(real: np.ndarray, imag: np.ndarray) -> list[np.ndarray]:
    return [real + imag, real, imag]


def _gauss_filter(real: np.ndarray, imag: np.ndarray) -> list[np.ndarray]:
    return [real, imag - real, real + imag]


def _gauss_output(of_real: np.ndarray, of_imag: np.ndarray) -> list[np.ndarray]:
    """Turns weights of (k1 - k3) and (k1 + k2) into weights of k1, k2, k3."""
    return [of_real + of_imag, of_imag, -of_real]


def _matrices(plan: Plan) -> _Matrices:
    (t1, t2), (k1, k2), (s1, s2) = plan.axes, plan.filter_axes, plan.output_axes
    half = t1 // 2 + 1
    spare = plan.frequencies - half

    # First stage, (frequency, position).
    angle = 2 * np.pi * np.outer(np.arange(half), np.arange(t1)) / t1
    cos, sin = np.cos(angle), np.sin(angle)
    weight = np.full((half, 1), 2.0)  # each frequency stands for its conjugate too
    weight[0] = 1.0
    if t1 % 2 == 0:
        weight[-1] = 1.0

    def rows(real: np.ndarray, imag: np.ndarray) -> np.ndarray:
        stacked = np.pad(np.stack([real, imag], axis=1), ((0, spare), (0, 0), (0, 0)))
        return stacked.reshape(2 * plan.frequencies, -1).astype(np.float32)

    # Second stage, (first frequency or 1, frequency, position).
    turns = np.outer(np.arange(t2), np.arange(t2))[None] / t2
    if plan.window[0] == 1:
        twiddles = np.arange(half)[:, None, None] * np.arange(t2) / (t1 * t2)
        turns = np.pad(turns + twiddles, ((0, spare), (0, 0), (0, 0)))
    c, s = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    ci, si = (np.swapaxes(m, 1, 2)[:, :s2] / (t1 * t2) for m in (c, s))  # (.., position, frequency)

    def columns(outputs: list[list[np.ndarray]]) -> np.ndarray:
        blocks = [np.concatenate(inputs, axis=2) for inputs in outputs]
        return np.concatenate(blocks, axis=1).astype(np.float32)

    def gauss(
        parts: Callable, real: list[np.ndarray], imag: list[np.ndarray]
    ) -> list[list[np.ndarray]]:
        """Three rows of blocks from the rows for the real and for the imaginary part."""
        pairs = [parts(r, i) for r, i in zip(real, imag, strict=True)]
        return [list(row) for row in zip(*pairs, strict=True)]

    # Tiles: exp(-i…) of (real, imaginary) input. Filters: the conjugate, as correlation has it.
    ck, sk = c[..., :k2], s[..., :k2]
    return _Matrices(
        tile_rows=rows(cos, -sin),
        tile_columns=columns(gauss(_gauss_tile, [c, s], [-s, c])),
        filter_rows=rows(cos[:, :k1], sin[:, :k1]),
        filter_columns=columns(gauss(_gauss_filter, [ck, -sk], [sk, ck])),
        output_columns=columns([_gauss_output(ci, -si), _gauss_output(si, ci)]),  # exp(+i…)
        output_rows=rows((weight * cos)[:, :s1], (-weight * sin)[:, :s1]).T,
    )


# --- layout -----------------------------------------------------------------------------------


def _cut(x: jax.Array, axis: int, tile: int, step: int, count: int) -> jax.Array:
    """Replaces an axis by (count, tile): windows of length `tile`, `step` apart, zeros beyond."""
    pieces = []
    for start in range(0, tile, step):
        part = jax.lax.slice_in_dim(
            x, min(start, x.shape[axis]), min(x.shape[axis], start + count * step), axis=axis
        )
        fill = [(0, 0)] * x.ndim
        fill[axis] = (0, count * step - part.shape[axis])
        part = jnp.pad(part, fill)
        part = part.reshape(*x.shape[:axis], count, step, *x.shape[axis + 1 :])
        pieces.append(jax.lax.slice_in_dim(part, 0, min(step, tile - start), axis=axis + 1))
    return jnp.concatenate(pieces, axis=axis + 1)


def fold_tiles(x: jax.Array, plan: Plan) -> jax.Array:
    """`(N, H, W, C)` to `(t1, t2, N, rows of tiles, columns of tiles, C)`."""
    x = _cut(x, 2, plan.tile[1], plan.step[1], plan.counts[1])
    if plan.window[0] == 1:
        x = x.transpose(3, 0, 1, 2, 4)
        return x.reshape(*plan.axes, *x.shape[1:])
    x = _cut(x, 1, plan.tile[0], plan.step[0], plan.counts[0])
    return x.transpose(4, 2, 0, 1, 3, 5)


def fold_filters(filters: jax.Array, plan: Plan) -> jax.Array:
    """`(h, w, C, O)` to `(k1, k2, C, O)`."""
    if plan.window[0] > 1:
        return filters.swapaxes(0, 1)
    fill = math.prod(plan.filter_axes) - plan.window[1]
    filters = jnp.pad(filters[0], ((0, fill), (0, 0), (0, 0)))
    return filters.reshape(*plan.filter_axes, *filters.shape[1:])


def unfold_outputs(out: jax.Array, plan: Plan) -> jax.Array:
    """`(s1, s2, N, rows of tiles, columns of tiles, O)` to `(N, H, W, O)`, with spare edges."""
    if plan.window[0] == 1:
        out = out.reshape(-1, *out.shape[2:])[: plan.step[1]].transpose(1, 2, 3, 0, 4)
        return out.reshape(*out.shape[:2], -1, out.shape[4])
    out = out.transpose(2, 3, 1, 4, 0, 5)
    return out.reshape(out.shape[0], out.shape[1] * out.shape[2], -1, out.shape[5])


# --- the correlation and its transposes -------------------------------------------------------

_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def _first_stage(matrix: np.ndarray, x: jax.Array, plan: Plan) -> jax.Array:
    """`(t1, t2, ...)` to `(loops, chunk, 2 t2, -1)`: frequencies first, by chunks."""
    out = _matmul(matrix, x.reshape(x.shape[0], -1))
    loops = plan.frequencies // plan.chunk
    return out.reshape(loops, plan.chunk, 2 * x.shape[1], -1)


def _undo_first_stage(matrix: np.ndarray, x: jax.Array, second: int) -> jax.Array:
    """`(loops, chunk, 2 second, m)` to `(first, second, m)`."""
    return _matmul(matrix, x.reshape(matrix.shape[1], -1)).reshape(matrix.shape[0], second, -1)


def _second_stage(matrix: np.ndarray | jax.Array, x: jax.Array) -> jax.Array:
    """Products `(chunk or 1, out, in)` with `(chunk, in, m)`."""
    if x.shape[0] == 1:
        return _matmul(matrix[0], x[0])[None]
    # A plain batched product is much faster on CPUs than one that shares its left side.
    return _matmul(jnp.broadcast_to(matrix, (x.shape[0], *matrix.shape[1:])), x)


def _by_chunks(matrix: np.ndarray, plan: Plan) -> jax.Array:
    """Second-stage matrices as the loop takes them: `(loops, chunk or 1, out, in)`."""
    loops = plan.frequencies // plan.chunk
    if matrix.shape[0] == 1:
        return jnp.broadcast_to(matrix, (loops, *matrix.shape))
    return jnp.asarray(matrix).reshape(loops, plan.chunk, *matrix.shape[1:])


def _transposed(matrix: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.swapaxes(matrix, -1, -2))


def _as_matrices(x: jax.Array, columns: int) -> jax.Array:
    """`(chunk, frequency, m)` to a batch of matrices with so many columns."""
    return x.reshape(*x.shape[:2], -1, columns)


def _as_vectors(x: jax.Array) -> jax.Array:
    return x.reshape(*x.shape[:2], -1)


def _loop(step: Callable, *operands: jax.Array) -> Any:
    return jax.lax.scan(lambda _, xs: (None, step(*xs)), None, operands)[1]


@jax.custom_vjp
def correlate_spectral(x: jax.Array, filters: jax.Array) -> jax.Array:
    """Valid correlation of `(N, H, W, C)` with `(h, w, C, O)`, `w > 1`; float32.

    Has first and second reverse-mode derivatives, but no forward-mode ones.
    """
    plan = make_plan(x.shape[0], x.shape[1:3], filters.shape)
    mats = _matrices(plan)
    c, o = filters.shape[2:]
    tiles = _first_stage(mats.tile_rows, fold_tiles(x, plan), plan)
    weights = _first_stage(mats.filter_rows, fold_filters(filters, plan), plan)
    columns = [
        _by_chunks(m, plan) for m in (mats.tile_columns, mats.filter_columns, mats.output_columns)
    ]

    def step(tile: jax.Array, weight: jax.Array, *columns: jax.Array) -> jax.Array:
        tile = _as_matrices(_second_stage(columns[0], tile), c)
        weight = _as_matrices(_second_stage(columns[1], weight), o)
        return _second_stage(columns[2], _as_vectors(_matmul(tile, weight)))

    out = _undo_first_stage(
        mats.output_rows, _loop(step, tiles, weights, *columns), plan.output_axes[1]
    )
    out = unfold_outputs(out.reshape(*plan.output_axes, *_tile_grid(x, plan), o), plan)
    return out[:, : x.shape[1] - plan.window[0] + 1, : x.shape[2] - plan.window[1] + 1]


def _tile_grid(x: jax.Array, plan: Plan) -> tuple[int, int, int]:
    return (x.shape[0], *plan.counts)


def _forward(x: jax.Array, filters: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return correlate_spectral(x, filters), (x, filters)


def _backward(
    residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The transposes of the same matrices, in the order that leaves plain matrix products.

    What is needed transposed is laid out so before its transform, where it is small, not after.
    """
    x, filters = residuals
    plan = make_plan(x.shape[0], x.shape[1:3], filters.shape)
    mats = _matrices(plan)
    c, o = filters.shape[2:]
    grid = _tile_grid(x, plan)
    n = math.prod(grid)

    def unfold(out: jax.Array) -> jax.Array:
        return unfold_outputs(out, plan)[:, : cotangent.shape[1], : cotangent.shape[2]]

    outputs = jax.ShapeDtypeStruct((*plan.output_axes, *grid, o), cotangent.dtype)
    (dy,) = jax.linear_transpose(unfold, outputs)(cotangent)
    dy = _first_stage(_transposed(mats.output_rows), dy, plan)
    folded = fold_filters(filters, plan)
    weights = _first_stage(mats.filter_rows, folded.swapaxes(2, 3), plan)
    tiles = jnp.moveaxis(fold_tiles(x, plan), -1, 2)
    tiles = _first_stage(mats.tile_rows, tiles, plan)
    columns = [
        _by_chunks(m, plan)
        for m in (
            _transposed(mats.output_columns),
            mats.filter_columns,
            mats.tile_columns,
            _transposed(mats.tile_columns),
            _transposed(mats.filter_columns),
        )
    ]

    def step(
        dy: jax.Array, weight: jax.Array, tile: jax.Array, *columns: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        dy = _as_matrices(_second_stage(columns[0], dy), o)
        dx = _matmul(dy, _as_matrices(_second_stage(columns[1], weight), c))
        dw = _matmul(_as_matrices(_second_stage(columns[2], tile), n), dy)
        return (
            _second_stage(columns[3], _as_vectors(dx)),
            _second_stage(columns[4], _as_vectors(dw)),
        )

    dx, dw = _loop(step, dy, weights, tiles, *columns)
    dx = _undo_first_stage(_transposed(mats.tile_rows), dx, plan.axes[1])
    (dx,) = jax.linear_transpose(partial(fold_tiles, plan=plan), x)(
        dx.reshape(*plan.axes, *grid, c)
    )
    dw = _undo_first_stage(_transposed(mats.filter_rows), dw, plan.filter_axes[1])
    (dw,) = jax.linear_transpose(partial(fold_filters, plan=plan), filters)(
        dw.reshape(*plan.filter_axes, c, o)
    )
    return dx, dw


correlate_spectral.defvjp(_forward, _backward)
