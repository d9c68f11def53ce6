"""`glra-jax deblur` with kernels that vary over the photograph."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

import glra_jax as gx
from glra_jax import cli
from glra_jax.photo_files import Photo, read_photo, write_photo

PIXELS = skimage.data.chelsea()[100:124, 120:150]
CENTRES = np.array([(4, 3), (4, 25), (18, 3), (18, 25)])
KERNELS = np.stack([gx.gaussian_kernel(sigma=s, size=5) for s in (0.4, 0.7, 0.9, 1.2)])


def deblur(*arguments: object) -> None:
    cli.main(["deblur", *map(str, arguments)])


@pytest.fixture
def photo(tmp_path):
    write_photo(Photo(PIXELS), tmp_path / "in.png")
    return tmp_path / "in.png"


def test_it_is_deconvolve_varying(tmp_path, photo, complete_model, capsys):
    """In any order, of any sum."""
    order = [2, 0, 3, 1]
    sums = np.arange(1.0, 5.0)[:, None, None]
    np.savez(tmp_path / "k.npz", kernels=(sums * KERNELS)[order], centres=CENTRES[order])
    deblur(photo, tmp_path / "k.npz", "-o", tmp_path / "out.png", "--model", complete_model)
    expected = gx.deconvolve_varying(
        np.float32(PIXELS / 255.0),
        jnp.asarray(KERNELS).reshape(2, 2, 5, 5),
        ([4, 18], [3, 25]),
        gx.load_model(complete_model),
    )
    found = read_photo(tmp_path / "out.png").colour / 255.0
    np.testing.assert_allclose(found, expected.clip(0, 1), atol=0.6 / 255)
    shown = capsys.readouterr().out
    assert "k.npz: 2×2 kernels of 5×5, each divided by its sum; rows 4, 18, columns 3, 25" in shown
    # The same by way of a folder, with a mask and light.
    options = ("--model", complete_model, "--light", "linear", "--mask", tmp_path / "mask.npy")
    np.save(tmp_path / "mask.npy", np.arange(24 * 30).reshape(24, 30) % 17 > 0)
    deblur(photo, tmp_path / "k.npz", "--output-dir", tmp_path / "many", *options)
    deblur(photo, tmp_path / "k.npz", "-o", tmp_path / "one.png", *options)
    many, one = (read_photo(tmp_path / name).colour for name in ("many/in.png", "one.png"))
    np.testing.assert_array_equal(many, one)


@pytest.mark.parametrize(
    ("arrays", "quoted"),
    [
        ({"kernels": KERNELS}, r"no array 'centres' but kernels; save it by numpy\.savez"),
        ({"centres": CENTRES}, "no array 'kernels' but centres"),
        ({"kernels": KERNELS[0], "centres": CENTRES}, r"kernels is float32\(5, 5\); save it"),
        ({"kernels": KERNELS, "centres": CENTRES[:3]}, r"4 kernels need centres of shape \(4, 2\)"),
        (
            {"kernels": KERNELS[:3], "centres": CENTRES[:3]},
            "must be a grid, .* none is at row 18, column 25",
        ),
        ({"kernels": KERNELS, "centres": CENTRES[[0, 1, 2, 2]]}, "several kernels have the same"),
        ({"kernels": KERNELS, "centres": CENTRES * np.nan}, "centres must be finite"),
        (
            {"kernels": KERNELS * [[[1]], [[0]], [[1]], [[1]]], "centres": CENTRES},
            r"k\.npz, kernel at row 4, column 25: kernel has the sum 0",
        ),
        ({"kernels": np.ones((4, 11, 3)), "centres": CENTRES}, "larger than the support 9"),
        ({"kernels": np.array([{}]), "centres": CENTRES}, "it holds objects, which could run code"),
    ],
)
def test_files_that_will_not_do_are_refused(tmp_path, photo, complete_model, arrays, quoted):
    np.savez(tmp_path / "k.npz", **arrays)
    with pytest.raises(SystemExit) as raised:
        deblur(photo, tmp_path / "k.npz", "-o", tmp_path / "out.png", "--model", complete_model)
    assert re.search(quoted, str(raised.value.code)), raised.value.code
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("options", "quoted"),
    [
        (("--boundary", "wrap"), "take --boundary edge or reflect"),
        (("--refine-kernel",), "--refine-kernel is for one kernel"),
        (("--regularization", "0.1"), r"--regularization 0\.1 cannot be told"),
    ],
)
def test_options_for_one_kernel_are_refused(tmp_path, photo, complete_model, options, quoted):
    np.savez(tmp_path / "k.npz", kernels=KERNELS, centres=CENTRES)
    common = (photo, tmp_path / "k.npz", "-o", tmp_path / "out.png", "--model", complete_model)
    with pytest.raises(SystemExit) as raised:
        deblur(*common, *options)
    assert re.search(quoted, str(raised.value.code)), raised.value.code


@pytest.mark.parametrize("bytes_", [b"PK\x03\x04 cut", b"letter", b""])
def test_other_files_are_refused(tmp_path, photo, complete_model, bytes_):
    (tmp_path / "k.npz").write_bytes(bytes_)
    with pytest.raises(SystemExit) as raised:
        deblur(photo, tmp_path / "k.npz", "-o", tmp_path / "out.png", "--model", complete_model)
    assert "k.npz is not a whole .npz file" in str(raised.value.code)
