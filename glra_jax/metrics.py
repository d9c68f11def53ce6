"""Image quality: PSNR, SSIM, and the volume SSIM behind the paper's tables.

Images are `(H, W)`, `(H, W, C)` or `(N, H, W, C)` floats, peak 1 unless said. A batch gives one
value an image, `(N,)`; anything else a scalar. Nothing is clipped: clip before, if the comparison
asks for it.
"""

import jax
import jax.numpy as jnp

from glra_jax import validation
from glra_jax.host_arrays import native_arrays

_RADIUS, _SIGMA = 5, 1.5  # the 11-tap Gaussian window of Wang et al.
SMALLEST_SSIM_SIDE = 2 * _RADIUS + 1  # of an image, in pixels


def _checked_pair(image: jax.Array, reference: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both images in one precision, float32 or better."""
    validation.check_image(image, "image")
    validation.check_image(reference, "reference")
    if image.shape != reference.shape:
        raise ValueError(f"image {image.shape} and reference {reference.shape} differ in shape")
    dtype = jnp.promote_types(jnp.result_type(image, reference), jnp.float32)
    return jnp.asarray(image, dtype), jnp.asarray(reference, dtype)


@native_arrays
def psnr(image: jax.Array, reference: jax.Array, *, peak: jax.typing.ArrayLike = 1.0) -> jax.Array:
    """Peak signal-to-noise ratio over all pixels and channels together.

    Args:
      image: restored image.
      reference: sharp image of the same shape.
      peak: largest possible value.

    Returns:
      dB; infinite for equal images.

    Raises:
      TypeError: integer images.
      ValueError: ranks or shapes that do not fit, NaN, or a peak that is not positive.
    """
    image, reference = _checked_pair(image, reference)
    validation.check_positive(peak, "peak")
    axes = (1, 2, 3) if image.ndim == 4 else None
    error = jnp.mean((image - reference) ** 2, axis=axes)
    # Of equal images the ratio is infinite, and its slope no number: it is taken for 0.
    ratio = 10.0 * jnp.log10(peak**2 / jnp.where(error == 0, 1.0, error))
    return jnp.where(error == 0, jnp.inf, ratio)


def _smooth(x: jax.Array, axes: tuple[int, ...], mode: str) -> jax.Array:
    """Separable 11-tap Gaussian filter along some axes; `mode` as in `jnp.pad`."""
    offsets = jnp.arange(-_RADIUS, _RADIUS + 1, dtype=x.dtype)
    taps = jnp.exp(-0.5 * (offsets / _SIGMA) ** 2)
    taps = taps / taps.sum()
    for axis in axes:
        moved = jnp.moveaxis(x, axis, -1)
        padded = jnp.pad(moved, [(0, 0)] * (x.ndim - 1) + [(_RADIUS, _RADIUS)], mode=mode)
        length = moved.shape[-1]
        total = jnp.zeros_like(moved)
        for i in range(2 * _RADIUS + 1):
            total = total + taps[i] * padded[..., i : i + length]
        x = jnp.moveaxis(total, -1, axis)
    return x


def _ssim_map(
    image: jax.Array, reference: jax.Array, axes: tuple[int, ...], mode: str, peak: float
) -> jax.Array:
    """Local similarity at every pixel, with biased (window-weighted) moments."""
    # Moments about a common level: variances then do not suffer from cancellation in float32.
    level = 0.5 * (jnp.mean(image) + jnp.mean(reference))
    a, b = image - level, reference - level
    mean_a, mean_b = _smooth(a, axes, mode), _smooth(b, axes, mode)
    var_a = _smooth(a * a, axes, mode) - mean_a**2
    var_b = _smooth(b * b, axes, mode) - mean_b**2
    covariance = _smooth(a * b, axes, mode) - mean_a * mean_b
    mean_a, mean_b = mean_a + level, mean_b + level
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    return ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )


@native_arrays
def ssim(image: jax.Array, reference: jax.Array, *, peak: float = 1.0) -> jax.Array:
    """Structural similarity, channel by channel (the usual form).

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004:
    11×11 Gaussian window of σ 1.5, K1 = 0.01, K2 = 0.03; borders of 5 pixels left out, as in
    scikit-image's `structural_similarity(gaussian_weights=True, use_sample_covariance=False)`.

    Args:
      image: restored image, each side at least 11.
      reference: sharp image of the same shape.
      peak: largest possible value.

    Returns:
      At most 1, the mean over channels.

    Raises:
      TypeError: integer images.
      ValueError: shapes that do not fit or sides below 11.
    """
    image, reference = _checked_pair(image, reference)
    validation.check_positive(peak, "peak")
    rows = 1 if image.ndim == 4 else 0
    if min(image.shape[rows : rows + 2]) < SMALLEST_SSIM_SIDE:
        raise ValueError(f"images must be at least 11×11 for SSIM, got shape {image.shape}")
    similarity = _ssim_map(image, reference, (rows, rows + 1), "symmetric", peak)
    inner = slice(_RADIUS, -_RADIUS)
    if image.ndim == 4:
        return similarity[:, inner, inner].mean(axis=(1, 2, 3))
    return similarity[inner, inner].mean()


@native_arrays
def ssim_volume(image: jax.Array, reference: jax.Array, *, peak: float = 1.0) -> jax.Array:
    """Structural similarity with the colour channels as a third spatial axis.

    This is what MATLAB's `ssim` computes of an RGB array, as in the authors' scoring script: an
    11×11×11 Gaussian window of σ 1.5, replicated borders, the mean of the whole map. It is much
    higher than `ssim` on noisy images; the paper's tables have it. Never compare the two.

    Args:
      image: restored image; `(H, W)` counts as one channel, for which the third axis does nothing.
      reference: sharp image of the same shape.
      peak: largest possible value.

    Returns:
      At most 1.

    Raises:
      TypeError: integer images.
      ValueError: shapes that do not fit.
    """
    image, reference = _checked_pair(image, reference)
    validation.check_positive(peak, "peak")
    if image.ndim == 4:
        return jax.vmap(lambda a, b: ssim_volume(a, b, peak=peak))(image, reference)
    axes = tuple(range(image.ndim))
    return _ssim_map(image, reference, axes, "edge", peak).mean()
