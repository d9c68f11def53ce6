"""PyTorch weights in memory: layouts, exactness, inverse, basis, and what is refused."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import scipy.io
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from interop_helpers import (
    assert_faults,
    assert_same_bits,
    faults_of,
    random_basis,
    random_model,
    random_params,
    with_inverse,
)

import glra_jax as gx
from glra_jax import interop
from glra_jax.interop.entries import check_basis
from glra_jax.networks import Refinement

UNUSUAL = gx.Inverse(5e-4, noise_weight=40.0, core="least-squares")


@pytest.fixture(scope="module")
def model():
    return random_model(random_basis(9, 4))


@pytest.fixture(scope="module")
def state(model):
    return interop.model_to_state_dict(model)


def test_names_and_layouts(model, state):
    params = model.params
    assert set(state) == {
        "basis.left",
        "basis.right",
        "core.bias",
        *(
            f"{layer}.{kind}"
            for layer in ("vertical", "horizontal", "refine_1", "refine_2", "refine_3")
            for kind in ("weight", "bias")
        ),
    }
    for layer, index in {
        "vertical": (2, 0, 5, 0),
        "horizontal": (3, 1, 0, 7),
        "refine_1": (13, 2, 4, 11),
        "refine_2": (5, 9, 0, 0),
        "refine_3": (0, 6, 1, 5),
    }.items():
        output, entry, row, column = index
        assert (
            state[f"{layer}.weight"][index] == params[layer]["kernel"][row, column, entry, output]
        )
        np.testing.assert_array_equal(state[f"{layer}.bias"], params[layer]["bias"])
    np.testing.assert_array_equal(state["core.bias"], params["core"]["bias"])
    np.testing.assert_array_equal(state["basis.left"], model.constants.left)
    np.testing.assert_array_equal(state["basis.right"], model.constants.right)


@given(
    support=st.integers(1, 6),
    rank=st.integers(1, 4),
    features=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_there_and_back_is_exact_to_the_bit(support, rank, features, seed):
    rng = np.random.default_rng(seed)
    special = np.float32([0.0, -0.0, 1e-45, -1e-39, 3.4e38, 1 / 3])

    def values(*shape):  # ordinary numbers, signed zeros and denormals
        return np.where(
            rng.random(shape) < 0.5, rng.normal(size=shape), rng.choice(special, size=shape)
        ).astype(np.float32)

    params = random_params(values, support, rank, features)
    state = interop.params_to_state_dict(params)
    returned = interop.params_from_state_dict(state)
    assert_same_bits(jax.tree.map(jnp.asarray, params), returned)
    again = interop.params_to_state_dict(returned)
    assert all(state[name].tobytes() == again[name].tobytes() for name in state)


def test_model_there_and_back(model, state):
    returned = interop.model_from_state_dict(state, inverse=gx.Inverse(0.02))
    assert_same_bits((model.constants, model.params), (returned.constants, returned.params))
    assert returned.architecture == gx.Glra(9, 4, 14, gx.Inverse(0.02))


def test_the_inverse_comes_with_the_call(model, state, tmp_path):
    path = tmp_path / "weights.safetensors"
    expected = gx.Glra(9, 4, 14, UNUSUAL)
    assert interop.model_from_state_dict(state, inverse=UNUSUAL).architecture == expected
    interop.save_torch_model(model, path)
    assert interop.load_torch_model(path, inverse=UNUSUAL).architecture == expected
    wrong = gx.Inverse(0.01, jnp.float32(-1.0))  # an array is looked at by the architecture
    refused = r"noise_weight must be .* got -1\.0"
    with pytest.raises(ValueError, match=refused):
        interop.model_from_state_dict(state, inverse=wrong)
    with pytest.raises(ValueError, match=rf"weights\.safetensors.*{refused}"):
        interop.load_torch_model(path, inverse=wrong)
    for call, source in (
        (interop.model_from_state_dict, state),
        (interop.load_torch_model, path),
    ):
        with pytest.raises(TypeError, match=r"inverse must be a glra_jax\.Inverse, got 0\.02"):
            call(source, inverse=0.02)


def test_the_inverse_is_in_safetensors_files(model, tmp_path):
    path = tmp_path / "weights.safetensors"
    unusual = with_inverse(model, UNUSUAL)
    interop.save_torch_model(unusual, path)
    assert interop.load_torch_model(path).architecture == unusual.architecture
    for other in (gx.Inverse(), replace(UNUSUAL, noise_weight=0.0)):
        found = interop.load_torch_model(path, inverse=other).architecture
        assert found == gx.Glra(9, 4, 14, other)
    state = interop.read_state_dict(path)  # which cannot hold it
    assert interop.model_from_state_dict(state).architecture == model.architecture
    safetensors.numpy.save_file(state, path)  # a file of others
    assert interop.load_torch_model(path).architecture == model.architecture
    numbers = {"regularization": 5e-4, "noise_weight": 40.0}  # all there was at first
    safetensors.numpy.save_file(state, path, metadata={"glra_jax.inverse": json.dumps(numbers)})
    assert interop.load_torch_model(path).architecture.inverse == gx.Inverse(5e-4, 40.0)
    unknown = json.dumps(numbers | {"core": "wiener"})
    for text in ("{", "[1]", '{"regularization": 0.1}', unknown):
        safetensors.numpy.save_file(state, path, metadata={"glra_jax.inverse": text})
        with pytest.raises(ValueError, match=r"weights\.safetensors has unreadable metadata"):
            interop.load_torch_model(path)


def test_a_model_restores_the_same_after_the_way_back(model, photograph, tmp_path):
    unusual = with_inverse(model, UNUSUAL)
    interop.save_torch_model(unusual, tmp_path / "weights.safetensors")
    returned = interop.load_torch_model(tmp_path / "weights.safetensors")
    kernel = gx.gaussian_kernel(sigma=1.5, size=9)
    y = jnp.asarray(photograph[:32, :32])
    before, after, plain = (
        np.asarray(gx.deconvolve(y, kernel, each, noise=0.02))
        for each in (unusual, returned, model)
    )
    np.testing.assert_array_equal(after, before)
    assert np.abs(plain - before).max() > 1e-3  # the inverse counts


def test_names_of_its_own(model, state):
    names = {layer: f"net.{index}" for index, layer in enumerate(interop.LAYERS)}
    renamed = {
        f"{names.get(name.split('.')[0], 'basis')}.{name.split('.')[1]}": value
        for name, value in state.items()
    }
    assert "net.1.bias" in renamed
    assert_same_bits(interop.model_from_state_dict(renamed, names=names).params, model.params)
    with pytest.raises(ValueError, match="missing or unknown: core, korn"):
        interop.params_from_state_dict(
            state, names={"korn" if k == "core" else k: v for k, v in names.items()}
        )
    with pytest.raises(ValueError, match=r"'net\.0'"):
        interop.model_from_state_dict(renamed, names=names | {"core": "net.0"})
    for wrong in (list(interop.LAYERS), names | {0: "net"}, names | {"core": 1}):
        with pytest.raises(TypeError, match="names must map"):
            interop.model_from_state_dict(renamed, names=wrong)


def test_a_basis_from_outside(model, state):
    weights = {name: value for name, value in state.items() if not name.startswith("basis.")}
    other = random_basis(9, 4, seed=5)
    returned = interop.model_from_state_dict(weights, basis=other)
    assert_same_bits((returned.constants, returned.params), (other, model.params))
    with pytest.raises(ValueError, match=r"holds no basis\.left and basis\.right"):
        interop.model_from_state_dict(weights)
    with pytest.raises(ValueError, match="another basis"):
        interop.model_from_state_dict(state, basis=other)
    with pytest.raises(ValueError, match=r"shape \(9, 3\).*support 9 and rank 4"):
        interop.model_from_state_dict(weights, basis=random_basis(9, 3))
    with pytest.raises(ValueError, match=r"missing basis\.right"):
        interop.model_from_state_dict(weights | {"basis.left": state["basis.left"]})
    for pair in (other.left, (*other, other.left), "glra"):
        with pytest.raises(TypeError, match="basis must be a pair"):
            interop.model_from_state_dict(weights, basis=pair)


@pytest.mark.parametrize("inside", [True, False], ids=["stored", "given"])
@pytest.mark.parametrize("layer", ["vertical", "horizontal"])
@pytest.mark.parametrize("wrong", ["another support", "HWIO", "across"])
def test_the_basis_tells_which_entry_is_wrong(state, inside, layer, wrong):
    name = f"{layer}.weight"
    right = state[name]
    value = {
        "another support": np.repeat(right, 2, axis=2 if layer == "vertical" else 3),
        "HWIO": right.transpose(2, 3, 1, 0),
        "across": right.swapaxes(2, 3),
    }[wrong]
    entries = state | {name: value}
    basis = None
    if not inside:
        basis = gx.Basis(*(entries.pop(f"basis.{side}") for side in ("left", "right")))
    assert faults_of(interop.model_from_state_dict, entries, basis=basis) == {
        f"{name} is float32{value.shape}, expected float32{right.shape}"
    }


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_basis_that_is_not_finite_is_refused(state, side, bad):
    values = state[f"basis.{side}"].copy()
    values[3, 2] = bad
    quoted = rf"basis\.{side} holds NaN or infinite values"
    with pytest.raises(ValueError, match=quoted):
        interop.model_from_state_dict(state | {f"basis.{side}": values})
    weights = {name: value for name, value in state.items() if not name.startswith("basis.")}
    basis = random_basis(9, 4)._replace(**{side: jnp.asarray(values)})
    for refuse in (check_basis, partial(interop.model_from_state_dict, weights)):
        with pytest.raises(ValueError, match=quoted):
            refuse(basis=basis)


def test_a_basis_that_is_not_orthonormal_is_refused(state):
    left, right = random_basis(9, 4)
    check_basis(gx.Basis(left, 1.001 * right))  # as exact as a file in few digits is
    with pytest.raises(ValueError, match=r"basis\.right.*orthonormal.* 3"):
        check_basis(gx.Basis(left, 2 * right))
    swapped = state | {"basis.left": np.float32(left + left[:, ::-1])}
    with pytest.raises(ValueError, match=r"basis\.left.*orthonormal"):
        interop.model_from_state_dict(swapped)


def test_faults_of_the_basis_are_listed_with_those_of_the_weights(state):
    wrong = dict(state)
    del wrong["core.bias"], wrong["basis.right"]
    wrong["refine_3.bias"] = np.float32([np.inf])
    wrong["basis.left"] = wrong["basis.left"].T
    with pytest.raises(ValueError, match="do not fit") as caught:
        interop.model_from_state_dict(wrong)
    for fault in (
        "missing core.bias (4,)",
        "refine_3.bias holds NaN or infinite values",
        "missing basis.right (9, 4)",
        "basis.left is float32(4, 9), expected float32(9, 4)",
    ):
        assert str(caught.value).count(fault) == 1
    right = state["basis.right"].copy()
    right[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"missing core\.bias.*basis\.right holds NaN"):
        interop.model_from_state_dict(
            {n: right if n == "basis.right" else v for n, v in state.items() if n != "core.bias"}
        )


def test_one_error_for_weights_and_basis(state):
    weights = {name: value for name, value in state.items() if not name.startswith("basis.")}
    wrong = {n: v for n, v in weights.items() if n != "core.bias"}
    wrong["refine_3.bias"] = np.float32([np.nan])
    listed = {"missing core.bias (4,)", "refine_3.bias holds NaN or infinite values"}
    absent = faults_of(interop.model_from_state_dict, wrong)
    assert absent > listed
    assert len(absent) == 3
    assert any("holds no basis.left and basis.right" in fault for fault in absent)

    left, right = random_basis(9, 4)
    stored = wrong | {"basis.left": np.asarray(2 * left), "basis.right": np.asarray(right)[:5]}
    found = faults_of(interop.model_from_state_dict, stored)
    assert found > listed
    assert_faults(
        found - listed,
        ("basis.left", "orthonormal", "off by 3"),
        ("basis.right", "(5, 4)", "(9, 4)"),
    )
    given = gx.Basis(left.at[0, 0].set(jnp.nan), right[:, :3])
    found = faults_of(interop.model_from_state_dict, wrong, basis=given)
    assert found > listed
    assert_faults(
        found - listed, ("basis.left", "NaN"), ("basis.right", "(9, 3)", "support 9", "rank 4")
    )
    twice = faults_of(interop.model_from_state_dict, stored, basis=given)
    assert len(twice) == 7
    assert any("and another basis was given" in fault for fault in twice)
    assert twice > listed


def test_axes_of_size_zero_are_listed(state):
    empty = state | {
        "vertical.weight": np.zeros((4, 1, 0, 1), np.float32),
        "basis.right": np.zeros((9, 0), np.float32),
    }
    assert faults_of(interop.model_from_state_dict, empty) == {
        "vertical.weight is float32(4, 1, 0, 1), expected float32(4, 1, 9, 1)",
        "basis.right is float32(9, 0), expected float32(9, 4)",
    }
    nothing = interop.params_to_state_dict(
        random_params(lambda *shape: np.zeros(shape, np.float32), 0, 0, 0)
    )
    found = faults_of(interop.params_from_state_dict, nothing)
    assert "vertical.weight is float32(0, 1, 0, 1), expected float32(50, 1, 151, 1)" in found
    assert len(found) == 10  # all but refine_3.bias, which has one value in any network


def test_arrays_of_other_kinds_are_listed(state):
    other = state | {
        "basis.left": scipy.sparse.csr_array(state["basis.left"]),
        "core.bias": np.ma.masked_array(state["core.bias"], mask=[1, 0, 0, 0]),
    }
    assert_faults(
        faults_of(interop.model_from_state_dict, other),
        ("basis.left", "csr_array"),
        ("core.bias", "masked"),
    )


def test_what_a_checkpoint_holds_is_said(state):
    hidden = {f"module.{name}": value for name, value in state.items()}
    for call in (interop.model_from_state_dict, interop.params_from_state_dict):
        found = faults_of(call, {"epoch": 3, "optimizer": {"state": {}}, "state_dict": hidden})
        assert sum("state dict under 'state_dict'" in fault for fault in found) == 1
        found = faults_of(call, hidden)
        assert sum("begin with 'module.'" in fault for fault in found) == 1
    fewer = {name: value for name, value in state.items() if name != "core.bias"}
    assert faults_of(interop.model_from_state_dict, fewer) == {"missing core.bias (4,)"}


def test_other_things_than_state_dicts_and_models(tmp_path):
    for call in (interop.model_from_state_dict, interop.params_from_state_dict):
        with pytest.raises(TypeError, match=r"got None.*call \.state_dict\(\)"):
            call(None)
    path = tmp_path / "weights.safetensors"
    with pytest.raises(TypeError, match=r"Model.*'glra'"):
        interop.save_torch_model("glra", path)
    with pytest.raises(TypeError, match=r"Model.*dict"):
        interop.model_to_state_dict({})
    refined = gx.initial_model(
        jax.random.key(0), Refinement(9, 4, 14), random_basis(9, 4)
    )  # of another network
    for call in (interop.model_to_state_dict, lambda model: interop.save_torch_model(model, path)):
        with pytest.raises(TypeError, match=r"faithful network.* got architecture 'refinement'"):
            call(refined)
    assert not path.exists()


def test_an_error_lists_all_that_is_wrong(state):
    wrong = {name: value for name, value in state.items() if not name.startswith("basis.")}
    del wrong["core.bias"], wrong["refine_2.weight"]
    wrong["core.weight"] = np.zeros((4, 4, 1, 1), np.float32)
    wrong["horizontal.weight"] = wrong["horizontal.weight"].transpose(3, 2, 1, 0)
    wrong["vertical.bias"] = wrong["vertical.bias"].astype(np.float64)
    wrong["refine_3.bias"] = np.float32([np.nan])
    wrong["step"] = 7
    with pytest.raises(ValueError, match="do not fit") as caught:
        interop.params_from_state_dict(wrong)
    assert set(str(caught.value).partition(": ")[2].split("; ")) == {
        "missing core.bias (4,)",
        "missing refine_2.weight (14, 14, 1, 1)",
        "unknown core.weight (4, 4, 1, 1)",
        "unknown step ()",
        "horizontal.weight is float32(9, 1, 4, 4), expected float32(4, 4, 1, 9)",
        "vertical.bias is float64(4,), expected float32(4,)",
        "refine_3.bias holds NaN or infinite values",
    }
    with pytest.raises(ValueError, match=r"missing vertical\.weight \(50, 1, 151, 1\)"):
        interop.params_from_state_dict({})


def test_gradients_keep_their_dtype():
    double = {"refine_2": {"kernel": np.arange(6.0).reshape(1, 1, 2, 3)}}
    weight = interop.params_to_state_dict(double)["refine_2.weight"]
    assert weight.dtype == np.float64
    np.testing.assert_array_equal(weight[:, :, 0, 0], [[0, 3], [1, 4], [2, 5]])
