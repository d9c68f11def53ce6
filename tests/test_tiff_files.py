"""TIFF of other programs: compressions, predictors, float pixels, and several pages."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from glra_jax.photo_files import read_kernel, read_photo

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 65535, (37, 53), np.uint16)


@pytest.mark.parametrize("compression", ["tiff_lzw", "zstd", "lzma", "packbits", "tiff_deflate"])
def test_16_bits_of_every_lossless_compression(tmp_path, compression):
    Image.fromarray(PIXELS).save(tmp_path / "photo.tif", compression=compression)
    found = read_photo(tmp_path / "photo.tif").colour
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, PIXELS)


@pytest.mark.parametrize("predictor", [None, 2])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "layout", [{}, {"rowsperstrip": 5}, {"tile": (16, 32)}, {"planarconfig": "separate"}]
)
def test_colour_in_strips_tiles_and_planes(tmp_path, layout, byteorder, predictor):
    pixels = RANDOM.integers(0, 65535, (37, 53, 3), np.uint16)
    stored = np.moveaxis(pixels, 2, 0) if "planarconfig" in layout else pixels
    tifffile.imwrite(
        tmp_path / "photo.tif",
        stored,
        photometric="rgb",
        compression="zlib",
        predictor=predictor,
        byteorder=byteorder,
        **layout,
    )
    found = read_photo(tmp_path / "photo.tif").colour
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_is_read_as_float32(tmp_path, dtype):
    pixels = (PIXELS / 1000.0).astype(dtype)
    tifffile.imwrite(tmp_path / "photo.tif", pixels)
    found = read_photo(tmp_path / "photo.tif").colour
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, pixels.astype(np.float32))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_predictor_of_floating_point(tmp_path, channels):
    """A file by hand: the bytes of a row by their significance, as differences."""
    values = RANDOM.standard_normal((6, 8 * channels)).astype(">f4")
    ordered = values.view(np.uint8).reshape(6, -1, 4).swapaxes(1, 2).reshape(6, -1, channels)
    first = np.zeros((6, 1, channels), np.uint8)
    data = zlib.compress(np.diff(ordered, axis=1, prepend=first).tobytes())
    data += bytes(len(data) % 2)
    tags = {
        **{256: 8, 257: 6, 259: 8, 262: 2 if channels == 3 else 1, 273: 8, 277: channels},
        **{278: 6, 279: len(data), 317: 3},
    }
    fields = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    for place, (tag, value) in enumerate({258: 32, 339: 3}.items()):
        # One short number a channel: within the field, or behind the directory.
        inline = struct.pack("<HH", value, 0) if channels == 1 else None
        behind = 8 + len(data) + 2 + 12 * (len(tags) + 2) + 4 + 6 * place
        fields.append(struct.pack("<HHI", tag, 3, channels) + (inline or struct.pack("<I", behind)))
    fields.sort(key=lambda field: struct.unpack("<H", field[:2]))
    lists = struct.pack("<3H", 32, 32, 32) + struct.pack("<3H", 3, 3, 3)
    directory = struct.pack("<H", len(fields)) + b"".join(fields) + bytes(4) + lists
    path = tmp_path / "photo.tif"
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory)
    expected = values.astype("=f4").reshape((6, 8) if channels == 1 else (6, 8, 3))
    np.testing.assert_array_equal(read_photo(path).colour, expected)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32])
def test_other_integers_are_refused_as_photographs_and_taken_as_kernels(tmp_path, dtype):
    kernel = np.array([[0, 1, 0], [1, 100, 1], [0, 1, 0]], dtype)
    tifffile.imwrite(tmp_path / "k.tif", kernel)
    with pytest.raises(ValueError, match=rf"k\.tif holds {np.dtype(dtype)}\(3, 3\); convert it"):
        read_photo(tmp_path / "k.tif")
    np.testing.assert_array_equal(read_kernel(tmp_path / "k.tif"), kernel.astype(np.float64))


def test_negative_values_of_8_bits_are_not_taken_for_bright_ones(tmp_path):
    kernel = np.array([[-1, 2], [3, 4]], np.int8)
    tifffile.imwrite(tmp_path / "k.tif", kernel)
    np.testing.assert_array_equal(read_kernel(tmp_path / "k.tif"), kernel)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("imagej", [False, True])
def test_one_page_of_several_is_chosen_never_the_first_unasked(tmp_path, dtype, imagej):
    stack = (PIXELS[:30].reshape(3, 10, 53) >> (8 if dtype == np.uint8 else 0)).astype(dtype)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack", imagej=imagej)
    for read in (read_photo, read_kernel):
        with pytest.raises(ValueError, match=r"stack\.tif holds 3 pictures.*1 to 3: --page"):
            read(tmp_path / "stack.tif")
    for page in (1, 3):
        found = read_photo(tmp_path / "stack.tif", page=page).colour
        np.testing.assert_array_equal(found, stack[page - 1])
    for page in (0, 4):
        with pytest.raises(ValueError, match=rf"page must be from 1 to 3, got {page}"):
            read_photo(tmp_path / "stack.tif", page=page)


def test_a_preview_behind_the_photograph_does_not_count(tmp_path):
    with tifffile.TiffWriter(tmp_path / "photo.tif") as file:
        file.write(PIXELS, photometric="minisblack")
        file.write(PIXELS[::4, ::4], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.tif").colour, PIXELS)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_animations_are_refused(tmp_path, suffix):
    frames = [Image.fromarray((PIXELS + 1000 * i >> 8).astype(np.uint8)) for i in range(3)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"holds 3 pictures"):
        read_photo(tmp_path / f"a{suffix}")
    found = read_photo(tmp_path / f"a{suffix}", page=2).colour
    assert found.shape[:2] == PIXELS.shape


@pytest.mark.parametrize("name", ["a.CR2", "b.nef", "c.dng", "d.ARW"])
def test_raw_files_of_cameras_are_refused_with_a_word(tmp_path, name):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS)
    (tmp_path / name).write_bytes((tmp_path / "a.tif").read_bytes())
    with pytest.raises(ValueError, match=rf"{name} is a camera's raw file.*develop it first"):
        read_photo(tmp_path / name)
