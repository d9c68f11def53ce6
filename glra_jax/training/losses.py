"""Losses that training minimises.

Each maps restored and sharp images `(N, H, W, C)` and weights of the pixels `(N, H, W, 1)`, 0 or 1,
to a scalar. Where the truth is black or white, a restored pixel beyond it is right: it is clipped.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from glra_jax.metrics import ssim


def _error(restored: jax.Array, sharp: jax.Array, weights: jax.Array | float) -> jax.Array:
    error = restored - sharp
    error = jnp.where(sharp >= 1.0, jnp.minimum(error, 0.0), error)
    return weights * jnp.where(sharp <= 0.0, jnp.maximum(error, 0.0), error)


def squared_loss(
    restored: jax.Array, sharp: jax.Array, weights: jax.Array | float = 1.0
) -> jax.Array:
    """Half the squared error summed over pixels, mean over examples (Caffe's Euclidean loss)."""
    return 0.5 * jnp.sum(_error(restored, sharp, weights) ** 2) / sharp.shape[0]


def psnr_loss(restored: jax.Array, sharp: jax.Array, weights: jax.Array | float = 1.0) -> jax.Array:
    """Minus the mean PSNR of the examples in dB, which levels off above 50 dB."""
    weights = jnp.broadcast_to(jnp.asarray(weights, sharp.dtype), (*sharp.shape[:3], 1))
    error = jnp.sum(_error(restored, sharp, weights) ** 2, axis=(1, 2, 3))
    error = error / (sharp.shape[3] * jnp.sum(weights, axis=(1, 2, 3)))
    return jnp.mean(10.0 * jnp.log10(error + 1e-5))


def psnr_ssim_loss(
    restored: jax.Array, sharp: jax.Array, weights: jax.Array | float = 1.0
) -> jax.Array:
    """`psnr_loss` minus the mean SSIM, of which 0.01 is worth 0.3 dB; SSIM takes all pixels."""
    return psnr_loss(restored, sharp, weights) - 30.0 * jnp.mean(ssim(restored, sharp))


LOSSES: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "squared": squared_loss,
    "psnr": psnr_loss,
    "psnr-ssim": psnr_ssim_loss,
}
