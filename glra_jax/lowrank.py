"""Generalized low-rank approximation (GLRA): two bases shared by many matrices.

Kernels here are the pseudo-inverses of blur kernels: `(d, d)` float32 arrays, centred. A basis is
a pair of matrices `left`, `right`, `(d, m)` with orthonormal columns; a kernel is about
`left @ M @ right.T`, and its core `M` is `(m, m)`.

Ye, "Generalized Low Rank Approximations of Matrices", Machine Learning 61, 2005; Ren et al. 2018,
eq. 5 to 7.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import kernels as kernels_lib
from glra_jax import validation

Chunks = Iterable[jax.Array] | Callable[[], Iterable[jax.Array]]


class Basis(NamedTuple):
    """The two bases of a generalized low-rank approximation, a pytree.

    Attributes:
      left: `(d, m)`, orthonormal columns, for the vertical axis (`L` in the paper).
      right: `(d, m)`, orthonormal columns, for the horizontal axis (`R` in the paper).
    """

    left: jax.Array
    right: jax.Array


_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def _times_right(kernels: jax.Array, right: jax.Array) -> jax.Array:
    """`K_p R` as one large product, which CPUs do several times faster than many small ones."""
    n, rows, columns = kernels.shape
    return _matmul(kernels.reshape(n * rows, columns), right).reshape(n, rows, -1)


def _left_times(left: jax.Array, kernels: jax.Array) -> jax.Array:
    """`Lᵀ K_p` as a plain batched product."""
    transposed = jnp.broadcast_to(left.T, (kernels.shape[0], *left.T.shape))
    return _matmul(transposed, kernels)


def _row_gram(kernels: jax.Array, right: jax.Array | None) -> jax.Array:
    """Sum over p of `K_p R Rᵀ K_pᵀ`; `R Rᵀ` left out if None."""
    rows = kernels if right is None else _times_right(kernels, right)
    rows = jnp.swapaxes(rows, 0, 1).reshape(kernels.shape[1], -1)
    return _matmul(rows, rows.T)


def _column_gram(kernels: jax.Array, left: jax.Array) -> jax.Array:
    """Sum over p of `K_pᵀ L Lᵀ K_p`."""
    columns = _left_times(left, kernels).reshape(-1, kernels.shape[2])
    return _matmul(columns.T, columns)


def _leading(gram: jax.Array, rank: int) -> jax.Array:
    """The `rank` leading eigenvectors of a symmetric matrix, largest first."""
    _, vectors = jnp.linalg.eigh(gram, symmetrize_input=True)
    return vectors[:, ::-1][:, :rank]


def _squared_residual(kernels: jax.Array, basis: Basis) -> jax.Array:
    cores = _left_times(basis.left, _times_right(kernels, basis.right))
    approximations = _times_right(_left_times(basis.left.T, cores), basis.right.T)
    return jnp.sum((kernels - approximations) ** 2)


@partial(jax.jit, static_argnames=("rank", "num_iters"))
def _fit_array(kernels: jax.Array, rank: int, num_iters: int) -> tuple[Basis, jax.Array]:
    def sweep(state: tuple[Basis, jax.Array], _: None) -> tuple[tuple[Basis, jax.Array], jax.Array]:
        kept, kept_error = state
        right = _leading(_column_gram(kernels, kept.left), rank)
        left = _leading(_row_gram(kernels, right), rank)
        basis = Basis(left, right)
        error = _squared_residual(kernels, basis)
        # A converged sweep may rise by rounding alone; then the earlier basis stays.
        better = error <= kept_error
        kept = jax.tree.map(partial(jnp.where, better), basis, kept)
        kept_error = jnp.where(better, error, kept_error)
        return (kept, kept_error), kept_error

    left = _leading(_row_gram(kernels, None), rank)
    start = (Basis(left, jnp.zeros_like(left)), jnp.asarray(jnp.inf, kernels.dtype))
    (basis, _), errors = jax.lax.scan(sweep, start, length=num_iters)
    return basis, errors


def _fit_chunks(
    chunks: Callable[[], Iterable[jax.Array]], rank: int, num_iters: int
) -> tuple[Basis, jax.Array]:
    """The same sweeps, with sums over kernels gathered chunk by chunk."""

    def total(term: Callable[..., jax.Array], *args: object) -> jax.Array:
        compiled = jax.jit(term)
        parts = [compiled(_checked_stack(chunk, rank), *args) for chunk in chunks()]
        if not parts:
            raise ValueError(
                "kernels gave no chunk; a generator is used up after one pass, so hand in a list "
                "or a function that returns a fresh iterator"
            )
        return jnp.sum(jnp.stack(parts), axis=0)

    left = _leading(total(partial(_row_gram, right=None)), rank)
    kept: Basis | None = None
    kept_error, errors = jnp.asarray(jnp.inf), []
    for _ in range(num_iters):
        right = _leading(total(_column_gram, left), rank)
        left = _leading(total(_row_gram, right), rank)
        error = total(_squared_residual, Basis(left, right))
        if error <= kept_error:
            kept, kept_error = Basis(left, right), error
        errors.append(kept_error)
    assert kept is not None
    return kept, jnp.stack(errors)


def _checked_stack(kernels: jax.typing.ArrayLike, rank: int) -> jax.Array:
    kernels = jnp.asarray(kernels)
    if kernels.ndim != 3 or kernels.shape[1] != kernels.shape[2] or kernels.size == 0:
        raise ValueError(f"kernels must be (n, d, d) and not empty, got shape {kernels.shape}")
    validation.check_float(kernels, "kernels")
    if rank > kernels.shape[1]:
        raise ValueError(
            f"rank {rank} is above the support {kernels.shape[1]}; choose a lower rank"
        )
    if validation.is_known(kernels) and (bad := validation.count_not_finite(kernels)):
        raise ValueError(f"kernels hold {bad} NaN or infinite values")
    return kernels


def fit_glra(
    kernels: jax.Array | Chunks, *, rank: int = 50, num_iters: int = 8
) -> tuple[Basis, jax.Array]:
    """Finds the two bases that serve many kernels best.

    Minimises `Σ_p ‖K_p - L M_p Rᵀ‖²` over orthonormal `L`, `R` and free `M_p` by alternating
    eigenproblems, from the leading left singular vectors of all kernels side by side.

    Args:
      kernels: `(n, d, d)` floating; or, where they do not fit in memory together, a list of such
        chunks or a function without arguments that returns a fresh iterator over chunks (it is
        called three times a sweep). Arrays may be traced, chunks not.
      rank: number of columns `m` of each basis, at most `d`.
      num_iters: number of sweeps.

    Returns:
      The basis, and the summed squared error after each sweep, `(num_iters,)`, never rising.

    Raises:
      TypeError: integer kernels.
      ValueError: another shape, NaN, `rank` above `d`, or chunks that end after one pass.
    """
    validation.check_size(rank, "rank")
    validation.check_size(num_iters, "num_iters")
    if isinstance(kernels, jax.Array | np.ndarray):
        return _fit_array(_checked_stack(kernels, rank), rank, num_iters)
    if not callable(kernels):
        if iter(kernels) is kernels:
            raise ValueError(
                "kernels is an iterator, which is used up after one pass; hand in a list or a "
                "function that returns a fresh iterator"
            )
        chunks = kernels
        return _fit_chunks(lambda: chunks, rank, num_iters)
    return _fit_chunks(kernels, rank, num_iters)


def project(basis: Basis, kernel: jax.Array) -> jax.Array:
    """Core of a kernel in a basis, `M = Lᵀ k R` (Ren et al. 2018, eq. 7).

    Args:
      basis: `left` and `right`, `(d, m)`.
      kernel: `(..., d, d)`.

    Returns:
      `(..., m, m)`.

    Raises:
      ValueError: the last two axes are not `(d, d)`.
    """
    support = basis.left.shape[0]
    if jnp.shape(kernel)[-2:] != (support, support):
        raise ValueError(
            f"kernel must end in ({support}, {support}), the basis' support, got shape "
            f"{jnp.shape(kernel)}; make it with pseudo_inverse(kernel, support={support})"
        )
    return _matmul(_matmul(basis.left.T, kernel), basis.right)


def reconstruct(basis: Basis, core: jax.Array) -> jax.Array:
    """Kernel that a core stands for, `L M Rᵀ` (Ren et al. 2018, eq. 6).

    Args:
      basis: `left` and `right`, `(d, m)`.
      core: `(..., m, m)`.

    Returns:
      `(..., d, d)`.

    Raises:
      ValueError: the last two axes are not `(m, m)`.
    """
    rank = basis.left.shape[1]
    if jnp.shape(core)[-2:] != (rank, rank):
        raise ValueError(f"core must end in ({rank}, {rank}), got shape {jnp.shape(core)}")
    return _matmul(_matmul(basis.left, core), basis.right.T)


def deconvolution_core(
    basis: Basis, kernel: jax.Array, *, regularization: jax.typing.ArrayLike = 0.01
) -> jax.Array:
    """Core with which a blur kernel is undone: the network's second layer.

    The pseudo-inverse is projected, and divided by the sum of its projection, so that the mean
    brightness is kept in spite of truncation and regularisation (as in the authors' code).

    Args:
      basis: `left` and `right`, `(d, m)`.
      kernel: blur kernel, `(h, w)`, sum 1, each side at most `d`.
      regularization: see `pseudo_inverse`.

    Returns:
      `(m, m)` float32.

    Raises:
      TypeError: as `pseudo_inverse`.
      ValueError: as `pseudo_inverse`.
    """
    inverse = kernels_lib.pseudo_inverse(
        kernel, support=basis.left.shape[0], regularization=regularization
    )
    core = project(basis, inverse)
    gain = basis.left.sum(axis=0) @ core @ basis.right.sum(axis=0)  # sum of reconstruct(core)
    return core / gain
