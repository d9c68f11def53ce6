"""Layers 4 to 6 on eq. 8 against the whole network, and eq. 8 against SciPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

import glra_jax as gx
from glra_jax.networks.glra import restore
from glra_jax.networks.refinement import LAYERS, Refinement, low_rank_restoration, tie, untie

FEATURES = 16

apply = jax.jit(lambda layers, x: Refinement(FEATURES).apply({"params": layers}, x))
linear = jax.jit(low_rank_restoration)


@jax.jit
def whole(params, y, core):
    return restore(gx.DeconvNet(31, 6, FEATURES), params, y, core)


@pytest.fixture(scope="module")
def layers() -> dict[str, dict[str, jax.Array]]:
    """Random weights, all of which count, whose output keeps to the middle of the sigmoid."""
    shapes = {"refine_1": (15, 15, 1, 16), "refine_2": (1, 1, 16, 16), "refine_3": (7, 7, 16, 1)}
    keys = iter(jax.random.split(jax.random.key(4), 6))
    return {
        name: {
            "kernel": jax.random.normal(next(keys), shape) / np.sqrt(np.prod(shape[:3])),
            "bias": 0.1 * jax.random.normal(next(keys), shape[3:]),
        }
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def batch(photograph, small_basis):
    """Two patches `(2, 50, 47, 1)` and the cores of two blurs."""
    y = jnp.stack([photograph[:50, :47], photograph[40:90, 60:107]])[..., None]
    row, column = np.array([3.0, 4.0, 2.0]) / 9, np.array([2.0, 3.0, 1.0]) / 6
    kernels = np.float32([np.outer(row, column), np.outer(column, column)])
    core = jax.jit(jax.vmap(lambda kernel: gx.deconvolution_core(small_basis, kernel)))
    return y, core(kernels)


# --- eq. 8 ---------------------------------------------------------------------------------------


def test_low_rank_restoration_is_scipys_convolution(batch, small_basis):
    y, core = batch
    x = linear(y, core, small_basis)
    assert (x.shape, x.dtype) == ((2, 20, 17, 1), jnp.float32)
    left, right = (np.asarray(side, np.float64) for side in small_basis)
    for n in range(2):
        inverse = left @ np.float64(core[n]) @ right.T
        expected = scipy.signal.convolve2d(np.float64(y[n, ..., 0]), inverse, mode="valid")
        np.testing.assert_allclose(x[n, ..., 0], expected, atol=1e-5)


@pytest.mark.parametrize("support", [8, 9])
def test_it_needs_no_more_than_the_support(support):
    """One pixel comes of an image as large as the support; even supports are no different."""
    rng = np.random.default_rng(0)
    sides = (np.linalg.qr(rng.normal(size=(support, 3)))[0] for _ in range(2))
    basis = gx.Basis(*(jnp.asarray(side, jnp.float32) for side in sides))
    y, core = rng.random((4, support, support + 3, 1)), rng.normal(size=(4, 3, 3))
    x = low_rank_restoration(jnp.asarray(y, jnp.float32), jnp.asarray(core, jnp.float32), basis)
    assert x.shape == (4, 1, 4, 1)
    left, right = (np.asarray(side, np.float64) for side in basis)
    for n in range(4):
        inverse = left @ core[n] @ right.T
        expected = scipy.signal.convolve2d(y[n, ..., 0], inverse, mode="valid")
        np.testing.assert_allclose(x[n, ..., 0], expected, atol=1e-5)


def test_low_rank_restoration_is_what_layers_1_to_3_add_up_to(batch, small_model):
    y, core = batch
    network = small_model.network()
    maps = jax.jit(lambda p, y, M: network.apply({"params": p}, y, M, method="low_rank"))(
        small_model.params, y, core
    )
    np.testing.assert_allclose(
        linear(y, core, small_model.basis), maps.sum(axis=-1, keepdims=True), atol=1e-5
    )


# --- layers 4 to 6 -------------------------------------------------------------------------------


def test_sizes():
    x = jnp.zeros((2, 9, 12, 1))
    params = jax.eval_shape(Refinement().init, jax.random.key(0), x)["params"]
    assert jax.tree.map(lambda leaf: leaf.shape, params) == {
        "refine_1": {"kernel": (15, 15, 1, 128), "bias": (128,)},
        "refine_2": {"kernel": (1, 1, 128, 128), "bias": (128,)},
        "refine_3": {"kernel": (7, 7, 128, 1), "bias": (1,)},
    }
    assert tuple(params) == LAYERS
    out = jax.eval_shape(Refinement().apply, {"params": params}, x)
    assert (out.shape, out.dtype) == ((2, 9, 12, 1), jnp.float32)


def test_refinement_against_scipy(batch, layers, small_basis):
    x = linear(*batch, small_basis)
    expected = np.float64(x[0])
    for name, bend in (("refine_1", True), ("refine_2", True), ("refine_3", False)):
        kernel, bias = (np.float64(layers[name][part]) for part in ("kernel", "bias"))
        expected = bias + np.stack(
            [
                sum(
                    scipy.signal.correlate2d(expected[..., i], kernel[..., i, o], mode="same")
                    for i in range(kernel.shape[2])
                )
                for o in range(kernel.shape[3])
            ],
            axis=-1,
        )
        if bend:
            expected = np.where(expected > 0, expected, 0.2 * expected)
    expected = 1 / (1 + np.exp(-expected))
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(apply(layers, x)[0], expected, atol=1e-5)


# --- from one to the other -----------------------------------------------------------------------


def test_refinement_on_eq_8_is_the_whole_network(batch, layers, small_model):
    y, core = batch
    params = untie(layers, small_model.params)
    assert params.keys() == small_model.params.keys()
    shapes = (jax.tree.map(jnp.shape, tree) for tree in (params, dict(small_model.params)))
    assert next(shapes) == next(shapes)
    for name in ("vertical", "core", "horizontal"):
        assert params[name] is small_model.params[name]
    x = apply(layers, linear(y, core, small_model.basis))
    assert x.shape == (2, 20, 17, 1)
    assert np.std(x) > 0.01
    np.testing.assert_allclose(whole(params, y, core), x, atol=1e-5)


def test_tie_undoes_untie(layers, small_model):
    params = untie(layers, small_model.params)
    tied = tie(params)
    assert tuple(tied) == LAYERS
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), tied, layers)


def test_untie_undoes_tie_where_the_maps_are_treated_alike(batch, layers, small_model):
    y, core = batch
    params = untie(layers, small_model.params)
    again = untie(tie(params), params)
    np.testing.assert_allclose(whole(again, y, core), whole(params, y, core), atol=1e-5)


def test_tie_takes_the_mean_over_the_maps_and_leaves_its_input_alone(small_model):
    params = dict(small_model.params)
    before = params["refine_1"]["kernel"]
    spread = jax.random.normal(jax.random.key(0), before.shape)
    params["refine_1"] = {**params["refine_1"], "kernel": before + spread}
    tied = tie(params)
    expected = np.float64(before + spread).mean(axis=2, keepdims=True)
    assert tied["refine_1"]["kernel"].shape == (15, 15, 1, 16)
    np.testing.assert_allclose(tied["refine_1"]["kernel"], expected, atol=1e-6)
    assert params["refine_1"]["kernel"].shape == (15, 15, 6, 16)
    for name in ("refine_2", "refine_3"):
        jax.tree.map(np.testing.assert_array_equal, tied[name], dict(params[name]))


def test_a_start_that_passes_eq_8_on_loses_nothing(batch, small_model):
    """Its random filters differ from map to map, and do not reach the output."""
    y, core = batch
    expected = whole(small_model.params, y, core)
    tied = tie(small_model.params)
    np.testing.assert_allclose(apply(tied, linear(y, core, small_model.basis)), expected, atol=2e-5)
    params = untie(tied, small_model.params)
    np.testing.assert_allclose(whole(params, y, core), expected, atol=2e-5)


def test_gradients_are_those_of_the_whole_network(batch, layers, small_model):
    """Of weights that all maps share: the sum over the maps, as `untie` copies them."""
    y, core = batch
    weights = jax.random.normal(jax.random.key(1), (2, 20, 17, 1))
    x = linear(y, core, small_model.basis)

    @jax.jit
    @jax.grad
    def of_refinement(layers):
        return jnp.sum(weights * apply(layers, x))

    @jax.jit
    @jax.grad
    def of_network(layers):
        return jnp.sum(weights * whole(untie(layers, small_model.params), y, core))

    found, expected = of_refinement(layers), of_network(layers)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = float(jnp.abs(b).max())
        assert scale > 0
        np.testing.assert_allclose(a / scale, b / scale, atol=1e-4)
