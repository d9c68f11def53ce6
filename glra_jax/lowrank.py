"""Low-rank bases: projecting a kernel on one, and reconstructing it from its core.

Kernels here are the pseudo-inverses of blur kernels: `(d, d)` float32 arrays, centred. A basis is
a pair of matrices `left`, `right`, `(d, m)` with orthonormal columns, which `glra.fit_glra` finds.
A kernel is approximated by `left @ M @ right.T`; its core `M` is `(m, m)`.

Ren et al. 2018, eq. 6 and 7.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from glra_jax import validation
from glra_jax.host_arrays import native_arrays
from glra_jax.precision import full_matmul


class Basis(NamedTuple):
    """The two bases of a generalized low-rank approximation, a pytree.

    Attributes:
      left: `(d, m)`, orthonormal columns, for the vertical axis (`L` in the paper).
      right: `(d, m)`, orthonormal columns, for the horizontal axis (`R` in the paper).
    """

    left: jax.Array
    right: jax.Array


@native_arrays
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
    validation.check_numbers(kernel, "kernel")
    support = basis.left.shape[0]
    if jnp.shape(kernel)[-2:] != (support, support):
        raise ValueError(
            f"kernel must end in ({support}, {support}), the basis' support, got shape "
            f"{jnp.shape(kernel)}; make it with pseudo_inverse(kernel, support={support})"
        )
    return full_matmul(full_matmul(basis.left.T, kernel), basis.right)


@native_arrays
def reconstruct(basis: Basis, core: jax.Array) -> jax.Array:
    """Kernel of a core, `L M Rᵀ` (Ren et al. 2018, eq. 6).

    Args:
      basis: `left` and `right`, `(d, m)`.
      core: `(..., m, m)`.

    Returns:
      `(..., d, d)`.

    Raises:
      ValueError: the last two axes are not `(m, m)`.
    """
    validation.check_numbers(core, "core")
    rank = basis.left.shape[1]
    if jnp.shape(core)[-2:] != (rank, rank):
        raise ValueError(f"core must end in ({rank}, {rank}), got shape {jnp.shape(core)}")
    return full_matmul(full_matmul(basis.left, core), basis.right.T)


def dc_gain(basis: Basis, core: jax.Array) -> jax.Array:
    """Factor by which a core scales a constant image: the sum of `reconstruct(basis, core)`.

    Args:
      basis: `left` and `right`, `(d, m)`.
      core: `(m, m)`.

    Returns:
      Scalar.
    """
    return full_matmul(full_matmul(basis.left.sum(axis=0), core), basis.right.sum(axis=0))
