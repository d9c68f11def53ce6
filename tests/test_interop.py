"""PyTorch weights: layouts, exactness, files, and what is refused."""

import argparse
import collections
import gzip
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import scipy.io
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import glra_jax as gx
from glra_jax import interop
from glra_jax.interop.entries import check_basis
from glra_jax.networks.glra import DeconvNet, restore


def kernel_shapes(support, rank, features):
    return {
        "vertical": (support, 1, 1, rank),
        "horizontal": (1, support, rank, rank),
        "refine_1": (15, 15, rank, features),
        "refine_2": (1, 1, features, features),
        "refine_3": (7, 7, features, 1),
    }


def random_params(values, support, rank, features):
    """Params of a network without any symmetry, biases included."""
    params = {
        name: {"kernel": values(*shape), "bias": values(shape[3])}
        for name, shape in kernel_shapes(support, rank, features).items()
    }
    return params | {"core": {"bias": values(rank)}}


def random_model(basis, seed=0, features=14):
    support, rank = basis.left.shape
    rng = np.random.default_rng(seed)
    params = random_params(
        lambda *shape: jnp.asarray(0.12 * rng.normal(size=shape), jnp.float32),
        support,
        rank,
        features,
    )
    return gx.Model(basis, params, gx.ModelConfig(support, rank, features))


def random_basis(support, rank, seed=0):
    rng = np.random.default_rng(seed)
    sides = (np.linalg.qr(rng.normal(size=(support, rank)))[0] for _ in range(2))
    return gx.Basis(*(jnp.asarray(side, jnp.float32) for side in sides))


@pytest.fixture(scope="module")
def model():
    return random_model(random_basis(9, 4))


@pytest.fixture(scope="module")
def state(model):
    return interop.model_to_state_dict(model)


def bits(tree):
    return [np.asarray(leaf).view(np.uint32) for leaf in jax.tree.leaves(tree)]


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(bits(a), bits(b), strict=True):
        np.testing.assert_array_equal(x, y)


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
    np.testing.assert_array_equal(state["basis.left"], model.basis.left)
    np.testing.assert_array_equal(state["basis.right"], model.basis.right)


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
    returned = interop.model_from_state_dict(state, regularization=0.02)
    assert_same_bits((model.basis, model.params), (returned.basis, returned.params))
    assert returned.config == gx.ModelConfig(support=9, rank=4, features=14, regularization=0.02)


def test_settings_of_the_inverse_come_with_the_call(model, state, tmp_path):
    settings = {"regularization": 5e-4, "noise_weight": 40.0, "core": "least-squares"}
    expected = gx.ModelConfig(9, 4, 14, **settings)
    assert interop.model_from_state_dict(state, **settings).config == expected
    interop.save_torch_model(model, tmp_path / "weights.safetensors")
    loaded = interop.load_torch_model(tmp_path / "weights.safetensors", **settings)
    assert loaded.config == expected
    refused = r"noise_weight must be .* got -1\.0"
    with pytest.raises(ValueError, match=refused):
        interop.model_from_state_dict(state, noise_weight=-1.0)
    with pytest.raises(ValueError, match=rf"weights\.safetensors.*{refused}"):
        interop.load_torch_model(tmp_path / "weights.safetensors", noise_weight=-1.0)


def with_settings(model, **settings):
    return gx.Model(model.basis, model.params, replace(model.config, **settings))


def test_settings_of_the_inverse_are_in_safetensors_files(model, tmp_path):
    path = tmp_path / "weights.safetensors"
    unusual = with_settings(model, regularization=5e-4, noise_weight=40.0, core="least-squares")
    interop.save_torch_model(unusual, path)
    assert interop.load_torch_model(path).config == unusual.config
    assert interop.load_torch_model(path, noise_weight=0.0).config == replace(
        unusual.config, noise_weight=0.0
    )
    assert interop.load_torch_model(path, regularization=0.02).config == replace(
        unusual.config, regularization=0.02
    )
    assert interop.load_torch_model(path, core="projection").config == replace(
        unusual.config, core="projection"
    )
    state = interop.read_state_dict(path)  # which cannot hold them
    assert interop.model_from_state_dict(state).config == model.config
    safetensors.numpy.save_file(state, path)  # a file of others
    assert interop.load_torch_model(path).config == model.config
    numbers = {"regularization": 5e-4, "noise_weight": 40.0}  # all there was at first
    safetensors.numpy.save_file(state, path, metadata={"glra_jax.inverse": json.dumps(numbers)})
    assert interop.load_torch_model(path).config == replace(unusual.config, core="projection")
    unknown = json.dumps(numbers | {"core": "wiener"})
    for text in ("{", "[1]", '{"regularization": 0.1}', unknown):
        safetensors.numpy.save_file(state, path, metadata={"glra_jax.inverse": text})
        with pytest.raises(ValueError, match=r"weights\.safetensors has unreadable metadata"):
            interop.load_torch_model(path)


def test_a_model_restores_the_same_after_the_way_back(model, photograph, tmp_path):
    unusual = with_settings(model, regularization=5e-4, noise_weight=40.0)
    interop.save_torch_model(unusual, tmp_path / "weights.safetensors")
    returned = interop.load_torch_model(tmp_path / "weights.safetensors")
    kernel = gx.gaussian_kernel(sigma=1.5, size=9)
    y = jnp.asarray(photograph[:32, :32])
    before, after, plain = (
        np.asarray(gx.deconvolve(y, kernel, each, noise=0.02))
        for each in (unusual, returned, model)
    )
    np.testing.assert_array_equal(after, before)
    assert np.abs(plain - before).max() > 1e-3  # the settings count


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
    with pytest.raises(ValueError, match=r"vertical and core the same name, 'net\.0'"):
        interop.model_from_state_dict(renamed, names=names | {"core": "net.0"})
    for wrong in (list(interop.LAYERS), names | {0: "net"}, names | {"core": 1}):
        with pytest.raises(TypeError, match=r"names must map each of vertical, .* got [\[{]"):
            interop.model_from_state_dict(renamed, names=wrong)


def test_a_basis_from_outside(model, state):
    weights = {name: value for name, value in state.items() if not name.startswith("basis.")}
    other = random_basis(9, 4, seed=5)
    returned = interop.model_from_state_dict(weights, basis=other)
    assert_same_bits((returned.basis, returned.params), (other, model.params))
    with pytest.raises(ValueError, match=r"holds no basis\.left and basis\.right"):
        interop.model_from_state_dict(weights)
    with pytest.raises(ValueError, match=r"basis\.left and basis\.right, and another basis"):
        interop.model_from_state_dict(state, basis=other)
    with pytest.raises(ValueError, match=r"shape \(9, 3\).*support 9 and rank 4"):
        interop.model_from_state_dict(weights, basis=random_basis(9, 3))
    with pytest.raises(ValueError, match=r"missing basis\.right"):
        interop.model_from_state_dict(weights | {"basis.left": state["basis.left"]})
    for pair in (other.left, (*other, other.left), "glra"):
        with pytest.raises(TypeError, match=r"basis must be a pair, Basis\(left, right\), got"):
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
    with pytest.raises(
        ValueError, match=r"basis\.right has columns that are not orthonormal .* off by 3\)"
    ):
        check_basis(gx.Basis(left, 2 * right))
    swapped = state | {"basis.left": np.float32(left + left[:, ::-1])}
    with pytest.raises(
        ValueError, match=r"basis\.left has columns that are not orthonormal.*fit_glra"
    ):
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


def faults_of(call, *arguments, **options):
    with pytest.raises(ValueError, match="do not fit") as caught:
        call(*arguments, **options)
    return set(str(caught.value).partition("network: ")[2].split("; "))


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
    stretched = "has columns that are not orthonormal (an inner product is off by 3): give a basis"
    stored = wrong | {"basis.left": np.asarray(2 * left), "basis.right": np.asarray(right)[:5]}
    found = faults_of(interop.model_from_state_dict, stored)
    assert found == listed | {
        f"basis.left {stretched} as fit_glra makes it",
        "basis.right is float32(5, 4), expected float32(9, 4)",
    }
    given = gx.Basis(left.at[0, 0].set(jnp.nan), right[:, :3])
    found = faults_of(interop.model_from_state_dict, wrong, basis=given)
    assert found == listed | {
        "basis.left holds NaN or infinite values",
        "basis.right has the shape (9, 3), and the weights have support 9 and rank 4 (give the "
        "basis that they were trained with)",
    }
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
    assert faults_of(interop.model_from_state_dict, other) == {
        "basis.left is a csr_array, not an array",
        "core.bias is a masked array (call .filled() with what should stand there)",
    }


def test_what_a_checkpoint_holds_is_said(state):
    hidden = {f"module.{name}": value for name, value in state.items()}
    for call in (interop.model_from_state_dict, interop.params_from_state_dict):
        found = faults_of(call, {"epoch": 3, "optimizer": {"state": {}}, "state_dict": hidden})
        assert [fault for fault in found if "holds a state dict" in fault] == [
            "it holds a state dict under 'state_dict' (hand that one to model_from_state_dict)"
        ]
        found = faults_of(call, hidden)
        assert sum("all names begin with 'module.' (take it off:" in fault for fault in found) == 1
    fewer = {name: value for name, value in state.items() if name != "core.bias"}
    assert faults_of(interop.model_from_state_dict, fewer) == {"missing core.bias (4,)"}


def test_other_things_than_state_dicts_and_models(tmp_path):
    for call in (interop.model_from_state_dict, interop.params_from_state_dict):
        with pytest.raises(TypeError, match=r"got None.*call \.state_dict\(\)"):
            call(None)
    path = tmp_path / "weights.safetensors"
    with pytest.raises(TypeError, match=r"must be a glra_jax Model .*load_model.* got 'glra'"):
        interop.save_torch_model("glra", path)
    with pytest.raises(TypeError, match=r"must be a glra_jax Model .* got dict"):
        interop.model_to_state_dict({})
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


def test_safetensors_files(model, state, tmp_path):
    path = tmp_path / "weights.safetensors"
    interop.save_torch_model(model, path)
    loaded = safetensors.numpy.load_file(path)
    assert all(loaded[name].tobytes() == state[name].tobytes() for name in state)
    returned = interop.load_torch_model(path)
    assert_same_bits((returned.basis, returned.params), (model.basis, model.params))
    with pytest.raises(FileExistsError, match="choose another name"):
        interop.save_torch_model(model, path)
    interop.save_torch_model(random_model(model.basis, seed=3), path, overwrite=True)
    assert (interop.load_torch_model(path).params["core"]["bias"] != state["core.bias"]).all()

    whole = path.read_bytes()
    for length in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="it may be truncated"):
            interop.load_torch_model(path)


def test_half_precision_is_refused_by_name(state, tmp_path):
    path = tmp_path / "half.safetensors"
    halves = state | {"refine_1.weight": state["refine_1.weight"].astype(jnp.bfloat16)}
    safetensors.numpy.save_file(halves, path)
    with pytest.raises(ValueError, match=r"half\.safetensors.*refine_1\.weight is bfloat16"):
        interop.load_torch_model(path)


def test_float8_is_refused_by_name(state, tmp_path):
    # NumPy has no such dtype: the file is written as bytes, after the format's definition.
    path = tmp_path / "eighths.safetensors"
    safetensors.numpy.save_file(state | {"refine_2.bias": np.zeros(14, np.uint8)}, path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(b'"dtype":"U8"', b'"dtype":"F8_E4M3"').rstrip()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    wrong = interop.read_state_dict(path)
    assert wrong.pop("refine_2.bias") == interop.UnreadEntry((14,), "F8_E4M3")
    assert all(value.tobytes() == state[name].tobytes() for name, value in wrong.items())
    assert faults_of(interop.load_torch_model, path) == {
        "refine_2.bias is F8_E4M3(14,), expected float32(14,)"
    }


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_nothing_is_written_that_could_not_be_read(model, tmp_path, suffix):
    pytest.importorskip("torch")
    path = tmp_path / f"weights{suffix}"
    halves = jax.tree.map(lambda w: w.astype(jnp.bfloat16), model.params)
    broken = jax.tree.map(lambda w: w * jnp.nan, model.params)
    for params, fault in ((halves, "core.bias is bfloat16"), (broken, "core.bias holds NaN")):
        with pytest.raises(ValueError, match=rf"weights\{suffix} is not written.*{fault}"):
            interop.save_torch_model(gx.Model(model.basis, params, model.config), path)
    assert not path.exists()


def content_of(save, *arguments, **entries):
    stream = io.BytesIO()
    save(stream, *arguments, **entries)
    return stream.getvalue()


def save_tar(stream):
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))


def save_zip(stream):
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", 9 * "b")


FOREIGN = {
    "web page": (b"\n<!DOCTYPE html><html>404</html>", "a web page: download"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "a Git LFS pointer"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
    "gzip": (gzip.compress(b"PK\x03\x04 and so on"), "a gzip archive: unpack it"),
    "tar": (content_of(save_tar), "a tar archive: unpack it"),
    "npz": (content_of(np.savez, left=np.eye(2)), r"a NumPy archive \(\.npz\)"),
    "npy": (content_of(np.save, np.eye(2)), "a single NumPy array"),
    "zip": (content_of(save_zip), "a zip archive"),
    "MATLAB": (b"MATLAB 5.0 MAT-file" + bytes(120), "a MATLAB file"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle that torch.save did not write"),
    "text": (b'name: "GLR"', r"""\(it begins with b'name: "GLR"'\)"""),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_another_kind_is_not_called_truncated(tmp_path, kind, suffix):
    pytest.importorskip("torch")
    content, named = FOREIGN[kind]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"weights\{suffix} is not a .*file .*{named}") as caught:
        interop.load_torch_model(path)
    assert "truncated" not in str(caught.value)


def test_a_file_of_another_suffix_is_told_its_own(model, tmp_path):
    pytest.importorskip("torch")
    for right, wrong in ((".pt", ".safetensors"), (".safetensors", ".pth")):
        path = tmp_path / f"right{right}"
        interop.save_torch_model(model, path)
        renamed = path.rename(tmp_path / f"wrong{wrong}")
        with pytest.raises(
            ValueError, match=rf"wrong\{wrong} is not .* give it the suffix \{right}"
        ):
            interop.load_torch_model(renamed)


def test_what_the_system_refuses_is_not_called_truncated(model, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    for suffix in (".pt", ".safetensors"):
        (tmp_path / f"folder{suffix}").mkdir()
        with pytest.raises(IsADirectoryError, match=rf"folder\{suffix} is a folder; give the file"):
            interop.load_torch_model(tmp_path / f"folder{suffix}")
    interop.save_torch_model(model, tmp_path / "weights.pt")
    for error in (PermissionError(13, "denied"), MemoryError("no more")):

        def refuse(*arguments, error=error, **options):
            raise error

        monkeypatch.setattr(torch, "load", refuse)
        with pytest.raises(type(error)):
            interop.load_torch_model(tmp_path / "weights.pt")
    interop.save_torch_model(model, tmp_path / "weights.safetensors")

    def deny(path, *arguments):
        raise PermissionError(13, "denied", str(path))

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(PermissionError):
        interop.load_torch_model(tmp_path / "weights.safetensors")


def test_the_librarys_own_files_are_told_apart(model, tmp_path):
    gx.save_model(model, tmp_path / "own.safetensors")
    with pytest.raises(
        ValueError, match=r"own\.safetensors is a file of glra_jax itself, use gx\.load_model"
    ):
        interop.load_torch_model(tmp_path / "own.safetensors")


def test_names_of_files(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.safetensors"):
        interop.load_torch_model(tmp_path / "absent.safetensors")
    for call in (interop.load_torch_model, lambda path: interop.save_torch_model(model, path)):
        with pytest.raises(ValueError, match=r"must end in one of .*got '\.bin'"):
            call(tmp_path / "weights.bin")


def test_pytorch_is_needed_for_its_own_files_only(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    interop.save_torch_model(model, tmp_path / "weights.safetensors")
    assert interop.load_torch_model(tmp_path / "weights.safetensors").config.support == 9
    (tmp_path / "weights.pt").write_bytes(b"PK")
    with pytest.raises(ImportError, match=r"glra-jax\[torch\]"):
        interop.load_torch_model(tmp_path / "weights.pt")
    with pytest.raises(ImportError, match=r"glra-jax\[torch\]"):
        interop.save_torch_model(model, tmp_path / "new.pt")
    assert not (tmp_path / "new.pt").exists()


def test_extras_are_not_imported():
    program = (
        "import sys; import glra_jax.interop, glra_jax.interop.caffe, experiments.compare_torch;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0


# From here on PyTorch is there.


def torch_network(state):
    torch = pytest.importorskip("torch")
    from experiments.torch_comparison.reference import DeconvNet as TorchNet

    tensors = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
    network = TorchNet(tensors["basis.left"], tensors["basis.right"], features=14)
    network.load_state_dict(tensors)  # strict: the names are the documented ones
    return torch, network


@pytest.mark.parametrize("cores", [(), (2,)], ids=["one core", "a core an image"])
def test_pytorch_gives_the_same_output(model, state, cores):
    torch, network = torch_network(state)
    rng = np.random.default_rng(2)
    y = np.float32(rng.random((2, 24, 21, 1)))
    M = np.float32(rng.normal(size=(*cores, 4, 4)))
    with torch.no_grad():
        expected = network(torch.from_numpy(y.transpose(0, 3, 1, 2)), torch.from_numpy(M)).numpy()
    assert expected.std() > 0.05  # neither constant nor saturated
    network_here = DeconvNet(9, 4, 14, method="direct")
    for function in (restore, jax.jit(restore, static_argnums=0)):
        ours = function(network_here, model.params, jnp.asarray(y), jnp.asarray(M))
        np.testing.assert_allclose(
            np.asarray(ours).transpose(0, 3, 1, 2), expected, rtol=0, atol=2e-6
        )


def test_core_as_a_convolution(model, state):
    torch, network = torch_network(state)
    rng = np.random.default_rng(3)
    x = torch.from_numpy(np.float32(rng.normal(size=(1, 4, 5, 6))))
    M = torch.from_numpy(np.float32(rng.normal(size=(4, 4))))
    as_layer = torch.nn.functional.conv2d(x, M.T[:, :, None, None], network.core.bias)
    torch.testing.assert_close(network.core(x, M), as_layer, rtol=0, atol=1e-6)
    expected = np.einsum("nihw,ij->njhw", x.numpy(), M.numpy()) + state["core.bias"][:, None, None]
    np.testing.assert_allclose(as_layer.detach().numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_pytorch_files(model, state, tmp_path, suffix):
    torch, network = torch_network(state)
    path = tmp_path / f"weights{suffix}"
    interop.save_torch_model(model, path)
    loaded = torch.load(path, weights_only=True)
    network.load_state_dict(loaded)
    assert all(loaded[name].numpy().tobytes() == state[name].tobytes() for name in state)
    with pytest.raises(FileExistsError):
        interop.save_torch_model(model, path)

    for new_format in (True, False):  # and files that PyTorch itself wrote
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=new_format)
        returned = interop.load_torch_model(path)
        assert_same_bits((returned.basis, returned.params), (model.basis, model.params))


def test_a_view_that_negates_is_read_as_it_looks(state):
    torch, network = torch_network(state)
    entries = network.state_dict()
    bias = entries["core.bias"]
    entries["core.bias"] = torch.complex(bias, bias).conj().imag
    assert entries["core.bias"].is_neg()
    read = interop.model_from_state_dict(entries)
    np.testing.assert_array_equal(read.params["core"]["bias"], -state["core.bias"])


def test_tensors_that_are_being_trained(model, state):
    _, network = torch_network(state)
    tensors = dict(network.named_parameters())
    assert tensors["core.bias"].requires_grad
    assert_same_bits(interop.params_from_state_dict(tensors), model.params)


def test_pytorch_half_precision_is_refused(state):
    _, network = torch_network(state)
    with pytest.raises(ValueError, match=r"vertical\.weight is bfloat16\(4, 1, 9, 1\), expected"):
        interop.model_from_state_dict(network.bfloat16().state_dict())


def test_pytorch_entries_without_dense_values_are_listed(state):
    torch, network = torch_network(state)
    wrong = network.state_dict()
    wrong["vertical.bias"] = wrong["vertical.bias"].to("meta")
    wrong["basis.left"] = wrong["basis.left"].to("meta")
    wrong["refine_1.weight"] = wrong["refine_1.weight"].to_sparse()
    wrong["basis.right"] = wrong["basis.right"].to_sparse()
    wrong["core.bias"] = torch.zeros(0)
    dense = "not a dense array (call .to_dense() first)"
    meta = "is a meta tensor, which has no values (load it onto the CPU)"
    assert faults_of(interop.model_from_state_dict, wrong) == {
        f"vertical.bias {meta}",
        f"basis.left {meta}",
        f"refine_1.weight is sparse_coo, {dense}",
        f"basis.right is sparse_coo, {dense}",
        "core.bias is float32(0,), expected float32(4,)",
    }


def test_a_basis_of_tensors(model, state):
    _, network = torch_network(state)
    weights = {n: v for n, v in network.state_dict().items() if not n.startswith("basis.")}
    basis = gx.Basis(network.basis.left, network.basis.right)
    returned = interop.model_from_state_dict(weights, basis=basis)
    assert_same_bits((returned.basis, returned.params), (model.basis, model.params))


def test_a_module_is_no_state_dict(state):
    _, network = torch_network(state)
    for call in (interop.model_from_state_dict, interop.params_from_state_dict):
        with pytest.raises(TypeError, match=r"got DeconvNet; .*call \.state_dict\(\)"):
            call(network)


def test_settings_of_the_inverse_go_with_the_call_for_pytorch_files(model, tmp_path):
    pytest.importorskip("torch")
    settings = {"regularization": 5e-4, "noise_weight": 40.0, "core": "least-squares"}
    unusual = with_settings(model, **settings)
    interop.save_torch_model(unusual, tmp_path / "weights.pt")
    assert interop.load_torch_model(tmp_path / "weights.pt").config == model.config
    assert interop.load_torch_model(tmp_path / "weights.pt", **settings).config == unusual.config


def test_the_page_runs_from_top_to_bottom(colour_photograph, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("google.protobuf")
    from test_caffe import net_bytes, random_layers

    page = (Path(__file__).parents[1] / "docs" / "pytorch.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 7
    monkeypatch.chdir(tmp_path)
    basis = random_basis(17, 3)
    settings = {"regularization": 0.003, "noise_weight": 40.0, "core": "least-squares"}
    model = with_settings(random_model(basis, features=4), **settings)
    interop.save_torch_model(random_model(basis, seed=1), "network.pt")
    scipy.io.savemat("authors.mat", {"l": basis.left, "r": basis.right})
    Path("net_iter_200000.caffemodel").write_bytes(net_bytes(random_layers(17, 3, 4)))
    monkeypatch.setattr(gx, "load_model", lambda name: {"glra": model}[name])
    blurred = colour_photograph[:40, :48]
    page_names = {"blurred": blurred, "name_of_left": "l", "name_of_right": "r"}

    def run(block):
        exec(compile(block, "a block of docs/pytorch.md", "exec"), page_names)

    run(blocks[0])
    assert page_names["restored"].shape == blurred.shape
    run(blocks[1])  # the same network in PyTorch gives the same picture
    expected = gx.deconvolve(
        jnp.asarray(blurred[..., 1]),
        gx.gaussian_kernel(sigma=2.0, size=15),
        model,
        boundary="valid",
        noise=0.01,
    )
    assert np.std(expected) > 0.01
    restored = page_names["restored"].numpy()
    np.testing.assert_allclose(restored[0, 0], expected, rtol=0, atol=1e-5)
    run(blocks[2])
    torch.nn.init.zeros_(page_names["module"].core.bias)
    run(blocks[3])
    np.testing.assert_array_equal(
        page_names["module"].core.bias.detach(), model.params["core"]["bias"]
    )
    run(blocks[4])
    assert page_names["again"].config == model.config
    run(blocks[5])
    run(blocks[6])
    np.testing.assert_array_equal(page_names["basis"].left, basis.left)
    assert page_names["restored"].shape == (24, 32, 3)


class CallsSomething:
    """Unpickled, it would make a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("written", ["zip", "legacy", "pickle 2", "pickle 5"])
@pytest.mark.parametrize("place", ["entry", "metadata"])
def test_a_pickle_that_wants_to_run_code_is_refused(state, tmp_path, written, place):
    torch, network = torch_network(state)
    attack = CallsSomething(tmp_path / "broken into")
    content = network.state_dict()
    if place == "entry":
        content["vertical.weight"] = attack
    else:
        content._metadata["x"] = attack
    path = tmp_path / "weights.pt"
    if written.startswith("pickle"):
        path.write_bytes(pickle.dumps(attack, protocol=int(written[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=written == "zip")
    with pytest.raises(ValueError, match=r"wants to call \w+\.mkdir .*was refused") as caught:
        interop.load_torch_model(path)
    assert "weights_only" not in str(caught.value)  # no advice to open it all the same
    assert not (tmp_path / "broken into").exists()


def written_by_hand(name):
    """A pickle that calls `name` with one argument, as PyTorch's oldest files are written."""
    module, _, function = name.rpartition(".")
    return f"\x80\x02c{module}\n{function}\nX\x01\x00\x00\x00a\x85R.".encode("latin-1")


@pytest.mark.parametrize(
    "name",
    [
        *("torch.load", "torch.compile", "torch.hub.load", "torch._utils._import_dotted_name"),
        *("torch.storage._load_from_bytes", "__builtin__.eval", "argparse.Namespace"),
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_what_pytorch_does_not_allow_is_named(tmp_path, name, cut):
    pytest.importorskip("torch")
    path = tmp_path / "weights.pt"
    path.write_bytes(written_by_hand(name)[: -1 if cut else None])
    quoted = re.escape(name.replace("__builtin__", "builtins"))
    with pytest.raises(ValueError, match=rf"wants to call {quoted} when it is opened"):
        interop.load_torch_model(path)


def test_what_pytorch_allows_is_not_called_foreign(tmp_path):
    torch = pytest.importorskip("torch")
    with_attribute = torch.ones(2)
    with_attribute.origin = "here"
    content = {
        "counter": collections.Counter("aab"),
        "set": {1, 2},
        "bytes": bytearray(b"ab"),
        "complex": 1j,
        "plain": [torch.device("cpu"), torch.bfloat16, torch.Size([2])],
        "sparse": torch.eye(2).to_sparse(),
        "attribute": with_attribute,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "half": torch.ones(2).half(),
    }
    path = tmp_path / "weights.pt"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert interop.read_state_dict(path).keys() == content.keys()
    whole = path.read_bytes()
    for length in (*range(14, len(whole), 131), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="it may be truncated: copy it again"):
            interop.read_state_dict(path)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_another_protocol_is_named(state, tmp_path, new_format):
    torch, network = torch_network(state)
    path = tmp_path / "weights.pt"
    options = {"pickle_protocol": 4, "_use_new_zipfile_serialization": new_format}
    torch.save(network.state_dict(), path, **options)
    with pytest.raises(ValueError, match=r"weights\.pt is pickled with protocol 4"):
        interop.load_torch_model(path)
    torch.save({"args": argparse.Namespace()}, path, **options)
    with pytest.raises(ValueError, match=r"wants to call argparse\.Namespace"):
        interop.load_torch_model(path)


def test_a_bit_that_flipped_is_found(model, tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "weights.pt"
    interop.save_torch_model(model, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = [entry for entry in archive.infolist() if entry.file_size > 8]
    assert len(members) > 10
    for entry in members:
        damaged = bytearray(whole)
        name_and_extra = whole[entry.header_offset + 26 : entry.header_offset + 30]
        start = entry.header_offset + 30 + sum(np.frombuffer(name_and_extra, "<u2").tolist())
        damaged[start + entry.file_size // 2] ^= 0x10
        path.write_bytes(damaged)
        quoted = re.escape(entry.filename)
        with pytest.raises(
            ValueError, match=rf"is damaged: the checksum of {quoted} in it is wrong"
        ):
            interop.load_torch_model(path)


def test_a_file_without_checksums_is_read(model, tmp_path):
    torch = pytest.importorskip("torch", minversion="2.6")
    path = tmp_path / "weights.pt"
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        interop.save_torch_model(model, path)
        returned = interop.load_torch_model(path)
        torch.save({"args": argparse.Namespace()}, path)
    finally:
        torch.serialization.set_crc32_options(before)
    assert_same_bits((returned.basis, returned.params), (model.basis, model.params))
    with pytest.raises(ValueError, match=r"wants to call argparse\.Namespace"):
        interop.load_torch_model(path)


def test_a_whole_module_is_refused(state, tmp_path):
    torch, network = torch_network(state)
    torch.save(network, tmp_path / "module.pt")
    with pytest.raises(ValueError, match=r"torch_reference\.DeconvNet .*module\.state_dict\(\)"):
        interop.load_torch_model(tmp_path / "module.pt")


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_a_truncated_file_is_named_as_such(tmp_path, new_format):
    torch = pytest.importorskip("torch")
    path = tmp_path / "weights.pt"
    state = {"a.weight": torch.arange(500.0), "a.bias": torch.ones(3)}
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    for length in [*range(0, 600, 23), *range(600, len(whole), 211), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"weights\.pt is not a whole PyTorch file.*truncated"):
            interop.read_state_dict(path)
    path.write_bytes(whole)
    assert set(interop.read_state_dict(path)) == set(state)


def test_another_kind_of_content(state, tmp_path):
    torch, network = torch_network(state)
    path = tmp_path / "checkpoint.pt"
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds a list, not a state dict"):
        interop.load_torch_model(path)
    torch.save({"epoch": 3, "model": network.state_dict()}, path)
    with pytest.raises(ValueError, match=r"checkpoint\.pt.*under 'model'.*unknown epoch"):
        interop.load_torch_model(path, basis=random_basis(9, 4))
