"""Correlation of image batches with banks of filters, directly or through small DFTs.

Images are `(N, H, W, C)`, filters `(h, w, C, O)` (HWIO), float32. `correlate` slides each filter
over the image without turning it round, as the layers of a network do.

The spectral way is overlap-save: the image is cut into overlapping tiles, tiles and filters are
transformed by a DFT of the tile's size, multiplied frequency by frequency, and only the outputs
that no wrap-around touches are kept. Everything is real arithmetic in matrix products:

* the DFT of a tile is two products with constant matrices, one an axis;
* a complex product takes three real ones (Gauss): with `X = c + id` and `W = a + ib`,
  `k1 = a(c + d)`, `k2 = c(b - a)`, `k3 = d(a + b)`, `X W = (k1 - k3) + i(k1 + k2)`. The sums are
  folded into the constant matrices, so that they cost nothing;
* a loop over the frequencies of one axis keeps what it works on in the processor's cache, and the
  spectra of the filters (30 times their size) never lie in memory as a whole.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation

METHODS = ("auto", "direct", "spectral")

Padding = str | int | Sequence[tuple[int, int]]


def correlate(
    x: jax.Array, filters: jax.Array, *, padding: Padding = "valid", method: str = "auto"
) -> jax.Array:
    """Correlates every image with every filter and sums over input channels.

    `out[n, i, j, o] = Σ_{u, v, c} x[n, i + u, j + v, c] filters[u, v, c, o]`, after padding with
    zeros. The spectral way agrees with the direct one to about 1e-6 of the largest output; it has
    first and second reverse-mode derivatives, but no forward-mode ones.

    Args:
      x: `(N, H, W, C)` float.
      filters: `(h, w, C, O)` float.
      padding: `"valid"` for none; an int for both sides of both axes; or
        `((top, bottom), (left, right))`.
      method: `"direct"` is `lax.conv_general_dilated`, `"spectral"` goes through DFTs, `"auto"`
        takes the one that its cost model expects to be faster on the default backend.

    Returns:
      `(N, H + top + bottom - h + 1, W + left + right - w + 1, O)`.

    Raises:
      ValueError: ranks or channels that do not fit, an unknown method, or a window larger than the
        padded image.
    """
    validation.check_choice(method, "method", METHODS)
    if x.ndim != 4 or filters.ndim != 4 or x.shape[3] != filters.shape[2]:
        raise ValueError(
            f"expected images (N, H, W, C) and filters (h, w, C, O) of the same C, "
            f"got {x.shape} and {filters.shape}"
        )
    pads = _explicit_padding(padding)
    height, width = (n + sum(p) for n, p in zip(x.shape[1:3], pads, strict=True))
    window = filters.shape[:2]
    if window[0] > height or window[1] > width:
        raise ValueError(f"window {window} is larger than the padded image ({height}, {width})")
    if window == (1, 1) and not any(map(sum, pads)):
        return jnp.einsum("nhwc,co->nhwo", x, filters[0, 0])
    if method == "auto":
        method = choose_method((x.shape[0], height, width), filters.shape, jax.default_backend())
    if method == "direct":
        return jax.lax.conv_general_dilated(
            x, filters, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    if window[1] == 1:  # the loop runs over frequencies of the width: turn a column into a row
        turned = _correlate_spectral(x.swapaxes(1, 2), filters.swapaxes(0, 1))
        return turned.swapaxes(1, 2)
    return _correlate_spectral(x, filters)


def _explicit_padding(padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    if isinstance(padding, str):
        validation.check_choice(padding, "padding", ("valid",))
        padding = 0
    if isinstance(padding, int):
        padding = ((padding, padding), (padding, padding))
    rows, columns = padding
    if min(*rows, *columns) < 0:
        raise ValueError(f"padding must not be negative, got {padding}")
    return (int(rows[0]), int(rows[1])), (int(columns[0]), int(columns[1]))


# --- plan: tile sizes and the cost model -----------------------------------------------------

# Rates of a CPU with two cores, for choosing between shapes; only their ratios matter.
_DIRECT_MACS = 6.0e10  # multiply-adds a second of lax.conv_general_dilated, with many channels
_DIRECT_CHANNELS = 32  # with fewer channels on either side, it is slower in proportion
_MATRIX_MACS = 6.0e10  # the same in the spectral way's matrix products
_FLOATS_MOVED = 2.5e9  # float32 values written or read a second
_CHUNK_FLOATS = 1 << 20  # working set of one step of the loop over frequencies: 4 MiB


class _Plan(NamedTuple):
    """How one correlation is cut up. Pairs are (vertical, horizontal)."""

    window: tuple[int, int]
    tile: tuple[int, int]
    counts: tuple[int, int]  # tiles an axis
    chunk: int  # horizontal frequencies a step of the loop

    @property
    def step(self) -> tuple[int, int]:
        """Outputs that one tile gives."""
        return self.tile[0] - self.window[0] + 1, self.tile[1] - self.window[1] + 1

    @property
    def frequencies(self) -> int:
        """Horizontal frequencies of the half spectrum, filled up to whole chunks."""
        half = self.tile[1] // 2 + 1
        return -(-half // self.chunk) * self.chunk


def _tile_sizes(length: int, window: int) -> Iterator[int]:
    """Tile sizes worth trying: those that divide the outputs evenly."""
    if window == 1:
        yield 1
        return
    outputs = length - window + 1
    seen = set()
    for count in range(1, outputs + 1):
        tile = -(-outputs // count) + window - 1
        tile += tile % 2
        if tile not in seen and (tile <= 512 or count == outputs) and tile >= min(8, length):
            seen.add(tile)
            yield tile
        if tile < window * 1.3:
            break


def _spectral_seconds(
    batch: int,
    size: tuple[int, ...],
    channels: tuple[int, int],
    window: tuple[int, int],
    tile: tuple[int, int],
) -> float:
    """Estimated time of the forward pass with a given tile: arithmetic and memory traffic."""
    (th, tw), (kh, kw), (c, o) = tile, window, channels
    sh, sw = th - kh + 1, tw - kw + 1
    count = [-(-(n - k + 1) // s) for n, k, s in zip(size, window, (sh, sw), strict=True)]
    n = batch * count[0] * count[1]
    f = tw // 2 + 1
    macs = 2 * f * tw * th * n * c + 6 * f * th * th * n * c  # tiles
    macs += 2 * f * kw * kh * c * o + 6 * f * th * kh * c * o  # filters
    macs += 3 * f * th * n * c * o  # products
    macs += 6 * f * th * sh * n * o + 2 * f * sw * sh * n * o  # outputs
    moved = th * tw * n * c + 7 * f * th * n * c + 4 * kh * f * c * o + 6 * th * f * c * o
    moved += 6 * th * f * n * o + 4 * sh * f * n * o + sh * sw * n * o
    return macs / _MATRIX_MACS + moved / _FLOATS_MOVED


def _plan(batch: int, size: tuple[int, ...], filters: tuple[int, ...]) -> tuple[_Plan, float]:
    """The cheapest plan for padded images of a size, and its estimated seconds."""
    window, channels = (filters[0], filters[1]), (filters[2], filters[3])
    candidates = [
        (th, tw) for th in _tile_sizes(size[0], window[0]) for tw in _tile_sizes(size[1], window[1])
    ]
    seconds = {t: _spectral_seconds(batch, size, channels, window, t) for t in candidates}
    tile = min(candidates, key=seconds.__getitem__)
    count = tuple(
        -(-(n - k + 1) // (t - k + 1)) for n, k, t in zip(size, window, tile, strict=True)
    )
    n = batch * count[0] * count[1]
    c, o = channels
    floats = 3 * tile[0] * (n * c + c * o + n * o)
    chunk = int(np.clip(_CHUNK_FLOATS // floats, 1, tile[1] // 2 + 1))
    return _Plan(window, tile, (count[0], count[1]), chunk), seconds[tile]


def choose_method(images: tuple[int, int, int], filters: tuple[int, ...], backend: str) -> str:
    """Tells which way of correlating should be faster.

    On a CPU the direct way is taken to cost its multiply-adds, the spectral way its multiply-adds
    (at the higher rate of large matrix products) and the values it moves; on other backends, whose
    libraries have fast convolutions, the direct way is taken always.

    Args:
      images: `(N, H, W)` after padding.
      filters: `(h, w, C, O)`.
      backend: as of `jax.default_backend()`.

    Returns:
      `"direct"` or `"spectral"`.
    """
    if backend != "cpu":
        return "direct"
    batch, height, width = images
    outputs = batch * (height - filters[0] + 1) * (width - filters[1] + 1)
    rate = _DIRECT_MACS * min(1.0, min(filters[2:]) / _DIRECT_CHANNELS)
    direct = outputs * int(np.prod(filters)) / rate
    _, spectral = _plan(batch, (height, width), filters)
    return "spectral" if spectral < direct else "direct"


# --- constant matrices ------------------------------------------------------------------------


class _Matrices(NamedTuple):
    """Constant matrices of a plan, float32; `rows` act on the width, `columns` on the height.

    Tiles and filters go row, then column; outputs column, then row. `columns` are None where the
    window has height 1 and the rows alone give the three parts of Gauss' product.
    """

    tile_rows: np.ndarray
    tile_columns: np.ndarray | None
    filter_rows: np.ndarray
    filter_columns: np.ndarray | None
    output_columns: np.ndarray | None
    output_rows: np.ndarray


def _gauss_tile(real: np.ndarray, imag: np.ndarray) -> list[np.ndarray]:
    return [real + imag, real, imag]


def _gauss_filter(real: np.ndarray, imag: np.ndarray) -> list[np.ndarray]:
    return [real, imag - real, real + imag]


def _gauss_output(of_real: np.ndarray, of_imag: np.ndarray) -> list[np.ndarray]:
    """Turns weights of (k1 - k3) and (k1 + k2) into weights of k1, k2, k3."""
    return [of_real + of_imag, of_imag, -of_real]


def _matrices(plan: _Plan) -> _Matrices:
    (th, tw), (kh, kw), (sh, sw) = plan.tile, plan.window, plan.step
    half = tw // 2 + 1
    spare = plan.frequencies - half

    angle = 2 * np.pi * np.outer(np.arange(half), np.arange(tw)) / tw
    cos, sin = np.cos(angle), np.sin(angle)  # (frequency, position)
    weight = np.full((half, 1), 2.0)  # each frequency stands for its conjugate too
    weight[0] = 1.0
    if tw % 2 == 0:
        weight[-1] = 1.0
    from_real, from_imag = (weight * cos / tw)[:, :sw], (-weight * sin / tw)[:, :sw]

    def by_frequency(parts: list[np.ndarray]) -> np.ndarray:
        """Stacks (frequency, position) parts to (frequency · part, position), padded with zeros."""
        stacked = np.pad(np.stack(parts, axis=1), ((0, spare), (0, 0), (0, 0)))
        return stacked.reshape(-1, stacked.shape[2]).astype(np.float32)

    # Correlation multiplies by the conjugate of the filters' spectrum: their sines change sign.
    if kh == 1:
        return _Matrices(
            tile_rows=by_frequency(_gauss_tile(cos, -sin)),
            tile_columns=None,
            filter_rows=by_frequency(_gauss_filter(cos[:, :kw], sin[:, :kw])),
            filter_columns=None,
            output_columns=None,
            output_rows=by_frequency(_gauss_output(from_real, from_imag)).T,
        )

    angle = 2 * np.pi * np.outer(np.arange(th), np.arange(th)) / th
    c, s = np.cos(angle), np.sin(angle)
    ci, si = c[:sh] / th, s[:sh] / th  # (position, frequency)

    def by_part(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts, axis=0).astype(np.float32)

    def complex_input(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts, axis=1)

    return _Matrices(
        tile_rows=by_frequency([cos, -sin]),
        tile_columns=by_part(_gauss_tile(complex_input([c, s]), complex_input([-s, c]))),
        filter_rows=by_frequency([cos[:, :kw], sin[:, :kw]]),
        filter_columns=by_part(
            _gauss_filter(
                complex_input([c[:, :kh], -s[:, :kh]]), complex_input([s[:, :kh], c[:, :kh]])
            )
        ),
        output_columns=by_part(
            [
                complex_input(_gauss_output(ci, -si)),  # real part of exp(+i…) · (real + i imag)
                complex_input(_gauss_output(si, ci)),  # imaginary part
            ]
        ),
        output_rows=by_frequency([from_real, from_imag]).T,
    )


# --- overlap-save -----------------------------------------------------------------------------

_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


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


def _tiles(x: jax.Array, plan: _Plan) -> jax.Array:
    """`(N, H, W, C)` to `(tile width, tile height, N, rows, columns, C)`."""
    x = _cut(x, 2, plan.tile[1], plan.step[1], plan.counts[1])
    x = _cut(x, 1, plan.tile[0], plan.step[0], plan.counts[0])
    return x.transpose(4, 2, 0, 1, 3, 5)


def _rows(matrix: np.ndarray, x: jax.Array, plan: _Plan) -> jax.Array:
    """Row transform of `(width, height, ...)`: `(loops, chunk, part · height, ...)`, flat."""
    width, height = x.shape[:2]
    out = _matmul(matrix, x.reshape(width, -1))
    parts = matrix.shape[0] // plan.frequencies
    loops = plan.frequencies // plan.chunk
    return out.reshape(loops, plan.chunk, parts * height, -1)


def _columns(matrix: np.ndarray | None, x: jax.Array) -> jax.Array:
    """Column transform of `(chunk, in, m)`, the same matrix for every frequency of the chunk."""
    if matrix is None:
        return x
    if x.shape[0] == 1:
        return _matmul(matrix, x[0])[None]
    # A plain batched product is much faster on CPUs than one that shares its left side.
    return _matmul(jnp.broadcast_to(matrix, (x.shape[0], *matrix.shape)), x)


def _inverse_rows(matrix: np.ndarray, x: jax.Array, height: int) -> jax.Array:
    """Undoes `_rows` with its own matrix: `(width, height, -1)`."""
    return _matmul(matrix, x.reshape(matrix.shape[1], -1)).reshape(matrix.shape[0], height, -1)


def _transposed(matrix: np.ndarray | None) -> np.ndarray | None:
    return None if matrix is None else np.ascontiguousarray(matrix.T)


def _over_frequencies(step: Callable, *operands: jax.Array) -> Any:
    return jax.lax.scan(lambda _, xs: (None, step(*xs)), None, operands)[1]


@jax.custom_vjp
def _correlate_spectral(x: jax.Array, filters: jax.Array) -> jax.Array:
    """Valid correlation of `(N, H, W, C)` with `(h, w, C, O)`, `w > 1`."""
    plan, _ = _plan(x.shape[0], x.shape[1:3], filters.shape)
    mats = _matrices(plan)
    c, o = filters.shape[2:]
    tiles = _rows(mats.tile_rows, _tiles(x, plan), plan)
    weights = _rows(mats.filter_rows, filters.swapaxes(0, 1), plan)

    def step(tile: jax.Array, weight: jax.Array) -> jax.Array:
        tile, weight = _columns(mats.tile_columns, tile), _columns(mats.filter_columns, weight)
        products = _matmul(_matrix_batch(tile, c), _matrix_batch(weight, o))
        return _columns(mats.output_columns, products.reshape(*tile.shape[:2], -1))

    out = _inverse_rows(mats.output_rows, _over_frequencies(step, tiles, weights), plan.step[0])
    out = out.reshape(plan.step[1], plan.step[0], x.shape[0], *plan.counts, o)
    out = out.transpose(2, 3, 1, 4, 0, 5)
    out = out.reshape(x.shape[0], plan.counts[0] * plan.step[0], plan.counts[1] * plan.step[1], o)
    return out[:, : x.shape[1] - plan.window[0] + 1, : x.shape[2] - plan.window[1] + 1]


def _matrix_batch(x: jax.Array, columns: int) -> jax.Array:
    """`(chunk, frequency, m)` to a batch of matrices with so many columns."""
    return x.reshape(*x.shape[:2], -1, columns)


def _forward(x: jax.Array, filters: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _correlate_spectral(x, filters), (x, filters)


def _backward(
    residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The transposes of the same matrices, in the order that leaves plain matrix products.

    What is needed transposed is laid out so before its transform, where it is small, and not after.
    """
    x, filters = residuals
    plan, _ = _plan(x.shape[0], x.shape[1:3], filters.shape)
    mats = _matrices(plan)
    batch, (c, o) = x.shape[0], filters.shape[2:]
    (sh, sw), (rows, columns) = plan.step, plan.counts
    n = batch * rows * columns

    fill = [(0, rows * sh - cotangent.shape[1]), (0, columns * sw - cotangent.shape[2])]
    dy = jnp.pad(cotangent, ((0, 0), *fill, (0, 0)))
    dy = dy.reshape(batch, rows, sh, columns, sw, o).transpose(4, 2, 0, 1, 3, 5)
    dy = _rows(np.ascontiguousarray(mats.output_rows.T), dy, plan)
    weights = _rows(mats.filter_rows, filters.transpose(1, 0, 3, 2), plan)
    tiles = _rows(mats.tile_rows, _tiles(x, plan).transpose(0, 1, 5, 2, 3, 4), plan)

    output_columns = _transposed(mats.output_columns)
    tile_columns, filter_columns = _transposed(mats.tile_columns), _transposed(mats.filter_columns)

    def step(dy: jax.Array, weight: jax.Array, tile: jax.Array) -> tuple[jax.Array, jax.Array]:
        dy = _columns(output_columns, dy)
        dy = _matrix_batch(dy, o)
        dx = _matmul(dy, _matrix_batch(_columns(mats.filter_columns, weight), c))
        dw = _matmul(_matrix_batch(_columns(mats.tile_columns, tile), n), dy)
        flat = (*dy.shape[:2], -1)
        return _columns(tile_columns, dx.reshape(flat)), _columns(filter_columns, dw.reshape(flat))

    dx, dw = _over_frequencies(step, dy, weights, tiles)
    dx = _inverse_rows(np.ascontiguousarray(mats.tile_rows.T), dx, plan.tile[0])
    dx = dx.reshape(plan.tile[1], plan.tile[0], batch, rows, columns, c)
    (dx,) = jax.linear_transpose(partial(_tiles, plan=plan), x)(dx)
    dw = _inverse_rows(np.ascontiguousarray(mats.filter_rows.T), dw, plan.window[0])
    return dx, dw.reshape(plan.window[1], plan.window[0], c, o).swapaxes(0, 1)


_correlate_spectral.defvjp(_forward, _backward)
