"""Backgrounds of kernel images: seen where there is one, and only there."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from glra_jax.kernel_backgrounds import (
    background_share,
    kernel_background,
    without_background,
)


def path_in(size: int, seed: int = 0) -> np.ndarray:
    """A crooked path of 8-bit levels on black, away from the border."""
    kernel = np.zeros((size, size))
    random = np.random.default_rng(seed)
    row, column = size // 2, size // 2
    for _ in range(3 * size):
        kernel[row, column] = min(245.0, kernel[row, column] + random.integers(20, 120))
        row = int(np.clip(row + random.integers(-1, 2), size // 4, 3 * size // 4))
        column = int(np.clip(column + random.integers(-1, 2), size // 4, 3 * size // 4))
    return kernel


@pytest.mark.parametrize("level", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [21, 27, 48])
@pytest.mark.parametrize("spread", [0.0, 0.6])
def test_a_background_is_found_and_taken_off(size, level, spread):
    kernel = path_in(size)
    noise = np.random.default_rng(1).normal(0, spread, kernel.shape)
    seen = np.clip(np.rint(kernel + level + noise), 0, None)
    assert kernel_background(seen) == level
    share = level * size**2 / seen.sum()
    assert background_share(seen) == pytest.approx(share)
    clean = without_background(seen)
    assert np.abs(clean / clean.sum() - kernel / kernel.sum()).sum() < 0.03
    with pytest.warns(UserWarning, match=rf"background of {level}, .*subtract_background=True"):
        gx.normalize_kernel(seen)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gx.normalize_kernel(seen, subtract_background=True)
    np.testing.assert_allclose(found, clean / clean.sum(), rtol=1e-5, atol=1e-9)


def examples():
    for sigma in (0.5, 1.0, 2.0, 4.0, 6.0, 10.0):
        for size in (5, 9, 13, 27, 49):
            offsets = np.arange(size) - size // 2
            profile = np.exp(-0.5 * (offsets / sigma) ** 2)
            yield np.outer(profile, profile)
    distance = np.hypot(*(np.indices((49, 49)) - 24))
    yield (distance < 6).astype(float)
    yield 1 / (1 + distance**2)  # wings that never end
    yield (1 + distance**2 / 9) ** -2.5
    yield np.ones((9, 9))
    yield path_in(27)
    yield path_in(27) - 1.0  # below black


@pytest.mark.parametrize("index", range(len(list(examples()))))
def test_kernels_without_one_are_left_alone(index):
    kernel = list(examples())[index]
    assert kernel_background(kernel) == 0
    assert without_background(kernel) is kernel


def test_a_traced_kernel_cannot_be_looked_at():
    kernel = jnp.asarray(path_in(21) + 2.0)
    np.testing.assert_allclose(jax.jit(gx.normalize_kernel)(kernel).sum(), 1.0, rtol=1e-5)
    with pytest.raises(TypeError, match="traced kernel"):
        jax.jit(lambda k: gx.normalize_kernel(k, subtract_background=True))(kernel)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_kernels_of_half_precision_get_a_sum_of_one(dtype):
    kernel = gx.normalize_kernel(jnp.asarray(path_in(27), dtype))
    assert kernel.dtype == dtype
    assert float(np.asarray(kernel, np.float64).sum()) == pytest.approx(1.0, abs=4e-3)
    gx.blur(jnp.zeros((32, 32)), kernel)  # taken
