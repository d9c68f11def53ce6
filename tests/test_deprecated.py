"""Names and keywords of version 0.1 still give what they gave, with a warning."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from glra_jax import interop
from glra_jax.model_files import linear_model
from glra_jax.networks import Refinement

KERNEL = np.float32(np.outer([1, 2, 1], [1, 3, 1]) / 20)


@pytest.fixture(scope="module")
def y(photograph):
    return jnp.asarray(photograph[:40, :45])


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_configuration_of_a_model(small_model):
    with pytest.warns(DeprecationWarning, match=r"Glra"):
        config = gx.ModelConfig(31, 6, 16, 0.01, noise_weight=2.0, core="least-squares")
    assert (config.support, config.rank, config.noise_weight) == (31, 6, 2.0)
    with pytest.warns(DeprecationWarning, match=r"Model\(basis, params, config\)"):
        model = gx.Model(small_model.constants, small_model.params, config)
    assert model.architecture == gx.Glra(31, 6, 16, gx.Inverse(0.01, 2.0, "least-squares"))
    same(model.params, small_model.params)
    with pytest.warns(DeprecationWarning, match=r"Model\.config"):
        assert model.config == config
    with pytest.warns(DeprecationWarning, match=r"Model\.basis"):
        same(model.basis, small_model.constants)
    with pytest.warns(DeprecationWarning, match="module"):
        assert model.network(method="direct") == gx.DeconvNet(31, 6, 16, "direct")
    with pytest.warns(DeprecationWarning, match=r"Model\("):
        mixed = gx.Model(small_model.constants, small_model.params, config=config)
    assert mixed.architecture == model.architecture
    with pytest.warns(DeprecationWarning, match=r"Model\("):
        again = gx.Model(basis=small_model.constants, params=model.params, config=config)
    assert again.architecture == model.architecture
    with (
        pytest.warns(DeprecationWarning, match="ModelConfig"),
        pytest.raises(ValueError, match="rank 40"),
    ):
        gx.ModelConfig(31, 40)


def test_the_regularization_of_a_restoration(y, small_model):
    inverse = replace(small_model.architecture.inverse, regularization=0.03)
    with pytest.warns(DeprecationWarning, match="regularization="):
        found = gx.deconvolve(y, KERNEL, small_model, regularization=0.03)
    same(found, gx.deconvolve(y, KERNEL, small_model, inverse=inverse))
    with pytest.warns(DeprecationWarning, match="regularization="):
        restorer = gx.prepare(small_model, KERNEL, tile=(20, 20), regularization=0.03)
    expected = gx.prepare(small_model, KERNEL, tile=(20, 20), inverse=inverse)
    same(restorer.condition, expected.condition)
    with pytest.warns(DeprecationWarning, match="condition"):
        same(restorer.core, expected.condition.core)
    with pytest.warns(DeprecationWarning, match="regularization="):
        same(restorer.with_kernel(KERNEL, regularization=0.03).condition, expected.condition)


def test_the_linear_restoration_with_a_model(y, small_model):
    own = small_model.architecture.inverse
    with pytest.warns(DeprecationWarning, match=r"model\.constants"):
        found = gx.deconvolve_linear(y, KERNEL, small_model)
    same(found, gx.deconvolve_linear(y, KERNEL, small_model.constants, inverse=own))
    with pytest.warns(DeprecationWarning, match="noise_weight="):
        found = gx.deconvolve_linear(
            y, KERNEL, model=small_model, noise_weight=60, regularization=0.02, noise=0.01
        )
    inverse = gx.Inverse(0.02, 60.0)
    expected = gx.deconvolve_linear(y, KERNEL, small_model.constants, inverse=inverse, noise=0.01)
    same(found, expected)


@pytest.mark.slow
def test_the_linear_restoration_with_the_default_model(y):
    with pytest.warns(DeprecationWarning, match=r"inverse=Inverse"):
        found = gx.deconvolve_linear(y, KERNEL, None, noise_weight=60.0, noise=0.01)
    inverse = replace(linear_model().architecture.default_inverse, noise_weight=60.0)
    same(found, gx.deconvolve_linear(y, KERNEL, inverse=inverse, noise=0.01))


def test_what_has_no_inverse_is_refused(y, small_model):
    class Other(gx.Glra):
        default_inverse = None

    other = replace(small_model, architecture=Other(31, 6, 16))
    for call in (
        lambda: gx.deconvolve(y, KERNEL, other, regularization=0.01),
        lambda: gx.deconvolve_linear(y, KERNEL, other),
    ):
        with (
            pytest.warns(DeprecationWarning, match="inverse="),
            pytest.raises(ValueError, match="takes no inverse"),
        ):
            call()
    refined = replace(small_model, architecture=Refinement(31, 6, 16))
    with (
        pytest.warns(DeprecationWarning, match="module"),
        pytest.raises(AttributeError, match="DeconvNet"),
    ):
        refined.network()


def test_the_core_where_the_noise_is_estimated(small_model):
    smooth = replace(small_model.architecture, inverse=gx.Inverse(0.01, 20.0))
    restorer = gx.prepare(replace(small_model, architecture=smooth), KERNEL, tile=(20, 20))
    with (
        pytest.warns(DeprecationWarning, match="condition"),
        pytest.raises(ValueError, match="noise="),
    ):
        _ = restorer.core


def test_the_reader_of_caffe_models():
    with pytest.warns(DeprecationWarning, match=r"interop\.caffe"):
        assert gx.caffe.load_caffemodel


def test_the_core_of_a_kernel(small_basis):
    with pytest.warns(DeprecationWarning, match="inverse="):
        found = gx.deconvolution_core(
            small_basis, KERNEL, core="least-squares", regularization=0.02, smoothness=0.03
        )
    inverse = gx.Inverse(0.02, 0.03, "least-squares")
    same(found, gx.deconvolution_core(small_basis, KERNEL, inverse=inverse, noise=1.0))
    with pytest.warns(DeprecationWarning, match="smoothness"):
        same(gx.smoothness_for(0.02, noise_weight=5.0), gx.Inverse(0.01, 5.0).smoothness(0.02))


def test_weights_to_start_from(small_basis):
    key = jax.random.key(1)
    with pytest.warns(DeprecationWarning, match="initialization="):
        found = gx.init_params(key, small_basis, start="glra", features=16)
    same(found, gx.init_params(key, small_basis, initialization="glra", features=16))
    with pytest.warns(DeprecationWarning, match="Glra"):
        model = gx.initial_model(key, small_basis, start="glra", features=16, noise_weight=3.0)
    architecture = gx.Glra(31, 6, 16, gx.Inverse(0.01, 3.0))
    expected = gx.initial_model(key, architecture, small_basis, initialization="glra")
    assert model.architecture == architecture
    same(model, expected)


def test_weights_from_pytorch(small_model, tmp_path):
    state = interop.model_to_state_dict(small_model)
    with pytest.warns(DeprecationWarning, match="inverse="):
        found = interop.model_from_state_dict(state, regularization=0.02)
    assert found.architecture.inverse == gx.Inverse(0.02)
    path = tmp_path / "weights.safetensors"
    model = replace(
        small_model,
        architecture=replace(small_model.architecture, inverse=gx.Inverse(0.02, 4.0)),
    )
    interop.save_torch_model(model, path)
    with pytest.warns(DeprecationWarning, match="regularization="):
        found = interop.load_torch_model(path, regularization=0.05)
    assert found.architecture.inverse == gx.Inverse(0.05, 4.0)


def test_nothing_else_is_found():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = gx.no_such_name
