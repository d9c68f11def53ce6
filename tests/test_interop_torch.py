"""PyTorch itself: the same network there, its tensors, and the page on how to use it."""

import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from interop_helpers import (
    assert_faults,
    assert_same_bits,
    faults_of,
    random_basis,
    random_model,
    torch_network,
    with_inverse,
)

import glra_jax as gx
from glra_jax import interop

UNUSUAL = gx.Inverse(5e-4, noise_weight=40.0, core="least-squares")


@pytest.fixture(scope="module")
def model():
    return random_model(random_basis(9, 4))


@pytest.fixture(scope="module")
def state(model):
    return interop.model_to_state_dict(model)


@pytest.mark.parametrize("cores", [(), (2,)], ids=["one core", "a core an image"])
def test_pytorch_gives_the_same_output(model, state, cores):
    torch, network = torch_network(state)
    rng = np.random.default_rng(2)
    y = np.float32(rng.random((2, 24, 21, 1)))
    M = np.float32(rng.normal(size=(*cores, 4, 4)))
    with torch.no_grad():
        expected = network(torch.from_numpy(y.transpose(0, 3, 1, 2)), torch.from_numpy(M)).numpy()
    assert expected.std() > 0.05  # neither constant nor saturated
    ours_alone = gx.DeconvNet(9, 4, 14, method="direct").apply
    for function in (ours_alone, jax.jit(ours_alone)):
        ours = function({"params": model.params}, jnp.asarray(y), jnp.asarray(M))
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
        assert_same_bits((returned.constants, returned.params), (model.constants, model.params))


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
    with pytest.raises(ValueError, match=r"vertical\.weight is bfloat16"):
        interop.model_from_state_dict(network.bfloat16().state_dict())


def test_pytorch_entries_without_dense_values_are_listed(state):
    torch, network = torch_network(state)
    wrong = network.state_dict()
    wrong["vertical.bias"] = wrong["vertical.bias"].to("meta")
    wrong["basis.left"] = wrong["basis.left"].to("meta")
    wrong["refine_1.weight"] = wrong["refine_1.weight"].to_sparse()
    wrong["basis.right"] = wrong["basis.right"].to_sparse()
    wrong["core.bias"] = torch.zeros(0)
    assert_faults(
        faults_of(interop.model_from_state_dict, wrong),
        ("vertical.bias", "meta tensor"),
        ("basis.left", "meta tensor"),
        ("refine_1.weight", "sparse_coo"),
        ("basis.right", "sparse_coo"),
        ("core.bias", "(0,)", "(4,)"),
    )


def test_a_basis_of_tensors(model, state):
    _, network = torch_network(state)
    weights = {n: v for n, v in network.state_dict().items() if not n.startswith("basis.")}
    basis = gx.Basis(network.basis.left, network.basis.right)
    returned = interop.model_from_state_dict(weights, basis=basis)
    assert_same_bits((returned.constants, returned.params), (model.constants, model.params))


def test_a_module_is_no_state_dict(state):
    _, network = torch_network(state)
    for call in (interop.model_from_state_dict, interop.params_from_state_dict):
        with pytest.raises(TypeError, match=r"DeconvNet.*state_dict\(\)"):
            call(network)


def test_the_inverse_goes_with_the_call_for_pytorch_files(model, tmp_path):
    pytest.importorskip("torch")
    path, unusual = tmp_path / "weights.pt", with_inverse(model, UNUSUAL)
    interop.save_torch_model(unusual, path)
    assert interop.load_torch_model(path).architecture == model.architecture
    found = interop.load_torch_model(path, inverse=UNUSUAL).architecture
    assert found == unusual.architecture


def test_the_page_runs_from_top_to_bottom(colour_photograph, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("google.protobuf")
    from caffe_files import net_bytes, random_layers

    page = (Path(__file__).parents[1] / "docs" / "pytorch.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 7
    monkeypatch.chdir(tmp_path)
    basis = random_basis(17, 3)
    inverse = replace(UNUSUAL, regularization=0.003)
    model = with_inverse(random_model(basis, seed=1, features=4), inverse)
    interop.save_torch_model(random_model(basis), "network.pt")
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
    assert page_names["again"].architecture == model.architecture
    run(blocks[5])
    run(blocks[6])
    np.testing.assert_array_equal(page_names["basis"].left, basis.left)
    assert page_names["restored"].shape == (24, 32, 3)
