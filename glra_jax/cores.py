"""The core with which a blur kernel is undone: the network's second layer."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from scipy.fft import next_fast_len

from glra_jax import spectra
from glra_jax.deprecated.keywords import core_keywords
from glra_jax.host_arrays import native_arrays
from glra_jax.inverses import Inverse, check_inverse, damping, pseudo_inverse
from glra_jax.lowrank import Basis, dc_gain, project, reconstruct

# Reached only with a regularisation far below 0.001, where kernels with zeros are ill-conditioned.
_MOST_ITERATIONS = 500


@native_arrays
@core_keywords
def deconvolution_core(
    basis: Basis,
    kernel: jax.Array,
    *,
    inverse: Inverse | None = None,
    noise: jax.typing.ArrayLike = 0.0,
) -> jax.Array:
    """Core with which a blur kernel is undone: the network's second layer.

    `core="projection"` of `Inverse`, as in the paper, projects the pseudo-inverse, which is that of
    a periodic image as large as the support. In larger images its ends are cut off, which hurts
    kernels with zeros at low frequencies (long motion blur, little noise). `"least-squares"` takes,
    of all cores, the one whose low-rank kernel restores best: what `pseudo_inverse` minimises over
    all inverses of the support's size is minimised over those of the basis, in images that do not
    wrap around. It takes some twenty times as long.

    Either is divided by its DC gain, the sum of its low-rank kernel, so that the mean brightness is
    kept in spite of truncation and regularisation (as in the authors' code).

    Args:
      basis: `left` and `right`, `(d, m)`, of orthonormal columns.
      kernel: blur kernel, `(h, w)`, sum 1, each side at most `d`.
      inverse: how it is made; None takes `Inverse()`, the paper's.
      noise: standard deviation of the noise, on which the inverse depends if its `noise_weight` is
        not 0.

    Returns:
      `(m, m)` float32.

    Raises:
      TypeError: as `pseudo_inverse`, or `inverse` is another thing.
      ValueError: as `pseudo_inverse`.
    """
    inverse = Inverse() if inverse is None else inverse
    if not isinstance(inverse, Inverse):
        raise TypeError(f"inverse must be a glra_jax.Inverse, got {inverse!r}")
    found = unscaled_core(basis, kernel, inverse=inverse, noise=noise)
    return found / dc_gain(basis, found)


def unscaled_core(
    basis: Basis, kernel: jax.Array, *, inverse: Inverse, noise: jax.typing.ArrayLike
) -> jax.Array:
    """`deconvolution_core` before it is divided by its DC gain.

    That gain is near 1 where the basis holds the inverse of the blur kernel.
    """
    support = basis.left.shape[0]
    strength: dict[str, Any] = {
        "regularization": inverse.regularization,
        "smoothness": inverse.smoothness(noise),
    }
    if inverse.core == "projection":
        return project(basis, pseudo_inverse(kernel, support=support, **strength))
    check_inverse(kernel, support=support, **strength)
    return _least_squares(basis, kernel, **strength)


def _least_squares(
    basis: Basis,
    kernel: jax.Array,
    regularization: jax.typing.ArrayLike,
    smoothness: jax.typing.ArrayLike,
) -> jax.Array:
    """The core `M` that minimises `Σ |1 - K G|² / (λ + μ |∇|²) + |G|²`, `G = F(L M Rᵀ)`.

    The first summand is the error made of a photograph whose power is `1 / (λ + μ |∇|²)`, the
    second that made of noise of power 1. Without a basis this is the pseudo-inverse's minimum.
    """
    support = basis.left.shape[0]
    # So large that the inverse of the kernel, applied to it, does not wrap around.
    size = next_fast_len(support + max(kernel.shape) - 1, real=True)
    transfer = spectra.transfer_function(jnp.asarray(kernel, jnp.float32), (size, size))
    noise = jnp.asarray(regularization, jnp.float32)
    signal = noise / damping(size, regularization=noise, smoothness=smoothness)
    normal = signal * (transfer.real**2 + transfer.imag**2) + noise

    def gather(spectrum: jax.Array) -> jax.Array:
        centred = jnp.roll(jnp.fft.irfft2(spectrum, s=(size, size)), (support // 2,) * 2, (0, 1))
        return project(basis, centred[:support, :support])

    def filtered(weights: jax.Array, core: jax.Array) -> jax.Array:
        inverse = reconstruct(basis, core)
        return gather(weights * spectra.transfer_function(inverse, (size, size)))

    return jax.scipy.sparse.linalg.cg(
        partial(filtered, normal),
        gather(signal * jnp.conj(transfer)),
        tol=1e-5,
        maxiter=_MOST_ITERATIONS,
        M=partial(filtered, 1.0 / normal),
    )[0]
