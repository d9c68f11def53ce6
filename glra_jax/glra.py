"""Generalized low-rank approximation (GLRA): finds the two bases that many matrices share.

Alternating eigenproblems, Ye, "Generalized Low Rank Approximations of Matrices", Machine Learning
61, 2005; Ren et al. 2018, eq. 5.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from glra_jax import validation
from glra_jax.host_arrays import native_arrays
from glra_jax.lowrank import Basis
from glra_jax.precision import full_matmul

# Axes of a stack `(n, d, d)` of kernels to find `L`, and of their transposes to find `R`.
_ROWS, _COLUMNS = (0, 1, 2), (0, 2, 1)

_START_FROM = 128  # about as many random sums of kernels give the first guess
_STRONG = 1e-4  # of the largest eigenvalue: above it eigenvectors are strong, below it weak
_WORTHWHILE = 5e-5  # of the error: what half a sweep must gain


class _Gram(NamedTuple):
    """The Gram matrix of one side, `S diag(s) Sᵀ + rest`: rounding in `S` does not reach `rest`.

    Attributes:
      strong: `(d, d)`, eigenvectors in the columns, 0 where an eigenvalue is not strong.
      values: `(d,)`, the eigenvalues.
      rest: `(d, d)`.
    """

    strong: jax.Array
    values: jax.Array
    rest: jax.Array


def _times(stack: jax.Array, basis: jax.Array) -> jax.Array:
    """`K_p R` of all p side by side, `(d, n m)`.

    As one large matrix product, which CPUs do several times faster than many small ones.
    """
    count, support, _ = stack.shape
    products = full_matmul(stack.reshape(-1, support), basis).reshape(count, support, -1)
    return jnp.swapaxes(products, 0, 1).reshape(support, -1)


def _without(basis: jax.Array, x: jax.Array) -> jax.Array:
    """`x - B Bᵀ x`."""
    return x - full_matmul(basis, full_matmul(basis.T, x))


def _start_gram(stack: jax.Array) -> jax.Array:
    """About the sum over p of `K_p K_pᵀ`: groups of kernels are summed with random signs first.

    The products of different kernels in a group cancel on the mean, and no kernel is left out.
    """
    count, support, _ = stack.shape
    size = max(1, count // _START_FROM)
    groups = count // size
    signs = jax.random.rademacher(jax.random.key(0), (count, 1, 1), stack.dtype)
    signed = signs * stack
    sums = signed[: groups * size].reshape(groups, size, support, support).sum(axis=1)
    sums = sums.at[: count - groups * size].add(signed[groups * size :])
    side = jnp.swapaxes(sums, 0, 1).reshape(support, -1)
    return full_matmul(side, side.T)


def _gram(stack: jax.Array, basis: jax.Array) -> jax.Array:
    """Sum over p of `K_p R Rᵀ K_pᵀ`."""
    side = _times(stack, basis)
    return full_matmul(side, side.T)


def _gram_of_rest(stack: jax.Array, basis: jax.Array, projector: jax.Array) -> jax.Array:
    """The same after what a projector keeps is taken away."""
    side = _times(stack, basis)
    rest = side - full_matmul(projector, side)
    return full_matmul(rest, rest.T)


def _squared_error(stack: jax.Array, basis: Basis) -> jax.Array:
    """`‖K - L M Rᵀ‖² = ‖K - K R Rᵀ‖² + ‖K R - L Lᵀ K R‖²`, summed over p."""
    rows = stack.reshape(-1, stack.shape[2])
    outside_right = rows - full_matmul(full_matmul(rows, basis.right), basis.right.T)
    outside_left = _without(basis.left, _times(stack, basis.right))
    return jnp.sum(outside_right**2) + jnp.sum(outside_left**2)


# Sum of a term over all kernels: `(term, axes, *arguments) -> sum`.
_Total = Callable[..., jax.Array]


def _leading(
    total: _Total, axes: tuple[int, int, int], basis: jax.Array
) -> tuple[jax.Array, _Gram]:
    """The leading eigenvectors of the Gram matrix of one side, largest first, and the matrix.

    In float32 those with eigenvalues below about 1e-7 of the largest are lost in rounding, and half
    of the basis of a smooth family of kernels is there. Then the strong ones are taken away first,
    and the weak ones are the eigenvectors of the Gram matrix of the rest.
    """
    rank = basis.shape[1]
    gram = total(_gram, axes, basis)
    values, vectors = jnp.linalg.eigh(gram)
    values, vectors = values[::-1], vectors[:, ::-1]

    def at_once() -> tuple[jax.Array, _Gram]:
        return vectors[:, :rank], _Gram(jnp.zeros_like(vectors), values, gram)

    def strong_first() -> tuple[jax.Array, _Gram]:
        is_strong = values > _STRONG * values[0]
        strong = jnp.where(is_strong, vectors, 0.0)
        projector = full_matmul(strong, strong.T)
        rest = total(_gram_of_rest, axes, basis, projector)
        scale = jnp.trace(rest)
        scale = jnp.where(scale > 0, scale, 1.0)
        rest = _without(strong, _without(strong, rest).T)
        # Behind all others come, with negative eigenvalues, the strong ones again.
        _, weak = jnp.linalg.eigh(rest - scale * projector, symmetrize_input=True)
        place, count = jnp.arange(rank), jnp.sum(is_strong)
        weak = weak[:, ::-1][:, jnp.maximum(place - count, 0)]
        leading = jnp.where(place < count, vectors[:, :rank], weak)
        return leading, _Gram(strong, values, rest)

    return jax.lax.cond(values[rank - 1] <= _STRONG * values[0], strong_first, at_once)


def _energy_outside(gram: _Gram, basis: jax.Array) -> jax.Array:
    """Trace of what a basis leaves of a Gram matrix."""
    strong = jnp.sum(gram.values * jnp.sum(_without(basis, gram.strong) ** 2, axis=0))
    return strong + jnp.trace(_without(basis, _without(basis, gram.rest).T))


def _new_right(total: _Total, basis: Basis) -> tuple[jax.Array, jax.Array]:
    """The first half of a sweep of eq. 5: the right basis, and by how much the error falls."""
    right, gram = _leading(total, _COLUMNS, basis.left)
    return right, _energy_outside(gram, basis.right) - _energy_outside(gram, right)


def _new_left(total: _Total, right: jax.Array) -> tuple[Basis, jax.Array]:
    """The second half: the left basis for a right one, and the squared error."""
    basis = Basis(_leading(total, _ROWS, right)[0], right)
    return basis, total(_squared_error, _ROWS, basis)


def _first_sweep(total: _Total, rank: int) -> tuple[Basis, jax.Array]:
    """A first basis, from a guess good enough that one sweep or two more will do, and its error."""
    _, vectors = jnp.linalg.eigh(total(_start_gram, _ROWS), symmetrize_input=True)
    guess = vectors[:, ::-1][:, :rank]
    return _new_left(total, _leading(total, _COLUMNS, guess)[0])


@partial(jax.jit, static_argnames=("rank", "num_iters"))
def _fit_array(kernels: jax.Array, rank: int, num_iters: int) -> tuple[Basis, jax.Array]:
    stacks = {axes: jnp.transpose(kernels, axes) for axes in (_ROWS, _COLUMNS)}

    def total(
        term: Callable[..., jax.Array], axes: tuple[int, int, int], *args: object
    ) -> jax.Array:
        return term(stacks[axes], *args)

    def sweep(kept: Basis, kept_error: jax.Array) -> tuple[Basis, jax.Array, jax.Array]:
        right, gain = _new_right(total, kept)
        done = gain < _WORTHWHILE * kept_error
        basis, error = jax.lax.cond(
            done, lambda: (kept, kept_error), lambda: _new_left(total, right)
        )
        better = error < kept_error
        kept = jax.tree.map(partial(jnp.where, better), basis, kept)
        return kept, jnp.where(better, error, kept_error), ~better

    def step(
        state: tuple[Basis, jax.Array, jax.Array], _: None
    ) -> tuple[tuple[Basis, jax.Array, jax.Array], jax.Array]:
        basis, error, done = state
        state = jax.lax.cond(done, lambda: state, lambda: sweep(basis, error))
        return state, state[1]

    first = _first_sweep(total, rank)
    (basis, _, _), errors = jax.lax.scan(step, (*first, jnp.array(False)), length=num_iters - 1)
    return basis, jnp.concatenate([first[1][None], errors])


def _checked_stack(kernels: jax.typing.ArrayLike, rank: int) -> jax.Array:
    if not isinstance(kernels, list | tuple):
        validation.check_array(kernels, "kernels")
    kernels = jnp.asarray(kernels)
    if kernels.ndim != 3 or kernels.shape[1] != kernels.shape[2] or kernels.size == 0:
        raise ValueError(f"kernels must be (n, d, d) and not empty, got shape {kernels.shape}")
    validation.check_float(kernels, "kernels")
    kernels = kernels.astype(jnp.promote_types(kernels.dtype, jnp.float32))
    if rank > kernels.shape[1]:
        raise ValueError(
            f"rank {rank} is above the support {kernels.shape[1]}; choose a lower rank"
        )
    if validation.is_known(kernels) and (bad := validation.count_not_finite(kernels)):
        raise ValueError(f"kernels hold {bad} NaN or infinite values")
    return kernels


@native_arrays
def fit_glra(kernels: jax.Array, *, rank: int = 50, num_iters: int = 8) -> tuple[Basis, jax.Array]:
    """Finds the two bases that serve many kernels best.

    Minimises `Σ_p ‖K_p - L M_p Rᵀ‖²` over orthonormal `L`, `R` and free `M_p` by alternating
    eigenproblems, from about the leading left singular vectors of all kernels side by side. Once
    half a sweep gains less than 5e-5 of the error no further ones are made.

    Args:
      kernels: `(n, d, d)` floating.
      rank: number of columns `m` of each basis, at most `d`.
      num_iters: number of sweeps.

    Returns:
      The basis, and the summed squared error after each sweep, `(num_iters,)`, never rising.

    Raises:
      TypeError: integer kernels, or none in one array (join chunks by `jnp.concatenate`).
      ValueError: another shape, NaN, or `rank` above `d`.
    """
    validation.check_size(rank, "rank")
    validation.check_size(num_iters, "num_iters")
    validation.check_numbers(kernels, "kernels")
    return _fit_array(_checked_stack(kernels, rank), rank, num_iters)
