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


# Axis of a stack of kernels that comes first: rows to find `L`, columns to find `R`. With it in
# front, the products of all kernels with a basis are one large matrix product, which CPUs do
# several times faster than many small ones.
_ROWS, _COLUMNS = (1, 0, 2), (2, 0, 1)


def _times(stack: jax.Array, basis: jax.Array) -> jax.Array:
    """`K_p R` of all p side by side, `(d, n m)`, from `(d, n, d)`; `K_pᵀ L` with columns first."""
    return _matmul(stack.reshape(-1, stack.shape[2]), basis).reshape(len(stack), -1)


def _gram(stack: jax.Array, basis: jax.Array) -> jax.Array:
    """Sum over p of `K_p R Rᵀ K_pᵀ`."""
    side = _times(stack, basis)
    return _matmul(side, side.T)


def _whole_gram(stack: jax.Array) -> jax.Array:
    """Sum over p of `K_p K_pᵀ`."""
    side = stack.reshape(len(stack), -1)
    return _matmul(side, side.T)


def _gram_of_rest(stack: jax.Array, basis: jax.Array, projector: jax.Array) -> jax.Array:
    """The same after what a projector keeps is taken away."""
    side = _times(stack, basis)
    side = side - _matmul(projector, side)
    return _matmul(side, side.T)


def _squared_residual(stack: jax.Array, basis: Basis) -> jax.Array:
    """`‖K - L M Rᵀ‖² = ‖K - K R Rᵀ‖² + ‖K R - L Lᵀ K R‖²`, summed over p; rows first."""
    side = _times(stack, basis.right)
    approximations = _matmul(side.reshape(-1, basis.right.shape[1]), basis.right.T)
    outside_left = side - _matmul(basis.left, _matmul(basis.left.T, side))
    return jnp.sum((stack - approximations.reshape(stack.shape)) ** 2) + jnp.sum(outside_left**2)


_Total = Callable[..., jax.Array]  # (term, axes, *arguments) -> sum of the term over all kernels


def _leading(total: _Total, axes: tuple[int, int, int], basis: jax.Array, rank: int) -> jax.Array:
    """The `rank` leading eigenvectors of the Gram matrix of one side, largest first.

    In float32 those with eigenvalues below about 1e-7 of the largest are lost in rounding, and half
    of the basis of a smooth family of kernels is there. So the strong ones are taken away first,
    and the weak ones are the eigenvectors of the Gram matrix of the rest.
    """
    values, vectors = jnp.linalg.eigh(total(_gram, axes, basis))
    is_strong = values > 1e-4 * values[-1]
    strong = jnp.where(is_strong, vectors, 0.0)
    projector = _matmul(strong, strong.T)
    rest = total(_gram_of_rest, axes, basis, projector)
    # Behind all others come, with negative eigenvalues, the strong ones again.
    complement = jnp.eye(len(rest), dtype=rest.dtype) - projector
    rest = _matmul(_matmul(complement, rest), complement) - jnp.trace(rest) * projector
    _, weak = jnp.linalg.eigh(rest, symmetrize_input=True)
    place, count = jnp.arange(rank), jnp.sum(is_strong)
    weak = weak[:, ::-1][:, jnp.maximum(place - count, 0)]
    return jnp.where(place < count, vectors[:, ::-1][:, :rank], weak)


def _start(total: _Total, rank: int) -> jax.Array:
    """The leading left singular vectors of all kernels side by side; the sweeps make them exact."""
    _, vectors = jnp.linalg.eigh(total(_whole_gram, _ROWS), symmetrize_input=True)
    return vectors[:, ::-1][:, :rank]


def _sweep(total: _Total, left: jax.Array) -> tuple[Basis, jax.Array]:
    """One sweep of eq. 5, and its squared error."""
    rank = left.shape[1]
    right = _leading(total, _COLUMNS, left, rank)
    left = _leading(total, _ROWS, right, rank)
    basis = Basis(left, right)
    return basis, total(_squared_residual, _ROWS, basis)


def _is_done(error: jax.Array, earlier: jax.Array) -> jax.Array:
    """Further sweeps would gain next to nothing."""
    return error > (1.0 - 1e-4) * earlier


@partial(jax.jit, static_argnames=("rank", "num_iters"))
def _fit_array(kernels: jax.Array, rank: int, num_iters: int) -> tuple[Basis, jax.Array]:
    stacks = {axes: jnp.transpose(kernels, axes) for axes in (_ROWS, _COLUMNS)}

    def total(
        term: Callable[..., jax.Array], axes: tuple[int, int, int], *args: object
    ) -> jax.Array:
        return term(stacks[axes], *args)

    def step(
        state: tuple[Basis, jax.Array, jax.Array], _: None
    ) -> tuple[tuple[Basis, jax.Array, jax.Array], jax.Array]:
        kept, kept_error, done = state
        basis, error = jax.lax.cond(
            done, lambda: (kept, kept_error), lambda: _sweep(total, kept.left)
        )
        better = error <= kept_error
        kept = jax.tree.map(partial(jnp.where, better), basis, kept)
        done = done | _is_done(error, kept_error)
        kept_error = jnp.where(better, error, kept_error)
        return (kept, kept_error, done), kept_error

    left = _start(total, rank)
    start = Basis(left, jnp.zeros_like(left)), jnp.asarray(jnp.inf, kernels.dtype), jnp.array(False)
    (basis, _, _), errors = jax.lax.scan(step, start, length=num_iters)
    return basis, errors


def _fit_chunks(
    chunks: Callable[[], Iterable[jax.Array]], rank: int, num_iters: int
) -> tuple[Basis, jax.Array]:
    """The same sweeps, with sums over kernels gathered chunk by chunk."""

    @partial(jax.jit, static_argnums=(0, 2))
    def partial_sum(
        term: Callable[..., jax.Array],
        chunk: jax.Array,
        axes: tuple[int, int, int],
        *args: object,
    ) -> jax.Array:
        return term(jnp.transpose(chunk, axes), *args)

    def total(
        term: Callable[..., jax.Array], axes: tuple[int, int, int], *args: object
    ) -> jax.Array:
        parts = [partial_sum(term, _checked_stack(chunk, rank), axes, *args) for chunk in chunks()]
        if not parts:
            raise ValueError(
                "kernels gave no chunk; a generator is used up after one pass, so hand in a list "
                "or a function that returns a fresh iterator"
            )
        return jnp.sum(jnp.stack(parts), axis=0)

    kept, kept_error = _sweep(total, _start(total, rank))
    errors = [kept_error]
    done = False
    while len(errors) < num_iters:
        if not done:
            basis, error = _sweep(total, kept.left)
            done = bool(_is_done(error, kept_error))
            if error <= kept_error:
                kept, kept_error = basis, error
        errors.append(kept_error)
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
    eigenproblems, from the leading left singular vectors of all kernels side by side. After
    a sweep that gains less than 1e-4 of the error no further ones are made.

    Args:
      kernels: `(n, d, d)` floating; or, where they do not fit in memory together, a list of such
        chunks or a function without arguments that returns a fresh iterator over chunks (it is
        called five times a sweep). Arrays may be traced, chunks not.
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


def brightness(basis: Basis, core: jax.Array) -> jax.Array:
    """What a core makes of a constant image of 1: the sum of `reconstruct(basis, core)`.

    Args:
      basis: `left` and `right`, `(d, m)`.
      core: `(m, m)`.

    Returns:
      Scalar.
    """
    return basis.left.sum(axis=0) @ core @ basis.right.sum(axis=0)


def deconvolution_core(
    basis: Basis,
    kernel: jax.Array,
    *,
    regularization: jax.typing.ArrayLike = 0.01,
    smoothness: jax.typing.ArrayLike = 0.0,
) -> jax.Array:
    """Core with which a blur kernel is undone: the network's second layer.

    The pseudo-inverse is projected, and divided by the sum of its projection, so that the mean
    brightness is kept in spite of truncation and regularisation (as in the authors' code).

    Args:
      basis: `left` and `right`, `(d, m)`.
      kernel: blur kernel, `(h, w)`, sum 1, each side at most `d`.
      regularization: see `pseudo_inverse`.
      smoothness: see `pseudo_inverse`.

    Returns:
      `(m, m)` float32.

    Raises:
      TypeError: as `pseudo_inverse`.
      ValueError: as `pseudo_inverse`.
    """
    inverse = kernels_lib.pseudo_inverse(
        kernel,
        support=basis.left.shape[0],
        regularization=regularization,
        smoothness=smoothness,
    )
    core = project(basis, inverse)
    return core / brightness(basis, core)
