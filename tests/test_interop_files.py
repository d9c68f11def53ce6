"""Files of PyTorch weights: safetensors, files of another kind, and what is needed to read them."""

import gzip
import io
import pickle
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from interop_helpers import assert_same_bits, faults_of, random_basis, random_model

import glra_jax as gx
from glra_jax import interop


@pytest.fixture(scope="module")
def model():
    return random_model(random_basis(9, 4))


@pytest.fixture(scope="module")
def state(model):
    return interop.model_to_state_dict(model)


def test_safetensors_files(model, state, tmp_path):
    path = tmp_path / "weights.safetensors"
    interop.save_torch_model(model, path)
    loaded = safetensors.numpy.load_file(path)
    assert all(loaded[name].tobytes() == state[name].tobytes() for name in state)
    returned = interop.load_torch_model(path)
    assert_same_bits((returned.constants, returned.params), (model.constants, model.params))
    with pytest.raises(FileExistsError, match="choose another name"):
        interop.save_torch_model(model, path)
    interop.save_torch_model(random_model(model.constants, seed=3), path, overwrite=True)
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
            interop.save_torch_model(replace(model, params=params), path)
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
    "web page": (b"\n<!DOCTYPE html><html>404</html>", "web page"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "a Git LFS pointer"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
    "gzip": (gzip.compress(b"PK\x03\x04 and so on"), "gzip"),
    "tar": (content_of(save_tar), "tar"),
    "npz": (content_of(np.savez, left=np.eye(2)), "NumPy archive"),
    "npy": (content_of(np.save, np.eye(2)), "a single NumPy array"),
    "zip": (content_of(save_zip), "a zip archive"),
    "MATLAB": (b"MATLAB 5.0 MAT-file" + bytes(120), "a MATLAB file"),
    "pickle": (pickle.dumps({"a": 1}), "pickle"),
    "text": (b'name: "GLR"', 'name: "GLR"'),
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
        with pytest.raises(ValueError, match=rf"wrong\{wrong}.*suffix \{right}"):
            interop.load_torch_model(renamed)


def test_what_the_system_refuses_is_not_called_truncated(model, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    for suffix in (".pt", ".safetensors"):
        (tmp_path / f"folder{suffix}").mkdir()
        with pytest.raises(IsADirectoryError, match=rf"folder\{suffix} is a folder"):
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
    with pytest.raises(ValueError, match=r"own\.safetensors.*load_model"):
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
    assert interop.load_torch_model(tmp_path / "weights.safetensors").architecture.support == 9
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
