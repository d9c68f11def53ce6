"""Correlation through small DFTs written as matrix products: the spectral method of `correlate`.

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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax.correlation.tile_plan import Plan, make_plan
from glra_jax.precision import product_precision

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


def _matmul(a: jax.Array | np.ndarray, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=product_precision())


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


@partial(jax.tree_util.register_dataclass, data_fields=("values",), meta_fields=("plan", "shape"))
@dataclass(frozen=True)
class Spectrum:
    """Filters transformed for one plan, for images that all have the size of that plan. A pytree.

    Attributes:
      values: `(loops, chunk, 3 t2, C O)` float32.
      plan: static.
      shape: of the filters, `(h, w, C, O)`; static.
    """

    values: jax.Array
    plan: Plan
    shape: tuple[int, int, int, int]


def transform_filters(filters: jax.Array, plan: Plan) -> Spectrum:
    """Transforms filters once, for many images (`correlate_spectrum`)."""
    mats = _matrices(plan)
    weights = _first_stage(mats.filter_rows, fold_filters(filters, plan), plan)
    values = _loop(_second_stage, _by_chunks(mats.filter_columns, plan), weights)
    height, width, c, o = filters.shape
    return Spectrum(values, plan, (height, width, c, o))


def correlate_spectrum(x: jax.Array, spectrum: Spectrum) -> jax.Array:
    """Valid correlation of `(N, H, W, C)` with transformed filters."""

    def transformed(weight: jax.Array) -> jax.Array:
        return weight

    return _correlate(x, spectrum.plan, spectrum.shape, transformed, spectrum.values)


def _correlate(
    x: jax.Array,
    plan: Plan,
    shape: tuple[int, ...],
    transform: Callable[..., jax.Array],
    *weights: jax.Array,
) -> jax.Array:
    """The forward pass; `transform` makes spectra of what the loop slices from `weights`."""
    mats = _matrices(plan)
    c, o = shape[2:]
    grid = (x.shape[0], *plan.counts)
    tiles = _first_stage(mats.tile_rows, fold_tiles(x, plan), plan)
    columns = [_by_chunks(m, plan) for m in (mats.tile_columns, mats.output_columns)]

    def step(tile: jax.Array, into: jax.Array, back: jax.Array, *weights: jax.Array) -> jax.Array:
        tile = _as_matrices(_second_stage(into, tile), c)
        weight = _as_matrices(transform(*weights), o)
        return _second_stage(back, _as_vectors(_matmul(tile, weight)))

    out = _loop(step, tiles, *columns, *weights)
    out = _undo_first_stage(mats.output_rows, out, plan.output_axes[1])
    out = unfold_outputs(out.reshape(*plan.output_axes, *grid, o), plan)
    return out[:, : x.shape[1] - plan.window[0] + 1, : x.shape[2] - plan.window[1] + 1]


@jax.custom_vjp
def correlate_spectral(x: jax.Array, filters: jax.Array) -> jax.Array:
    """Valid correlation of `(N, H, W, C)` with `(h, w, C, O)`, `w > 1`; float32.

    Has first and second reverse-mode derivatives, but no forward-mode ones.
    """
    plan = make_plan(x.shape[0], x.shape[1:3], filters.shape)
    mats = _matrices(plan)
    weights = _first_stage(mats.filter_rows, fold_filters(filters, plan), plan)
    columns = _by_chunks(mats.filter_columns, plan)
    return _correlate(x, plan, filters.shape, _second_stage, columns, weights)


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
    grid = (x.shape[0], *plan.counts)
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
