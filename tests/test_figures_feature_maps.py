"""The figure of feature maps: layers 3 and 4 of a network against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from figure_helpers import (
    few_kernels,
    numpy_psnr,
)

import glra_jax as gx
from experiments.paper_figures import feature_maps as module
from experiments.paper_figures.feature_maps import (
    compute_map_comparison,
    draw_maps,
    feature_maps,
    tabulate_maps,
)


@pytest.fixture(scope="module")
def kernels(small_families) -> dict[str, jax.Array]:
    return few_kernels(small_families)


@pytest.fixture(scope="module")
def blurred(photograph, kernels) -> jax.Array:
    return gx.degrade(jax.random.key(3), jnp.asarray(photograph[:40, :40]), kernels["disk"][1])


def test_feature_maps_by_scipy(random_model, blurred, kernels):
    kernel = kernels["disk"][1]
    maps, restored = feature_maps(blurred, kernel, random_model, 0.0)
    assert {layer: value.shape for layer, value in maps.items()} == {
        3: (40, 40, 6),
        4: (40, 40, 16),
    }
    params = jax.tree.map(np.float64, random_model.params)
    core = np.float64(gx.deconvolution_core(random_model.constants, kernel))
    # Circular correlations, layer by layer.
    y = np.float64(blurred)
    first = [
        scipy.ndimage.correlate1d(y, params["vertical"]["kernel"][:, 0, 0, i], 0, mode="wrap")
        for i in range(6)
    ]
    second = (np.stack(first, -1) + params["vertical"]["bias"]) @ core + params["core"]["bias"]
    weights = params["horizontal"]["kernel"][0]
    third = params["horizontal"]["bias"] + np.stack(
        [
            sum(
                scipy.ndimage.correlate1d(second[..., i], weights[:, i, j], 1, mode="wrap")
                for i in range(6)
            )
            for j in range(6)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(maps[3], third, atol=1e-3 * np.abs(third).max())
    for j in (0, 9):
        fourth = params["refine_1"]["bias"][j] + sum(
            scipy.ndimage.correlate(
                third[..., i], params["refine_1"]["kernel"][:, :, i, j], mode="wrap"
            )
            for i in range(6)
        )
        fourth = np.where(fourth > 0, fourth, 0.2 * fourth)
        np.testing.assert_allclose(maps[4][..., j], fourth, atol=1e-3 * np.abs(fourth).max())
    np.testing.assert_allclose(
        restored, gx.deconvolve(blurred, kernel, random_model, boundary="wrap"), atol=1e-5
    )


def test_maps_of_the_glra_initialization_sum_to_the_linear_restoration(started, blurred, kernels):
    model = started("glra")
    maps, _ = feature_maps(blurred, kernels["disk"][1], model, 0.0)
    linear = gx.deconvolve_linear(
        blurred, kernels["disk"][1], model.constants, inverse=gx.Inverse(), boundary="wrap"
    )
    np.testing.assert_allclose(maps[3].sum(axis=-1), linear, atol=1e-4)


@pytest.fixture(scope="module")
def comparison(started, random_model, photograph, kernels):
    models = {"random": random_model, "glra": started("glra")}
    return compute_map_comparison(
        jax.random.key(3), photograph[:40, :40], kernels["disk"][1], models, noise=0.01
    )


def test_map_comparison(comparison, random_model, blurred, kernels):
    np.testing.assert_allclose(comparison.blurred, blurred, atol=1e-6)
    assert comparison.blurred_psnr == pytest.approx(numpy_psnr(blurred, comparison.sharp), abs=1e-3)
    assert list(comparison.networks) == ["random", "glra"]
    network = comparison.networks["random"]
    maps, restored = feature_maps(blurred, kernels["disk"][1], random_model, 0.0)
    np.testing.assert_allclose(network.layers[4], maps[4], atol=1e-5)
    assert network.psnr == pytest.approx(numpy_psnr(restored, comparison.sharp), abs=1e-3)


def test_strongest_maps_are_drawn_and_kept(comparison, monkeypatch):
    monkeypatch.setattr(module, "_SHOWN", 4)
    network = comparison.networks["glra"]
    deviations = network.layers[3].std(axis=(0, 1))
    strongest = network.strongest(3, 4)
    np.testing.assert_array_equal(deviations[strongest], np.sort(deviations)[::-1][:4])

    kept = tabulate_maps(comparison)
    np.testing.assert_array_equal(kept["network_1.layer_3.indices"], strongest)
    np.testing.assert_allclose(
        kept["network_1.layer_3.maps"], network.layers[3][..., strongest], rtol=1e-3, atol=1e-5
    )
    figure = draw_maps(comparison)
    titles = [axis.get_title() for axis in figure.axes]
    assert len(titles) == 2 * (2 + 4 + 4)
    for index in strongest:
        assert f"{index + 1}: σ = {deviations[index]:.2g}" in titles
