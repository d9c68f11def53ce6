"""The U-Net's layers against XLA's own and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glra_jax.networks.convolution import Convolution
from glra_jax.networks.unet import UNet, depth_to_space, space_to_depth


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
