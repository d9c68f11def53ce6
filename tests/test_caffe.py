"""The authors' Caffe network, read from files that are encoded byte by byte.

The released file could not be had; these have the same fields, after Caffe's public definitions.
"""

import os
import re
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from caffe_files import (
    FEATURES,
    RANK,
    SUPPORT,
    blob_bytes,
    field,
    net_bytes,
    random_layers,
    varint,
)
from interop_helpers import random_basis
from scipy.signal import correlate

import glra_jax as gx
from glra_jax import interop
from glra_jax.interop import caffe

pytest.importorskip("google.protobuf")

RELEASE_ARRAYS = "GLRA_JAX_RELEASE_ARRAYS"


@pytest.fixture(scope="module")
def layers():
    return random_layers()


@pytest.fixture(scope="module")
def basis():
    return as_theirs(random_basis(SUPPORT, RANK))


def as_theirs(basis):
    """MATLAB's matrices, float64."""
    return {"left": np.float64(basis.left), "right": np.float64(basis.right)}


@pytest.fixture
def path(layers, tmp_path):
    path = tmp_path / "net_iter_200000.caffemodel"
    path.write_bytes(net_bytes(layers))
    return path


def test_weights_to_the_bit(path, layers, basis):
    model = caffe.load_caffemodel(path, **basis)
    assert model.architecture == gx.Glra(SUPPORT, RANK, FEATURES, gx.Inverse(0.01))
    state = interop.params_to_state_dict(model.params)
    for index, layer in enumerate(
        ("vertical", "core", "horizontal", "refine_1", "refine_2", "refine_3")
    ):
        weight, bias = layers[f"conv{index}"]
        assert state.pop(f"{layer}.bias").tobytes() == bias.tobytes()
        if layer != "core":  # whose weights are computed for each kernel
            assert state.pop(f"{layer}.weight").tobytes() == weight.tobytes()
    assert not state
    np.testing.assert_array_equal(model.constants.left, np.float32(basis["left"]))
    np.testing.assert_array_equal(model.constants.right, np.float32(basis["right"]))


def test_an_inverse_in_place_of_theirs(path, basis, colour_photograph):
    inverse = gx.Inverse(0.1, noise_weight=20.0, core="least-squares")
    model = caffe.load_caffemodel(path, **basis, inverse=inverse)
    assert model.architecture == gx.Glra(SUPPORT, RANK, FEATURES, inverse)
    y, kernel = jnp.asarray(colour_photograph[:20, :24, 0]), gx.gaussian_kernel(sigma=1.0, size=5)
    restored = caffe.deconvolve_as_released(y, kernel, model, noise=0.1)
    theirs = caffe.load_caffemodel(path, **basis)
    expected = caffe.deconvolve_as_released(y, kernel, theirs, inverse=inverse, noise=0.1)
    np.testing.assert_allclose(restored, expected, atol=1e-6)
    assert np.abs(restored - caffe.deconvolve_as_released(y, kernel, theirs)).max() > 1e-3


def test_double_blobs(layers, basis, path, tmp_path):
    other = tmp_path / "double.caffemodel"
    other.write_bytes(net_bytes(layers, double=True))
    expected = caffe.load_caffemodel(path, **basis).params
    jax.tree.map(
        np.testing.assert_array_equal, caffe.load_caffemodel(other, **basis).params, expected
    )


def caffe_forward(layers, core, image):
    """The authors' network in float64, layer by layer, on an image as Caffe sees it."""
    blobs = {name: [np.float64(b) for b in pair] for name, pair in layers.items()}
    # Their test program writes M[k, j] into the weight from input k to output j.
    blobs["conv1"][0] = core.T[:, :, None, None]
    maps = image[None]
    for name, padding in zip(blobs, (0, 0, 0, 7, 0, 3), strict=True):
        weight, bias = blobs[name]
        maps = np.pad(maps, ((0, 0), (padding, padding), (padding, padding)))
        maps = np.stack(
            [
                sum(correlate(x, w, mode="valid") for x, w in zip(maps, filters, strict=True)) + b
                for filters, b in zip(weight, bias, strict=True)
            ]
        )
        if name in ("conv3", "conv4"):
            maps = np.where(maps > 0, maps, 0.2 * maps)
    return 1 / (1 + np.exp(-maps[0]))


def reference_core(kernel, left, right):
    """`M` in float64: inverse with 1/100, projection, division by its own sum."""
    grid = np.zeros((SUPPORT, SUPPORT))
    top, side = (SUPPORT // 2 - n // 2 for n in kernel.shape)
    grid[top : top + kernel.shape[0], side : side + kernel.shape[1]] = kernel
    spectrum = np.fft.fft2(np.fft.ifftshift(grid))
    inverse = np.fft.ifft2(spectrum.conj() / (np.abs(spectrum) ** 2 + 0.01)).real
    projected = left @ left.T @ np.fft.fftshift(inverse) @ right @ right.T
    return left.T @ (projected / projected.sum()) @ right


def test_restores_as_the_authors_programs_do(path, layers, basis, colour_photograph):
    model = caffe.load_caffemodel(path, **basis)
    y = colour_photograph[:40, :33]
    kernel = np.asarray(gx.gaussian_kernel(sigma=1.2, size=7))
    core = reference_core(np.float64(kernel), **basis)
    # MATLAB hands over columns as rows, and takes them back so.
    expected = np.stack(
        [caffe_forward(layers, core, np.float64(y[..., c]).T).T for c in range(3)], axis=-1
    )
    assert expected.std() > 0.02
    restored = caffe.deconvolve_as_released(
        jnp.asarray(y), jnp.asarray(kernel), model, boundary="valid", method="direct"
    )
    assert restored.shape == (24, 17, 3)
    np.testing.assert_allclose(restored, expected, rtol=0, atol=1e-5)
    # The test can tell: untransposed, the same network gives something else.
    plain = gx.deconvolve(
        jnp.asarray(y), jnp.asarray(kernel), model, boundary="valid", method="direct"
    )
    assert np.abs(np.asarray(plain) - expected).max() > 1e-2


@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 3), (2, 20, 24, 1)])
def test_transposes_kernels_with_images(path, basis, shape):
    model = caffe.load_caffemodel(path, **basis)
    rng = np.random.default_rng(1)
    y = jnp.asarray(rng.random(shape), jnp.float32)
    kernel = gx.normalize_kernel(jnp.asarray(rng.random((5, 9)), jnp.float32))
    rows = 1 if len(shape) == 4 else 0
    options = {"boundary": "valid", "method": "direct"}
    released = partial(caffe.deconvolve_as_released, **options)
    restored = (jax.jit(released) if len(shape) == 2 else released)(y, kernel, model)
    expected = gx.deconvolve(y.swapaxes(rows, rows + 1), kernel.T, model, **options)
    assert restored.shape[rows : rows + 2] == (4, 8)
    np.testing.assert_allclose(restored, expected.swapaxes(rows, rows + 1), rtol=0, atol=1e-6)


def test_images_and_kernels_are_checked_before_they_are_transposed(path, basis):
    model = caffe.load_caffemodel(path, **basis)
    y, kernel = jnp.full((20, 24), 0.5), gx.gaussian_kernel(sigma=1.0, size=5)
    with pytest.raises(ValueError, match=r"kernel must be 2-D, got rank 1, shape \(5,\)"):
        caffe.deconvolve_as_released(y, kernel[0], model)
    with pytest.raises(ValueError, match=r"y must be \(H, W\).* got rank 1, shape \(24,\)"):
        caffe.deconvolve_as_released(y[0], kernel, model)
    with pytest.raises(ValueError, match=r"kernel of shape \(5, 19\) is larger"):
        caffe.deconvolve_as_released(y, jnp.full((5, 19), 1 / 95), model)


@pytest.mark.parametrize("model", [None, "glra"])
def test_another_model_is_refused(model):
    y, kernel = jnp.full((20, 24), 0.5), gx.gaussian_kernel(sigma=1.0, size=5)
    named = rf"load_caffemodel returned, got {type(model).__name__}; .*use glra_jax\.deconvolve"
    with pytest.raises(TypeError, match=named):
        caffe.deconvolve_as_released(y, kernel, model)


def test_an_error_lists_all_that_is_wrong(layers, basis, tmp_path):
    wrong = dict(layers)
    del wrong["conv4"]
    wrong["conv2"] = [layers["conv2"][0].transpose(0, 1, 3, 2), layers["conv2"][1]]
    wrong["conv3"] = layers["conv3"][:1]
    wrong["conv6"] = [np.ones((1, 2, 3, 3), np.float32)]
    wrong["conv5"] = [*layers["conv5"], np.ones(2, np.float32)]
    wrong["conv0"] = [layers["conv0"][0] * np.float32(np.nan), layers["conv0"][1]]
    path = tmp_path / "wrong.caffemodel"
    path.write_bytes(net_bytes(wrong))
    with pytest.raises(
        ValueError, match=r"wrong\.caffemodel is not the authors' network"
    ) as caught:
        caffe.load_caffemodel(path, **basis)
    for fault in (
        "conv2.weight is float32(3, 3, 17, 1), expected float32(3, 3, 1, 17)",
        "missing conv3.bias (4,)",
        "missing conv4.weight (4, 4, 1, 1)",
        "missing conv4.bias (4,)",
        "unknown conv5.blob2 (2,)",
        "unknown conv6.weight (1, 2, 3, 3)",
        "conv0.weight holds NaN or infinite values",
    ):
        assert fault in str(caught.value)
    assert str(caught.value).count(";") == 6


def test_names_that_are_not_text_or_there_twice_are_listed(layers, basis, tmp_path):
    path = tmp_path / "wrong.caffemodel"
    odd = field(100, field(1, b"\xff\xfe") + field(7, blob_bytes(np.ones(3))))
    again = net_bytes({"conv0": [2 * blob for blob in layers["conv0"]]})
    path.write_bytes(net_bytes(layers) + odd + again)
    with pytest.raises(ValueError, match="is not the authors' network") as caught:
        caffe.load_caffemodel(path, **basis)
    assert str(caught.value).endswith(r": unknown \xff\xfe.weight (3,); 2 layers are called conv0")


@pytest.mark.parametrize("layer", ["conv0", "conv2"])
def test_the_basis_tells_which_layer_is_wrong(layers, basis, tmp_path, layer):
    axis = 2 if layer == "conv0" else 3
    wrong = layers | {layer: [np.repeat(layers[layer][0], 2, axis=axis), layers[layer][1]]}
    path = tmp_path / "wrong.caffemodel"
    path.write_bytes(net_bytes(wrong))
    with pytest.raises(ValueError, match=rf": {layer}\.weight is [^;]*$"):
        caffe.load_caffemodel(path, **basis)


def test_the_older_format(layers, basis, path, tmp_path):
    def older_blob(array):
        sizes = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(field(index, size) for index, size in enumerate(sizes, start=1))
        return shape + field(5, array.astype("<f4").tobytes())

    older, converted = field(1, "GLR"), field(1, "GLR")
    for name, blobs in layers.items():
        older += field(2, field(4, name) + b"".join(field(6, older_blob(b)) for b in blobs))
        converted += field(100, field(1, name) + b"".join(field(7, older_blob(b)) for b in blobs))
    other = tmp_path / "older.caffemodel"
    other.write_bytes(older)
    with pytest.raises(ValueError, match=r"older\.caffemodel.*upgrade_net_proto_binary"):
        caffe.load_caffemodel(other, **basis)
    other.write_bytes(converted)  # which copies the blobs as they are
    expected = caffe.load_caffemodel(path, **basis).params
    read = caffe.load_caffemodel(other, **basis).params
    jax.tree.map(np.testing.assert_array_equal, read, expected)


def test_a_basis_that_does_not_fit(path):
    other = as_theirs(random_basis(SUPPORT, 4))
    with pytest.raises(ValueError, match=r"shape \(17, 4\).*support 17 and rank 3"):
        caffe.load_caffemodel(path, **other)


def test_what_is_handed_in_is_not_the_files_fault(path, basis):
    left, right = basis["left"], basis["right"]
    bad = left.copy()
    bad[0, 0] = np.nan
    for wrong, fault in (
        (2 * left, r"basis\.left.*orthonormal"),
        (bad, r"basis\.left holds NaN"),
        (left[0], r"must be \(d, m\), got .*\(3,\)"),
        (left[:5], r"must be \(d, m\), got .*\(5, 3\)"),
        (left + 0j, "left.*complex128"),
        (left > 0, "left is bool, expected"),
        ("L", "left is <U1, expected"),
        (None, "left is object, expected"),
        (left * 1e300, r"basis\.left holds NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=rf"^left and right are no basis.*{fault}"):
            caffe.load_caffemodel(path, left=wrong, right=right)
        with pytest.raises(ValueError, match="left and right are no basis"):  # before the file
            caffe.load_caffemodel(path.with_name("absent"), left=wrong, right=right)
    inverse = gx.Inverse(jnp.float32(-1.0))  # an array is looked at by the architecture
    with pytest.raises(ValueError, match=r"^regularization must be .*-1") as caught:
        caffe.load_caffemodel(path, **basis, inverse=inverse)
    assert path.name not in str(caught.value)
    other = as_theirs(random_basis(SUPPORT, 4))
    with pytest.raises(ValueError, match="that they were trained with") as caught:
        caffe.load_caffemodel(path, **other)
    assert "truncated" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "count"), [((-2, -3), 6), ((2**32, 2**32), 0), ((0, 2**62), 0), ((3, 0), 0)]
)
def test_impossible_shapes_are_damage(basis, tmp_path, shape, count):
    path = tmp_path / "x.caffemodel"
    sizes = field(7, field(1, b"".join(varint(size) for size in shape)))
    blob = sizes + field(5, np.ones(count, "<f4").tobytes())
    path.write_bytes(field(100, field(1, "conv0") + field(7, blob)))
    quoted = re.escape(f"blob 0 of layer conv0 has {count} values for the shape {shape}")
    with pytest.raises(ValueError, match=rf"x\.caffemodel: {quoted}; the file is damaged"):
        caffe.load_caffemodel(path, **basis)


def test_a_truncated_file_is_named_as_such(path, basis):
    whole = path.read_bytes()
    starts = [i for i in range(len(whole)) if whole.startswith(b"\xa2\x06", i)]  # of the layers
    assert len(starts) == 13
    # At the start of the last layer, which has no weights, nothing is missing yet.
    for length in {*range(0, len(whole), 397), len(whole) - 1, *starts} - {starts[-1]}:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="truncated"):
            caffe.load_caffemodel(path, **basis)


def test_other_files_are_refused(basis, tmp_path):
    path = tmp_path / "x.caffemodel"
    with pytest.raises(FileNotFoundError, match=r"no file .*x\.caffemodel"):
        caffe.load_caffemodel(path, **basis)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    with pytest.raises(ValueError, match="is not a Caffe model but an HDF5 file"):
        caffe.load_caffemodel(path, **basis)
    path.write_bytes(b'name: "GLR"\nlayer { name: "conv0" }')
    with pytest.raises(ValueError, match=r"not a Caffe model \(it begins with b'name: \"GLR\""):
        caffe.load_caffemodel(path, **basis)
    (tmp_path / "folder.caffemodel").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.caffemodel is a folder"):
        caffe.load_caffemodel(tmp_path / "folder.caffemodel", **basis)
    blob = field(7, field(1, varint(5))) + field(5, np.ones(4, "<f4").tobytes())
    path.write_bytes(field(100, field(1, "conv0") + field(7, blob)))
    with pytest.raises(ValueError, match=r"conv0 has 4 values.*\(5,\)"):
        caffe.load_caffemodel(path, **basis)


def test_protobuf_is_an_extra(path, basis, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(ImportError, match=r"glra-jax\[caffe\]"):
        caffe.load_caffemodel(path, **basis)


def test_basis_archives(basis, tmp_path):
    path = tmp_path / "basis.npz"
    np.savez(path, **basis, training_loss=np.zeros(3))
    read = caffe.read_basis(path)
    np.testing.assert_array_equal(read.left, np.float32(basis["left"]))
    np.testing.assert_array_equal(read.right, np.float32(basis["right"]))
    assert read.left.dtype == jnp.float32

    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="may be truncated"):
        caffe.read_basis(path)
    np.savez(path, left=basis["left"])
    with pytest.raises(ValueError, match=r"left and right.*\{'left': \(17, 3\)\}"):
        caffe.read_basis(path)
    np.savez(path, left=basis["left"], right=basis["right"][:5])
    with pytest.raises(ValueError, match=r"both \(d, m\)"):
        caffe.read_basis(path)
    np.savez(path, left=np.array([print]), right=np.array([print]))  # a pickle
    with pytest.raises(ValueError, match="plain arrays"):
        caffe.read_basis(path)
    with pytest.raises(FileNotFoundError):
        caffe.read_basis(tmp_path / "absent.npz")
    for left, fault in (
        (basis["left"] + 0j, "left is complex128"),
        (basis["left"] > 0, "left is bool"),
        (np.full((17, 3), "2020-01-01", "M8[D]"), r"left is datetime64\[D\]"),
        (np.full((17, 3), "a"), "left is <U1"),
        (basis["left"] * np.nan, r"basis\.left holds NaN"),
        (basis["left"] * 2, r"basis\.left has columns that are not orthonormal"),
    ):
        np.savez(path, left=left, right=basis["right"])
        with pytest.raises(ValueError, match=rf"basis\.npz holds no basis: {fault}"):
            caffe.read_basis(path)


def test_other_files_than_basis_archives(basis, tmp_path):
    path = tmp_path / "basis.npz"
    with path.open("wb") as file:
        np.save(file, basis["left"])
    with pytest.raises(ValueError, match=r"basis\.npz is not a .* but a single NumPy array"):
        caffe.read_basis(path)
    path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(200))
    with pytest.raises(ValueError, match=r"but a MATLAB file: see docs/pytorch\.md"):
        caffe.read_basis(path)
    np.savez(path, **basis)
    content = bytearray(path.read_bytes())
    for header, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(header) + offset] = 99  # a compression that nobody has
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"basis\.npz is not a whole .*compression method"):
        caffe.read_basis(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="it may be truncated"):
        caffe.read_basis(path)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        caffe.read_basis(tmp_path)


@pytest.mark.skipif(RELEASE_ARRAYS not in os.environ, reason=f"{RELEASE_ARRAYS} is not set")
def test_the_authors_sizes_with_their_basis(tmp_path):
    layers = random_layers(151, 50, 128)
    path = tmp_path / "full.caffemodel"
    path.write_bytes(net_bytes(layers))
    basis = caffe.read_basis(os.environ[RELEASE_ARRAYS])
    model = caffe.load_caffemodel(path, left=basis.left, right=basis.right)
    assert model.architecture == gx.Glra()
    kernel = model.params["refine_1"]["kernel"]
    np.testing.assert_array_equal(kernel, layers["conv3"][0].transpose(2, 3, 1, 0))
    assert (
        sum(w.size for w in jax.tree.leaves(model.params)) == 1_848_113
    )  # the core's 2,500 come with the kernel
