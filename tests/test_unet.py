"""The U-Net's layers against XLA's own and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glra_jax.networks.convolution import Convolution
from glra_jax.networks.unet import UNet, _ResidualBlock, depth_to_space, space_to_depth


def by_xla(x, kernel, bias):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout) + bias


@pytest.fixture(scope="module")
def layer():
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 7, 6, 5))
    module = Convolution(4, jax.nn.initializers.he_normal())
    params = module.init(keys[1], x)["params"]
    params = params | {"bias": jnp.arange(4.0)}
    return module, params, x, jax.random.normal(keys[2], (2, 7, 6, 4))


def test_the_convolution_is_that_of_xla(layer):
    module, params, x, _ = layer
    found = jax.jit(module.apply)({"params": params}, x)
    np.testing.assert_allclose(found, by_xla(x, params["kernel"], params["bias"]), atol=1e-5)


def test_its_gradients_are_those_of_xla(layer):
    module, params, x, weights = layer

    def found(params, x):
        return jnp.sum(weights * module.apply({"params": params}, x) ** 2)

    def expected(params, x):
        return jnp.sum(weights * by_xla(x, params["kernel"], params["bias"]) ** 2)

    gradients = [jax.jit(jax.grad(f, argnums=(0, 1)))(params, x) for f in (found, expected)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *gradients)


def rounded(x):
    return x.astype(jnp.bfloat16).astype(jnp.float32)


def test_in_bfloat16_the_factors_and_their_products_are_rounded(layer):
    """To 8 bits; but not the bias."""
    module, params, x, _ = layer
    bias = jnp.arange(4.0) + 1e-4
    found = module.clone(dtype=jnp.bfloat16).apply({"params": params | {"bias": bias}}, x)
    assert found.dtype == jnp.float32
    expected = by_xla(rounded(x), rounded(params["kernel"]), 0.0)
    np.testing.assert_allclose(found - bias, expected, rtol=2**-8, atol=1e-5)
    assert float(jnp.abs(found - rounded(found)).max()) > 0


def test_gradients_in_bfloat16_are_float32_and_those_of_xla(layer):
    module, params, x, weights = layer

    def slope(function):
        def total(params, x):
            return jnp.sum(weights * function(params, x))

        return jax.jit(jax.grad(total, argnums=(0, 1)))(params, x)

    half = module.clone(dtype=jnp.bfloat16)
    found = slope(lambda params, x: half.apply({"params": params}, x))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}
    expected = slope(lambda params, x: by_xla(x, params["kernel"], params["bias"]))
    np.testing.assert_allclose(found[0]["bias"], expected[0]["bias"], rtol=2**-7)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert float(jnp.linalg.norm(a - b)) < 2**-7 * float(jnp.linalg.norm(b))


def test_the_u_nets_sums_are_float32_around_layers_in_bfloat16():
    """What layers add to is not rounded: with weights of 0 it comes out as it went in."""
    block = _ResidualBlock(dtype=jnp.bfloat16)
    x = jax.random.uniform(jax.random.key(0), (1, 4, 4, 3))
    params = jax.tree.map(jnp.zeros_like, block.init(jax.random.key(1), x))
    found = block.apply(params, x)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, x)


def test_depth_and_space_change_places():
    x = jax.random.normal(jax.random.key(0), (2, 6, 4, 3))
    deep = space_to_depth(x)
    assert deep.shape == (2, 3, 2, 12)
    np.testing.assert_array_equal(deep[1, 2, 1], x[1, 4:6, 2:4].ravel())
    np.testing.assert_array_equal(depth_to_space(deep), x)


def test_a_fresh_network_corrects_nothing_and_can_learn():
    network, x = UNet(4, 1), jax.random.normal(jax.random.key(0), (1, 16, 24, 5))
    params = network.init(jax.random.key(1), x)["params"]
    apply = jax.jit(lambda params: network.apply({"params": params}, x))
    np.testing.assert_array_equal(apply(params), jnp.zeros((1, 16, 24, 3)))
    slope = jax.jit(jax.grad(lambda params: jnp.sum((apply(params) - 1.0) ** 2)))(params)
    assert jnp.abs(slope["leave"]["kernel"]).max() > 0
