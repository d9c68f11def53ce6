"""Many photographs by one command: what is checked first, what goes on, what is said at the end."""

import os
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import glra_jax as gx
from glra_jax import cli
from glra_jax.commands.plan import plan
from glra_jax.commands.tiles import common_tile
from glra_jax.photo_files import Photo, read_photo, write_photo
from glra_jax.tile_batches import restore_tile


@pytest.fixture
def model(complete_model: Path) -> Path:
    return complete_model


@pytest.fixture
def kernel(tmp_path) -> Path:
    np.save(tmp_path / "kernel.npy", gx.disk_kernel(radius=1.5, size=5))
    return tmp_path / "kernel.npy"


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder of three grey photographs, the second of which is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for place, name in enumerate(("a.png", "c.png")):
        write_photo(Photo(tones(place)), folder / name)
    (folder / "b.png").write_text("Dear Sir or Madam")
    return folder


def tones(seed: int, height: int = 24, width: int = 30) -> np.ndarray:
    """Smooth tones in 8 bits."""
    noise = np.random.default_rng(seed).uniform(size=(4, 5))
    image = Image.fromarray((30 + 190 * noise).astype(np.uint8)).resize((width, height), 3)
    return np.asarray(image)


def deblur(*arguments: object) -> None:
    cli.main(["deblur", *map(str, arguments)])


def fails(*arguments: object) -> str:
    """The line that a command ends with, which exits with 1."""
    with pytest.raises(SystemExit) as raised:
        deblur(*arguments)
    assert isinstance(raised.value.code, str)  # printed on the error stream, and exit status 1
    assert "\n" not in raised.value.code
    return raised.value.code


def expected(photo: Path, kernel: Path, model: Path) -> np.ndarray:
    y = jnp.asarray(read_photo(photo).colour / 255.0, jnp.float32)
    return 255.0 * np.asarray(gx.deconvolve(y, jnp.asarray(np.load(kernel)), gx.load_model(model)))


# --- one kernel for all --------------------------------------------------------------------------


def test_a_bad_file_in_the_middle_ends_nothing_and_the_command_resumes(
    tmp_path, photos, kernel, model, capsys
):
    out = tmp_path / "out"
    command = (photos, kernel, "--output-dir", out, "--model", model)
    assert fails(*command) == f"glra-jax: 1 of 3 photographs failed: {photos / 'b.png'}"
    shown = capsys.readouterr()
    assert shown.err == f"glra-jax: {photos / 'b.png'} is not an image that can be read\n"
    assert shown.out.splitlines()[-1] == "2 restored, 0 skipped, 1 failed"
    assert shown.out.count("kernel.npy: 5×5") == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "c.png"]
    for name in ("a.png", "c.png"):
        restored = read_photo(out / name).colour
        np.testing.assert_allclose(restored, expected(photos / name, kernel, model), atol=0.6)
    # The photograph is mended and one result lost: two are restored, and the third is left.
    write_photo(Photo(tones(2)), photos / "b.png", overwrite=True)
    (out / "c.png").unlink()
    (out / "a.png").write_bytes(b"precious")
    deblur(*command)
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines()[-1] == "2 restored, 1 skipped, 0 failed"
    assert re.search(r"1 of 3, .*a\.png: exists, skipped \(--overwrite", shown.out)
    assert (out / "a.png").read_bytes() == b"precious"
    restored = read_photo(out / "b.png").colour
    np.testing.assert_allclose(restored, expected(photos / "b.png", kernel, model), atol=0.6)
    deblur(*command, "--overwrite")
    assert capsys.readouterr().out.splitlines()[-1] == "3 restored, 0 skipped, 0 failed"
    assert read_photo(out / "a.png").colour.shape == (24, 30)


def test_files_and_folders_each_once_wherever_the_options_stand(
    tmp_path, photos, kernel, model, capsys
):
    (photos / "b.png").unlink()
    (photos / "notes.txt").write_text("none")
    (photos / ".hidden.png").write_text("none")
    write_photo(Photo(tones(3)), tmp_path / "d.bmp")
    deblur(
        *(tmp_path / "d.bmp", "--output-dir", tmp_path / "out", photos / "a.png", photos, kernel),
        *("--model", model, "--suffix", "png"),
    )
    shown = capsys.readouterr().out
    assert f"{photos}: 1 files that are no photographs by name are left out" in shown
    assert shown.splitlines()[-1] == "3 restored, 0 skipped, 0 failed"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "c.png", "d.png"]


def test_a_photograph_that_its_format_cannot_hold_or_that_is_gone(
    tmp_path, photos, kernel, model, capsys
):
    deep = Photo((257 * tones(1).astype(int)).astype(np.uint16))
    write_photo(deep, tmp_path / "deep.png")
    line = fails(
        *(tmp_path / "deep.png", tmp_path / "gone.png", photos / "a.png", kernel),
        *("--output-dir", tmp_path / "out", "--model", model, "--suffix", ".jpg"),
    )
    assert "2 of 3" in line
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "JPEG cannot hold 16 bits" in said[0]
    assert re.search(r"No such file or directory: '.*gone\.png'", said[1])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.jpg"]


# --- kernels of their own ------------------------------------------------------------------------


def test_a_folder_of_kernels_goes_by_names(tmp_path, photos, model, capsys):
    (photos / "b.png").unlink()
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    np.save(kernels / "a.npy", gx.disk_kernel(radius=1.5, size=5))
    np.save(kernels / "other.npy", np.ones((2, 2, 2)))
    command = (photos, kernels, "--output-dir", tmp_path / "out", "--model", model)
    assert "no kernel of the name of " + str(photos / "c.png") in fails(*command)
    assert not (tmp_path / "out").exists()
    np.save(kernels / "c.npy", gx.gaussian_kernel(sigma=1.0, size=7))
    deblur(*command)
    for name in ("a", "c"):
        found = read_photo(tmp_path / "out" / f"{name}.png").colour
        wanted = expected(photos / f"{name}.png", kernels / f"{name}.npy", model)
        np.testing.assert_allclose(found, wanted, atol=0.6)
    # A kernel that is none is its photograph's failure alone.
    np.save(kernels / "a.npy", np.zeros((3, 3)))
    capsys.readouterr()
    assert "1 of 2" in fails(*command, "--overwrite")
    shown = capsys.readouterr()
    assert re.fullmatch(r"glra-jax: .*a\.png: .*a\.npy: kernel has the sum 0.*\n", shown.err)
    assert "1 restored, 0 skipped, 1 failed" in shown.out
    Image.fromarray(np.eye(3, dtype=np.uint8)).save(kernels / "a.png")
    assert re.search(r"several kernels, .*a\.npy, .*a\.png; keep one", fails(*command))


# --- what is checked before ----------------------------------------------------------------------


def test_what_is_refused_before_anything_is_read(tmp_path, photos, kernel, model, monkeypatch):
    monkeypatch.setattr("glra_jax.commands.deblur.read_photo", None)
    out = tmp_path / "out"
    base = ("--model", model)
    (tmp_path / "x").mkdir()
    write_photo(Photo(tones(0)), tmp_path / "x" / "a.png")
    write_photo(Photo(tones(0)), photos / "a.bmp")
    one = photos / "a.png"

    def attempt(quoted: str, *arguments: object) -> None:
        assert re.search(quoted, line := fails(*arguments, *base)), line
        assert not out.exists()

    to = ("--output-dir", out)
    attempt(r"a\.png and .*x/a\.png would both be written to .*out/a\.png",
            one, tmp_path / "x" / "a.png", kernel, *to)  # fmt: skip
    attempt(r"a\.bmp and .*a\.png would both be written to .*out/a\.png",
            photos, kernel, *to, "--suffix", ".png")  # fmt: skip
    attempt(r"--suffix must be one of .*\.png.*, got 'gif'", one, kernel, *to, "--suffix", "gif")
    attempt(r"kernel\.npy is an array, and arrays are restored one at a time; give -o OUT\.npy",
            one, kernel, kernel, *to)  # fmt: skip
    attempt("say where to write: -o OUT", one, kernel)
    attempt("both given", one, kernel, *to, "-o", tmp_path / "o.png")
    attempt(r"-o .*o\.png is one file, and 2 photographs", one, one, kernel, "-o",
            tmp_path / "o.png")  # fmt: skip
    attempt(r"photos is a folder, and -o", photos, kernel, "-o", tmp_path / "o.png")
    attempt(r"--suffix png is for --output-dir", one, kernel, "-o", tmp_path / "o", "--suffix",
            "png")  # fmt: skip
    attempt("is the folder of the photographs", photos, kernel, "--output-dir", photos)
    attempt("one of the files to read", one, kernel, "--output-dir", photos)
    attempt("there is no folder .*gone to make it in", one, kernel, "--output-dir",
            tmp_path / "gone" / "out")  # fmt: skip
    attempt(r"--output-dir .*a\.png is a file", one, kernel, "--output-dir", one)
    nowhere = tmp_path / "link"
    nowhere.symlink_to(tmp_path / "gone")
    attempt(r"link is a link to .*gone, which does not exist", one, kernel, "--output-dir",
            nowhere)  # fmt: skip
    attempt(r"no file .*gone\.npy", one, tmp_path / "gone.npy", *to)
    attempt(r"--scale must be .* above 0, got 0", one, kernel, *to, "--scale", 0)
    attempt(r"noise must be .*-1", one, kernel, *to, "--noise=-1")
    np.save(tmp_path / "large.npy", np.ones((11, 11)))
    attempt(r"large\.npy: .*\(11, 11\).*support 9", one, tmp_path / "large.npy", *to)
    (tmp_path / "empty").mkdir()
    attempt(r"empty holds no photographs", tmp_path / "empty", kernel, *to)


def test_the_kernel_in_the_folder_is_no_photograph_and_formats_change_where_they_must(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("k.png", "a.JPG", "b.gif", "c.fits.gz", "d.tif"):
        (folder / name).touch()
    options = cli.Deblur(folder, folder / "k.png", output_dir=tmp_path / "out", preview=True)
    jobs = plan(options, tmp_path / "out").jobs
    assert [job.output.name for job in jobs] == ["a.JPG", "b.png", "c.fits", "d.tif"]
    assert jobs[2].preview == tmp_path / "out" / "c.preview.png"
    assert not (tmp_path / "out").exists()


# --- previews ------------------------------------------------------------------------------------


def test_a_preview_shows_before_and_after_and_replaces_nothing(
    tmp_path, photos, kernel, model, capsys
):
    deep = Photo((257 * tones(0).astype(int)).astype(np.uint16))
    write_photo(deep, tmp_path / "deep.tif")
    one = (tmp_path / "deep.tif", kernel, "-o", tmp_path / "sharp.tif", "--model", model)
    deblur(*one, "--preview")
    with Image.open(tmp_path / "sharp.preview.png") as image:
        assert (image.mode, image.size) == ("L", (60, 24))
        shown = np.asarray(image)
    np.testing.assert_array_equal(shown[:, :30], tones(0))
    after = read_photo(tmp_path / "sharp.tif").colour
    assert after.dtype == np.uint16
    np.testing.assert_array_equal(shown[:, 30:], np.rint(after / 257))
    (tmp_path / "sharp.tif").unlink()
    assert re.search(r"sharp\.preview\.png exists", fails(*one, "--preview"))
    assert not (tmp_path / "sharp.tif").exists()
    # Many: the preview of what was restored before is made of the files.
    (photos / "b.png").unlink()
    many = (photos, kernel, "--output-dir", tmp_path / "out", "--model", model)
    deblur(*many)
    capsys.readouterr()
    deblur(*many, "--preview")
    assert "0 restored, 2 skipped, 0 failed" in capsys.readouterr().out
    pair = [read_photo(folder / "c.png").colour for folder in (photos, tmp_path / "out")]
    np.testing.assert_array_equal(
        read_photo(tmp_path / "out" / "c.preview.png").colour, np.concatenate(pair, axis=1)
    )
    (tmp_path / "out" / "a.preview.png").write_bytes(b"precious")
    os.unlink(tmp_path / "out" / "a.png")
    assert "1 of 2 photographs failed" in fails(*many, "--preview")
    assert (tmp_path / "out" / "a.preview.png").read_bytes() == b"precious"
    assert not (tmp_path / "out" / "a.png").exists()


# --- tiles ---------------------------------------------------------------------------------------


def test_photographs_of_all_sizes_share_few_tiles():
    sizes = np.random.default_rng(0).integers(20, 6000, 400)
    sides = {size: common_tile(size, 1, largest=768, margins=(112, 112))[0] for size in sizes}
    assert set(sides.values()) <= {768, 512, 384, 256, 192}
    for size, side in sides.items():
        work = -(-size // side) * (side + 112)
        best = min(-(-size // s) * (s + 112) for s in (768, 512, 384, 256, 192))
        assert work <= 1.1 * best
    assert common_tile(4000, 3000, largest=768, margins=(112, 112)) == (768, 768)
    assert common_tile(321, 481, largest=768, margins=(112, 112)) == (384, 512)
    assert common_tile(1, 1, largest=1, margins=(0, 0)) == (1, 1)


def test_photographs_of_several_sizes_compile_one_program(tmp_path, kernel, model):
    sizes = ((60, 80), (70, 64), (80, 60))
    for place, size in enumerate(sizes):
        write_photo(Photo(tones(place, *size)), tmp_path / f"{place}.png")
    files = [tmp_path / f"{place}.png" for place in range(3)]
    restore_tile.clear_cache()
    deblur(*files, kernel, "--output-dir", tmp_path / "out", "--model", model)
    assert restore_tile._cache_size() == 1
    for file in files:
        found = read_photo(tmp_path / "out" / file.name).colour
        np.testing.assert_allclose(found, expected(file, kernel, model), atol=0.6)
