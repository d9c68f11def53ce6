"""Layers 4 to 6 on the linear restoration against the whole network, and both against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

import glra_jax as gx
from glra_jax.networks import Refinement
from glra_jax.networks.initialization import PASSING
from glra_jax.networks.refinement import RefinementNet, low_rank_restoration
from glra_jax.networks.tying import LAYERS, tie, untie

FEATURES = 16

apply = jax.jit(lambda layers, x: RefinementNet(FEATURES).apply({"params": layers}, x))
linear = jax.jit(low_rank_restoration)


@jax.jit
def whole(params, y, core):
    return gx.DeconvNet(31, 6, FEATURES).apply({"params": params}, y, core)


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


# --- linear restoration --------------------------------------------------------------------------


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
    network = small_model.architecture.module()
    maps = jax.jit(lambda p, y, M: network.apply({"params": p}, y, M, method="low_rank"))(
        small_model.params, y, core
    )
    np.testing.assert_allclose(
        linear(y, core, small_model.constants), maps.sum(axis=-1, keepdims=True), atol=1e-5
    )


# --- layers 4 to 6 -------------------------------------------------------------------------------


def test_sizes():
    x = jnp.zeros((2, 9, 12, 1))
    params = jax.eval_shape(RefinementNet().init, jax.random.key(0), x)["params"]
    assert jax.tree.map(lambda leaf: leaf.shape, params) == {
        "refine_1": {"kernel": (15, 15, 1, 128), "bias": (128,)},
        "refine_2": {"kernel": (1, 1, 128, 128), "bias": (128,)},
        "refine_3": {"kernel": (7, 7, 128, 1), "bias": (1,)},
    }
    assert tuple(params) == LAYERS
    out = jax.eval_shape(RefinementNet().apply, {"params": params}, x)
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


def test_refinement_of_the_linear_restoration_is_the_whole_network(batch, layers, small_model):
    y, core = batch
    params = untie(layers, small_model.params)
    assert params.keys() == small_model.params.keys()
    shapes = (jax.tree.map(jnp.shape, tree) for tree in (params, dict(small_model.params)))
    assert next(shapes) == next(shapes)
    for name in ("vertical", "core", "horizontal"):
        assert params[name] is small_model.params[name]
    x = apply(layers, linear(y, core, small_model.constants))
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


def test_an_initialization_that_passes_the_linear_restoration_on_loses_nothing(batch, small_model):
    """Its random filters differ from map to map, and do not reach the output."""
    y, core = batch
    expected = whole(small_model.params, y, core)
    tied = tie(small_model.params)
    np.testing.assert_allclose(
        apply(tied, linear(y, core, small_model.constants)), expected, atol=2e-5
    )
    params = untie(tied, small_model.params)
    np.testing.assert_allclose(whole(params, y, core), expected, atol=2e-5)


# --- as an architecture --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel():
    return gx.gaussian_kernel(sigma=1.2, size=9)


def test_the_architecture_restores_as_the_whole_network_that_adopts_it(
    layers, small_model, photograph, kernel
):
    whole, architecture = small_model.architecture, Refinement(31, 6, FEATURES)
    refined = gx.Model(architecture, small_model.constants, layers)
    constants, params = whole.adopt(architecture, refined.constants, refined.params)
    assert constants is refined.constants
    y = jnp.asarray(photograph[:40, :44])
    restored = gx.deconvolve(y, kernel, refined)
    assert restored.shape == y.shape
    assert np.std(restored) > 0.01
    faithful = gx.Model(whole, constants, params)
    np.testing.assert_allclose(gx.deconvolve(y, kernel, faithful), restored, atol=1e-5)
    tiles = gx.prepare(refined, kernel, tile=(20, 30))
    assert tiles.prepared is None
    np.testing.assert_allclose(tiles(y), restored, atol=1e-5)
    # And the other way: the basis is fitted anew, and the layers are those it came from.
    constants, tied = architecture.adopt(whole, constants, params)
    assert constants is None
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), tied, layers)


def test_the_architecture_refines_what_the_linear_restoration_gives(batch, layers, small_basis):
    y, _ = batch
    architecture = Refinement(31, 6, FEATURES)
    kernels = jnp.stack([gx.gaussian_kernel(sigma=s, size=9) for s in (0.9, 1.4)])
    condition = jax.jit(
        jax.vmap(lambda kernel: architecture.condition(small_basis, kernel, noise=0.0))
    )(kernels)
    expected = jax.vmap(lambda kernel: gx.deconvolution_core(small_basis, kernel))(kernels)
    np.testing.assert_allclose(condition.core, expected, rtol=1e-4, atol=1e-5)
    restored = architecture.apply(layers, small_basis, y, condition)
    np.testing.assert_allclose(restored, apply(layers, linear(y, expected, small_basis)), atol=1e-5)


@pytest.mark.parametrize("initialization", PASSING)
def test_the_architecture_starts_as_the_linear_restoration(
    small_basis, photograph, kernel, initialization
):
    key, features = jax.random.key(3), 112
    refined = gx.initial_model(
        key, Refinement(31, 6, features), small_basis, initialization=initialization
    )
    whole = gx.initial_model(
        key, gx.Glra(31, 6, features), small_basis, initialization=initialization
    )
    y = jnp.asarray(photograph[:40, :44])
    restored = gx.deconvolve(y, kernel, refined)
    np.testing.assert_allclose(restored, gx.deconvolve(y, kernel, whole), atol=2e-5)
    if initialization == "identity":
        inverse = refined.architecture.inverse
        x = gx.deconvolve_linear(y, kernel, small_basis, inverse=inverse)
        np.testing.assert_allclose(restored, x.clip(0.02, 0.98), atol=0.01)


def test_what_the_architecture_does_not_take(layers, small_model):
    refinement = Refinement(31, 6, FEATURES)
    with pytest.raises(ValueError, match="must be one of identity, shrinkage, got 'glra'"):
        gx.initial_model(
            jax.random.key(0), refinement, small_model.constants, initialization="glra"
        )
    for other in (gx.Glra(31, 6, 14), Refinement(31, 6, 14)):
        for run in (refinement, small_model.architecture):
            with pytest.raises(ValueError, match="model has features 14, and the run 16"):
                run.adopt(other, small_model.constants, layers)
    for other, size in ((Refinement(30, 6, 16), "support 30"), (Refinement(31, 5, 16), "rank 5")):
        with pytest.raises(ValueError, match=f"model has {size}, and the run"):
            small_model.architecture.adopt(other, small_model.constants, layers)


@pytest.mark.slow
def test_gradients_are_those_of_the_whole_network(batch, layers, small_model):
    """Of weights that all maps share: the sum over the maps, as `untie` copies them."""
    y, core = batch
    weights = jax.random.normal(jax.random.key(1), (2, 20, 17, 1))
    x = linear(y, core, small_model.constants)

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
