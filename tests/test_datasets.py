"""Datasets: the registry, photographs in files, and those that are embedded."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from glra_jax.datasets import (
    DATASETS,
    Dataset,
    dataset_named,
    embedded_photographs,
    find_photographs,
    folder_photographs,
    load_photographs,
    load_training_photographs,
    pack_photographs,
    read_photograph,
)
from glra_jax.datasets.embedded import SPLITS
from glra_jax.datasets.registry import check_training_splits
from glra_jax.photo_files import read_photo

# --- the registry --------------------------------------------------------------------------------


def test_datasets_are_listed_by_name():
    assert tuple(DATASETS) == ("embedded", "bsds500", "folder")
    for name in DATASETS:
        dataset = dataset_named(name)
        assert dataset.name == name
        assert dataset.licence
        assert {dataset.test_split, *dataset.training_splits} <= set(dataset.splits)
        assert set(dataset.splits.values()) <= set(dataset.splits)
        assert not set(dataset.scored) & set(dataset.training_splits)
    for look_up in (dataset_named, load_photographs, load_training_photographs):
        with pytest.raises(ValueError, match="one of embedded, bsds500, folder, got 'kodak'"):
            look_up("kodak")


@pytest.mark.parametrize(
    ("name", "split", "folder", "words"),
    [
        ("embedded", "test", None, "embedded test photographs"),
        ("bsds500", "bsd100", "somewhere", "BSDS500 val"),
        ("folder", "all", "a/bsd100", "folder bsd100"),
    ],
)
def test_results_name_their_data_as_ever(name, split, folder, words):
    assert dataset_named(name).describe(split, folder) == words


def test_the_default_split_is_that_for_tests_or_for_training(tmp_path):
    assert tuple(load_photographs("embedded")) == SPLITS["test"]
    assert tuple(load_photographs("embedded", "train")) == SPLITS["train"]
    assert tuple(load_training_photographs("embedded")) == SPLITS["train"]
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert list(load_photographs("folder", data_dir=tmp_path)) == ["a"]
    assert list(load_training_photographs("folder", data_dir=str(tmp_path))) == ["a"]


def test_bad_splits():
    bsds500, folder = dataset_named("bsds500"), dataset_named("folder")
    with pytest.raises(TypeError, match=r"got 'train'; give \('train',\)"):
        check_training_splits(bsds500, "train")
    with pytest.raises(ValueError, match="splits is empty; name one or more of train, test, val"):
        check_training_splits(bsds500, ())
    with pytest.raises(ValueError, match="got 'valid'"):
        check_training_splits(bsds500, ("train", "valid"))
    with pytest.raises(ValueError, match="hold the same images twice"):
        check_training_splits(bsds500, ("val", "bsd100"), allow_leak=True)
    with pytest.raises(ValueError, match="split must be one of all, got 'train'"):
        check_training_splits(folder, ("train",))


def test_photographs_that_runs_are_scored_on_are_not_trained_on_unasked():
    with pytest.raises(ValueError, match=r"split 'test' is the photographs.*Train on 'train'"):
        load_training_photographs("embedded", ("train", "test"))
    found = load_training_photographs("embedded", ("train", "test"), allow_leak=True)
    assert tuple(found) == SPLITS["train"] + SPLITS["test"]


@pytest.mark.parametrize("name", ["val", "BSD100", "deep/val"])
def test_folders_named_as_bsd100_are_not_trained_on_unasked(tmp_path, name):
    folder = tmp_path / "images" / name
    folder.mkdir(parents=True)
    Image.new("L", (4, 4)).save(folder / "a.png")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    for asked in (tmp_path / "images", folder, tmp_path / "link"):
        with pytest.raises(ValueError, match=r"as BSD100 does.*--allow-leak"):
            load_training_photographs("folder", data_dir=asked)
        assert len(load_training_photographs("folder", data_dir=asked, allow_leak=True)) == 1
        assert len(load_photographs("folder", data_dir=asked)) == 1  # scoring is no leak


def test_triplets_are_not_trained_on_unasked(tmp_path):
    for ending in ("gt", "batch"):
        Image.new("L", (4, 4)).save(tmp_path / f"a_{ending}.png")
    with pytest.raises(ValueError, match=r"a_gt\.png is of a triplet.*--allow-leak"):
        load_training_photographs("folder", data_dir=tmp_path)


def test_a_new_dataset_is_one_record(monkeypatch):
    def load(split, *, data_dir=None):
        return {f"{split}{data_dir or ''}": np.zeros((4, 4), np.uint8)}

    plain = Dataset("new", load, {"a": "a", "b": "b"}, ("a",), "b", "new {split}")
    monkeypatch.setitem(DATASETS, "new", plain)
    assert list(load_photographs("new")) == ["b"]
    assert list(load_training_photographs("new", ("a", "b"), data_dir="x")) == ["ax", "bx"]
    monkeypatch.setitem(DATASETS, "new", replace(plain, scored={"b": "what is scored"}))
    with pytest.raises(ValueError, match="split 'b' is what is scored"):
        load_training_photographs("new", ("a", "b"))


@pytest.mark.parametrize("first", ["bsds500", "bsds500_builder", "bsds500_archive", "registry"])
def test_modules_can_be_imported_in_any_order(first):
    """There is no circle: whatever comes first finds all that it needs."""
    pytest.importorskip("tensorflow_datasets")
    program = f"import glra_jax.datasets.{first}, glra_jax.datasets"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def colour():
    return np.random.default_rng(0).integers(0, 256, (12, 15, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_files_without_loss_come_back(tmp_path, colour, suffix):
    Image.fromarray(colour).save(tmp_path / f"colour.{suffix}")
    back = read_photograph(tmp_path / f"colour.{suffix}")
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, colour)


def test_grey_palette_and_transparent_files(tmp_path, colour):
    grey = Image.fromarray(colour[..., 0])
    grey.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "grey.png"), colour[..., 0])
    grey.convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(read_photograph(tmp_path / "bits.png"))) == {0, 255}
    few = Image.fromarray(colour // 128 * 128)
    few.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "palette.png"), few)
    Image.fromarray(np.dstack([colour, colour[..., :1]])).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_photograph(str(tmp_path / "alpha.png")), colour)


def test_jpegs_come_back_nearly(tmp_path):
    ramp = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (40, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.jpg", quality=95)
    back = read_photograph(tmp_path / "ramp.jpg")
    assert back.shape == (40, 60)
    np.testing.assert_allclose(back.astype(int), ramp, atol=3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("kept", [0.05, 0.6])
def test_a_truncated_file(tmp_path, suffix, kept):
    path = tmp_path / f"half.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=rf"half\.{suffix}.*(truncated|not an image)"):
        read_photograph(path)


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_a_file_that_is_no_image(tmp_path, content):
    (tmp_path / "note.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"note\.png is not an image"):
        read_photograph(tmp_path / "note.png")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
        read_photograph(tmp_path / "nothing.png")


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_pixels_are_not_cut_down_silently(tmp_path, dtype):
    Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / "deep.tif")
    with pytest.raises(
        ValueError, match=r"deep\.tif (has pixels of (16|32)|holds \w+\(4).*convert"
    ):
        read_photograph(tmp_path / "deep.tif")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_of_a_camera_held_sideways_are_upright(tmp_path, suffix, orientation):
    """As Pillow turns them, and as the command line's reader does."""
    pixels = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (16, 1))
    pixels[:8] //= 2
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif)
    found = read_photograph(path)
    with Image.open(path) as image:
        np.testing.assert_array_equal(found, ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(found, read_photo(path).colour)
    assert found.shape[:2] == ((24, 16) if orientation > 4 else (16, 24))


def test_pixels_of_another_kind_are_refused(tmp_path):
    Image.new("CMYK", (4, 4)).save(tmp_path / "print.jpg")
    with pytest.raises(ValueError, match=r"print\.jpg has CMYK pixels; convert it to grey or RGB"):
        read_photograph(tmp_path / "print.jpg")
    grey = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    grey.save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png has pixels of 16 bits a channel.*8-bit"):
        read_photograph(tmp_path / "deep.png")


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    (tmp_path / "b").mkdir()
    for name, value in (("c.PNG", 30), ("a.png", 10), ("b/z.jpg", 20)):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / name)
    (tmp_path / "Thumbs.db").write_bytes(b"not an image")
    (tmp_path / "a.txt").write_text("nor this")
    photographs = folder_photographs(data_dir=tmp_path)
    assert {name: int(p[0, 0]) for name, p in photographs.items()} == {"a": 10, "b/z": 20, "c": 30}
    assert list(photographs) == ["a", "b/z", "c"]
    Image.new("L", (4, 4)).save(tmp_path / "a.bmp")
    with pytest.raises(ValueError, match="holds several images named a; rename all but one"):
        folder_photographs(data_dir=tmp_path)


def test_folders_that_do_not_serve(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path.name} holds no image.*\.png"):
        folder_photographs(data_dir=tmp_path)
    with pytest.raises(ValueError, match="give data_dir"):
        folder_photographs()
    with pytest.raises(NotADirectoryError, match="nowhere is not a folder"):
        folder_photographs(data_dir=tmp_path / "nowhere")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bad\.png"):
        folder_photographs(data_dir=tmp_path)


# --- the embedded photographs --------------------------------------------------------------------


def test_embedded_photographs():
    assert not set(SPLITS["train"]) & set(SPLITS["test"])
    for split, names in SPLITS.items():
        photographs = embedded_photographs(split)
        assert tuple(photographs) == names
        for photograph in photographs.values():
            assert photograph.dtype == np.uint8
            assert photograph.ndim == 2 or photograph.shape[2] == 3
            assert photograph.std() > 5  # a picture, not a placeholder
            # Large enough for patches of 256 pixels and kernels of 27.
            assert min(photograph.shape[:2]) >= 256 + 26


def test_embedded_photographs_refuse():
    with pytest.raises(ValueError, match="come with scikit-image, and not from 'here'"):
        embedded_photographs("test", data_dir="here")
    with pytest.raises(ValueError, match="train, test, got 'val'"):
        embedded_photographs("val")


def test_without_scikit_image_the_mend_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r"pip install .*glra-jax\[experiments\]"):
        embedded_photographs("test")


def test_hidden_files_and_folders_are_no_photographs(tmp_path):
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7" + bytes(100))
    for folder in (".thumbnails", "sub/.cache", "sub"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / folder / "b.png")
    found = [path.relative_to(tmp_path).as_posix() for path in find_photographs(tmp_path)]
    assert found == ["a.png", "sub/b.png"]


def test_a_photograph_that_is_too_small_is_named():
    photographs = {"whole": np.zeros((32, 32), np.uint8), "sub/tiny": np.zeros((8, 9), np.uint8)}
    with pytest.raises(ValueError, match=r"photograph sub/tiny of shape \(8, 9\) is smaller"):
        pack_photographs(photographs, min_side=16)
