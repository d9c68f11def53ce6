"""Malformed files for all readers, and what keeps other libraries quiet about them."""

import itertools
import json
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from experiments.baselines.patch_prior import load_patch_prior
from experiments.curves import read_reference, read_run
from experiments.evaluation.progress import Progress
from experiments.evaluation.synthetic import read_kernels
from experiments.reliability import reading
from experiments.reliability.cases import Cases
from experiments.reliability.crafted import ARCHIVES, KERNELS, MODELS, PHOTOS, RAN, TABLES
from experiments.reliability.fuzz import _judge
from experiments.reliability.model_seeds import complete_model, former_state_dict
from experiments.reliability.photo_seeds import by_pillow, kernel_npy
from experiments.reliability.readers import available
from experiments.train import check_unused, read_metrics
from glra_jax.atomic_files import write_atomically
from glra_jax.cli import main
from glra_jax.interop.caffe import read_basis
from glra_jax.model_files import load_model
from glra_jax.numpy_files import read_archive, read_array
from glra_jax.photo_files import read_photo
from glra_jax.quiet_libraries import without_stderr
from glra_jax.training.presets import PRESETS


@pytest.fixture(scope="module")
def cases():
    return Cases(available(), seed=1)


def test_malformed_files_of_every_kind_are_one_line_that_names_them(cases, tmp_path, monkeypatch):
    """A part of `python -m experiments.reliability fuzz`, without processes of their own."""
    monkeypatch.chdir(tmp_path)
    faults, ends = [], []
    for case in itertools.islice(cases, 2 * len(available())):
        path = case.make(tmp_path / f"case{case.number}")
        found = reading._read(case.reader.read, path)
        outcome, why = _judge(path, found)
        ends.append(outcome)
        faults += [f"{case.number}, {case.reader.name}, {case.damage}: {fault}" for fault in why]
    assert not faults
    assert ends.count("refused") > len(ends) / 2
    assert not list(tmp_path.rglob(RAN))


def test_cases_are_the_same_for_the_same_seed(cases):
    again = Cases(available(), seed=1)
    for number in range(2 * len(available())):
        one, other = cases.case(number), again.case(number)
        if one.reader.write is former_state_dict:  # PyTorch wrote addresses of memory into it
            continue
        assert (one.damage, one.place.args) == (other.damage, other.place.args)


# --- what the fuzzer found -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n, data in ARCHIVES.items() if isinstance(data, bytes)])
@pytest.mark.parametrize("read", [
    read_archive, read_basis, read_kernels, load_patch_prior, lambda p: read_reference(p, points=3)
])  # fmt: skip
def test_archives_that_are_none(tmp_path, read, name):
    path = tmp_path / "archive.npz"
    path.write_bytes(ARCHIVES[name])
    if read is read_archive and name == "empty.npz":
        assert read(path) == {}
        return
    with pytest.raises(ValueError, match=r"archive\.npz"):
        read(path)


def test_an_archive_that_unpacks_to_far_more_than_it_has(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, left=np.zeros(10_000_000))
    with pytest.raises(ValueError, match=r"bomb\.npz .* unpacks to 8000\d{4} bytes"):
        read_archive(path)
    np.savez_compressed(path, left=np.zeros((500, 1000)), right=np.array(["text"], object))
    assert read_archive(path, ("left",))["left"].shape == (500, 1000)
    with pytest.raises(ValueError, match=r"bomb\.npz .*objects"):
        read_archive(path)


@pytest.mark.parametrize("arrays", [
    {"weights": np.ones(2), "triangles": np.ones(3)},
    {"weights": np.ones(2), "triangles": np.ones((2, 4))},
    {"weights": np.ones(2), "triangles": np.full((2, 3), np.nan)},
    {"weights": np.ones(2, complex), "triangles": np.ones((2, 3))},
])  # fmt: skip
def test_arrays_that_are_no_patch_prior(tmp_path, arrays):
    np.savez(tmp_path / "prior.npz", **arrays)
    with pytest.raises(ValueError, match=r"prior\.npz holds .*learn_patch_prior"):
        load_patch_prior(tmp_path / "prior.npz")


def test_headers_of_arrays_that_cannot_be_parsed(tmp_path):
    path = tmp_path / "kernel.npy"
    header = b"{'descr': (" + b" " * 52 + b"\n"
    for data in (
        b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header,  # a TokenError of Python's
        KERNELS["deep.npy"], KERNELS["call.npy"], KERNELS["negative.npy"], KERNELS["overflow.npy"],
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"kernel\.npy is not a whole"):
            read_array(path)


@pytest.mark.parametrize("name", MODELS)
def test_configurations_of_models_that_are_none(tmp_path, name):
    data = MODELS[name]
    assert isinstance(data, bytes)
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors ") as caught:
        load_model(tmp_path / "model.safetensors")
    assert len(str(caught.value)) < 1000


def test_pipes_are_not_waited_for(tmp_path):
    folder = tmp_path / "unfinished"
    folder.mkdir()
    for path in (folder / "records.jsonl", tmp_path / "config.json", tmp_path / "losses.npz"):
        os.mkfifo(path)
    for read in (
        lambda: Progress(tmp_path, {}),
        lambda: check_unused(tmp_path, PRESETS["smoke"]),
        lambda: read_reference(tmp_path / "losses.npz", points=3),
        lambda: load_patch_prior(tmp_path / "losses.npz"),
    ):
        with pytest.raises(ValueError, match="is a pipe"):
            read()


def test_metrics_cut_within_their_last_number(tmp_path):
    text = "step,loss,psnr,learning_rate,seconds\n1,2,3,4,5\n2,3,4,5,67"
    for end in range(len(text)):
        (tmp_path / "metrics.csv").write_text(text[:end])
        assert len(read_metrics(tmp_path / "metrics.csv")) == text[:end].count("\n") - (end > 36)


def test_a_number_in_the_header_of_a_picture(tmp_path):
    (tmp_path / "photo.pgm").write_bytes(b"P5\n24\x02 32\n65535\n" + bytes(2000))
    with pytest.raises(ValueError, match=r"photo\.pgm cannot be read"):
        read_photo(tmp_path / "photo.pgm")


def test_c_libraries_write_nothing_about_a_damaged_tiff(tmp_path, capfd):
    import tifffile

    path, pixels = tmp_path / "photo.tif", np.ones((32, 32, 3), np.float32)
    tifffile.imwrite(path, pixels, compression="zlib", photometric="rgb")
    data = bytearray(path.read_bytes())
    start = data.index(b"\x78")  # of what is packed
    data[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"photo\.tif cannot be read"):
        read_photo(path)
    assert capfd.readouterr().err == ""


def test_a_fits_header_that_announces_more_than_there_is(tmp_path):
    data = PHOTOS["huge.fits"]
    assert isinstance(data, bytes)
    (tmp_path / "huge.fits").write_bytes(data)
    with pytest.raises(ValueError, match=r"huge\.fits .*10000000000 bytes are announced"):
        read_photo(tmp_path / "huge.fits")


@pytest.mark.parametrize("methods", [[{}], [3], 3, None, [{"label": ["a"]}]])
def test_methods_of_an_unfinished_evaluation_that_are_none(tmp_path, methods):
    (tmp_path / "unfinished").mkdir()
    line = json.dumps({"config": {"methods": methods}})
    (tmp_path / "unfinished" / "records.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"records\.jsonl is damaged"):
        Progress(tmp_path, {"methods": [{"label": "blurred", "kind": "blurred"}]})


@pytest.mark.parametrize("name", ["below one", "backwards", "infinite"])
def test_a_curve_whose_steps_do_not_rise(tmp_path, name):
    data = TABLES[name]
    assert isinstance(data, bytes)
    (tmp_path / "metrics.csv").write_bytes(data)
    with pytest.raises(ValueError, match=r"metrics\.csv is not a whole metrics\.csv"):
        read_run(tmp_path, points=3)


def test_a_fits_file_that_unpacks_to_far_more_than_it_has(tmp_path, monkeypatch):
    import gzip

    from glra_jax import fits_files

    monkeypatch.setattr(fits_files, "_FREE", 1000)
    path = tmp_path / "bomb.fits.gz"
    path.write_bytes(gzip.compress(b"SIMPLE  =                    T".ljust(400_000)))
    with pytest.raises(ValueError, match=r"bomb\.fits\.gz .*unpacks to more than \d+ bytes"):
        read_photo(path)


def test_the_error_stream_comes_back_after_the_last_thread(capfd):
    inside, outside = threading.Event(), threading.Event()

    def hold():
        with without_stderr():
            inside.set()
            outside.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    with without_stderr():
        os.write(2, b"nobody hears")
    os.write(2, b"nor this")
    outside.set()
    thread.join()
    os.write(2, b"but this")
    assert capfd.readouterr().err == "but this"


# --- faults seen before that had no test of their own ---------------------------------------------


def test_a_restoration_that_is_not_finite_is_not_written(tmp_path, capsys):
    model = complete_model()
    huge = {name: jax.tree.map(lambda x: x + 3e38, layer) for name, layer in model.params.items()}
    gx.save_model(gx.Model(model.architecture, model.constants, huge), tmp_path / "m.safetensors")
    by_pillow(tmp_path / "photo.png")
    kernel_npy(tmp_path / "kernel.npy")
    command = ["deblur", str(tmp_path / "photo.png"), str(tmp_path / "kernel.npy"), "--noise", "0"]
    with pytest.raises(SystemExit, match=r"photo\.png is restored to NaN or infinite values"):
        main([*command, "-o", str(tmp_path / "o.png"), "--model", str(tmp_path / "m.safetensors")])
    assert not (tmp_path / "o.png").exists()


def test_a_configuration_is_whole_or_not_there(tmp_path, monkeypatch):
    """As if the run were killed just before the file gets its name."""
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "config.json", b"{}", overwrite=True)
    assert list(tmp_path.iterdir()) == []
    check_unused(tmp_path, PRESETS["smoke"])  # the same command is not refused


def test_the_gradient_of_psnr_where_images_are_equal():
    image = jnp.full((12, 12), 0.5)
    assert np.isfinite(jax.grad(gx.psnr)(image, image)).all()
