"""`glra-jax kernel`: files that read as the kernels they are, pictures, and refusals."""

import re

import jax
import numpy as np
import pytest
from PIL import Image

import glra_jax as gx
from glra_jax import cli
from glra_jax.photo_files import read_kernel


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".png"])
@pytest.mark.parametrize(
    ("words", "size", "make"),
    [
        ("gaussian --sigma 1.5", 13, lambda n: gx.gaussian_kernel(sigma=1.5, size=n)),
        ("disk --radius 4.2", 9, lambda n: gx.disk_kernel(radius=4.2, size=n)),
        (
            "motion --extent 5 --seed 3 --size 15",
            15,
            lambda n: gx.motion_kernel(jax.random.key(3), size=n, extent=5.0),
        ),
        ("moffat --fwhm 3 --beta 3", 25, lambda n: gx.moffat_kernel(fwhm=3.0, beta=3.0, size=n)),
        ("airy --radius 3 --size 21", 21, lambda n: gx.airy_kernel(radius=3.0, size=n)),
    ],
)
def test_files_hold_the_kernels(tmp_path, capsys, words, size, make, suffix):
    out, picture = tmp_path / f"k{suffix}", tmp_path / "picture.png"
    cli.main(["kernel", *words.split(), "-o", str(out), "--picture", str(picture)])
    assert f"k{suffix}: {size}×{size}, a" in capsys.readouterr().out.replace(" motion", " a motion")
    kernel = make(size)
    found = read_kernel(out)
    # PNG holds 65535 levels of the largest value.
    tolerance = 1e-8 if suffix != ".png" else 0.51 * float(kernel.max()) / 65535
    scaled = found * (kernel.max() / found.max())
    np.testing.assert_allclose(scaled, kernel, atol=tolerance, rtol=1e-6)
    with Image.open(picture) as image:
        levels = np.asarray(image)
    square = len(levels) // size
    assert levels.shape == (square * size,) * 2
    assert len(levels) >= 384
    middles = levels[square // 2 :: square, square // 2 :: square]
    np.testing.assert_array_equal(middles, np.rint(255 * kernel / kernel.max()))


@pytest.mark.parametrize(
    ("words", "quoted"),
    [
        ("gaussian --sigma 2 --size 16", r"--size must be odd, got 16.*take 17"),
        ("gaussian --sigma 5 --size 11", r"--size 11 is too small.*sigma 5, 55 %.*take 21"),
        ("disk --radius 4 --size 7", r"--size 7 is too small.*radius 4.*take 9 at least"),
        ("motion --extent 7 --size 9", r"--size 9 is too small.*extent 7.*take 15"),
        ("moffat --fwhm 9 --size 9", r"--size 9 is too small.*FWHM 9, beta 2\.5.*take 19"),
        ("airy --radius 5 --size 9", r"--size 9 is too small.*radius 5, 16 %.*take 11"),
        ("gaussian --sigma 1e6", r"sigma 1e\+06 needs 8000001 pixels.*more than the 1023"),
        ("disk --radius 2 --size 1025", r"--size must be at most 1023, got 1025"),
        ("moffat --fwhm 3 --beta 1.0001", r"more than half of its light further than 12 pixels"),
        ("gaussian --sigma 0", r"--sigma must be .* above 0, got 0"),
        ("disk --radius=-1", r"--radius must be .* above 0, got -1"),
        ("motion --extent 0", r"--extent must be .* above 0, got 0"),
        ("moffat --fwhm 0", r"fwhm must be .* above 0, got 0"),
        ("moffat --fwhm 3 --alpha 2", r"one of --fwhm and --alpha, got 3\.0 and 2\.0"),
        ("moffat --fwhm 3 --beta 1", r"beta must be above 1, got 1"),
        ("airy --radius nan", r"--radius must be finite and above 0, got nan"),
    ],
)
def test_refusals_quote_the_value_and_the_fix(tmp_path, words, quoted):
    with pytest.raises(SystemExit) as raised:
        cli.main(["kernel", *words.split(), "-o", str(tmp_path / "k.npy")])
    assert re.search(quoted, str(raised.value.code)), raised.value.code
    assert not list(tmp_path.iterdir())


def test_files_are_not_replaced_unasked(tmp_path):
    (tmp_path / "k.npy").write_bytes(b"precious")
    command = ["kernel", "disk", "--radius", "2", "-o", str(tmp_path / "k.npy")]
    with pytest.raises(SystemExit, match=r"k\.npy exists; choose another name or add --overwrite"):
        cli.main(command)
    assert (tmp_path / "k.npy").read_bytes() == b"precious"
    cli.main([*command, "--overwrite"])
    np.testing.assert_array_equal(np.load(tmp_path / "k.npy"), gx.disk_kernel(radius=2.0, size=5))
