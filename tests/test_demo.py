"""What the page of `glra-jax demo` computes: kernels, blurring, and what `deblur` restores."""

import shlex
from dataclasses import replace
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.signal
import tifffile
from PIL import Image

import glra_jax as gx
from glra_jax import cli
from glra_jax.commands.deblur_options import Deblur
from glra_jax.commands.kernel import kernel_picture
from glra_jax.demo.blur_kernels import drawn_kernel, family_kernel
from glra_jax.demo.restoring import (
    blur_photo,
    deblur_command,
    decibels,
    opened,
    picture,
    reduction,
    restore_photo,
    write_kernel,
)
from glra_jax.kernel_families import FAMILIES
from glra_jax.light import to_linear, to_srgb
from glra_jax.photo import Photo
from glra_jax.photo_files import read_photo, write_photo

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 47, 3), np.uint8)


def silent(line: str) -> None:
    del line


def photo_file(folder: Path, pixels: np.ndarray, name: str = "a.png") -> Path:
    write_photo(Photo(pixels), folder / name)
    return folder / name


# --- kernels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_family_gives_its_example_and_random_kernels(family):
    example, one, other = (family_kernel(family, size=9, variation=v) for v in (0, 1, 2))
    np.testing.assert_array_equal(example, FAMILIES[family].example(9))
    np.testing.assert_array_equal(one, family_kernel(family, size=9, variation=1))
    assert np.abs(one - other).max() > 1e-3
    for kernel in (example, one, other):
        assert kernel.shape == (9, 9)
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1.0, abs=1e-5)


@hypothesis.given(
    st.integers(0, 10**6), st.integers(9, 31), st.integers(9, 31), st.sampled_from([3, 5, 9])
)
def test_a_drawing_is_averaged_over_the_kernels_pixels(seed, height, width, size):
    drawing = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    light = drawing.astype(np.float64).mean(axis=2)
    # Each pixel of the drawing as size × size, each pixel of the kernel as height × width of them.
    fine = light.repeat(size, axis=0).repeat(size, axis=1)
    expected = fine.reshape(size, height, size, width).mean(axis=(1, 3))
    kernel = drawn_kernel(drawing, size=size)
    np.testing.assert_allclose(kernel, expected / expected.sum(), rtol=1e-6)


def test_what_is_transparent_in_a_drawing_is_black():
    drawing = np.zeros((9, 9, 4), np.uint8)
    drawing[..., :3] = 255
    drawing[4, 3:6, 3] = (255, 51, 102)
    expected = np.zeros((9, 9))
    expected[4, 3:6] = (5 / 8, 1 / 8, 2 / 8)
    np.testing.assert_allclose(drawn_kernel(drawing, size=9), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "size", "quoted"),
    [
        ((40, 40, 3), 9, "the drawing is empty: draw"),
        ((40, 40), 8, "must be odd, got 8: take 9"),
        ((40, 40), 1, "at least 3, got 1"),
        ((10, 40), 11, "10×40 pixels, fewer than the 11×11"),
    ],
)
def test_drawings_that_are_refused(shape, size, quoted):
    with pytest.raises(ValueError, match=quoted):
        drawn_kernel(np.zeros(shape, np.uint8), size=size)


def test_the_picture_of_a_kernel():
    shown = kernel_picture(np.float32([[0, 0.25, 0], [0.1, 0.5, 0.15]]))
    assert shown.shape == (256, 384)
    np.testing.assert_array_equal(shown[64::128, 64::128], [[0, 128, 0], [51, 255, 76]])


# --- blurring ------------------------------------------------------------------------------------


@pytest.mark.parametrize("light", ["srgb", "linear"])
@pytest.mark.parametrize(
    ("pixels", "name", "out"),
    [
        (PIXELS, "a.png", "a.blurred.png"),
        (np.uint16(PIXELS[..., 0]) * 257, "a.png", "a.blurred.png"),
        (np.float32(PIXELS / 255), "a.tif", "a.blurred.tif"),
    ],
    ids=["8 bits", "16 bits", "float"],
)
def test_blurred_photographs_are_true_convolutions(tmp_path, pixels, name, out, light):
    kernel = family_kernel("motion", size=7)[:, 1:]  # neither square nor odd
    options = Deblur(
        photo_file(tmp_path, pixels, name),
        write_kernel(kernel / kernel.sum(), tmp_path / "k.npy"),
        light=light,
    )
    blurred = blur_photo(options, tmp_path, noise=0.0, say=silent)
    assert blurred.path == tmp_path / out
    white = 1.0 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
    x = np.atleast_3d(pixels) / white
    x = to_linear(x) if light == "linear" else x
    expected = np.stack(
        [scipy.signal.convolve2d(c, kernel / kernel.sum(), "valid") for c in np.moveaxis(x, 2, 0)],
        axis=2,
    )
    expected = white * (to_srgb(expected) if light == "linear" else expected)
    found = read_photo(blurred.path).colour
    assert found.dtype == pixels.dtype
    # Half a level of rounding, and single precision.
    np.testing.assert_allclose(
        np.atleast_3d(found), expected, atol=0.51 if white > 1 else 2e-6, rtol=0
    )


@pytest.mark.parametrize("size", [3, 4, 7])
def test_sharp_and_blurred_photographs_lie_on_each_other(tmp_path, size):
    delta = np.zeros((size, 5), np.float32)
    delta[size // 2, 2] = 1.0
    options = Deblur(photo_file(tmp_path, PIXELS), write_kernel(delta, tmp_path / "k.npy"))
    blurred = blur_photo(options, tmp_path, noise=0.0, say=silent)
    assert blurred.sharp.colour.shape == (41 - size, 43, 3)
    np.testing.assert_array_equal(read_photo(blurred.path).colour, blurred.sharp.colour)


def test_added_noise_has_its_strength_and_alpha_stays(tmp_path):
    grey = np.full((120, 120, 3), 120, np.uint8)
    write_photo(Photo(grey, np.full((120, 120), 7, np.uint8)), tmp_path / "a.png")
    kernel = write_kernel(family_kernel("disk", size=5), tmp_path / "k.npy")
    said = []
    options = Deblur(tmp_path / "a.png", kernel)
    found = read_photo(blur_photo(options, tmp_path, noise=0.02, say=said.append).path)
    assert found.colour.std() == pytest.approx(0.02 * 255, rel=0.02)
    assert found.alpha.shape == (116, 116)
    assert set(found.alpha.ravel()) == {7}
    assert "noise of 2 % added; of 120×120 pixels 116×116 remain" in said[0]


@pytest.mark.parametrize(
    ("size", "noise", "quoted"),
    [
        (41, 0.0, "kernel of 41×41 pixels is too large for the photograph of 40×47, of which"),
        (27, 0.0, "27×27 pixels is too large .* leave 16×16"),
        (5, -0.1, "the noise to add must be finite and at least 0, got -0.1"),
    ],
)
def test_blurring_that_is_refused(tmp_path, size, noise, quoted):
    kernel = write_kernel(family_kernel("disk", size=size), tmp_path / "k.npy")
    options = Deblur(photo_file(tmp_path, PIXELS), kernel)
    with pytest.raises(ValueError, match=quoted):
        blur_photo(options, tmp_path, noise=noise, say=silent)
    assert not list(tmp_path.glob("*.blurred.*"))


def test_pixels_without_data_are_not_blurred(tmp_path):
    pixels = np.float32(PIXELS[..., 0] / 255)
    pixels[3, 4] = np.nan
    fits = pytest.importorskip("astropy.io.fits")
    fits.PrimaryHDU(pixels).writeto(tmp_path / "a.fits")
    kernel = write_kernel(family_kernel("disk", size=5), tmp_path / "k.npy")
    with pytest.raises(ValueError, match=r"a\.fits has 1 pixels that are no data"):
        blur_photo(Deblur(tmp_path / "a.fits", kernel), tmp_path, noise=0.0, say=silent)


# --- restoring -----------------------------------------------------------------------------------


def jpeg_on_its_side(path: Path, pixels: np.ndarray) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels).save(path, quality=80, exif=exif)


@pytest.mark.parametrize(
    ("name", "make", "out", "more"),
    [
        ("a.jpg", jpeg_on_its_side, "a.restored.png", {}),
        (
            "a.tiff",
            lambda p, x: tifffile.imwrite(p, np.uint16(x) * 257, photometric="rgb"),
            "a.restored.png",
            {},
        ),
        (
            "a.tif",
            lambda p, x: tifffile.imwrite(p, np.float32(x) / 100, photometric="rgb"),
            "a.restored.tif",
            {"scale": 2.55, "light": "linear", "noise": 0.02},
        ),
    ],
    ids=["JPEG", "16 bits", "float"],
)
def test_results_are_those_of_the_command(
    tmp_path, colour_photograph, random_model_file, kernel_file, name, make, out, more
):
    pixels = np.uint8(np.round(255 * colour_photograph[:40, :47]))
    make(tmp_path / name, pixels)
    options = Deblur(tmp_path / name, Path(kernel_file), model=random_model_file, **more)
    restored = restore_photo(options, tmp_path, say=silent)
    assert restored.path == tmp_path / out
    words = shlex.split(deblur_command(options, restored.path))
    places = {name: str(tmp_path / name), "k.npy": kernel_file, out: str(tmp_path / ("c" + out))}
    cli.main([places.get(word, word) for word in words[1:]])
    assert (tmp_path / ("c" + out)).read_bytes() == restored.path.read_bytes()


def test_the_command_says_white_to_the_digit():
    options = Deblur(Path("a.tif"), Path("k.npy"), scale=1234567.0, noise=0.011, page=2)
    words = shlex.split(deblur_command(options, Path("out.tif")))
    assert words[-6:] == ["--noise", "0.011", "--scale", "1234567", "--page", "2"]


def test_a_blurred_photograph_is_restored_as_by_deconvolve(
    tmp_path, colour_photograph, random_model, random_model_file, kernel_file
):
    pixels = np.uint8(np.round(255 * colour_photograph[:48, :56]))
    options = Deblur(photo_file(tmp_path, pixels), Path(kernel_file), model=random_model_file)
    blurred = blur_photo(options, tmp_path, noise=0.01, say=silent)
    restored = restore_photo(replace(options, first=blurred.path), tmp_path, say=silent)
    assert restored.path.name == "a.restored.png"
    y = np.float32(read_photo(blurred.path).colour) / 255
    expected = np.asarray(gx.deconvolve(y, np.load(kernel_file), random_model))
    np.testing.assert_allclose(restored.after.colour, 255 * expected, atol=0.51)
    np.testing.assert_array_equal(read_photo(restored.path).colour, restored.after.colour)
    truth = pixels[4:-4, 4:-4] / 255
    for found, image in zip(decibels(restored, blurred.sharp), (y, expected), strict=True):
        mse = np.mean((np.float64(image) - truth) ** 2)
        assert found == pytest.approx(-10 * np.log10(mse), abs=0.02)


def test_a_kernel_larger_than_the_photograph_is_refused(tmp_path, random_model_file):
    kernel = write_kernel(family_kernel("disk", size=25), tmp_path / "k.npy")
    options = Deblur(photo_file(tmp_path, PIXELS[:20]), kernel, model=random_model_file)
    with pytest.raises(ValueError, match=r"kernel of 25×25 pixels is too large .* of 20×47; take"):
        restore_photo(options, tmp_path, say=silent)


def test_the_command_reads_as_the_options(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(cli, "deblur", taken.append)
    options = Deblur(
        Path("a photo.fits"),
        Path("k.npy"),
        output=Path("out.fits"),
        model="glra",
        noise=0.015,
        scale=4095.0,
        light="linear",
        page=2,
        kernel_background="subtract",
    )
    cli.main(shlex.split(deblur_command(options, Path("out.fits")))[1:])
    assert taken == [options]


# --- pictures ------------------------------------------------------------------------------------


def test_large_photographs_are_shown_reduced():
    wide = Photo(np.full((2000, 4001), 3000, np.uint16))
    assert reduction(wide) == 2
    shown = picture(wide, white=6000.0)
    assert shown.shape == (1000, 2001)
    assert set(shown.ravel()) == {128}
    small = Photo(np.float32(PIXELS / 255))
    assert reduction(small) == 1
    np.testing.assert_array_equal(picture(small, white=1.0), PIXELS)


@pytest.mark.parametrize(
    ("pixels", "more", "words"),
    [
        (PIXELS, {}, "40×47 pixels, RGB, 8 bits"),
        (
            np.uint16(PIXELS[..., 0]) * 16,
            {"scale": 4080.0},
            "40×47 pixels, grey, 16 bits",
        ),
    ],
)
def test_photographs_that_are_opened_are_shown_and_described(tmp_path, pixels, more, words):
    path = photo_file(tmp_path, pixels)
    shown, said = opened(Deblur(path, path, **more))
    np.testing.assert_array_equal(shown, PIXELS if pixels.ndim == 3 else PIXELS[..., 0])
    assert said == words
    with pytest.raises(ValueError, match="--scale must be finite and above 0, got 0"):
        opened(Deblur(path, path, scale=0.0))
