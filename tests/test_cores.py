"""The core of a blur kernel against NumPy in float64: closed forms, and what it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from glra_jax.inverses import CORES

NOISE = 0.1
OPTIONS = [
    {"regularization": 0.01, "smoothness": 0.0},
    {"regularization": 0.2, "smoothness": 0.0},
    {"regularization": 0.001, "smoothness": 0.02},
]


def core_of(basis, kernel, core="projection", *, regularization=0.01, smoothness=0.0):
    """The core that an `Inverse` gives at a noise level that makes for this smoothness."""
    inverse = gx.Inverse(regularization, smoothness / NOISE**2, core)
    return gx.deconvolution_core(basis, kernel, inverse=inverse, noise=NOISE)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("options", OPTIONS)
def test_cores_have_a_dc_gain_of_1(small_basis, core, options):
    kernel = gx.disk_kernel(radius=2.3, size=9)
    found = core_of(small_basis, kernel, core, **options)
    assert found.shape == (6, 6)
    assert found.dtype == jnp.float32
    assert float(np.sum(gx.reconstruct(small_basis, found))) == pytest.approx(1.0, abs=3e-5)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_projection_is_that_of_the_pseudo_inverse(small_basis, options):
    kernel = gx.disk_kernel(radius=2.3, size=9)
    left, right = (np.asarray(side, np.float64) for side in small_basis)
    inverse = gx.pseudo_inverse(kernel, support=31, **options)
    expected = left.T @ np.asarray(inverse, np.float64) @ right
    expected /= (left @ expected @ right.T).sum()
    # The sum that it is divided by is a difference of larger numbers.
    found = core_of(small_basis, kernel, **options)
    np.testing.assert_allclose(found, expected, atol=3e-5 * np.abs(expected).max())


def test_the_papers_inverse_is_taken_if_none_is_named(small_basis):
    """At any noise."""
    kernel = gx.disk_kernel(radius=2.3, size=9)
    expected = core_of(small_basis, kernel)
    for options in ({}, {"noise": 0.05}, {"inverse": gx.Inverse()}):
        found = gx.deconvolution_core(small_basis, kernel, **options)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def exact_least_squares(basis, kernel, regularization, smoothness, size):
    """By the normal equations, written out: one column of the design for each entry of the core."""
    left, right = (np.asarray(side, np.float64) for side in basis)
    rank = left.shape[1]

    def spectrum(array):
        padded = np.zeros((size, size))
        padded[: array.shape[0], : array.shape[1]] = array
        return np.fft.fft2(np.roll(padded, [-(n // 2) for n in array.shape], axis=(0, 1))).ravel()

    columns = [
        spectrum(np.outer(left[:, i], right[:, j])) for i in range(rank) for j in range(rank)
    ]
    inverses = np.stack(columns, axis=1)
    step = np.abs(1 - np.exp(2j * np.pi * np.arange(size) / size)) ** 2
    signal = 1 / np.sqrt(regularization + smoothness * np.add.outer(step, step)).ravel()
    blur = spectrum(np.asarray(kernel, np.float64))
    design = np.concatenate([(signal * blur)[:, None] * inverses, inverses])
    target = np.concatenate([signal, np.zeros(size * size)])
    real = np.concatenate([design.real, design.imag])
    core = np.linalg.lstsq(real, np.concatenate([target, np.zeros_like(target)]), rcond=None)[0]
    core = core.reshape(rank, rank)
    return core / (left.sum(0) @ core @ right.sum(0))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", [(9, 9), (4, 7), (1, 1)])
def test_the_least_squares_core_solves_the_normal_equations(small_basis, options, shape):
    rng = np.random.default_rng(3)
    kernel = rng.uniform(size=shape).astype(np.float32)
    kernel /= kernel.sum()
    size = {9: 40, 7: 40, 1: 32}[max(shape)]  # the next with factors 2, 3, 5 only after 39, 37, 31
    expected = exact_least_squares(small_basis, kernel, size=size, **options)
    compute = jax.jit(lambda k: core_of(small_basis, k, "least-squares", **options))
    found = compute(kernel)
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_least_squares_converges_where_it_is_hard(small_basis):
    """A disk has circles of zeros, and next to no regularisation keeps their inverse down."""
    options = {"regularization": 1e-4, "smoothness": 0.0}
    kernel = gx.disk_kernel(radius=6.0, size=15)
    left, right = (np.asarray(side, np.float64) for side in small_basis)
    expected = exact_least_squares(small_basis, kernel, size=45, **options)
    found = core_of(small_basis, kernel, "least-squares", **options)
    difference = left @ (np.asarray(found, np.float64) - expected) @ right.T
    assert np.linalg.norm(difference) < 0.01 * np.linalg.norm(left @ expected @ right.T)


def test_many_least_squares_cores_at_once(small_basis):
    kernels = jnp.stack([gx.gaussian_kernel(sigma=s, size=9) for s in (0.5, 1.0, 2.0)])

    def core(kernel):
        return core_of(small_basis, kernel, "least-squares", smoothness=0.01)

    expected = jnp.stack([core(kernel) for kernel in kernels])
    found = jax.vmap(core)(kernels)
    np.testing.assert_allclose(found, expected, atol=1e-4 * jnp.abs(expected).max())


@pytest.mark.slow
def test_least_squares_restores_better_where_the_inverse_is_longer_than_the_support():
    """A zero of the kernel near frequency 0, over which a periodic inverse of 61 pixels steps."""
    support = 61
    inverse = gx.Basis(jnp.eye(support), jnp.eye(support))  # all inverses of this support
    kernel = jnp.zeros((1, 21)).at[0, jnp.array([0, 20])].set(0.5)
    row = jnp.cumsum(jax.random.normal(jax.random.key(0), (1, 4096)), axis=1)
    sharp = row / jnp.abs(row).max()
    blurred = gx.blur(sharp, kernel)
    blurred += 0.003 * jax.random.normal(jax.random.key(1), blurred.shape)
    error = {}
    for core in CORES:
        found = core_of(inverse, kernel, core, regularization=0.0005, smoothness=0.0005)
        # A flat image in the other direction: only the sum of the columns matters.
        filters = np.asarray(gx.reconstruct(inverse, found), np.float64).sum(axis=0)
        restored = np.convolve(np.asarray(blurred, np.float64)[0], filters, mode="same")
        error[core] = np.mean((restored - np.asarray(sharp)[0])[200:-200] ** 2)
    assert error["least-squares"] < 0.7 * error["projection"]


@pytest.mark.parametrize("core", CORES)
def test_cores_have_a_gradient(small_basis, core):
    kernel = gx.gaussian_kernel(sigma=1.0, size=7)
    direction = jax.random.normal(jax.random.key(2), kernel.shape)
    direction -= direction.mean()

    @jax.jit
    def entry(kernel, scale=1.0):
        return scale * core_of(small_basis, kernel, core)[0, 1]

    slope = jax.jit(jax.grad(entry))
    gradient = slope(kernel, 1.0)
    for scale in (0.0, 1e-8):  # of the loss, on which no accuracy may depend
        scaled = slope(kernel, scale)
        np.testing.assert_allclose(
            scaled, scale * gradient, rtol=0, atol=1e-3 * scale * jnp.abs(gradient).max()
        )
    step = 3e-4
    expected = (entry(kernel + step * direction) - entry(kernel - step * direction)) / (2 * step)
    assert float(jnp.vdot(gradient, direction)) == pytest.approx(float(expected), rel=0.02)


@pytest.mark.parametrize("core", CORES)
def test_cores_have_a_gradient_for_the_inverse_and_the_noise(small_basis, core):
    kernel = gx.gaussian_kernel(sigma=1.0, size=7)

    @jax.jit
    def entry(inverse, noise):
        return gx.deconvolution_core(small_basis, kernel, inverse=inverse, noise=noise)[0, 1]

    start = gx.Inverse(0.02, 5.0, core), 0.05
    slopes = jax.tree.leaves(jax.jit(jax.grad(entry, argnums=(0, 1)))(*start))
    values, tree = jax.tree.flatten(start)

    def moved(index, factor):
        changed = [*values[:index], factor * values[index], *values[index + 1 :]]
        return float(entry(*jax.tree.unflatten(tree, changed)))

    for index, (value, slope) in enumerate(zip(values, slopes, strict=True)):
        expected = (moved(index, 1.02) - moved(index, 0.98)) / (0.04 * value)
        assert abs(expected) * value > 1e-3
        assert float(slope) == pytest.approx(expected, rel=0.02)


def test_cores_refuse_what_the_inverse_refuses(small_basis):
    kernel = gx.gaussian_kernel(sigma=1.0, size=7)
    with pytest.raises(ValueError, match=r"\(33, 33\).*support 31"):
        gx.deconvolution_core(small_basis, jnp.full((33, 33), 1 / 33**2))
    for core in CORES:
        inverse = gx.Inverse(jnp.float32(-1.0), core=core)  # an array is looked at here
        with pytest.raises(ValueError, match=r"regularization.*-1\.0"):
            gx.deconvolution_core(small_basis, kernel, inverse=inverse)
        inverse = gx.Inverse(0.01, jnp.float32(-2.0), core)
        with pytest.raises(ValueError, match=r"noise_weight.*-2\.0"):
            gx.deconvolution_core(small_basis, kernel, inverse=inverse, noise=0.1)
        with pytest.raises(ValueError, match=r"noise.*-0\.1"):
            gx.deconvolution_core(small_basis, kernel, inverse=gx.Inverse(core=core), noise=-0.1)
