"""Model files: what is written is read back bit for bit, and anything else is refused."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import glra_jax as gx
from glra_jax.atomic_files import write_atomically


def metadata_of(path):
    with safetensors.safe_open(path, framework="numpy") as file:
        return file.metadata()


@pytest.fixture
def path(small_model, tmp_path):
    """A file that holds the small model."""
    path = tmp_path / "model.safetensors"
    gx.save_model(small_model, path)
    return path


def rewrite(path, change):
    """Rewrites a model file after `change(arrays, metadata)`."""
    arrays, metadata = safetensors.numpy.load_file(path), metadata_of(path)
    change(arrays, metadata)
    safetensors.numpy.save_file(arrays, path, metadata=metadata)


# --- the pytree ----------------------------------------------------------------------------------


def test_an_initial_model_holds_its_basis_and_sizes(small_model, small_basis):
    assert small_model.architecture == gx.Glra(31, 6, 16, gx.Inverse(0.01, 0.0))
    assert small_model.architecture.module() == gx.DeconvNet(31, 6, 16)
    assert small_model.architecture.module(method="direct").method == "direct"
    np.testing.assert_array_equal(small_model.constants.left, small_basis.left)
    np.testing.assert_array_equal(
        small_model.params["vertical"]["kernel"][::-1, 0, 0], small_basis.left
    )


def test_what_is_no_start_of_a_model_is_refused(small_basis):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"constants are .*"):
        gx.initial_model(key, gx.Glra(31, 6, 16), tuple(small_basis))
    with pytest.raises(ValueError, match="shapes"):
        gx.initial_model(key, gx.Glra(31, 5, 16), small_basis)
    with pytest.raises(TypeError, match="such as Glra"):
        gx.initial_model(key, gx.Glra, small_basis)
    for strength in (jnp.float32(0.01), None, [0.01]):
        with pytest.raises(TypeError, match="regularization"):
            gx.Glra(31, 6, 16, gx.Inverse(strength))


def test_the_default_configuration_is_the_faithful_network():
    architecture = gx.Glra()
    assert (architecture.support, architecture.rank, architecture.features) == (151, 50, 128)
    assert architecture.inverse == gx.Inverse(0.01, 0.0, "projection")
    assert gx.DeconvNet() == architecture.module()


def test_a_model_is_a_pytree_with_a_static_configuration(small_model):
    leaves, tree = jax.tree.flatten(small_model)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert len(leaves) == 2 + 11  # the basis; five kernels and six biases
    again = jax.tree.unflatten(tree, leaves)
    assert again.architecture == small_model.architecture
    doubled = jax.jit(lambda model: jax.tree.map(lambda leaf: 2 * leaf, model))(small_model)
    assert isinstance(doubled, gx.Model)
    assert doubled.architecture == small_model.architecture
    np.testing.assert_array_equal(doubled.constants.right, 2 * small_model.constants.right)


# --- round trip ----------------------------------------------------------------------------------


def test_a_model_comes_back_bit_for_bit(small_model, path):
    loaded = gx.load_model(path)
    assert isinstance(loaded, gx.Model)
    assert loaded.architecture == small_model.architecture
    assert jax.tree.structure(loaded) == jax.tree.structure(small_model)
    jax.tree.map(np.testing.assert_array_equal, loaded, small_model)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {jnp.dtype(jnp.float32)}
    assert gx.load_model(str(path)).architecture == small_model.architecture


def test_a_configuration_comes_back(small_model, tmp_path):
    inverse = gx.Inverse(0.037, noise_weight=55.5, core="least-squares")
    architecture = gx.Glra(31, 6, 16, inverse)
    gx.save_model(replace(small_model, architecture=architecture), tmp_path / "m")
    assert gx.load_model(tmp_path / "m").architecture == architecture
    metadata = metadata_of(tmp_path / "m")
    assert (metadata["format"], metadata["architecture"]) == ("glra_jax-model-3", "glra")
    written = json.loads(metadata["config"])["inverse"]
    assert (written["regularization"], written["noise_weight"]) == (0.037, 55.5)
    assert written["core"] == "least-squares"


def former(path, file_format, **config):
    """Rewrites a model file as an earlier version wrote it, with these settings."""

    def change(arrays, metadata):
        for side in ("left", "right"):
            arrays[f"basis.{side}"] = arrays.pop(f"constants.{side}")
        sizes = {"support": 31, "rank": 6, "features": 16}
        metadata.clear()
        metadata |= {"config": json.dumps(sizes | config), "format": file_format}

    rewrite(path, change)


def test_files_of_the_former_formats_are_read(small_model, path):
    former(path, "glra_jax-model-1", regularization=0.02)
    loaded = gx.load_model(path)
    assert loaded.architecture == gx.Glra(31, 6, 16, gx.Inverse(0.02, 0.0))
    jax.tree.map(np.testing.assert_array_equal, loaded.params, small_model.params)
    jax.tree.map(np.testing.assert_array_equal, loaded.constants, small_model.constants)


def test_the_second_format_has_a_noise_weight_and_a_kind_of_core(path):
    former(path, "glra_jax-model-2", noise_weight=20.0, core="least-squares")
    inverse = gx.Inverse(0.01, 20.0, "least-squares")
    assert gx.load_model(path).architecture == gx.Glra(31, 6, 16, inverse)


def test_a_file_of_the_first_format_with_a_noise_weight_is_refused(path):
    former(path, "glra_jax-model-1", noise_weight=100.0)
    with pytest.raises(ValueError, match=r"noise weight of 100\.0 .*first format.*train"):
        gx.load_model(path)


def test_an_unknown_architecture_or_field_is_refused(path):
    rewrite(path, lambda _, metadata: metadata.update(architecture="transformer"))
    with pytest.raises(ValueError, match=r"glra, refinement, unrolled, got 'transformer'"):
        gx.load_model(path)

    def grow(_, metadata):
        metadata |= {"architecture": "glra", "config": json.dumps({"heads": 8})}

    rewrite(path, grow)
    with pytest.raises(ValueError, match="no field 'heads'"):
        gx.load_model(path)


def change_inverse(path, **values):
    def change(_, metadata):
        config = json.loads(metadata["config"])
        config["inverse"] |= values
        metadata["config"] = json.dumps(config)

    rewrite(path, change)


def test_an_unknown_kind_of_core_is_refused(path):
    change_inverse(path, core="wiener")
    with pytest.raises(ValueError, match=r"model\.safetensors .*core.*'wiener'"):
        gx.load_model(path)


@pytest.mark.parametrize(("bad", "quoted"), [(-1.0, "at least 0, got -1.0"), ("1", "got '1'")])
def test_an_impossible_noise_weight_in_a_file_is_refused(path, bad, quoted):
    change_inverse(path, noise_weight=bad)
    with pytest.raises(ValueError, match=rf"model\.safetensors .*noise_weight must be .*{quoted}"):
        gx.load_model(path)


def test_a_model_file_is_plain_safetensors(small_model, path):
    arrays = safetensors.numpy.load_file(path)
    layers = ("vertical", "horizontal", "refine_1", "refine_2", "refine_3")
    names = {f"params.{layer}.{part}" for layer in layers for part in ("kernel", "bias")}
    assert set(arrays) == names | {"params.core.bias", "constants.left", "constants.right"}
    np.testing.assert_array_equal(arrays["constants.left"], small_model.constants.left)
    np.testing.assert_array_equal(
        arrays["params.refine_1.kernel"], small_model.params["refine_1"]["kernel"]
    )
    assert json.loads(metadata_of(path)["config"])["rank"] == 6


def test_the_same_model_gives_the_same_file(small_model, path):
    again = path.with_name("again.safetensors")
    for _ in range(5):
        gx.save_model(small_model, again, overwrite=True)
        assert again.read_bytes() == path.read_bytes()
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert list(header) == sorted(header)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_could_not_be_read_back_is_not_written(small_model, tmp_path, value):
    bias = small_model.params["core"]["bias"].at[0].set(value)
    params = {**small_model.params, "core": {"bias": bias}}
    with pytest.raises(ValueError, match=r"m\.safetensors is not written: params\.core\.bias"):
        gx.save_model(replace(small_model, params=params), tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_half_precision_halves_the_file_and_rounds_the_weights(small_model, tmp_path):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    gx.save_model(small_model, whole)
    gx.save_model(small_model, half, half_precision=True)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    loaded = gx.load_model(half)
    jax.tree.map(np.testing.assert_array_equal, loaded.constants, small_model.constants)
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), small_model.params)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, rounded)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(loaded))


def test_weights_too_large_for_half_precision_are_refused(small_model, tmp_path):
    params = {**small_model.params, "core": {"bias": jnp.full(6, 1e5)}}
    model = replace(small_model, params=params)
    with (
        pytest.warns(RuntimeWarning, match="overflow"),
        pytest.raises(ValueError, match=r"is not written: params\.core\.bias"),
    ):
        gx.save_model(model, tmp_path / "m.safetensors", half_precision=True)


def test_the_models_of_the_package_can_be_loaded():
    for name in gx.available_models():
        model = gx.load_model(name)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(model))


def test_a_folder_of_its_name_does_not_hide_a_model_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glra").mkdir()
    (tmp_path / "glra-release").write_bytes(b"another file")
    for name in ("glra", "glra-release"):
        assert gx.load_model(name).architecture.rank in (50, 100)
    for path in ("./glra-release", Path("glra-release")):
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            gx.load_model(path)
    with pytest.raises(IsADirectoryError, match="glra is a folder; give the file in it"):
        gx.load_model(Path("glra"))


# --- writing -------------------------------------------------------------------------------------


def test_nothing_is_overwritten_unasked(small_model, path):
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"model\.safetensors exists.*overwriting"):
        gx.save_model(small_model, path)
    assert path.read_bytes() == before
    changed = jax.tree.map(lambda leaf: leaf + 1.0, small_model)
    gx.save_model(changed, path, overwrite=True)
    np.testing.assert_array_equal(gx.load_model(path).constants.left, changed.constants.left)
    assert os.listdir(path.parent) == ["model.safetensors"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_all_as_it_was(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"new", overwrite=True)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


# --- reading what is not a model -----------------------------------------------------------------


def test_a_name_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model file 'nowhere'.*package"):
        gx.load_model("nowhere")
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        gx.load_model(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9999])
def test_a_truncated_file(path, kept):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"model\.safetensors.*truncated"):
        gx.load_model(path)


@pytest.mark.parametrize("content", [b"not a model", b"PK\x03\x04" + bytes(100), bytes(64)])
def test_a_file_of_another_kind(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match="file is not a whole safetensors file"):
        gx.load_model(tmp_path / "file")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_somebody_else(tmp_path, metadata):
    path = tmp_path / "theirs.safetensors"
    safetensors.numpy.save_file({"w": np.ones(3, np.float32)}, path, metadata=metadata)
    quoted = repr(metadata and metadata["format"])
    with pytest.raises(ValueError, match=rf"theirs\.safetensors.*not a glra_jax.*{quoted}"):
        gx.load_model(path)


@pytest.mark.parametrize("config", ["{", "[31, 6]", '"paper"', "null"])
def test_an_unreadable_configuration(path, config):
    rewrite(path, lambda _, metadata: metadata.update(config=config))
    with pytest.raises(ValueError, match=r"model\.safetensors.*configuration"):
        gx.load_model(path)


def test_a_missing_configuration(path):
    rewrite(path, lambda _, metadata: metadata.pop("config"))
    with pytest.raises(ValueError, match=r"model\.safetensors.*configuration"):
        gx.load_model(path)


def test_all_wrong_arrays_are_listed(path):
    def spoil(arrays, _):
        del arrays["params.core.bias"]
        arrays["params.extra.kernel"] = np.ones(3, np.float32)
        arrays["constants.left"] = np.ones((31, 7), np.float32)
        arrays["params.refine_2.bias"] = np.ones(16, np.int16)
        arrays["params.refine_3.bias"] = np.full(1, np.nan, np.float32)

    rewrite(path, spoil)
    with pytest.raises(ValueError, match="does not hold the model") as caught:
        gx.load_model(path)
    message = str(caught.value)
    for fault in (
        "missing params.core.bias (6,)",
        "unknown params.extra.kernel",
        "constants.left is float32(31, 7), expected float32(31, 6)",
        "params.refine_2.bias is int16(16,), expected float32(16,)",
        "params.refine_3.bias holds NaN",
    ):
        assert fault in message
    assert "constants.right" not in message


def test_a_configuration_that_the_arrays_do_not_fit(path):
    def grow(_, metadata):
        metadata["config"] = json.dumps({**json.loads(metadata["config"]), "features": 32})

    rewrite(path, grow)
    with pytest.raises(ValueError, match=r"params\.refine_1\.bias.*\(16,\).*\(32,\)"):
        gx.load_model(path)


def test_places_that_cannot_be_written_to_are_named(small_model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nope; make it before model.st"):
        gx.save_model(small_model, tmp_path / "nope" / "model.st")
    with pytest.raises(IsADirectoryError, match="is a folder; choose the name of a file"):
        gx.save_model(small_model, tmp_path, overwrite=True)


# --- damage --------------------------------------------------------------------------------------


def test_a_flipped_bit_of_a_weight_is_seen(path):
    """Wherever it lies: every value is still finite."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for place in np.linspace(start, len(data) - 4, 9).astype(int):
        place -= (place - start) % 4  # the lowest byte of a mantissa
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"model\.safetensors is damaged: .*copy it again"):
            gx.load_model(path)
    path.write_bytes(data)
    gx.load_model(path)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F4"])
def test_dtypes_that_numpy_lacks_are_named(path, dtype):
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    name, entry = next((n, e) for n, e in header.items() if n.startswith("params."))
    size = entry["data_offsets"][1] - entry["data_offsets"][0]
    entry.update(dtype=dtype, shape=[size * (2 if dtype == "F4" else 1)])
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    with pytest.raises(ValueError, match=rf"{re.escape(name)} is {dtype}|not a whole safetensors"):
        gx.load_model(path)


@pytest.mark.parametrize("value", ["[" * 100_000 + "]" * 100_000, '{"rank": 1' + "0" * 400 + "}"])
def test_configurations_that_no_python_reads(path, value):
    rewrite(path, lambda _, metadata: metadata.update(config=value))
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        gx.load_model(path)


def test_a_pipe_is_no_model(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(ValueError, match=r"pipe\.safetensors is a pipe"):
        gx.load_model(tmp_path / "pipe.safetensors")
