"""How an image goes on outside its frame, and the Fourier transforms that need to know.

Everything here works on one plane, `(H, W)` float32. A deconvolution by FFT takes its image for
periodic; three ways to live with that are offered, as the authors of the baselines use them:

* `"taper"`: the frame is continued by its edge pixels and then tapered, that is blended near the
  new edges with its own circular blur (four times), so that it fits a periodic blur.
* `"symmetric"`: the frame is continued by its mirror image.
* `"unknown"`: the frame is continued by pixels of which nothing is known; `observed_mask` tells
  the method which pixels to believe.

`"wrap"` continues nothing: right where the blur was circular.
"""

import jax
import jax.numpy as jnp

from glra_jax import spectra, validation

Margins = tuple[tuple[int, int], tuple[int, int]]

BOUNDARIES = ("taper", "symmetric", "unknown", "wrap")
_TAPER_PASSES = 4


def margins(shape: tuple[int, ...], kernel_shape: tuple[int, ...], boundary: str) -> Margins:
    """Pixels to add before and after each axis.

    At least the kernel's size on each side, and then up to a size that suits the FFT.

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
    after = [spectra.fast_size(n + 2 * k) - n - k for n, k in zip(shape, kernel_shape, strict=True)]
    return (kernel_shape[0], after[0]), (kernel_shape[1], after[1])


def extend(y: jax.Array, kernel: jax.Array, *, boundary: str) -> jax.Array:
    """Continues a blurred plane by its `margins`.

    Args:
      y: `(H, W)`.
      kernel: `(h, w)`, its blur kernel.
      boundary: one of `BOUNDARIES`. For `"unknown"` the tapered continuation is given as well, to
        start from; it is to be masked.

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
    y = jnp.pad(y, pads, mode="edge")
    transfer = spectra.transfer_function(kernel, y.shape)
    for _ in range(_TAPER_PASSES):
        y = edge_taper(y, kernel, transfer)
    return y


def crop(x: jax.Array, pads: Margins) -> jax.Array:
    """Takes what `extend` added off again."""
    (top, bottom), (left, right) = pads
    return x[top : x.shape[0] - bottom, left : x.shape[1] - right]


def observed_mask(shape: tuple[int, ...], pads: Margins) -> jax.Array:
    """1 in a frame of a shape, 0 in its margins; float32."""
    return jnp.pad(jnp.ones(shape, jnp.float32), pads)


def edge_taper(y: jax.Array, kernel: jax.Array, transfer: jax.Array) -> jax.Array:
    """Blends a plane with its circular blur near its edges, for less ringing.

    The weight of the blur falls from 1 at the edge as the autocorrelation of the kernel's
    projection on the axis, as in MATLAB's `edgetaper`, which the authors of HL and EPLL call.

    Args:
      y: `(H, W)`.
      kernel: `(h, w)`, not larger than the plane.
      transfer: its `transfer_function` on the grid of `y`.

    Returns:
      `(H, W)`.
    """

    def inner_weight(projection: jax.Array, size: int) -> jax.Array:
        # A period of size - 1 makes the first and the last pixel neighbours of lag 0.
        power = jnp.abs(jnp.fft.rfft(projection, n=size - 1)) ** 2
        autocorrelation = jnp.fft.irfft(power, n=size - 1)
        autocorrelation = jnp.append(autocorrelation, autocorrelation[0])
        return 1.0 - autocorrelation / autocorrelation[0]

    inner = jnp.outer(
        inner_weight(kernel.sum(axis=1), y.shape[0]), inner_weight(kernel.sum(axis=0), y.shape[1])
    )
    return inner * y + (1.0 - inner) * convolve(y, transfer)


def convolve(x: jax.Array, transfer: jax.Array) -> jax.Array:
    """Circular convolution of a plane with the kernel behind a transfer function."""
    return jnp.fft.irfft2(jnp.fft.rfft2(x) * transfer, s=x.shape)


def correlate(x: jax.Array, transfer: jax.Array) -> jax.Array:
    """Circular correlation, the adjoint of `convolve`."""
    return jnp.fft.irfft2(jnp.fft.rfft2(x) * jnp.conj(transfer), s=x.shape)


def gradient(x: jax.Array) -> jax.Array:
    """Circular forward differences along rows' and columns' direction, `(2, H, W)`."""
    return jnp.stack([jnp.roll(x, -1, axis=axis) - x for axis in (0, 1)])


def gradient_adjoint(g: jax.Array) -> jax.Array:
    """Adjoint of `gradient`: `(2, H, W)` to `(H, W)`."""
    return jnp.roll(g[0], 1, axis=0) - g[0] + jnp.roll(g[1], 1, axis=1) - g[1]
