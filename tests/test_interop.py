"""PyTorch weights: layouts, exactness, files, and what is refused."""

import os
import pickle
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import glra_jax as gx
from glra_jax import interop
from glra_jax.interop.state_dicts import check_basis
from glra_jax.network import DeconvNet, restore


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
    settings = {"regularization": 5e-4, "noise_weight": 40.0}
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
    with pytest.raises(ValueError, match=r"basis\.right are not orthonormal .* off by 3\)"):
        check_basis(gx.Basis(left, 2 * right))
    swapped = state | {"basis.left": np.float32(left + left[:, ::-1])}
    with pytest.raises(ValueError, match=r"basis\.left are not orthonormal.*fit_glra"):
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
        "import sys; import glra_jax.interop, glra_jax.caffe, experiments.compare_torch;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0


# From here on PyTorch is there.


def torch_network(state):
    torch = pytest.importorskip("torch")
    from experiments.torch_reference import DeconvNet as TorchNet

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


def test_tensors_that_are_being_trained(model, state):
    _, network = torch_network(state)
    tensors = dict(network.named_parameters())
    assert tensors["core.bias"].requires_grad
    assert_same_bits(interop.params_from_state_dict(tensors), model.params)


def test_pytorch_half_precision_is_refused(state):
    _, network = torch_network(state)
    with pytest.raises(ValueError, match=r"vertical\.weight is bfloat16\(4, 1, 9, 1\), expected"):
        interop.model_from_state_dict(network.bfloat16().state_dict())


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
    with pytest.raises(ValueError, match=r"checkpoint\.pt.*unknown epoch.*unknown model"):
        interop.load_torch_model(path, basis=random_basis(9, 4))
