"""BSDS500 in each way it can be had, with small stand-ins for the archive and its folders."""

import functools
import hashlib
import http.server
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glra_jax.datasets import bsds500_archive, load_training_photographs
from glra_jax.datasets.bsds500 import bsds500_photographs, load_bsds500

tfds = pytest.importorskip("tensorflow_datasets")

SIZES = {"train": 3, "test": 2, "val": 2}


def jpeg(seed: int) -> bytes:
    shape = (16, 24, 3) if seed % 2 else (24, 16, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


# Names whose order as text is not that as numbers, nor that of the archive.
JPEGS = {
    "train": {"8049": jpeg(1), "100075": jpeg(2), "22090": jpeg(3)},
    "test": {"10081": jpeg(4), "2018": jpeg(5)},
    "val": {"101085": jpeg(6), "3096": jpeg(7)},
}


def expected(*splits: str) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(Image.open(io.BytesIO(JPEGS[split][name])))
        for split in splits
        for name in sorted(JPEGS[split])
    }


def assert_same(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert list(got) == list(want)
    for name in want:
        assert got[name].dtype == np.uint8
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)


def unpack(images: Path, splits: tuple[str, ...] = ("train", "test", "val")) -> Path:
    """Lays out an `images` folder."""
    for split in splits:
        (images / split).mkdir(parents=True)
        (images / split / "Thumbs.db").write_bytes(b"thumbnails")
        (images / split / "._8049.jpg").write_bytes(b"resource fork")
        for name, data in JPEGS[split].items():
            (images / split / f"{name}.jpg").write_bytes(data)
    return images


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def archive_bytes() -> bytes:
    members = {
        "BSR/BSDS500/data/groundTruth/train/8049.mat": b"segmentation",
        "BSR/bench/data/images/2018.jpg": b"not of the dataset",
        "BSR/BSDS500/data/images/train/Thumbs.db": b"thumbnails",
        "BSR/BSDS500/data/images/train/._8049.jpg": b"resource fork",
    }
    for split in JPEGS:
        for name, data in JPEGS[split].items():
            members[f"BSR/BSDS500/data/images/{split}/{name}.jpg"] = data
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def small_dataset(monkeypatch: pytest.MonkeyPatch, archive_bytes: bytes) -> None:
    """Lets the stand-ins pass for BSDS500, and keeps every test off the network."""
    from glra_jax.datasets import bsds500_builder

    size, digest = len(archive_bytes), hashlib.sha256(archive_bytes).hexdigest()
    url = "http://127.0.0.1:9/BSR_bsds500.tgz"  # nobody listens there
    monkeypatch.setattr(bsds500_archive, "SPLIT_SIZES", SIZES)
    monkeypatch.setattr(bsds500_archive, "ARCHIVE_URL", url)
    monkeypatch.setattr(bsds500_archive, "ARCHIVE_SIZE", size)
    monkeypatch.setattr(bsds500_archive, "ARCHIVE_SHA256", digest)
    infos = {url: bsds500_builder.checksums.UrlInfo(size, digest, "BSR_bsds500.tgz")}
    monkeypatch.setattr(bsds500_builder.Bsds500, "url_infos", infos)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(autouse=True)
def no_litter(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """TFDS makes a temporary folder for each builder and leaves it; let pytest clear it away."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tfds")))


@pytest.fixture
def manual_dir(tmp_path: Path, archive_bytes: bytes) -> Path:
    folder = tmp_path / "manual"
    folder.mkdir()
    (folder / "BSR_bsds500.tgz").write_bytes(archive_bytes)
    return folder


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Serves a folder, from which the archive is then downloaded; yields the folder."""
    folder = tmp_path / "server"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{http_server.server_port}/BSR_bsds500.tgz"
        from glra_jax.datasets.bsds500_builder import Bsds500

        monkeypatch.setattr(Bsds500, "url_infos", {url: next(iter(Bsds500.url_infos.values()))})
        monkeypatch.setattr(bsds500_archive, "ARCHIVE_URL", url)
        yield folder
        http_server.shutdown()
        thread.join()


class TestFolder:
    @pytest.mark.parametrize(
        "images", ["BSR/BSDS500/data/images", "BSDS500/data/images", "images", "."]
    )
    @pytest.mark.parametrize("split", ["train", "test", "val"])
    def test_reads_the_tree_wherever_it_starts(self, tmp_path, images, split):
        unpack(tmp_path / images)
        assert_same(bsds500_photographs(split, folder=tmp_path), expected(split))

    def test_bsd100_is_val(self, tmp_path):
        unpack(tmp_path)
        assert_same(bsds500_photographs("bsd100", folder=tmp_path), expected("val"))

    def test_the_archive_may_lie_beside_the_tree(self, manual_dir):
        unpack(manual_dir / "BSR/BSDS500/data/images")
        assert_same(bsds500_photographs("test", folder=str(manual_dir)), expected("test"))

    @pytest.mark.parametrize("empty", [False, True])
    def test_a_missing_split_matters_only_when_asked_for(self, tmp_path, empty):
        unpack(tmp_path / "images", ("train", "test"))
        if empty:
            (tmp_path / "images/val").mkdir()
        assert_same(bsds500_photographs("train", folder=tmp_path), expected("train"))
        with pytest.raises(FileNotFoundError, match=r"has no images of split 'val'.*BSR_bsds500"):
            bsds500_photographs("val", folder=tmp_path)

    def test_counts_the_images(self, tmp_path):
        unpack(tmp_path)
        (tmp_path / "test/2018.jpg").unlink()
        with pytest.raises(ValueError, match="has 1 images of split 'test', and BSDS500 has 2"):
            bsds500_photographs("test", folder=tmp_path)

    def test_names_an_image_that_cannot_be_decoded(self, tmp_path):
        unpack(tmp_path)
        (tmp_path / "test/2018.jpg").write_bytes(JPEGS["test"]["2018"][:300])
        with pytest.raises(ValueError, match=r"image '2018' \(300 bytes\).*truncated"):
            bsds500_photographs("test", folder=tmp_path)

    def test_grey_files_come_as_rgb(self, tmp_path):
        unpack(tmp_path)
        path = tmp_path / "test/2018.jpg"
        Image.new("L", (24, 16), 77).save(path)
        got = bsds500_photographs("test", folder=tmp_path)["2018"]
        np.testing.assert_array_equal(got, np.full((16, 24, 3), 77, np.uint8))

    def test_will_not_guess_between_two_trees(self, tmp_path):
        unpack(tmp_path / "a/images")
        unpack(tmp_path / "b/images")
        with pytest.raises(ValueError, match="2 folders that may be BSDS500"):
            bsds500_photographs("train", folder=tmp_path)

    def test_bad_arguments(self, tmp_path):
        with pytest.raises(ValueError, match=r"split.*bsd100.*'train\[:5%\]'"):
            bsds500_photographs("train[:5%]", folder=tmp_path)
        with pytest.raises(FileNotFoundError, match="holds no unpacked BSDS500"):
            bsds500_photographs("train", folder=tmp_path)
        with pytest.raises(NotADirectoryError, match="nowhere is not a folder"):
            bsds500_photographs("train", folder=tmp_path / "nowhere")
        with pytest.raises(ValueError, match="without data_dir and manual_dir"):
            bsds500_photographs("train", folder=tmp_path, data_dir=tmp_path)

    def test_needs_no_tensorflow_datasets(self, tmp_path):
        unpack(tmp_path)
        program = f"""
import sys
sys.modules["tensorflow_datasets"] = None
import glra_jax.datasets
from glra_jax.datasets import bsds500, bsds500_archive
bsds500_archive.SPLIT_SIZES = {SIZES}
print(len(bsds500.bsds500_photographs("train", folder={str(tmp_path)!r})))
try:
    bsds500.bsds500_photographs("train", data_dir={str(tmp_path)!r})
except ImportError as error:
    print(error)
"""
        command = [sys.executable, "-W", "error", "-c", program]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        count, error = run.stdout.splitlines()
        assert count == "3"
        assert "pip install 'glra-jax[experiments]'" in error


class TestBuilder:
    def test_from_the_archive_in_manual_dir(self, tmp_path, manual_dir, capsys):
        data_dir = tmp_path / "data"
        for split in ("train", "test", "val"):
            got = bsds500_photographs(split, data_dir=data_dir, manual_dir=manual_dir)
            assert_same(got, expected(split))
        # Prepared once, it needs the archive no more, and is not written again.
        shutil.rmtree(manual_dir)
        before = {path: path.stat().st_mtime_ns for path in files_under(data_dir)}
        assert_same(bsds500_photographs("bsd100", data_dir=str(data_dir)), expected("val"))
        assert before == {path: path.stat().st_mtime_ns for path in files_under(data_dir)}
        assert os.listdir(data_dir) == ["bsds500"]
        assert capsys.readouterr().out == ""

    def test_finds_the_archive_where_tfds_keeps_such_files(self, tmp_path, manual_dir):
        data_dir = tmp_path / "data"
        shutil.copytree(manual_dir, data_dir / "downloads/manual")
        assert_same(bsds500_photographs("train", data_dir=data_dir), expected("train"))

    def test_from_a_whole_tree(self, tmp_path):
        tree = tmp_path / "tree"
        unpack(tree / "BSR/BSDS500/data/images")
        for split in ("train", "val"):
            got = bsds500_photographs(split, data_dir=tmp_path / "data", manual_dir=tree)
            assert_same(got, expected(split))

    def test_from_a_tree_without_val(self, tmp_path):
        tree = unpack(tmp_path / "tree/images", ("train", "test")).parent
        data_dir = tmp_path / "data"
        got = bsds500_photographs("test", data_dir=data_dir, manual_dir=tree)
        assert_same(got, expected("test"))
        with pytest.raises(FileNotFoundError, match="without images of split 'val'; choose"):
            bsds500_photographs("bsd100", data_dir=data_dir)

    def test_by_download(self, tmp_path, server, archive_bytes):
        (server / "BSR_bsds500.tgz").write_bytes(archive_bytes)
        data_dir = tmp_path / "data"
        assert_same(bsds500_photographs("train", data_dir=data_dir), expected("train"))
        assert os.listdir(data_dir) == ["bsds500"]

    def test_as_a_plain_tfds_builder(self, tmp_path, manual_dir):
        from glra_jax.datasets.bsds500_builder import Bsds500

        loaded = "tensorflow" in sys.modules
        builder = Bsds500(data_dir=tmp_path / "data")
        config = tfds.download.DownloadConfig(manual_dir=manual_dir)
        builder.download_and_prepare(file_format="array_record", download_config=config)
        counts = {name: split.num_examples for name, split in builder.info.splits.items()}
        assert counts == SIZES
        skip = {"image": tfds.decode.SkipDecoding()}
        examples = list(builder.as_data_source("train", decoders=skip))
        assert [e["name"] for e in examples] == [b"100075", b"22090", b"8049"]
        assert [e["image"] for e in examples] == [JPEGS["train"][k] for k in sorted(JPEGS["train"])]
        assert ("tensorflow" in sys.modules) == loaded

    def test_another_process_may_be_faster(self, tmp_path, manual_dir, monkeypatch):
        from glra_jax.datasets.bsds500_builder import Bsds500

        data_dir, original = tmp_path / "data", Bsds500._split_generators

        def overtaken(builder, dl_manager):
            monkeypatch.setattr(Bsds500, "_split_generators", original)
            bsds500_photographs("train", data_dir=data_dir, manual_dir=manual_dir)
            return builder._split_generators(dl_manager)

        monkeypatch.setattr(Bsds500, "_split_generators", overtaken)
        got = bsds500_photographs("test", data_dir=data_dir, manual_dir=manual_dir)
        assert_same(got, expected("test"))
        assert os.listdir(data_dir / "bsds500") == ["1.0.0"]


class TestBuilderLeavesNothingBehind:
    @pytest.fixture
    def data_dir(self, tmp_path):
        yield tmp_path / "data"
        assert files_under(tmp_path / "data") == []

    def test_truncated_archive(self, data_dir, manual_dir, archive_bytes):
        (manual_dir / "BSR_bsds500.tgz").write_bytes(archive_bytes[:-100])
        with pytest.raises(ValueError, match="truncated"):
            bsds500_photographs("train", data_dir=data_dir, manual_dir=manual_dir)

    def test_foreign_archive(self, data_dir, manual_dir, archive_bytes):
        (manual_dir / "BSR_bsds500.tgz").write_bytes(archive_bytes + b"more")
        with pytest.raises(ValueError, match="it is another file"):
            bsds500_photographs("train", data_dir=data_dir, manual_dir=manual_dir)

    def test_corrupt_archive(self, data_dir, manual_dir, archive_bytes):
        corrupt = bytearray(archive_bytes)
        corrupt[len(corrupt) // 2] ^= 1
        (manual_dir / "BSR_bsds500.tgz").write_bytes(corrupt)
        with pytest.raises(ValueError, match=r"has SHA-256 .* and the official archive has"):
            bsds500_photographs("train", data_dir=data_dir, manual_dir=manual_dir)

    def test_image_that_cannot_be_decoded(self, data_dir, tmp_path):
        tree = unpack(tmp_path / "tree")
        (tree / "val/3096.jpg").write_bytes(b"no JPEG")
        with pytest.raises(ValueError, match="image '3096'"):
            bsds500_photographs("train", data_dir=data_dir, manual_dir=tree)

    def test_tree_with_images_missing(self, data_dir, tmp_path):
        tree = unpack(tmp_path / "tree")
        (tree / "val/3096.jpg").unlink()
        with pytest.raises(ValueError, match="has 1 images of split 'val', and BSDS500 has 2"):
            bsds500_photographs("train", data_dir=data_dir, manual_dir=tree)

    def test_manual_dir_without_bsds500(self, data_dir, tmp_path):
        (tmp_path / "other").mkdir()
        with pytest.raises(FileNotFoundError, match=r"holds neither BSR_bsds500.tgz nor"):
            bsds500_photographs("train", data_dir=data_dir, manual_dir=tmp_path / "other")

    def test_truncated_download(self, data_dir, server, archive_bytes):
        (server / "BSR_bsds500.tgz").write_bytes(archive_bytes[:-100])
        with pytest.raises(ValueError, match="download is truncated or another file; fetch"):
            bsds500_photographs("train", data_dir=data_dir)

    def test_no_such_file_on_the_server(self, data_dir, server):
        with pytest.raises(OSError, match=r"cannot be downloaded; fetch .*404"):
            bsds500_photographs("train", data_dir=data_dir)

    def test_no_network(self, data_dir):
        with pytest.raises(OSError, match=r"cannot be downloaded; fetch .* manual_dir"):
            bsds500_photographs("train", data_dir=data_dir)


class TestDataset:
    """As the registry has it: one folder, of either kind."""

    def test_reads_an_unpacked_folder(self, tmp_path):
        unpack(tmp_path)
        assert_same(load_bsds500("bsd100", data_dir=tmp_path), expected("val"))

    def test_reads_prepared_data(self, tmp_path, manual_dir):
        data_dir = tmp_path / "data"
        bsds500_photographs("train", data_dir=data_dir, manual_dir=manual_dir)
        assert_same(load_bsds500("test", data_dir=str(data_dir)), expected("test"))

    def test_without_a_folder_it_is_where_tfds_keeps_its_data(
        self, tmp_path, manual_dir, monkeypatch
    ):
        monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "data"))
        shutil.copytree(manual_dir, tmp_path / "data/downloads/manual")
        assert_same(load_bsds500("train"), expected("train"))

    def test_downloads_nothing_to_a_folder_that_is_given(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no unpacked BSDS500"):
            load_bsds500("train", data_dir=tmp_path)
        with pytest.raises(NotADirectoryError, match="nowhere is not a folder"):
            load_bsds500("train", data_dir=tmp_path / "nowhere")
        assert files_under(tmp_path) == []


class TestTraining:
    def test_train_and_test_together(self, tmp_path):
        unpack(tmp_path)
        got = load_training_photographs("bsds500", data_dir=tmp_path)
        assert_same(got, expected("train", "test"))

    def test_from_prepared_data(self, tmp_path, manual_dir):
        data_dir = tmp_path / "data"
        bsds500_photographs("train", data_dir=data_dir, manual_dir=manual_dir)
        got = load_training_photographs("bsds500", ("test",), data_dir=data_dir)
        assert_same(got, expected("test"))

    @pytest.mark.parametrize("split", ["val", "bsd100"])
    def test_refuses_bsd100(self, tmp_path, split):
        unpack(tmp_path)
        asked = ("bsds500", ("train", split))
        with pytest.raises(ValueError, match=rf"split '{split}' is BSD100.*Table 2.*allow_leak"):
            load_training_photographs(*asked, data_dir=tmp_path)
        got = load_training_photographs(*asked, allow_leak=True, data_dir=tmp_path)
        assert_same(got, expected("train", "val"))

    def test_refuses_before_it_reads(self, tmp_path):
        with pytest.raises(ValueError, match="is BSD100"):
            load_training_photographs("bsds500", ("bsd100",), data_dir=tmp_path / "nowhere")

    def test_refuses_splits_that_share_images(self, tmp_path):
        unpack(tmp_path)
        shutil.copy(tmp_path / "train/8049.jpg", tmp_path / "test/2018.jpg")
        (tmp_path / "test/10081.jpg").rename(tmp_path / "test/8049.jpg")
        with pytest.raises(ValueError, match="1 images of split 'test' are in an earlier"):
            load_training_photographs("bsds500", data_dir=tmp_path)


class TestRealPhotographs:
    """Only where GLRA_JAX_BSDS500 names an unpacked folder; splits that it lacks are skipped."""

    @pytest.fixture
    def folder(self):
        if "GLRA_JAX_BSDS500" not in os.environ:
            pytest.skip("GLRA_JAX_BSDS500 is not set")
        return Path(os.environ["GLRA_JAX_BSDS500"])

    @pytest.fixture(autouse=True)
    def small_dataset(self):
        """Takes the place of the stand-ins: the real sizes count here."""

    @pytest.mark.parametrize(("split", "count"), [("train", 200), ("test", 200), ("val", 100)])
    def test_splits(self, folder, split, count):
        try:
            photographs = bsds500_photographs(split, folder=folder)
        except FileNotFoundError:
            pytest.skip(f"no split {split}")
        assert len(photographs) == count
        assert {p.shape for p in photographs.values()} <= {(321, 481, 3), (481, 321, 3)}
        assert {p.dtype for p in photographs.values()} == {np.dtype(np.uint8)}

    def test_prepared_data_is_the_same(self, folder, tmp_path):
        prepared = bsds500_photographs("test", data_dir=tmp_path, manual_dir=folder)
        assert_same(prepared, bsds500_photographs("test", folder=folder))
