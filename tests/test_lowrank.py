"""Projection, reconstruction and the core of a blur kernel against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx


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


def test_project_and_reconstruct_refuse_other_shapes(basis):
    with pytest.raises(ValueError, match=r"\(9, 9\).*\(9, 8\).*support=9"):
        gx.project(basis, jnp.ones((9, 8)))
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(9, 9\)"):
        gx.reconstruct(basis, jnp.ones((9, 9)))


@pytest.mark.parametrize(("regularization", "smoothness"), [(0.01, 0.0), (0.2, 0.0), (0.001, 0.02)])
def test_deconvolution_core_keeps_the_brightness(small_basis, regularization, smoothness):
    kernel = gx.disk_kernel(radius=2.3, size=9)
    options = {"regularization": regularization, "smoothness": smoothness}
    core = gx.deconvolution_core(small_basis, kernel, **options)
    assert core.shape == (6, 6)
    assert core.dtype == jnp.float32
    assert float(np.sum(gx.reconstruct(small_basis, core))) == pytest.approx(1.0, abs=3e-5)
    left, right = (np.asarray(side, np.float64) for side in small_basis)
    inverse = gx.pseudo_inverse(kernel, support=31, **options)
    expected = left.T @ np.asarray(inverse, np.float64) @ right
    expected /= (left @ expected @ right.T).sum()
    # The sum that it is divided by is a difference of larger numbers.
    np.testing.assert_allclose(core, expected, atol=3e-5 * np.abs(expected).max())


def test_deconvolution_core_has_a_gradient_and_refuses_what_the_inverse_refuses(small_basis):
    kernel = gx.gaussian_kernel(sigma=1.0, size=7)
    gradient = jax.jit(jax.grad(lambda k: gx.deconvolution_core(small_basis, k)[0, 1]))(kernel)
    assert jnp.isfinite(gradient).all()
    assert jnp.abs(gradient).max() > 0
    with pytest.raises(ValueError, match=r"\(33, 33\).*support 31"):
        gx.deconvolution_core(small_basis, jnp.full((33, 33), 1 / 33**2))
    with pytest.raises(ValueError, match=r"regularization.*-1\.0"):
        gx.deconvolution_core(small_basis, kernel, regularization=-1.0)
    with pytest.raises(ValueError, match=r"smoothness.*-2\.0"):
        gx.deconvolution_core(small_basis, kernel, smoothness=-2.0)
