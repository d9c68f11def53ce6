"""Continuation of an image outside its frame, and its differences.

Everything here works on one channel, `(H, W)` float32. A deconvolution by FFT treats its image as
periodic. Four continuations make up for that, as the authors of the baselines use them:

* `"taper"`: the frame is continued by its edge pixels and then tapered: near the new edges it is
  blended with its own circular blur (four times), so that it fits a periodic blur.
* `"symmetric"`: the frame is continued by its mirror image.
* `"harmonic"`: the frame is continued by the smoothest surface between its edges and those of its
  next period, one whose Laplacian is zero (R. Liu, J. Jia, "Reducing Boundary Artifacts in Image
  Deconvolution", ICIP 2008).
* `"unknown"`: the frame is continued by pixels of which nothing is known; `observed_mask` marks
  the pixels that are compared with the data.

`"wrap"` continues nothing, which is right where the blur was circular.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import next_fast_len

from glra_jax import spectra, validation

Margins = tuple[tuple[int, int], tuple[int, int]]

BOUNDARIES = ("taper", "symmetric", "harmonic", "unknown", "wrap")
PERIODIC = ("taper", "symmetric", "harmonic", "wrap")  # of methods that compare with every pixel
MASKED = ("unknown", "wrap")  # of methods that compare with the observed pixels alone
_TAPER_PASSES = 4


def margins(shape: tuple[int, ...], kernel_shape: tuple[int, ...], boundary: str) -> Margins:
    """Pixels to add before and after each axis.

    The kernel's size on each side, and more behind, up to a size of which FFTs are fast.

    Args:
      shape: of the image.
      kernel_shape: of the blur kernel.
      boundary: one of `BOUNDARIES`; `"wrap"` adds nothing.

    Returns:
      `((top, bottom), (left, right))`.

    Raises:
      ValueError: unknown boundary.
    """
    validation.check_choice(boundary, "boundary", BOUNDARIES)
    if boundary == "wrap":
        return (0, 0), (0, 0)
    after = [
        next_fast_len(n + 2 * k, real=True) - n - k
        for n, k in zip(shape, kernel_shape, strict=True)
    ]
    return (kernel_shape[0], after[0]), (kernel_shape[1], after[1])


def half_margins(kernel_shape: tuple[int, ...], boundary: str) -> Margins:
    """Half of an odd kernel on each side; nothing for `"wrap"`."""
    rows, columns = (0, 0) if boundary == "wrap" else (size // 2 for size in kernel_shape)
    return (rows, rows), (columns, columns)


def odd_kernel(kernel: jax.Array) -> jax.Array:
    """A kernel with a row and a column of zeros more where its sides are even, float32.

    Half of it is then the same on both sides, and its centre stays at `size // 2`.
    """
    kernel = jnp.asarray(kernel, jnp.float32)
    return jnp.pad(kernel, [(0, 1 - size % 2) for size in kernel.shape])


def extend(y: jax.Array, kernel: jax.Array, *, boundary: str) -> jax.Array:
    """Continues a blurred channel by its `margins`.

    Args:
      y: `(H, W)`.
      kernel: `(h, w)`, its blur kernel.
      boundary: one of `BOUNDARIES`. `"unknown"` gives the tapered continuation too, as a start;
        mask it.

    Returns:
      `(H + top + bottom, W + left + right)`.

    Raises:
      ValueError: unknown boundary.
    """
    pads = margins(y.shape, kernel.shape, boundary)
    if boundary == "wrap":
        return y
    if boundary == "symmetric":
        return jnp.pad(y, pads, mode="symmetric")
    if boundary == "harmonic":
        return continue_harmonically(y, pads)
    y = jnp.pad(y, pads, mode="edge")
    transfer = spectra.transfer_function(kernel, y.shape)
    return taper_edges(y, kernel, transfer, passes=_TAPER_PASSES)


def continue_harmonically(y: jax.Array, pads: Margins) -> jax.Array:
    """Fills the strips between a frame and its next periods, then the corners between these.

    Each strip includes the pixels that bound it: the last row of the frame and the first one of
    its next period, and straight lines between them at its ends.

    Args:
      y: `(H, W)`.
      pads: pixels to add before and after each axis, at least one in all.

    Returns:
      `(H + top + bottom, W + left + right)`.
    """
    rows, columns = (sum(pad) for pad in pads)
    left, right = (_line(y[-1, end], y[0, end], rows) for end in (0, -1))
    below = _fill(y[-1:], y[:1], left, right)
    top, bottom = (_line(y[end, -1], y[end, 0], columns).T for end in (0, -1))
    across = _fill(top, bottom, y[:, -1:], y[:, :1])
    corner = _fill(across[-1:], across[:1], below[:, -1:], below[:, :1])
    period = jnp.block([[y, across[:, 1:-1]], [below[1:-1], corner[1:-1, 1:-1]]])
    return jnp.roll(period, (pads[0][0], pads[1][0]), axis=(0, 1))


def _line(first: jax.Array, last: jax.Array, count: int) -> jax.Array:
    """A column from one value to another, with a number of values in between."""
    return jnp.linspace(first, last, count + 2)[:, None]


def _fill(top: jax.Array, bottom: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
    """The rectangle within four edges whose five-point Laplacian is zero inside.

    Solved by sine transforms along both axes.

    Args:
      top: `(1, W)`; its ends are overwritten by those of `left` and `right`.
      bottom: likewise.
      left: `(H, 1)`.
      right: likewise.

    Returns:
      `(H, W)`.
    """
    height, width = left.shape[0], top.shape[1]
    edges = jnp.zeros((height, width)).at[:1].set(top).at[-1:].set(bottom)
    edges = edges.at[:, :1].set(left).at[:, -1:].set(right)
    sources = edges[:-2, 1:-1] + edges[2:, 1:-1] + edges[1:-1, :-2] + edges[1:-1, 2:]
    frequencies = [np.arange(1, size - 1) * np.pi / (size - 1) for size in (height, width)]
    bends = [2.0 - 2.0 * np.cos(frequency) for frequency in frequencies]
    spectrum = _sines(_sines(sources, 0), 1) / np.float32(bends[0][:, None] + bends[1])
    inside = _sines(_sines(spectrum, 0), 1) / (4.0 * (height - 1) * (width - 1))
    return edges.at[1:-1, 1:-1].set(inside)


def _sines(x: jax.Array, axis: int) -> jax.Array:
    """Sine transform (type I, SciPy's scaling) along an axis of an array of two."""
    flipped = jnp.flip(x, axis)
    zero = jnp.zeros_like(jax.lax.slice_in_dim(x, 0, 1, axis=axis))
    odd = jnp.concatenate([zero, x, zero, -flipped], axis)
    return -jax.lax.slice_in_dim(jnp.fft.rfft(odd, axis=axis).imag, 1, x.shape[axis] + 1, axis=axis)


def crop(x: jax.Array, pads: Margins) -> jax.Array:
    """Crops what `extend` added."""
    (top, bottom), (left, right) = pads
    return x[top : x.shape[0] - bottom, left : x.shape[1] - right]


def observed_mask(shape: tuple[int, ...], pads: Margins) -> jax.Array:
    """Mask of a frame of a shape: 1 in it, 0 in its margins; float32."""
    return jnp.pad(jnp.ones(shape, jnp.float32), pads)


def edge_taper(y: jax.Array, kernel: jax.Array, transfer: jax.Array) -> jax.Array:
    """Blends a channel with its circular blur near its edges, for less ringing.

    The weight of the blur falls from 1 at the edge as the autocorrelation of the kernel's
    projection on the axis, as in MATLAB's `edgetaper`, which the authors of HL and EPLL call.

    Args:
      y: `(H, W)`.
      kernel: `(h, w)`, not larger than the channel.
      transfer: its `transfer_function` on the grid of `y`.

    Returns:
      `(H, W)`.
    """
    inner = taper_weight(kernel, y.shape)
    return inner * y + (1.0 - inner) * spectra.convolve(y, transfer)


def taper_edges(y: jax.Array, kernel: jax.Array, transfer: jax.Array, *, passes: int) -> jax.Array:
    """Applies `edge_taper` several times."""
    for _ in range(passes):
        y = edge_taper(y, kernel, transfer)
    return y


def taper_weight(kernel: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Weight of a channel in its `edge_taper`: 0 at the edges, 1 inside.

    Args:
      kernel: `(h, w)`.
      shape: `(H, W)`, of the channel.

    Returns:
      `(H, W)`.
    """

    def along_axis(projection: jax.Array, size: int) -> jax.Array:
        # A period of size - 1 makes the first and the last pixel neighbours of lag 0.
        power = jnp.abs(jnp.fft.rfft(projection, n=size - 1)) ** 2
        autocorrelation = jnp.fft.irfft(power, n=size - 1)
        autocorrelation = jnp.append(autocorrelation, autocorrelation[0])
        return 1.0 - autocorrelation / autocorrelation[0]

    rows, columns = shape
    return jnp.outer(along_axis(kernel.sum(axis=1), rows), along_axis(kernel.sum(axis=0), columns))


def gradient(x: jax.Array) -> jax.Array:
    """Circular forward differences down the rows and along the columns, `(2, H, W)`."""
    return jnp.stack([jnp.roll(x, -1, axis=axis) - x for axis in (0, 1)])


def gradient_adjoint(g: jax.Array) -> jax.Array:
    """Adjoint of `gradient`: `(2, H, W)` to `(H, W)`."""
    return jnp.roll(g[0], 1, axis=0) - g[0] + jnp.roll(g[1], 1, axis=1) - g[1]
