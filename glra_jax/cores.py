"""The core with which a blur kernel is undone: the network's second layer."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from glra_jax import spectra, validation
from glra_jax.kernels import check_inverse, inverse_damping, pseudo_inverse
from glra_jax.lowrank import Basis, brightness, project, reconstruct

Core = Literal["projection", "least-squares"]
CORES = get_args(Core)
# Reached only with a regularisation far below 0.001, where kernels with zeros are ill-conditioned.
_MOST_ITERATIONS = 500


def deconvolution_core(
    basis: Basis,
    kernel: jax.Array,
    *,
    core: str = "projection",
    regularization: jax.typing.ArrayLike = 0.01,
    smoothness: jax.typing.ArrayLike = 0.0,
) -> jax.Array:
    """Core with which a blur kernel is undone: the network's second layer.

    `"projection"`, as in the paper, projects the pseudo-inverse, which is that of a periodic image
    as large as the support. In larger images its ends are cut off, which hurts kernels with zeros
    at low frequencies (long motion blur, little noise). `"least-squares"` takes, of all cores, the
    one whose low-rank kernel restores best: what `pseudo_inverse` minimises over all inverses of
    the support's size is minimised over those of the basis, in images that do not wrap around.

    Either is divided by the sum of its low-rank kernel, so that the mean brightness is kept in
    spite of truncation and regularisation (as in the authors' code).

    Args:
      basis: `left` and `right`, `(d, m)`, of orthonormal columns.
      kernel: blur kernel, `(h, w)`, sum 1, each side at most `d`.
      core: `"projection"` or `"least-squares"`, which takes some twenty times as long.
      regularization: see `pseudo_inverse`.
      smoothness: see `pseudo_inverse`.

    Returns:
      `(m, m)` float32.

    Raises:
      TypeError: as `pseudo_inverse`.
      ValueError: as `pseudo_inverse`, or an unknown kind of core.
    """
    found = unscaled_core(
        basis, kernel, core=core, regularization=regularization, smoothness=smoothness
    )
    return found / brightness(basis, found)


def unscaled_core(
    basis: Basis,
    kernel: jax.Array,
    *,
    core: str,
    regularization: jax.typing.ArrayLike,
    smoothness: jax.typing.ArrayLike,
) -> jax.Array:
    """`deconvolution_core` before it is divided by the sum of its low-rank kernel.

    That sum is near 1 where the basis holds the inverse of the blur kernel.
    """
    validation.check_choice(core, "core", CORES)
    support = basis.left.shape[0]
    if core == "projection":
        inverse = pseudo_inverse(
            kernel, support=support, regularization=regularization, smoothness=smoothness
        )
        return project(basis, inverse)
    check_inverse(kernel, support=support, regularization=regularization, smoothness=smoothness)
    return _least_squares(basis, kernel, regularization, smoothness)


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
    size = spectra.fast_size(support + max(kernel.shape) - 1)
    transfer = spectra.transfer_function(jnp.asarray(kernel, jnp.float32), (size, size))
    noise = jnp.asarray(regularization, jnp.float32)
    signal = noise / inverse_damping(size, regularization=noise, smoothness=smoothness)
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
