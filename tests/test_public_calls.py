"""Every public function where JAX looks for NaN, in double and half precision, and in threads."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from experiments.reliability.model_seeds import complete_model
from experiments.reliability.public_calls import calls

NAMES = sorted(gx.__all__)
WITH_ARRAYS = [name for name in NAMES if calls()[name].arrays]


@cache
def expected(name):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(calls()[name]())]


def same(found, name, tolerance):
    leaves = jax.tree.leaves(found)
    for leaf, like in zip(leaves, expected(name), strict=True):
        value = np.asarray(leaf, np.float64)
        assert value.shape == like.shape
        assert np.isfinite(value).all()
        np.testing.assert_allclose(value, like, rtol=0, atol=tolerance * np.abs(like).max())
    return leaves


def test_every_public_name_has_a_call():
    assert set(calls()) == set(gx.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_where_jax_looks_for_nan(name):
    with jax.debug_nans(True):
        found = calls()[name]()
    same(found, name, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_single_precision_stays_so_where_jax_has_double(name):
    call = calls()[name]
    with jax.enable_x64(True):
        found = call()
    if call.random:  # other numbers are drawn
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(found))
    else:
        same(found, name, 1e-5)
    for leaf, like in zip(jax.tree.leaves(found), expected(name), strict=True):
        assert np.asarray(leaf).dtype == like.dtype


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_ARRAYS)
def test_double_precision(name):
    call = calls()[name]
    with jax.enable_x64(True):
        found = call.run(**{key: np.float64(value) for key, value in call.arrays.items()})
    same(found, name, 0.1 if call.random else 1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", WITH_ARRAYS)
def test_half_precision(name, dtype):
    call = calls()[name]
    found = call.run(**{key: jnp.asarray(value, dtype) for key, value in call.arrays.items()})
    # Of a score, in dB, more is left: what is compared differs by a rounding.
    same(found, name, 0.1 if call.random or name in ROUNDED else 0.02)


# What half precision itself takes away shows most: noise of 1 %, and how alike two images are.
ROUNDED = ("estimate_noise", "estimate_noise_by_channel", "psnr")


# Records that hold what they are given, and a layer of Flax.
UNCHECKED = ("Basis", "NoiseModel", "DeconvNet")
MALFORMED = {
    "objects": lambda a: np.full(a.shape, None, object),
    "text": lambda a: np.full(a.shape, "x"),
    "dates": lambda a: np.full(a.shape, np.datetime64("2026-01-01")),
    "nothing": lambda a: None,
    "a name": lambda a: "image.png",
}


@pytest.mark.parametrize("kind", MALFORMED)
@pytest.mark.parametrize("name", [name for name in WITH_ARRAYS if name not in UNCHECKED])
def test_what_is_no_array_of_numbers_is_refused_by_name(name, kind):
    call = calls()[name]
    for argument, value in call.arrays.items():
        with pytest.raises((TypeError, ValueError), match=argument.removesuffix("s")) as raised:
            call.run(**{**call.arrays, argument: MALFORMED[kind](value)})
        assert "\n" not in str(raised.value)


def test_eight_threads_restore_as_one_does():
    rng = np.random.default_rng(0)
    images = [np.float32(rng.uniform(0.2, 0.8, (16, 16))) for _ in range(32)]
    kernel, model = gx.gaussian_kernel(sigma=1.2, size=9), complete_model()
    restorer = gx.prepare(model, kernel, tile=(24, 24), noise=0.01)

    def restore(y):
        direct = gx.deconvolve(y, kernel, model, noise=0.01)
        return [np.asarray(found) for found in (direct, restorer(y), gx.estimate_noise(y))]

    alone = [restore(y) for y in images]
    jax.clear_caches()  # so that all compile at once too
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(restore, images))
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
