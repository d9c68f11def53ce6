"""Projection and reconstruction against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from glra_jax.lowrank import dc_gain


@pytest.fixture(scope="module")
def basis():
    rng = np.random.default_rng(0)
    sides = (np.linalg.qr(rng.normal(size=(9, 4)))[0] for _ in range(2))
    return gx.Basis(*(jnp.asarray(side, jnp.float32) for side in sides))


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_project_and_reconstruct_are_the_papers_products(basis, batch):
    left, right = (np.asarray(side, np.float64) for side in basis)
    rng = np.random.default_rng(1)
    kernel, core = rng.normal(size=(*batch, 9, 9)), rng.normal(size=(*batch, 4, 4))
    projected, rebuilt = gx.project(basis, kernel), gx.reconstruct(basis, core)
    assert projected.dtype == rebuilt.dtype == jnp.float32
    np.testing.assert_allclose(projected, left.T @ kernel @ right, atol=1e-5)
    np.testing.assert_allclose(rebuilt, left @ core @ right.T, atol=1e-5)
    np.testing.assert_allclose(gx.project(basis, rebuilt), core, atol=1e-5)
    np.testing.assert_allclose(jax.jit(gx.project)(basis, kernel), projected, atol=1e-6)


def test_the_dc_gain_is_the_sum_of_the_kernel(basis):
    core = np.random.default_rng(2).normal(size=(4, 4))
    left, right = (np.asarray(side, np.float64) for side in basis)
    expected = (left @ core @ right.T).sum()
    assert abs(expected) > 0.1
    assert float(dc_gain(basis, core)) == pytest.approx(expected, abs=1e-5)


def test_project_and_reconstruct_refuse_other_shapes(basis):
    with pytest.raises(ValueError, match=r"\(9, 9\).*\(9, 8\).*support=9"):
        gx.project(basis, jnp.ones((9, 8)))
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(9, 9\)"):
        gx.reconstruct(basis, jnp.ones((9, 9)))
