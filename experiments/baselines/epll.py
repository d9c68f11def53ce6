"""EPLL: deconvolution with a Gaussian mixture as prior on every patch of the image.

D. Zoran, Y. Weiss, "From Learning Models of Natural Image Patches to Whole Image Restoration",
ICCV 2011. Their eq. 2 is minimised by half-quadratic splitting (eq. 3),

    min  λ/2 ‖Kx - y‖² + Σ_i ( β/2 ‖P_i x - z_i‖² - log p(z_i) )   over x and all z_i,

for β = 50, 100, ..., 3200, one pass each. `P_i x` is the i-th of all overlapping patches. The step
in `z_i` takes the component under which the patch is likeliest and applies its Wiener filter.
"""

from functools import partial

import jax
import jax.numpy as jnp

from experiments.baselines import boundaries, contract
from experiments.baselines.contract import Baseline
from experiments.baselines.patch_prior import (
    PatchPrior,
    default_patch_prior,
    log_likelihoods,
    patch_prior_digest,
    patch_side,
)
from experiments.baselines.tuned import ANY_FAMILY, Tuning, geometric_grid
from glra_jax import spectra, validation

TUNING = Tuning("epll", "weight", geometric_grid(0.25, 2.0, 6))

_BETAS = tuple(50.0 * 2.0**step for step in range(7))
_CHUNK = 128  # patches at once: their distances to all components stay in the cache


def denoise_patches(
    patches: jax.Array, prior: PatchPrior, noise_variance: jax.typing.ArrayLike
) -> jax.Array:
    """Approximate MAP estimate of patches in white noise: the likeliest component's Wiener filter.

    The mean of each patch is kept as it is.

    Args:
      patches: `(N, D)`.
      prior: the mixture.
      noise_variance: of the noise, above 0.

    Returns:
      `(N, D)`.
    """
    filters = (
        jnp.asarray(prior.axes)
        * (prior.variances / (prior.variances + noise_variance))[:, None, :]
        @ jnp.swapaxes(prior.axes, 1, 2)
    )

    def denoise(chunk: jax.Array) -> jax.Array:
        mean = chunk.mean(axis=1, keepdims=True)
        chunk = chunk - mean
        best = jnp.argmax(log_likelihoods(chunk, prior, noise_variance=noise_variance), axis=1)
        return mean + jnp.einsum("nij,nj->ni", filters[best], chunk)

    count, dimension = patches.shape
    size = min(_CHUNK, count)
    padded = jnp.pad(patches, ((0, -count % size), (0, 0)))
    chunks = jax.lax.map(denoise, padded.reshape(-1, size, dimension))
    return chunks.reshape(-1, dimension)[:count]


def extract_patches(x: jax.Array, side: int) -> jax.Array:
    """Extracts every overlapping patch of a periodic channel.

    Args:
      x: `(H, W)`.
      side: of the patches.

    Returns:
      `(H W, side²)`, one patch for every pixel, which is its upper left corner.
    """
    rows = jnp.stack([jnp.roll(x, -row, axis=0) for row in range(side)], axis=-1)
    both = jnp.stack([jnp.roll(rows, -column, axis=1) for column in range(side)], axis=-1)
    return both.reshape(x.size, side * side)


def sum_patches(patches: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Adjoint of `extract_patches`: every patch is added where it was taken."""
    side = round(patches.shape[1] ** 0.5)
    maps = patches.reshape(*shape, side, side)
    rows = sum_shifted([maps[..., column] for column in range(side)], axis=1)
    return sum_shifted([rows[..., row] for row in range(side)], axis=0)


def sum_shifted(maps: list[jax.Array], *, axis: int) -> jax.Array:
    """Sum of maps, each shifted along an axis by its index in the list."""
    total = jnp.zeros_like(maps[0])
    for shift, values in enumerate(maps):
        total = total + jnp.roll(values, shift, axis=axis)
    return total


def epll(
    y: jax.Array,
    kernel: jax.Array,
    *,
    noise: jax.typing.ArrayLike = 0.01,
    family: str = ANY_FAMILY,
    weight: jax.typing.ArrayLike | None = None,
    prior: PatchPrior | None = None,
    boundary: str = "taper",
) -> jax.Array:
    """Restores with a prior on patches; see `contract` for the images.

    Args:
      y: blurred image, each side at least that of a patch.
      kernel: blur kernel.
      noise: standard deviation of the noise.
      family: kernel family that the weight was tuned for.
      weight: above 0; `λ = weight · side² / noise²`, of which the authors' programs have 1. None
        takes the tuned one.
      prior: mixture of patches; None takes the one in this package.
      boundary: `"taper"` as the authors do (edges repeated, then tapered four times),
        `"symmetric"` or `"wrap"`.

    Returns:
      The restored image, float32, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses, a weight not above 0, or an image smaller
        than a patch.
    """
    contract.check_inputs(y, kernel, noise, boundary, boundaries.PERIODIC)
    if weight is None:
        weight = TUNING.value(noise, family=family)
    validation.check_positive(weight, "weight")
    if prior is None:
        prior = default_patch_prior()
    if min(y.shape[:2]) < patch_side(prior):
        raise ValueError(
            f"y of shape {y.shape} is smaller than the prior's patches, side {patch_side(prior)}"
        )
    return _epll(y, kernel, noise, weight, prior, boundary=boundary)


@partial(jax.jit, static_argnames="boundary")
def _epll(
    y: jax.Array,
    kernel: jax.Array,
    noise: jax.typing.ArrayLike,
    weight: jax.typing.ArrayLike,
    prior: PatchPrior,
    *,
    boundary: str,
) -> jax.Array:
    kernel = jnp.asarray(kernel, jnp.float32)
    side = patch_side(prior)
    # Divided by side², the number of patches that hold a pixel, λ is weight / noise².
    data_weight = weight / jnp.asarray(noise, jnp.float32) ** 2

    def restore(channel: jax.Array, observed: jax.Array) -> jax.Array:
        del observed  # the continuation counts as data
        transfer = spectra.transfer_function(kernel, channel.shape)
        power = transfer.real**2 + transfer.imag**2
        matched = jnp.fft.rfft2(channel) * jnp.conj(transfer)

        def step(x: jax.Array, beta: jax.Array) -> tuple[jax.Array, None]:
            patches = denoise_patches(extract_patches(x, side), prior, 1.0 / beta)
            mean = sum_patches(patches, x.shape) / side**2
            right = data_weight * matched + beta * jnp.fft.rfft2(mean)
            return jnp.fft.irfft2(right / (data_weight * power + beta), s=x.shape), None

        return jax.lax.scan(step, channel, jnp.asarray(_BETAS, jnp.float32))[0]

    return contract.restore_extended(restore, y, kernel, boundary, at_once=False)


EPLL = Baseline(
    name="epll",
    restore=epll,
    boundaries=boundaries.PERIODIC,
    tuning=TUNING,
    description="mixture of 100 Gaussians as prior on 8×8 patches",
    reference="Zoran and Weiss, From Learning Models of Natural Image Patches to Whole Image "
    "Restoration, ICCV 2011",
    digests={"prior_sha256": patch_prior_digest},
)
