"""Losses that training minimises: each maps restored and sharp `(N, H, W, C)` to a scalar."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from glra_jax.metrics import ssim


def squared_loss(restored: jax.Array, sharp: jax.Array) -> jax.Array:
    """Half the squared error summed over pixels, mean over examples (Caffe's Euclidean loss)."""
    return 0.5 * jnp.sum((restored - sharp) ** 2) / sharp.shape[0]


def psnr_loss(restored: jax.Array, sharp: jax.Array) -> jax.Array:
    """Minus the mean PSNR of the examples in dB, which levels off above 50 dB."""
    error = jnp.mean((restored - sharp) ** 2, axis=(1, 2, 3))
    return jnp.mean(10.0 * jnp.log10(error + 1e-5))


def psnr_ssim_loss(restored: jax.Array, sharp: jax.Array) -> jax.Array:
    """`psnr_loss` minus the mean SSIM, of which 0.01 is worth 0.3 dB."""
    return psnr_loss(restored, sharp) - 30.0 * jnp.mean(ssim(restored, sharp))


LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "squared": squared_loss,
    "psnr": psnr_loss,
    "psnr-ssim": psnr_ssim_loss,
}
