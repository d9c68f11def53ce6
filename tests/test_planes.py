"""Photographs: read from files, packed as planes, and cut into random patches."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from glra_jax.datasets import (
    Planes,
    embedded_photographs,
    pack_planes,
    read_folder,
    read_photograph,
)
from glra_jax.datasets.embedded import SPLITS
from glra_jax.datasets.planes import random_patch

# --- packing -------------------------------------------------------------------------------------


def numbered(height, width, first=0):
    """A photograph in which every pixel has a value of its own."""
    return np.arange(first, first + height * width, dtype=np.uint8).reshape(height, width)


def plane(planes, index):
    start, height, width = (int(a[index]) for a in (planes.starts, planes.heights, planes.widths))
    return np.asarray(planes.pixels[start : start + height * width]).reshape(height, width)


def test_every_channel_becomes_a_plane():
    grey = numbered(4, 6)
    colour = np.stack([numbered(5, 3, first) for first in (50, 100, 150)], axis=2)
    planes = pack_planes([grey, colour])
    assert planes.pixels.dtype == jnp.uint8
    assert planes.starts.dtype == planes.heights.dtype == planes.widths.dtype == jnp.int32
    assert planes.pixels.shape == (4 * 6 + 3 * 5 * 3,)
    np.testing.assert_array_equal(planes.heights, [4, 5, 5, 5])
    np.testing.assert_array_equal(planes.widths, [6, 3, 3, 3])
    np.testing.assert_array_equal(plane(planes, 0), grey)
    for channel in range(3):
        np.testing.assert_array_equal(plane(planes, 1 + channel), colour[..., channel])


def test_planes_are_a_pytree():
    planes = pack_planes([numbered(4, 6)])
    again = jax.jit(lambda planes: planes)(planes)
    assert isinstance(again, Planes)
    np.testing.assert_array_equal(again.pixels, planes.pixels)


@pytest.mark.parametrize(
    ("photographs", "error", "quoted"),
    [
        ([], ValueError, "no photographs"),
        ([numbered(8, 8), np.ones((8, 8))], TypeError, "photograph 1.*float64.*uint8"),
        ([numbered(8, 8)[0]], ValueError, r"photograph 0.*\(8,\)"),
        ([numbered(8, 8), numbered(9, 7)], ValueError, r"photograph 1.*\(9, 7\).*8.*smaller patch"),
    ],
)
def test_packing_refuses(photographs, error, quoted):
    with pytest.raises(error, match=quoted):
        pack_planes(photographs, min_side=8)


def test_packing_refuses_more_than_its_indices_hold():
    # Two gigabytes that take no memory: one row, repeated.
    huge = np.broadcast_to(np.zeros((1, 2**16), np.uint8), (2**15, 2**16))

    with pytest.raises(ValueError, match=r"2147483648.*2\^31"):
        pack_planes([huge])


# --- patches -------------------------------------------------------------------------------------


cut = jax.jit(jax.vmap(random_patch, (0, None, None)), static_argnums=2)


def patches(planes, size, count=400, seed=0):
    return np.asarray(cut(jax.random.split(jax.random.key(seed), count), planes, size))


def symmetries(square):
    """The eight ways in which a square falls on itself, as a list."""
    return [np.rot90(side, turns) for side in (square, square.T) for turns in range(4)]


def test_patches_are_squares_of_the_photograph_in_all_positions_and_symmetries():
    photograph = numbered(5, 7)
    squares_cut = patches(pack_planes([photograph]), 3)
    assert squares_cut.dtype == np.float32
    assert squares_cut.shape == (400, 3, 3)
    squares = {}
    for top in range(3):
        for left in range(5):
            for turn, square in enumerate(symmetries(photograph[top : top + 3, left : left + 3])):
                squares[square.tobytes()] = (top, left, turn)
    found = [squares[np.uint8(np.round(255 * patch)).tobytes()] for patch in squares_cut]
    np.testing.assert_allclose(np.round(255 * squares_cut), 255 * squares_cut, atol=1e-4)
    positions, turns = {place[:2] for place in found}, [place[2] for place in found]
    assert len(positions) == 15
    counts = np.bincount(turns, minlength=8)  # 50 each with a standard deviation of 7
    assert counts.min() > 25
    assert counts.max() < 75


def test_patches_come_from_all_planes_alike():
    planes = pack_planes([np.full((4 + n, 9), 20 * n, np.uint8) for n in range(5)])
    found = np.round(255 * patches(planes, 4)[:, 0, 0]).astype(int) // 20
    counts = np.bincount(found, minlength=5)  # 80 each with a standard deviation of 8
    assert counts.min() > 50
    assert counts.max() < 110
    assert patches(planes, 4).std(axis=(1, 2)).max() == 0.0  # never across two planes


def test_a_patch_is_a_function_of_its_key():
    planes = pack_planes([numbered(5, 7)])
    first = patches(planes, 3)
    np.testing.assert_array_equal(patches(planes, 3), first)
    keys = jax.random.split(jax.random.key(0), 400)
    np.testing.assert_array_equal(random_patch(keys[11], planes, 3), first[11])
    assert (patches(planes, 3, seed=1) != first).any(axis=(1, 2)).mean() > 0.9


def test_a_patch_may_be_the_whole_photograph():
    photograph = numbered(6, 6)
    whole = {
        np.uint8(np.round(255 * patch)).tobytes()
        for patch in patches(pack_planes([photograph]), 6, count=100)
    }
    assert whole == {square.tobytes() for square in symmetries(photograph)}


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
    with pytest.raises(ValueError, match=r"deep\.tif has .* pixels.*8-bit"):
        read_photograph(tmp_path / "deep.tif")


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    (tmp_path / "b").mkdir()
    for name, value in (("c.PNG", 30), ("a.png", 10), ("b/z.jpg", 20)):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / name)
    (tmp_path / "Thumbs.db").write_bytes(b"not an image")
    (tmp_path / "a.txt").write_text("nor this")
    photographs = read_folder(tmp_path)
    assert [int(photograph[0, 0]) for photograph in photographs] == [10, 20, 30]


def test_folders_that_do_not_serve(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path.name} holds no image.*\.png"):
        read_folder(tmp_path)
    with pytest.raises(NotADirectoryError, match="nowhere is not a folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bad\.png"):
        read_folder(tmp_path)


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
    with pytest.raises(ValueError, match="train, test, got 'val'"):
        embedded_photographs("val")


def test_without_scikit_image_the_mend_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r"pip install .*glra-jax\[experiments\]"):
        embedded_photographs("test")
