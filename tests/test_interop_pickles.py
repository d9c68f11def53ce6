"""Files that PyTorch pickled: those that want to run code, are damaged, or hold other things."""

import argparse
import collections
import os
import pickle
import re
import zipfile

import numpy as np
import pytest
from interop_helpers import (
    assert_same_bits,
    random_basis,
    random_model,
    torch_network,
)

from glra_jax import interop


@pytest.fixture(scope="module")
def model():
    return random_model(random_basis(9, 4))


@pytest.fixture(scope="module")
def state(model):
    return interop.model_to_state_dict(model)


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
    newer = "a pickle that torch.save did not write"  # PyTorch reads no further than its protocol
    refused = newer if written == "pickle 5" else r"wants to call \w+\.mkdir .*was refused"
    with pytest.raises(ValueError, match=refused) as caught:
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
    quoted = re.escape(name.removeprefix("__builtin__."))  # as PyTorch calls it
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
        with pytest.raises(ValueError, match="truncated"):
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
    with pytest.raises(ValueError, match=r"is pickled with protocol 4.* not open safely"):
        interop.load_torch_model(path)


@pytest.mark.parametrize("version", ["2.5.1", "2.9.1+cpu", "2.10.0rc1"])
def test_a_pytorch_whose_safe_loading_is_not_safe_is_refused(model, tmp_path, monkeypatch, version):
    torch = pytest.importorskip("torch")
    path = tmp_path / "weights.pt"
    interop.save_torch_model(model, path)
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion(version))
    with pytest.raises(ImportError, match=r"CVE-2025-32434.*pip install 'torch>=2\.10'"):
        interop.load_torch_model(path)
    interop.save_torch_model(model, tmp_path / "written.pt")  # writing runs nothing
    for safe in ("2.10.0", "2.13.0+cpu", "3.0"):
        monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion(safe))
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
        with pytest.raises(ValueError, match=rf"damaged.*{quoted}"):
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
    assert_same_bits((returned.constants, returned.params), (model.constants, model.params))
    with pytest.raises(ValueError, match=r"wants to call argparse\.Namespace"):
        interop.load_torch_model(path)


def test_a_whole_module_is_refused(state, tmp_path):
    torch, network = torch_network(state)
    torch.save(network, tmp_path / "module.pt")
    with pytest.raises(ValueError, match=r"reference\.DeconvNet .*module\.state_dict\(\)"):
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
        with pytest.raises(ValueError, match=r"weights\.pt.*truncated"):
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


# --- files that ask for more memory than they hold ------------------------------------------------


@pytest.mark.parametrize(
    ("pickled", "why"),
    [
        (b"\x80\x02r\xff\xff\xff\x3f.", r"numbers a memo to 1073741823 in \d+ bytes"),
        (b"\x80\x02}p99999999\n.", r"numbers a memo to 99999999"),
        (b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x01\x85R.", "bytearray"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_that_asks_for_gigabytes_is_not_opened(tmp_path, pickled, why, zipped):
    path = tmp_path / "weights.pt"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr("archive/version", "3")
    else:
        path.write_bytes(pickled)
    with pytest.raises(ValueError, match=rf"weights\.pt is not opened: its pickle .*{why}"):
        interop.load_torch_model(path)


def test_an_archive_that_unpacks_to_far_more_is_not_opened(tmp_path):
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(50 * 2**20))
    with pytest.raises(ValueError, match=r"weights\.pt is not opened: it unpacks to 5\d{7} bytes"):
        interop.load_torch_model(path)
