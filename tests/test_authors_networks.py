"""Networks with their authors' weights: against restatements, and what they refuse."""

import hashlib
import inspect
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.io
import scipy.signal
from authors_weights_helpers import (
    csf_model,
    fdn_entries,
    usrnet_state,
    write_fcnn,
    write_hdf5,
    write_usrnet,
)
from skimage import data

from experiments.baselines import AUTHORS_NETWORKS, BASELINES, fdn, usrnet
from experiments.baselines.boundaries import BOUNDARIES
from experiments.evaluate import main
from experiments.evaluation.methods import OWN_NOISE, collect
from glra_jax import degrade, motion_kernel, psnr, sharp_target

FILES = os.environ.get("GLRA_JAX_AUTHORS_WEIGHTS", "")
NAMES = tuple(AUTHORS_NETWORKS)
STAGES = 2
NOISE = 0.01
# Of odd and even size: the centre is at size // 2.
KERNEL = motion_kernel(jax.random.key(3), size=7)[:, 1:]
KERNEL = KERNEL / KERNEL.sum()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All files, of random weights; USRNet's as safetensors, which needs no PyTorch."""
    pytest.importorskip("h5py")
    folder = tmp_path_factory.mktemp("authors")
    for seed, network in enumerate((fdn.FDN, fdn.FDN_LOW_NOISE)):
        write_hdf5(folder / network.file, fdn_entries(STAGES, seed))
    write_usrnet(folder / "usrnet_tiny.safetensors")
    scipy.io.savemat(folder / "csf_pw.mat", {"model": csf_model()})
    write_fcnn(folder)
    return folder


@pytest.fixture
def networks(monkeypatch):
    """The registry with USRNet's file as safetensors."""
    tiny = replace(usrnet.USRNET_TINY, file="usrnet_tiny.safetensors")
    monkeypatch.setitem(AUTHORS_NETWORKS, tiny.name, tiny)
    return AUTHORS_NETWORKS


@pytest.fixture(scope="module")
def blurred():
    sharp = jnp.asarray(data.chelsea()[100:126, 160:188], jnp.float32) / 255.0
    return degrade(jax.random.key(0), sharp, KERNEL, noise=NOISE)


# --- restatements --------------------------------------------------------------------------------


def fdn_in_numpy(y, kernel, entries, noise):
    """FDN on a channel, in float64, as the authors' program computes it with odd kernels."""
    kernel = np.pad(kernel, [(0, 1 - size % 2) for size in kernel.shape])
    half = [(size - 1) // 2 for size in kernel.shape]
    pads = [(size, size) for size in half]
    y = np.pad(np.float64(y), pads, mode="edge")
    k = np.float64(kernel)
    weights = []
    for axis, size in enumerate(y.shape):
        spectrum = np.fft.fft(k.sum(axis=1 - axis), size - 1)
        lags = np.fft.ifft(np.abs(spectrum) ** 2).real
        weights.append(1 - np.append(lags, lags[0]) / lags.max())
    inner = np.outer(*weights)
    for _ in range(3):
        wrapped = scipy.signal.convolve(np.pad(y, pads, mode="wrap"), k, mode="valid")
        y = inner * y + (1 - inner) * wrapped
    grid = np.zeros(y.shape)
    grid[: k.shape[0], : k.shape[1]] = k
    K = np.fft.fft2(np.roll(grid, (-half[0], -half[1]), axis=(0, 1)))
    inside = np.pad(np.ones([n - 2 * h for n, h in zip(y.shape, half, strict=True)]), pads)

    x = y
    for stage in range(len(entries) // len(fdn._SHAPES)):

        def weight(layer, part, stage=stage):
            return np.float64(entries[fdn._entry(stage, layer, part)])

        level = np.array([1 / (255 * noise) ** 2])
        for layer in ("dense1", "dense2", "dense3"):
            level = _elu(level @ weight(layer, "kernel") + weight(layer, "bias"))
        level = np.log1p(np.exp(level @ weight("lambda", "kernel") + weight("lambda", "bias")))[0]

        maps = np.pad(x, 20, mode="edge")[..., None]
        for layer in range(1, 7):
            windows = np.lib.stride_tricks.sliding_window_view(
                np.pad(maps, ((1, 1), (1, 1), (0, 0))), (3, 3), axis=(0, 1)
            )
            maps = np.einsum("hwiab,abio->hwo", windows, weight(f"conv{layer}", "kernel"))
            maps = maps + weight(f"conv{layer}", "bias")
            maps = _elu(maps) if layer < 6 else maps
        phi = maps[20:-20, 20:-20, 0]

        filters = np.zeros((25, 24))
        for index in range(1, 25):
            delta = np.zeros((5, 5))
            delta.flat[index] = 1
            filters[:, index - 1] = scipy.fft.idctn(delta, norm="ortho").T.ravel()
        filters = (filters @ weight("x_out", "filter_weights")).T.reshape(24, 5, 5)
        power = np.sum(np.abs(np.fft.fft2(filters, s=y.shape)) ** 2, axis=0)

        outside = y if stage == 0 else np.fft.ifft2(np.fft.fft2(x) * K).real
        observed = inside * y + (1 - inside) * outside
        numerator = level * np.conj(K) * np.fft.fft2(observed) + np.fft.fft2(phi)
        x = np.fft.ifft2(numerator / (level * np.abs(K) ** 2 + power)).real
    return x[half[0] : x.shape[0] - half[0], half[1] : x.shape[1] - half[1]]


def _elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


@pytest.fixture(scope="module")
def fdn_weights(folder):
    return fdn.read_fdn(folder / fdn.FDN.file)


@pytest.fixture(scope="module")
def restored_by_fdn(blurred, fdn_weights):
    return fdn.fdn(blurred[..., :2], KERNEL, weights=fdn_weights, noise=NOISE)


def test_fdn_agrees_with_numpy(blurred, restored_by_fdn):
    assert restored_by_fdn.dtype == jnp.float32
    for channel in range(2):
        expected = fdn_in_numpy(blurred[..., channel], KERNEL, fdn_entries(STAGES), NOISE)
        assert np.abs(expected - blurred[..., channel]).max() > 0.05
        np.testing.assert_allclose(restored_by_fdn[..., channel], expected, atol=2e-4)


def test_the_cosines_are_orthonormal_and_have_no_constant():
    basis = fdn.cosines(5)
    np.testing.assert_allclose(basis.T @ basis, np.eye(24), atol=1e-6)
    np.testing.assert_allclose(basis.sum(axis=0), 0.0, atol=1e-6)


def usrnet_in_pytorch(y, kernel, state, noise):
    """USRNet of scale 1 on an RGB image, restated with PyTorch's layers."""
    torch = pytest.importorskip("torch")
    layers = torch.nn.functional
    state = {name: torch.from_numpy(array) for name, array in state.items()}

    def blocks(name, x, first):
        for block in (first, first + 1):
            inner, outer = (state[f"p.{name}.{block}.res.{layer}.weight"] for layer in (0, 2))
            hidden = layers.relu(layers.conv2d(x, inner, padding=1))
            x = x + layers.conv2d(hidden, outer, padding=1)
        return x

    def prior(x):
        height, width = x.shape[-2:]
        x = layers.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        maps = [layers.conv2d(x, state["p.m_head.weight"], padding=1)]
        for size in (1, 2, 3):
            x = blocks(f"m_down{size}", maps[-1], 0)
            maps.append(layers.conv2d(x, state[f"p.m_down{size}.2.weight"], stride=2))
        x = blocks("m_body", maps[-1], 0)
        for size in (3, 2, 1):
            x = x + maps[size]
            x = layers.conv_transpose2d(x, state[f"p.m_up{size}.0.weight"], stride=2)
            x = blocks(f"m_up{size}", x, 1)
        x = layers.conv2d(x + maps[0], state["p.m_tail.weight"], padding=1)
        return x[..., :height, :width]

    told = torch.tensor([noise, 1.0])[None, :, None, None]
    for layer in (0, 2, 4):
        told = layers.conv2d(told, *(state[f"h.mlp.{layer}.{k}"] for k in ("weight", "bias")))
        told = layers.relu(told) if layer < 4 else layers.softplus(told)
    told = told + 1e-6
    grid = np.zeros(y.shape[:2])
    grid[: kernel.shape[0], : kernel.shape[1]] = kernel
    grid = np.roll(grid, [-(size // 2) for size in kernel.shape], axis=(0, 1))
    K = torch.fft.fft2(torch.from_numpy(np.float32(grid)))
    y = torch.from_numpy(np.moveaxis(np.asarray(y), 2, 0).copy())[None]
    x = y
    for step in range(6):
        alpha, beta = told[:, step : step + 1], told[:, step + 6 : step + 7]
        right = K.conj() * torch.fft.fft2(y) + torch.fft.fft2(alpha * x)
        z = torch.fft.ifft2(right / (K.abs() ** 2 + alpha)).real
        x = prior(torch.cat([z, beta.expand(1, 1, *z.shape[-2:])], dim=1))
    return np.moveaxis(x[0].numpy(), 0, 2)


@pytest.fixture(scope="module")
def usrnet_weights(folder):
    return usrnet.read_usrnet(folder / "usrnet_tiny.safetensors")


@pytest.fixture(scope="module")
def restored_by_usrnet(blurred, usrnet_weights):
    """Of circular blur; 26×28 pixels, which the U-Net does not take as they are."""
    return usrnet.usrnet_tiny(blurred, KERNEL, weights=usrnet_weights, noise=NOISE, boundary="wrap")


def test_usrnet_agrees_with_pytorch(blurred, restored_by_usrnet):
    expected = usrnet_in_pytorch(blurred, KERNEL, usrnet_state(), NOISE)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(restored_by_usrnet, expected, atol=1e-4 * np.ptp(expected))


def test_usrnet_reads_pytorch_files(folder, tmp_path, usrnet_weights):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(array) for name, array in usrnet_state().items()}
    torch.save(state, tmp_path / "usrnet_tiny.pth")
    read = usrnet.read_usrnet(tmp_path / "usrnet_tiny.pth")
    assert read.keys() == usrnet_weights.keys()
    for name, array in read.items():
        np.testing.assert_array_equal(array, usrnet_weights[name])


def test_usrnet_restores_grey_as_the_mean_of_rgb(blurred, usrnet_weights, monkeypatch):
    """And tells the network √3 times the noise."""
    told = []

    def restore(y, kernel, weights, noise, *, boundary):
        told.append(float(noise))
        return y

    monkeypatch.setattr(usrnet, "_usrnet", restore)
    for y in (blurred, blurred[..., :1], blurred[..., 0]):
        assert usrnet.usrnet_tiny(y, KERNEL, weights=usrnet_weights, noise=NOISE).shape == y.shape
    np.testing.assert_allclose(told, [NOISE, 3**0.5 * NOISE, 3**0.5 * NOISE], rtol=1e-6)


@pytest.mark.slow
def test_usrnet_on_grey_images(blurred, usrnet_weights):
    grey = blurred[..., :1]
    restore = partial(usrnet.usrnet_tiny, weights=usrnet_weights, boundary="wrap")
    colour = restore(jnp.broadcast_to(grey, blurred.shape), KERNEL, noise=3**0.5 * NOISE)
    single = restore(grey, KERNEL, noise=NOISE)
    assert single.shape == grey.shape
    np.testing.assert_allclose(single[..., 0], colour.mean(axis=-1), atol=1e-4)
    flat = jax.eval_shape(partial(restore, noise=NOISE), grey[..., 0], KERNEL)
    assert flat.shape == grey.shape[:2]


# --- what all of them promise --------------------------------------------------------------------


def weights_of(name, folder, networks):
    return networks[name].read(folder / networks[name].file)


@pytest.mark.parametrize("name", NAMES)
def test_signature_and_boundaries(name, folder, networks):
    network = networks[name]
    assert network.name == name
    assert name not in BASELINES
    parameters = inspect.signature(network.restore).parameters
    assert list(parameters)[:2] == ["y", "kernel"]
    assert parameters["boundary"].default == network.boundaries[0]
    restore = partial(network.restore, weights=weights_of(name, folder, networks))
    y, kernel = jnp.zeros((16, 20, 3)), jnp.ones((3, 3)) / 9
    for boundary in BOUNDARIES:
        if boundary in network.boundaries:
            found = jax.eval_shape(partial(restore, boundary=boundary), y, kernel)
            assert found.shape == y.shape
        else:
            with pytest.raises(ValueError, match=f"boundary must be one of .*'{boundary}'"):
                restore(y, kernel, boundary=boundary)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": jnp.zeros((9, 9), jnp.uint8)}, TypeError, "uint8"),
        ({"kernel": jnp.ones((3, 3))}, ValueError, "sum 9"),
        ({"noise": 0.0}, ValueError, "noise must be finite and above 0, got 0.0"),
    ],
)
def test_bad_input(name, change, error, message, networks):
    arguments = {"y": jnp.zeros((9, 9)), "kernel": jnp.ones((3, 3)) / 9} | change
    with pytest.raises(error, match=message):
        networks[name].restore(**arguments, weights=None)


def test_fdn_refuses_noise_that_it_was_not_trained_for():
    y, kernel = jnp.zeros((9, 9)), jnp.ones((3, 3)) / 9
    low = AUTHORS_NETWORKS["fdn-low-noise"].restore
    with pytest.raises(ValueError, match=r"1/255 to 3/255.*got 0\.02.*noise=0\.0118"):
        low(y, kernel, weights=None, noise=0.02)
    with pytest.raises(ValueError, match=r"0\.1/255 to 12\.75/255.*got 0\.06"):
        fdn.fdn(y, kernel, weights=None, noise=0.06)
    with pytest.raises(ValueError, match=r"\(8, 9\) is too small for fdn"):
        fdn.fdn(y[1:], kernel, weights=None)


def test_usrnet_refuses_other_channels():
    with pytest.raises(ValueError, match=r"takes \(H, W\), .*got y of shape \(9, 9, 2\)"):
        usrnet.usrnet_tiny(jnp.zeros((9, 9, 2)), jnp.ones((3, 3)) / 9, weights={})


# --- files and the command line ------------------------------------------------------------------


def test_evaluated_by_name(blurred, folder, networks, restored_by_fdn):
    told, own = collect(["fdn", "fdn:noise=0.01"], [], noise=NOISE, authors_weights=folder)
    file = folder / fdn.FDN.file
    assert told.label == told.kind == "fdn"
    assert told.about == {
        "options": {"noise": NOISE},
        "source": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    assert own.about["options"] == {"noise": NOISE}
    result = told.restore(np.asarray(blurred[..., :2]), np.asarray(KERNEL))
    np.testing.assert_allclose(result, restored_by_fdn, atol=1e-6)
    (each,) = collect(["usrnet-tiny"], [], noise=None, authors_weights=folder)
    assert each.about["noise"] == OWN_NOISE
    with pytest.raises(ValueError, match=r"'fdn-low-noise': .* for noise of 1/255"):
        collect(["fdn-low-noise"], [], noise=0.03, authors_weights=folder)[0].check((9, 9), (3, 3))


@pytest.mark.parametrize("spec", ["fdn:levels=3", "fdn:weights=a", "usrnet-tiny:weights=a"])
def test_what_is_no_option(spec):
    with pytest.raises(ValueError, match=r"has no option '\w+'; it has: noise, boundary"):
        collect([spec], [], noise=NOISE)


def test_weights_that_are_not_there(tmp_path):
    message = r"'fdn' needs its authors' weights.*fdn_sigma_0\.1-12\.75\.hdf5.*--authors-weights"
    with pytest.raises(ValueError, match=message):
        collect(["fdn"], ["nowhere.safetensors"], noise=NOISE)
    with pytest.raises(FileNotFoundError, match=r"has no usrnet_tiny\.pth, which 'usrnet-tiny'"):
        collect(["usrnet-tiny"], [], noise=NOISE, authors_weights=tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        collect(["fdn"], [], noise=NOISE, authors_weights=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is for the methods csf, .*; none is given"):
        collect(["hl"], [], noise=NOISE, authors_weights=tmp_path)
    with pytest.raises(SystemExit, match="error: 'fdn' needs its authors' weights"):
        main(["--methods", "fdn", "--models", "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_foreign_files(folder, tmp_path):
    path = tmp_path / fdn.FDN.file

    def refused(message):
        with pytest.raises(ValueError, match=message):
            collect(["fdn"], [], noise=NOISE, authors_weights=tmp_path)

    path.write_bytes(b"<html>not found")
    refused(r"'fdn': .*is not a HDF5 file but a web page")
    whole = (folder / fdn.FDN.file).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused("is not a whole HDF5 file .*truncated")
    path.unlink()
    write_hdf5(path, {"weights": np.zeros(3, np.float32)})
    refused(r"does not fit the network: missing model_2/conv1_1/kernel:0 \(3, 3, 1, 32\);.*more")
    entries = fdn_entries(1)
    entries["model_2/lambda_1/bias:0"] = np.full(1, np.nan, np.float32)
    entries["model_2/conv1_1/bias:0"] = np.zeros(31, np.float32)
    path.unlink()
    write_hdf5(path, entries)
    refused(r"conv1_1/bias:0 is float32\(31,\), expected float32\(32,\); .*lambda_1.*holds NaN")


def test_without_h5py(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"needs h5py: pip install 'glra-jax\[experiments\]'"):
        fdn.read_fdn(folder / fdn.FDN.file)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(not FILES, reason="GLRA_JAX_AUTHORS_WEIGHTS names no folder")
def test_the_authors_files_restore_a_photograph(name):
    """The whole frame of a photograph with real borders counts."""
    network = AUTHORS_NETWORKS[name]
    if name == "usrnet-tiny":
        pytest.importorskip("torch")
    weights = network.read(network.find(Path(FILES)))
    if name.startswith("fdn"):
        assert weights.filters.shape == (10, 24, 24)
    kernel = motion_kernel(jax.random.key(3), size=11)
    sharp = jnp.asarray(data.astronaut()[60:131, 190:261], jnp.float32) / 255.0
    y = degrade(jax.random.key(0), sharp, kernel, noise=NOISE, boundary="valid")
    truth = sharp_target(sharp)[5:-5, 5:-5]
    x = network.restore(y, kernel, weights=weights, noise=NOISE)
    gain = psnr(jnp.clip(x, 0, 1), truth) - psnr(y, truth)
    # CSF is for less noise; FCNN gains 5 dB here.
    assert gain > {"csf": 3.0, "fcnn": 4.0}.get(name, 7.0)
