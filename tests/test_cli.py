"""The command line: photographs in, photographs out, and one line for every mistake.

The model here undoes nothing: with a delta for a kernel its output is its input, but for a tone
curve within one per cent of a straight line. What comes out can then be compared with what went
in, whatever the format.
"""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image, ImageCms

import glra_jax as gx
from glra_jax import cli
from glra_jax.light import to_linear, to_srgb
from glra_jax.photo_files import Photo, read_photo, write_photo


@pytest.fixture
def model(complete_model: Path) -> Path:
    return complete_model


@pytest.fixture
def kernel(tmp_path) -> Path:
    """A delta."""
    values = np.zeros((3, 3))
    values[1, 1] = 4.0
    np.save(tmp_path / "kernel.npy", values)
    return tmp_path / "kernel.npy"


def pixels(dtype, channels: int) -> np.ndarray:
    """A photograph of middling tones, its alpha of all values, as wide as it needs to be."""
    photograph = skimage.data.chelsea()[100:124, 120:150]
    top = np.iinfo(dtype).max
    colour = np.rint((0.1 + 0.8 * photograph / 255.0) * top).astype(dtype)
    alpha = np.random.default_rng(0).integers(0, top, (24, 30, 1), dtype, endpoint=True)
    if channels < 3:
        colour = colour[..., 1:2]
    layers = [colour, alpha] if channels in (2, 4) else [colour]
    return np.concatenate(layers, axis=2).squeeze()


def save(path: Path, dtype, channels: int) -> Photo:
    values = pixels(dtype, channels)
    if channels == 1:
        photo = Photo(values)
    elif channels == 2:
        photo = Photo(values[..., 0], values[..., 1])
    else:
        photo = Photo(values[..., :3], values[..., 3] if channels == 4 else None)
    write_photo(photo, path)
    return photo


def through_model(colour: np.ndarray, model: Path) -> np.ndarray:
    """What the model makes of a photograph: the logit is linear between some tones."""
    tones = -np.asarray(gx.load_model(model).params["refine_1"]["bias"][:12], np.float64)
    top = np.iinfo(colour.dtype).max
    logit = np.interp(colour / top, tones, np.log(tones / (1 - tones)))
    out = top / (1 + np.exp(-logit))
    assert np.abs(out - colour).max() < 0.01 * top
    return out


def deblur(*arguments: object) -> None:
    cli.main(["deblur", *map(str, arguments)])


# --- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_lossless_formats(tmp_path, model, kernel, capsys, suffix, dtype, channels):
    source, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    before = save(source, dtype, channels)
    deblur(source, kernel, "-o", output, "--model", model)
    after = read_photo(output)
    assert after.colour.dtype == dtype
    assert after.colour.shape == before.colour.shape
    # Half a level by rounding, and what float32 leaves of a logit in 16 bits.
    tolerance = 0.51 if dtype == np.uint8 else 4.0
    np.testing.assert_allclose(after.colour, through_model(before.colour, model), atol=tolerance)
    if channels in (2, 4):
        assert after.alpha.dtype == dtype
        np.testing.assert_array_equal(after.alpha, before.alpha)
    else:
        assert after.alpha is None
    shown = capsys.readouterr().out
    assert f"in{suffix}: {before.colour.shape}, {np.dtype(dtype)}" in shown
    assert "kernel.npy: 3×3, divided by its sum 4" in shown
    assert re.search(rf"out\{suffix}: written after [\d.]+ s", shown)


@pytest.mark.parametrize(
    ("suffix", "channels"), [(".jpg", 1), (".jpg", 3), (".webp", 3), (".webp", 4), (".bmp", 3)]
)
def test_lossy_and_plain_formats(tmp_path, model, kernel, suffix, channels):
    source, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    save(source, np.uint8, channels)
    before = read_photo(source)
    deblur(source, kernel, "-o", output, "--model", model)
    after = read_photo(output)
    difference = np.abs(after.colour.astype(int) - before.colour)
    assert difference.mean() <= 4
    if channels == 4:
        np.testing.assert_array_equal(after.alpha, before.alpha)


def test_exif_and_colour_profile_are_kept(tmp_path, model, kernel):
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels(np.uint8, 3)).save(tmp_path / "in.jpg", exif=exif, icc_profile=profile)
    deblur(tmp_path / "in.jpg", kernel, "-o", tmp_path / "out.png", "--model", model)
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["icc_profile"] == profile
        assert dict(image.getexif()) == {271: "Maker"}
        assert image.size == (24, 30)  # upright, as any viewer shows it


def test_an_image_will_do_for_a_kernel(tmp_path, model):
    save(tmp_path / "in.png", np.uint8, 3)
    delta = np.zeros((5, 5, 3), np.uint8)
    delta[2, 2] = 200
    Image.fromarray(delta).save(tmp_path / "kernel.png")
    deblur(
        tmp_path / "in.png", tmp_path / "kernel.png", "-o", tmp_path / "out.png", "--model", model
    )
    expected = through_model(pixels(np.uint8, 3), model)
    np.testing.assert_allclose(read_photo(tmp_path / "out.png").colour, expected, atol=0.51)


# --- it is `deconvolve` ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "boundary", "inverse"),
    [
        ([], "edge", None),
        (["--boundary", "wrap", "--regularization", "0.1"], "wrap", gx.Inverse(0.1)),
    ],
)
def test_a_blurred_photograph_is_restored(tmp_path, model, options, boundary, inverse):
    save(tmp_path / "in.png", np.uint8, 3)
    blur = gx.disk_kernel(radius=1.5, size=5)
    np.save(tmp_path / "disk.npy", 7.0 * blur)
    deblur(
        *(tmp_path / "in.png", tmp_path / "disk.npy", "-o", tmp_path / "out.png"),
        *("--model", model, *options),
    )
    expected = gx.deconvolve(
        jnp.asarray(pixels(np.uint8, 3) / 255.0, jnp.float32),
        blur,
        gx.load_model(model),
        boundary=boundary,
        inverse=inverse,
    )
    found = read_photo(tmp_path / "out.png").colour / 255.0
    np.testing.assert_allclose(found, expected, atol=0.6 / 255)
    assert np.abs(found - pixels(np.uint8, 3) / 255.0).max() > 0.02


def test_noise_is_estimated_and_shown_or_taken_as_told(tmp_path, model, capsys):
    """By a model whose pseudo-inverse depends on it."""
    plain = gx.load_model(model)
    inverse = gx.Inverse(0.01, noise_weight=100.0)
    architecture = dataclasses.replace(plain.architecture, inverse=inverse)
    following = dataclasses.replace(plain, architecture=architecture)
    gx.save_model(following, tmp_path / "model.safetensors")
    grain = np.random.default_rng(0).normal(0, 8, (24, 30, 3))
    y = np.rint(pixels(np.uint8, 3) + grain).clip(0, 255).astype(np.uint8)
    write_photo(Photo(y), tmp_path / "in.png")
    blur = gx.disk_kernel(radius=1.5, size=5)
    np.save(tmp_path / "disk.npy", blur)
    y = jnp.asarray(np.float32(y) / 255)
    level = float(gx.estimate_noise(y))
    assert 0.02 < level < 0.05
    for name, options, noise, used in (
        ("estimated.png", [], level, None),
        ("told.png", ["--noise", "0.005"], 0.005, None),
        ("none.png", ["--noise", "0"], 0.0, None),
        # The noise weight stays the model's own.
        (
            "stronger.png",
            ["--noise", "0.02", "--regularization", "0.1"],
            0.02,
            gx.Inverse(0.1, 100.0),
        ),
    ):
        deblur(
            *(tmp_path / "in.png", tmp_path / "disk.npy", "-o", tmp_path / name),
            *("--model", tmp_path / "model.safetensors", *options),
        )
        shown = capsys.readouterr().out
        line = f"in.png: noise of {100 * level:.2f} % (--noise to set it)"
        assert (line in shown) == (name == "estimated.png")
        assert ("noise of" in shown) == (name == "estimated.png")
        expected = gx.deconvolve(y, blur, following, noise=noise, inverse=used)
        np.testing.assert_allclose(
            read_photo(tmp_path / name).colour / 255.0, expected, atol=0.6 / 255
        )
    estimated, told = (
        read_photo(tmp_path / name).colour / 255.0 for name in ("estimated.png", "told.png")
    )
    assert np.abs(estimated - told).max() > 0.02


def test_noise_is_not_estimated_where_it_does_not_count(tmp_path, model, kernel, capsys):
    save(tmp_path / "in.png", np.uint8, 3)
    for name, options in (("a.png", []), ("b.png", ["--noise", "0.1"])):
        deblur(tmp_path / "in.png", kernel, "-o", tmp_path / name, "--model", model, *options)
        shown = capsys.readouterr().out
        assert "noise of" not in shown
        assert ("--noise 0.1 changes nothing" in shown) == (name == "b.png")
    np.testing.assert_array_equal(
        *(read_photo(tmp_path / name).colour for name in ("a.png", "b.png"))
    )


# --- mistakes ----------------------------------------------------------------------------------


def refused(capsys, *arguments: object, quoted: str) -> None:
    """Exit status 1 and one line on the error stream."""
    with pytest.raises(SystemExit) as raised:
        deblur(*arguments)
    message = raised.value.code
    assert isinstance(message, str)  # Python prints it on the error stream and exits with 1
    assert message.startswith("glra-jax: ")
    assert "\n" not in message
    assert re.search(quoted, message), message
    assert "written" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "quoted"),
    [
        (np.ones((3, 3, 3)), r"k\.npy.*\(3, 3, 3\)"),
        (np.ones((0, 3)), r"k\.npy.*empty.*\(0, 3\)"),
        (np.array([[1.0, np.nan]]), r"k\.npy.*sum nan"),
        (np.array([[1.0, np.inf]]), r"k\.npy: kernel has the sum inf"),
        (np.zeros((3, 3)), r"k\.npy.*sum 0"),
        (-np.ones((3, 3)), r"k\.npy: kernel has the sum -9; it must be"),
        (np.ones((3, 11)), r"k\.npy.*\(3, 11\).*support 9"),
        (np.ones((3, 3)) * 1j, r"k\.npy holds complex128\(3, 3\)"),
    ],
)
def test_bad_kernels(tmp_path, model, capsys, values, quoted):
    save(tmp_path / "in.png", np.uint8, 1)
    np.save(tmp_path / "k.npy", values)
    output = tmp_path / "out.png"
    refused(
        capsys,
        tmp_path / "in.png",
        tmp_path / "k.npy",
        "-o",
        output,
        "--model",
        model,
        quoted=quoted,
    )
    assert not output.exists()


def test_bad_photographs(tmp_path, model, kernel, capsys):
    def attempt(name: str, quoted: str) -> None:
        options = ("-o", tmp_path / "out.png", "--model", model)
        refused(capsys, tmp_path / name, kernel, *options, quoted=quoted)
        assert not (tmp_path / "out.png").exists()

    attempt("gone.png", r"No such file or directory: '.*gone\.png'")
    (tmp_path / "letter.jpg").write_text("Dear Sir or Madam")
    attempt("letter.jpg", r"letter\.jpg is not an image that can be read")
    Image.new("CMYK", (40, 40)).save(tmp_path / "print.jpg")
    attempt("print.jpg", r"print\.jpg.*CMYK")
    for name, dtype in (("a.png", np.uint8), ("b.png", np.uint16), ("c.jpg", np.uint8)):
        save(tmp_path / name, dtype, 3)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        attempt(name, rf"{name}.*truncated")


def test_bad_outputs(tmp_path, model, kernel, capsys):
    save(tmp_path / "in8.png", np.uint8, 4)
    save(tmp_path / "in16.png", np.uint16, 3)

    def attempt(source: str, output: str, quoted: str) -> None:
        options = ("-o", tmp_path / output, "--model", model)
        refused(capsys, tmp_path / source, kernel, *options, quoted=quoted)

    attempt("in16.png", "out.jpg", r"out\.jpg.*16 bits.*out\.png")
    attempt("in8.png", "out.jpg", r"out\.jpg.*alpha.*out\.png")
    attempt("in8.png", "out.xyz", r"out\.xyz must end in one of .*\.png")
    attempt("in8.png", "out", r"out must end in one of")
    attempt("in8.png", "gone/out.png", r"the folder .*gone does not exist; make it first")
    (tmp_path / "there.png").write_bytes(b"precious")
    attempt("in8.png", "there.png", r"there\.png exists.*--overwrite")
    assert (tmp_path / "there.png").read_bytes() == b"precious"
    attempt("in8.png", "in8.png", r"in8\.png exists")


def test_overwriting_when_asked(tmp_path, model, kernel):
    save(tmp_path / "in.png", np.uint8, 1)
    deblur(
        *(tmp_path / "in.png", kernel, "-o", tmp_path / "in.png"),
        *("--model", model, "--overwrite"),
    )
    expected = through_model(pixels(np.uint8, 1), model)
    np.testing.assert_allclose(read_photo(tmp_path / "in.png").colour, expected, atol=0.51)


def test_bad_models_regularization_and_noise(tmp_path, model, kernel, capsys):
    save(tmp_path / "in.png", np.uint8, 1)
    common = (tmp_path / "in.png", kernel, "-o", tmp_path / "out.png")
    refused(capsys, *common, "--model", "glraa", quoted="no model file 'glraa'")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(model.read_bytes()[:5000])
    refused(capsys, *common, "--model", cut, quoted=r"cut\.safetensors.*whole")
    for value in ("0", "-0.5", "nan"):
        shown = {"0": "0.0"}.get(value, value)
        refused(
            capsys,
            *(*common, "--model", model, f"--regularization={value}"),
            quoted=f"regularization.*{shown}",
        )
    for value in ("-0.01", "nan", "inf"):
        refused(
            capsys,
            *(*common, "--model", model, f"--noise={value}"),
            quoted=f"noise.*{value}",
        )
    assert not (tmp_path / "out.png").exists()


def test_a_regularization_for_a_network_that_takes_none(
    tmp_path, model, kernel, capsys, monkeypatch
):
    save(tmp_path / "in.png", np.uint8, 1)
    monkeypatch.setattr(gx.Glra, "default_inverse", None)
    refused(
        capsys,
        *(tmp_path / "in.png", kernel, "-o", tmp_path / "out.png", "--model", model),
        *("--regularization", "0.1"),
        quoted=r"--regularization 0\.1 is for models whose inverse can be told.*architecture glra",
    )
    assert not (tmp_path / "out.png").exists()


# --- units, light and kernels ------------------------------------------------------------------


def test_floating_point_comes_out_in_its_own_unit(tmp_path, model, kernel, capsys):
    values = pixels(np.uint16, 1).astype(np.float32) / 65535
    for name, scale in (("one", 1.0), ("counts", 4095.0)):
        tifffile.imwrite(tmp_path / f"{name}.tif", values * np.float32(scale))
        options = () if scale == 1 else ("--scale", scale)
        deblur(
            *(tmp_path / f"{name}.tif", kernel, "-o", tmp_path / f"{name}-out.tif"),
            *("--model", model, *options),
        )
        found = tifffile.imread(tmp_path / f"{name}-out.tif")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found / scale, values, atol=0.01)
    capsys.readouterr()
    refused(
        capsys,
        *(tmp_path / "counts.tif", kernel, "-o", tmp_path / "no.tif", "--model", model),
        quoted=r"counts\.tif has values from .* white by --scale, such as --scale \d+",
    )


def test_twelve_bits_in_a_file_of_sixteen(tmp_path, model, kernel):
    values = (pixels(np.uint16, 3) // 16).astype(np.uint16)
    write_photo(Photo(values), tmp_path / "in.png")
    deblur(
        *(tmp_path / "in.png", kernel, "-o", tmp_path / "out.png", "--model", model),
        *("--scale", 4095),
    )
    np.testing.assert_allclose(read_photo(tmp_path / "out.png").colour, values, atol=41)


def test_blur_in_linear_light(tmp_path, model, capsys):
    """A step blurred in linear light is undone to the level that `deconvolve` reaches there."""
    save(tmp_path / "in.png", np.uint8, 1)
    blur = gx.disk_kernel(radius=1.5, size=5)
    np.save(tmp_path / "disk.npy", blur)
    common = (tmp_path / "in.png", tmp_path / "disk.npy", "--model", model)
    deblur(*common, "-o", tmp_path / "linear.png", "--light", "linear")
    light = to_linear(pixels(np.uint8, 1) / 255.0)
    expected = to_srgb(gx.deconvolve(jnp.asarray(light), blur, gx.load_model(model)))
    found = read_photo(tmp_path / "linear.png").colour / 255.0
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=0.6 / 255)


def test_the_background_of_a_kernel_is_said_and_subtracted_when_asked(tmp_path, model, capsys):
    save(tmp_path / "in.png", np.uint8, 1)
    levels = np.full((9, 9), 2, np.uint8)
    levels[4, 3:6] += 200
    Image.fromarray(levels).save(tmp_path / "k.png")
    common = (tmp_path / "in.png", tmp_path / "k.png", "--model", model)
    deblur(*common, "-o", tmp_path / "kept.png")
    assert re.search(r"k\.png: a background of 21 % of the sum is kept", capsys.readouterr().out)
    deblur(*common, "-o", tmp_path / "out.png", "--kernel-background", "subtract")
    assert "is subtracted" in capsys.readouterr().out
    np.save(tmp_path / "k.npy", levels - 2.0)
    deblur(*common[:1], tmp_path / "k.npy", *common[2:], "-o", tmp_path / "clean.png")
    clean = read_photo(tmp_path / "clean.png").colour
    np.testing.assert_array_equal(read_photo(tmp_path / "out.png").colour, clean)
    assert np.abs(read_photo(tmp_path / "kept.png").colour.astype(int) - clean).max() > 2


def test_pipes_long_names_and_escapes(tmp_path, model, kernel, capsys):
    save(tmp_path / "in.png", np.uint8, 1)
    os.mkfifo(tmp_path / "pipe.png")
    out = ("-o", tmp_path / "out.png", "--model", model)
    refused(capsys, tmp_path / "pipe.png", kernel, *out, quoted=r"pipe\.png is a pipe")
    refused(capsys, tmp_path / "in.png", tmp_path / "pipe.png", *out, quoted="is a pipe")
    refused(
        capsys, tmp_path / "in.png", kernel, "-o", tmp_path / "out.png", "--model",
        tmp_path / "pipe.png", quoted="is a pipe",
    )  # fmt: skip
    refused(capsys, tmp_path / "a\x1b[31m.png", kernel, *out, quoted=r"a\\x1b\[31m\.png")
    refused(
        capsys, tmp_path / "in.png", kernel, "-o", tmp_path / ("a" * 300 + ".png"), *out[2:],
        quoted="a name of more than 255 bytes",
    )  # fmt: skip


# --- as a program ------------------------------------------------------------------------------


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glra_jax.cli", *map(str, command)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"COLUMNS": "200"},
    )


def test_exit_status_and_error_stream(tmp_path, kernel):
    done = run("deblur", tmp_path / "gone.png", kernel, "-o", tmp_path / "out.png")
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("glra-jax: ")
    assert "gone.png" in done.stderr


@pytest.mark.parametrize(
    ("command", "quoted"),
    [
        (["sharpen"], "sharpen"),
        (["deblur", "in.png"], "KERNEL"),
        (["deblur", "in.png", "k.npy", "-o", "o.png", "--boundary", "valid"], "valid"),
        (["deblur", "in.png", "k.npy", "-o", "o.png", "--strength", "3"], "--strength"),
    ],
)
def test_errors_of_usage(command, quoted, capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(command)
    assert raised.value.code == 2
    assert quoted in capsys.readouterr().err


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(["deblur", "--help"])
    assert raised.value.code == 0
    shown = set(re.findall(r"[\w-]+", capsys.readouterr().out))
    assert {"PHOTO", "KERNEL", "-o", "--output"} <= shown
    assert {"--scale", "--light", "--mask", "--page", "--kernel-background"} <= shown
    assert {"--model", "--boundary", "--noise", "--regularization", "--overwrite"} <= shown
    assert {cli.DEFAULT_MODEL, "edge"} <= shown  # defaults
