"""`glra-jax deblur --refine-kernel`."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

import glra_jax as gx
from glra_jax import cli
from glra_jax.light import to_linear
from glra_jax.photo_files import Photo, read_photo, write_photo


def deblur(*arguments: object) -> None:
    cli.main(["deblur", *map(str, arguments)])


@pytest.fixture
def files(tmp_path, complete_model) -> tuple[object, ...]:
    """A photograph blurred by a disk of 2.5 pixels, a kernel of 2.2, and a model."""
    sharp = np.float32(skimage.data.coffee()[60:260, 120:320].mean(axis=2) / 255.0)
    y = gx.blur(jnp.asarray(sharp), gx.disk_kernel(radius=2.5, size=9), boundary="edge")
    y += 0.003 * np.random.default_rng(0).standard_normal(y.shape)
    write_photo(Photo(np.uint8(np.rint(255 * np.clip(y, 0, 1)))), tmp_path / "in.png")
    np.save(tmp_path / "disk.npy", gx.disk_kernel(radius=2.2, size=7))
    return tmp_path / "in.png", tmp_path / "disk.npy", "--model", complete_model


@pytest.mark.parametrize("light", ["srgb", "linear"])
def test_it_is_said_and_the_kernel_is_that_of_refine_kernel(tmp_path, files, capsys, light):
    deblur(*files, "-o", tmp_path / "out.png", "--refine-kernel", "--light", light)
    shown = capsys.readouterr().out
    y = np.float32(read_photo(files[0]).colour) / np.float32(255)
    seen = to_linear(y) if light == "linear" else y
    found = gx.refine_kernel(seen, np.load(files[1]))
    said = re.search(r"in\.png: the kernel is refined, ([\d.]+) times as large", shown)
    assert said is not None, shown
    assert float(said[1]) == pytest.approx(found.scale, abs=6e-4)
    if light == "srgb":
        assert 2.2 * found.scale == pytest.approx(2.5, abs=0.05)
        np.save(tmp_path / "found.npy", found.kernel)
        deblur(files[0], tmp_path / "found.npy", *files[2:], "-o", tmp_path / "again.png")
        again = read_photo(tmp_path / "again.png").colour
        out = read_photo(tmp_path / "out.png").colour
        # A file's kernel is divided by its sum once more, which rounds another way.
        np.testing.assert_allclose(out.astype(float), again, atol=1)


def test_a_small_photograph_is_refused(tmp_path, files, capsys):
    write_photo(Photo(np.full((40, 60), 100, np.uint8)), tmp_path / "small.png")
    with pytest.raises(SystemExit) as raised:
        deblur(tmp_path / "small.png", *files[1:], "-o", tmp_path / "out.png", "--refine-kernel")
    assert re.search(r"small\.png: --refine-kernel: y of 40×60 pixels", str(raised.value.code))


def test_a_kernel_that_is_kept_is_said(tmp_path, files, capsys):
    write_photo(Photo(np.full((60, 60), 100, np.uint8)), tmp_path / "flat.png")
    deblur(tmp_path / "flat.png", *files[1:], "-o", tmp_path / "out.png", "--refine-kernel")
    assert "flat.png: the kernel is kept as it is" in capsys.readouterr().out
