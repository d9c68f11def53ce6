"""Correlation of image batches with banks of filters: one function, two methods.

Images are `(N, H, W, C)`, filters `(h, w, C, O)` (HWIO), float32. `correlate` slides each filter
over the image without flipping it, as the layers of a network do.

The direct method costs `h w C O` multiply-adds an output pixel, the spectral method (see
`glra_jax.correlation.overlap_save`) far fewer for large windows between many channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.correlation.overlap_save import (
    Spectrum,
    correlate_spectral,
    correlate_spectrum,
    transform_filters,
)
from glra_jax.correlation.tile_plan import estimate_seconds, make_plan
from glra_jax.host_arrays import native_arrays
from glra_jax.precision import product_precision

METHODS = ("auto", "direct", "spectral")

Padding = str | int | Sequence[tuple[int, int]]

# Multiply-adds a second of the direct method on a CPU with two cores. The cost model of the
# spectral method is calibrated on the same machine; only the ratios matter.
_DIRECT_MULTIPLY_ADDS = 3.0e10
_SINGLE_CHANNEL_MULTIPLY_ADDS = 1.5e10


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("spectrum",),
    meta_fields=("images", "pads", "transposed"),
)
@dataclass(frozen=True)
class PreparedFilters:
    """Filters transformed once for many images of one size; made by `prepare_filters`. A pytree.

    Attributes:
      spectrum: the transformed filters.
      images: `(N, H, W)` before padding; static.
      pads: `((top, bottom), (left, right))`; static.
      transposed: whether images are transposed first; static.
    """

    spectrum: Spectrum
    images: tuple[int, int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    transposed: bool


@native_arrays
def correlate(
    x: jax.Array,
    filters: jax.Array | PreparedFilters,
    *,
    padding: Padding = "valid",
    method: str = "auto",
) -> jax.Array:
    """Correlates every image with every filter and sums over input channels.

    `out[n, i, j, o] = Σ_{u, v, c} x[n, i + u, j + v, c] filters[u, v, c, o]`, after padding with
    zeros. The spectral method agrees with the direct one to about 1e-6 of the largest output. It
    has reverse-mode derivatives, but no forward-mode ones.

    Args:
      x: `(N, H, W, C)` float.
      filters: `(h, w, C, O)` float; or what `prepare_filters` made of them for images of this
        size, which fixes `padding` and `method`.
      padding: `"valid"` for none; an int for both sides of both axes; or
        `((top, bottom), (left, right))`.
      method: `"direct"` sums products of pixels and weights, `"spectral"` goes through DFTs,
        `"auto"` takes the one that should be faster on the default backend (`choose_method`).

    Returns:
      `(N, H + top + bottom - h + 1, W + left + right - w + 1, O)`, of the wider of the two dtypes.

    Raises:
      TypeError: no arrays, or none of numbers.
      ValueError: ranks or channels that do not fit, an unknown method, or a window larger than the
        padded image.
    """
    if isinstance(filters, PreparedFilters):
        return _correlate_prepared(x, filters)
    validation.check_choice(method, "method", METHODS)
    for value, name in ((x, "x"), (filters, "filters")):
        validation.check_array(value, name)
        validation.check_numbers(value, name)
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
    x, filters = jnp.asarray(x), jnp.asarray(filters)
    dtype = jnp.promote_types(x.dtype, filters.dtype)
    x, filters = x.astype(dtype), filters.astype(dtype)
    if 0 in (*x.shape, *filters.shape):
        shape = x.shape[0], height - window[0] + 1, width - window[1] + 1, filters.shape[3]
        return jnp.zeros(shape, dtype)
    if window == (1, 1) and not any(map(sum, pads)):
        return _einsum("nhwc,co->nhwo", x, filters[0, 0])
    backend = jax.default_backend()
    if method == "auto":
        method = choose_method((x.shape[0], height, width), filters.shape, backend)
    if method == "direct" and not (backend == "cpu" and _has_single_channel(filters.shape)):
        # There XLA's gradients of a padded convolution take up to three times as long; not in
        # float64, where they are faster.
        if backend == "cpu" and dtype == jnp.float32:
            x, pads = jnp.pad(x, ((0, 0), *pads, (0, 0))), ((0, 0), (0, 0))
        return jax.lax.conv_general_dilated(
            x,
            filters,
            (1, 1),
            pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=product_precision(),
        )
    # Sums of halves are not worth their rounding.
    wide = jnp.promote_types(dtype, jnp.float32)
    x, filters = jnp.pad(x, ((0, 0), *pads, (0, 0))).astype(wide), filters.astype(wide)
    if method == "direct":
        out = _correlate_single_channel(x, filters)
    elif window[1] == 1:  # one-dimensional tiles lie along the width: turn columns into rows
        out = correlate_spectral(x.swapaxes(1, 2), filters.swapaxes(0, 1)).swapaxes(1, 2)
    else:
        out = correlate_spectral(x, filters)
    return out.astype(dtype)


def prepare_filters(
    filters: jax.Array,
    images: tuple[int, int, int],
    *,
    padding: Padding = "valid",
    method: str = "auto",
) -> PreparedFilters | None:
    """Transforms filters once for the correlation with many images of one size.

    Args:
      filters: `(h, w, C, O)` float.
      images: `(N, H, W)`, their common shape before padding.
      padding: see `correlate`.
      method: see `correlate`.

    Returns:
      What `correlate` takes in place of the filters; None for the direct method, which has
      nothing to prepare.
    """
    validation.check_choice(method, "method", METHODS)
    pads = _explicit_padding(padding)
    batch, height, width = images[0], images[1] + sum(pads[0]), images[2] + sum(pads[1])
    if method == "auto":
        method = choose_method((batch, height, width), filters.shape, jax.default_backend())
    if method == "direct" or filters.shape[:2] == (1, 1):
        return None
    transposed = filters.shape[1] == 1
    size = (width, height) if transposed else (height, width)
    filters = filters.swapaxes(0, 1) if transposed else filters
    plan = make_plan(batch, size, filters.shape)
    return PreparedFilters(transform_filters(filters, plan), images, pads, transposed)


def _correlate_prepared(x: jax.Array, filters: PreparedFilters) -> jax.Array:
    if x.shape[:3] != filters.images:
        raise ValueError(
            f"filters were prepared for images (N, H, W) = {filters.images}, got {x.shape}"
        )
    x = jnp.pad(x, ((0, 0), *filters.pads, (0, 0)))
    if filters.transposed:
        return correlate_spectrum(x.swapaxes(1, 2), filters.spectrum).swapaxes(1, 2)
    return correlate_spectrum(x, filters.spectrum)


def _einsum(subscripts: str, *operands: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, *operands, precision=product_precision())


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


def choose_method(images: tuple[int, int, int], filters: tuple[int, ...], backend: str) -> str:
    """Chooses the method that should be faster.

    On a CPU the direct method is estimated by its multiply-adds, the spectral method by its
    multiply-adds (at the higher rate of large matrix products) and the values it moves. On other
    backends, whose libraries have fast convolutions, it is always the direct method.

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
    rate = _SINGLE_CHANNEL_MULTIPLY_ADDS if _has_single_channel(filters) else _DIRECT_MULTIPLY_ADDS
    direct = outputs * int(np.prod(filters)) / rate
    size = (height, width)
    if filters[1] == 1:
        size, filters = (width, height), (filters[1], filters[0], *filters[2:])
    plan = make_plan(batch, size, filters)
    spectral = estimate_seconds(plan, batch, (filters[2], filters[3]))
    return "spectral" if spectral < direct else "direct"


def _has_single_channel(filters: tuple[int, ...]) -> bool:
    return 1 in filters[2:]


@jax.custom_vjp
def _correlate_single_channel(x: jax.Array, filters: jax.Array) -> jax.Array:
    """Valid correlation where one side has a single channel, as one matrix product.

    Convolution libraries for CPUs are slow there, and their gradients ten times slower still. All
    shifts of a single channel, one for every pixel of the window, are affordable.
    """
    rows, columns, c, o = filters.shape
    size = x.shape[1] - rows + 1, x.shape[2] - columns + 1
    if c == 1:
        shifts = _shifts(x[..., 0], (rows, columns), size)
        return _einsum("snij,so->nijo", shifts, filters.reshape(-1, o))
    products = _einsum("nijc,sc->snij", x, filters.reshape(-1, c))
    out = jnp.zeros((x.shape[0], *size), products.dtype)
    for s, (u, v) in enumerate(np.ndindex(rows, columns)):
        out = out + products[s, :, u : u + size[0], v : v + size[1]]
    return out[..., None]


def _shifts(channel: jax.Array, window: tuple[int, int], size: tuple[int, ...]) -> jax.Array:
    """Cuts `size` from `(N, H, W)` at every offset of a window: `(h w, N, *size)`."""
    offsets = np.ndindex(*window)
    return jnp.stack([channel[:, u : u + size[0], v : v + size[1]] for u, v in offsets])


def _single_channel_forward(
    x: jax.Array, filters: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _correlate_single_channel(x, filters), (x, filters)


def _single_channel_backward(
    residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The gradient's own single channel is shifted, by the flipped window."""
    x, filters = residuals
    rows, columns, c, o = filters.shape
    margins = ((0, 0), (rows - 1, rows - 1), (columns - 1, columns - 1), (0, 0))
    wide = jnp.pad(cotangent, margins)
    flipped = filters[::-1, ::-1].swapaxes(2, 3)
    if o == 1:
        shifts = _shifts(wide[..., 0], (rows, columns), x.shape[1:3])
        dx = _einsum("snij,sc->nijc", shifts, flipped.reshape(-1, c))
        dw = _einsum("snij,nijc->sc", shifts, x).reshape(rows, columns, c)[::-1, ::-1]
        return dx, dw[..., None]
    dx = _correlate_single_channel(wide, flipped)
    shifts = _shifts(x[..., 0], (rows, columns), cotangent.shape[1:3])
    dw = _einsum("snij,nijo->so", shifts, cotangent)
    return dx, dw.reshape(rows, columns, 1, o)


_correlate_single_channel.defvjp(_single_channel_forward, _single_channel_backward)
