"""GLRA against NumPy in float64, its bounds, and the authors' released basis."""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import glra_jax as gx
from glra_jax.inverses import sample_inverses

RELEASE_ARRAYS = "GLRA_JAX_RELEASE_ARRAYS"


def random_stack(seed, count=6, support=10, decay=0.7):
    """Matrices with singular values that fall off, as those of pseudo-inverses do."""
    rng = np.random.default_rng(seed)
    scale = decay ** np.arange(support)
    left, right = (np.linalg.qr(rng.normal(size=(support, support)))[0] for _ in range(2))
    cores = rng.normal(size=(count, support, support)) * scale[:, None] * scale[None, :]
    return left @ cores @ right.T


def squared_error(kernels, left, right):
    """Summed squared error of the best cores, in float64."""
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    rest = kernels - left @ (left.T @ kernels @ right) @ right.T
    return float((rest**2).sum())


def reference_glra(kernels, rank, sweeps):
    """Ye's alternating eigenproblems in float64, from the same start."""

    def leading(gram):
        return np.linalg.eigh(gram)[1][:, ::-1][:, :rank]

    left = leading(np.einsum("pij,pkj->ik", kernels, kernels))
    errors = []
    for _ in range(sweeps):
        right = leading(np.einsum("pij,pik->jk", left.T @ kernels, left.T @ kernels))
        left = leading(np.einsum("pij,pkj->ik", kernels @ right, kernels @ right))
        errors.append(squared_error(kernels, left, right))
    return errors


def orthonormality(basis):
    eye = np.eye(basis.left.shape[1])
    return max(np.abs(np.asarray(b, np.float64).T @ np.asarray(b) - eye).max() for b in basis)


@given(seed=st.integers(0, 2**32 - 1), rank=st.sampled_from([1, 4]), decay=st.floats(0.3, 1.0))
def test_glra_on_random_stacks(seed, rank, decay):
    kernels = random_stack(seed, decay=decay)
    basis, errors = gx.fit_glra(kernels, rank=rank, num_iters=5)
    assert basis.left.shape == basis.right.shape == (10, rank)
    assert basis.left.dtype == errors.dtype == jnp.float32
    assert orthonormality(basis) < 1e-5
    # It never rises, and it is the error that the basis really has.
    assert errors.shape == (5,)
    assert (np.diff(errors) <= 0).all()
    total = float((kernels**2).sum())
    assert float(errors[-1]) == pytest.approx(squared_error(kernels, *basis), abs=1e-5 * total)
    # Never better than the best basis for one side alone.
    for gram in ("pij,pkj->ik", "pji,pjk->ik"):
        tail = np.linalg.eigvalsh(np.einsum(gram, kernels, kernels))[: 10 - rank].sum()
        assert errors[-1] >= tail - 1e-5 * total


@given(seed=st.integers(0, 2**32 - 1))
def test_glra_finds_what_float64_finds(seed):
    kernels = random_stack(seed)
    _, errors = gx.fit_glra(kernels, rank=4, num_iters=5)
    total = float((kernels**2).sum())
    np.testing.assert_allclose(errors, reference_glra(kernels, 4, 5), atol=2e-5 * total)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_one_kernel_gives_the_truncated_svd(rank):
    kernel = random_stack(3, count=1)[0]
    basis, errors = gx.fit_glra(kernel[None], rank=rank, num_iters=3)
    u, s, vt = np.linalg.svd(kernel)
    np.testing.assert_allclose(errors, (s[rank:] ** 2).sum(), rtol=1e-4)
    best = (u[:, :rank] * s[:rank]) @ vt[:rank]
    found = gx.reconstruct(basis, gx.project(basis, kernel))
    np.testing.assert_allclose(found, best, atol=1e-5)


def test_what_has_the_rank_is_kept_whole():
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(20, 3)))[0] for _ in range(2))
    kernels = left @ rng.normal(size=(8, 3, 3)) @ right.T
    basis, errors = gx.fit_glra(kernels, rank=3, num_iters=2)
    assert errors[-1] < 1e-9 * (kernels**2).sum()
    np.testing.assert_allclose(basis.left @ basis.left.T, left @ left.T, atol=1e-5)
    np.testing.assert_allclose(basis.right @ basis.right.T, right @ right.T, atol=1e-5)


def test_full_rank_loses_nothing():
    kernels = random_stack(1)
    basis, errors = gx.fit_glra(kernels, rank=10, num_iters=2)
    assert errors[-1] < 1e-9 * (kernels**2).sum()
    assert orthonormality(basis) < 1e-5


@pytest.mark.parametrize("kernel", [np.ones((2, 2)), np.outer([1, 2, -3], [2, 0, 1])])
def test_a_basis_wider_than_the_kernels_is_orthonormal(kernel):
    rank = len(kernel)
    basis, errors = gx.fit_glra(kernel[None].astype(np.float32), rank=rank)
    assert orthonormality(basis) < 1e-5
    assert 0 <= errors[-1] < 1e-9 * (kernel**2).sum()


@pytest.mark.parametrize("residual", [1e-3, 1e-5, 1e-7])
def test_the_error_is_right_also_where_next_to_nothing_is_left(residual):
    rng = np.random.default_rng(7)
    scale = np.where(np.arange(20) < 8, 1.0, np.sqrt(residual))
    left, right = (np.linalg.qr(rng.normal(size=(20, 20)))[0] for _ in range(2))
    kernels = left @ (rng.normal(size=(30, 20, 20)) * scale[:, None] * scale) @ right.T
    kernels = kernels.astype(np.float32)
    basis, errors = gx.fit_glra(kernels, rank=8)
    exact = squared_error(kernels.astype(np.float64), *basis)
    assert float(errors[-1]) == pytest.approx(exact, rel=1e-3)
    assert exact <= 1.001 * reference_glra(kernels.astype(np.float64), 8, 8)[-1]


@pytest.mark.parametrize("strong", [3, 12])
def test_weak_directions_beside_many_strong_ones_are_found(strong):
    rng = np.random.default_rng(8)
    scale = np.r_[np.ones(strong), 10.0 ** np.linspace(-2, -5, 20 - strong)]
    left, right = (np.linalg.qr(rng.normal(size=(20, 20)))[0] for _ in range(2))
    kernels = left @ (rng.normal(size=(9, 20, 20)) * np.minimum.outer(scale, scale)) @ right.T
    basis, _ = gx.fit_glra(kernels, rank=strong + 4)
    best = reference_glra(kernels, strong + 4, 8)[-1]
    assert squared_error(kernels, *basis) <= 1.01 * best


def test_no_kernel_is_left_out_of_the_start():
    """Every other kernel has its own rows and columns, which a start from the rest would miss."""
    kernels = np.zeros((256, 12, 12), np.float32)
    rng = np.random.default_rng(9)
    kernels[::2, :5, :5] = rng.normal(size=(128, 5, 5))
    kernels[1::2, 6:11, 6:11] = 3 * rng.normal(size=(128, 5, 5))
    basis, _ = gx.fit_glra(kernels, rank=5)
    total = float((kernels**2).sum())
    assert squared_error(kernels, *basis) == pytest.approx(
        float((kernels[::2] ** 2).sum()), abs=1e-3 * total
    )


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_half_precision_is_fitted_in_float32(dtype):
    kernels = jnp.asarray(random_stack(10), dtype)
    basis, errors = gx.fit_glra(kernels, rank=4, num_iters=2)
    assert basis.left.dtype == errors.dtype == jnp.float32
    expected = reference_glra(np.asarray(kernels, np.float64), 4, 2)
    np.testing.assert_allclose(errors, expected, rtol=1e-2)


def test_under_jit():
    kernels = random_stack(5)
    basis, errors = gx.fit_glra(kernels, rank=3)
    jitted, jitted_errors = jax.jit(partial(gx.fit_glra, rank=3))(kernels)
    assert errors.shape == (8,)
    np.testing.assert_allclose(jitted_errors, errors, rtol=1e-4)
    np.testing.assert_allclose(jitted.left @ jitted.left.T, basis.left @ basis.left.T, atol=1e-4)


@pytest.mark.parametrize(
    ("kernels", "rank", "error", "quoted"),
    [
        (np.ones((4, 4)), 2, ValueError, r"\(4, 4\)"),
        (np.ones((2, 4, 5)), 2, ValueError, r"\(2, 4, 5\)"),
        (np.ones((0, 4, 4)), 2, ValueError, r"\(0, 4, 4\)"),
        (np.ones((2, 4, 4), np.uint8), 2, TypeError, "uint8"),
        (np.ones((2, 4, 4)), 5, ValueError, "rank 5 is above the support 4"),
        (np.ones((2, 4, 4)), 0, ValueError, "rank.*got 0"),
        (np.ones((2, 4, 4)), 2.0, TypeError, r"rank.*got 2\.0"),
        (np.full((2, 4, 4), np.nan), 2, ValueError, "NaN"),
        ([np.ones((2, 4, 4))], 2, ValueError, r"\(1, 2, 4, 4\)"),
        ([], 2, ValueError, r"\(0,\)"),
    ],
)
def test_glra_refuses(kernels, rank, error, quoted):
    with pytest.raises(error, match=quoted):
        gx.fit_glra(kernels, rank=rank)


def test_num_iters_is_checked():
    with pytest.raises(ValueError, match=r"num_iters.*got 0"):
        gx.fit_glra(random_stack(0), rank=2, num_iters=0)


@pytest.mark.skipif(RELEASE_ARRAYS not in os.environ, reason=f"{RELEASE_ARRAYS} is not set")
def test_no_worse_than_the_authors_basis():
    """Gaussian and disk kernels, support 151, regularisation 0.01, rank 50."""
    with np.load(os.environ[RELEASE_ARRAYS]) as release:
        left, right = release["left"], release["right"]
    np.testing.assert_allclose(left.T @ left, np.eye(50), atol=1e-4)
    families = gx.KernelFamilies(families=("gaussian", "disk"))
    kernels = np.asarray(
        sample_inverses(
            jax.random.key(0), families, count=120, support=151, inverse=gx.Inverse(0.01)
        )
    )
    basis, errors = gx.fit_glra(kernels, rank=50, num_iters=3)
    ours = squared_error(kernels.astype(np.float64), *basis)
    assert ours == pytest.approx(float(errors[-1]), rel=0.01)
    assert ours <= squared_error(kernels.astype(np.float64), left, right)
