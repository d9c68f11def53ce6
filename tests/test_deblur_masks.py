"""`glra-jax deblur` of photographs with pixels that are no data."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from glra_jax import cli
from glra_jax.photo_files import Photo, read_mask, read_photo, write_photo

ROWS, COLUMNS = np.mgrid[:24, :30]
SMOOTH = np.float32(0.5 + 0.3 * np.sin(ROWS / 6.0) * np.cos(COLUMNS / 7.0))
DEAD = np.zeros((24, 30), bool)
DEAD[3:6, 4:7] = DEAD[15, 20] = True


@pytest.fixture
def files(tmp_path, complete_model) -> tuple[object, ...]:
    """A delta for a kernel, and options."""
    np.save(tmp_path / "kernel.npy", np.pad([[1.0]], 1))
    return tmp_path / "kernel.npy", "--model", complete_model


def deblur(*arguments: object) -> None:
    cli.main(["deblur", *map(str, arguments)])


def refused(*arguments: object) -> str:
    with pytest.raises(SystemExit) as raised:
        deblur(*arguments)
    assert isinstance(raised.value.code, str)
    return raised.value.code


def white_where_they_count(path: Path) -> Path:
    Image.fromarray(np.uint8(255 * ~DEAD)).save(path)
    return path


def test_dead_pixels_are_restored_from_those_around(tmp_path, files, capsys):
    whole = np.uint8(np.rint(255 * SMOOTH))
    mask = white_where_they_count(tmp_path / "mask.png")
    outputs = []
    for name, values in (("a", 0), ("b", 255)):
        Image.fromarray(np.where(DEAD, values, whole).astype(np.uint8)).save(
            tmp_path / f"{name}.png"
        )
        output = tmp_path / f"{name}-out.png"
        deblur(tmp_path / f"{name}.png", *files, "--mask", mask, "-o", output)
        outputs.append(read_photo(output).colour)
    np.testing.assert_array_equal(*outputs)
    np.testing.assert_allclose(outputs[0].astype(float), whole, atol=6)
    assert "a.png: 10 of 720 pixels are no data (--mask" in capsys.readouterr().out


def test_nan_in_fits_is_no_data(tmp_path, files, capsys):
    fits = pytest.importorskip("astropy.io.fits")
    counts = np.where(DEAD, np.nan, 1000 * SMOOTH)
    fits.PrimaryHDU(counts).writeto(tmp_path / "sky.fits")
    deblur(
        *(tmp_path / "sky.fits", *files, "-o", tmp_path / "out.fits"),
        *("--scale", 1000, "--preview"),
    )
    found = read_photo(tmp_path / "out.fits")
    assert found.known is None
    np.testing.assert_allclose(found.colour, 1000 * SMOOTH, atol=25)
    assert "sky.fits: 10 of 720 pixels are no data (NaN);" in capsys.readouterr().out
    # With a mask of others besides; infinite values are for the mask.
    counts[20, 2:4] = 1e9, np.inf
    fits.PrimaryHDU(counts).writeto(tmp_path / "sky.fits", overwrite=True)
    common = (tmp_path / "sky.fits", *files, "-o", tmp_path / "two.fits", "--scale", 1000)
    assert "sky.fits holds 1 NaN or infinite values of 720; replace them, or" in refused(*common)
    good = np.ones((24, 30), bool)
    good[20, 2:4] = False
    np.save(tmp_path / "good.npy", good)
    deblur(*common, "--mask", tmp_path / "good.npy")
    np.testing.assert_allclose(read_photo(tmp_path / "two.fits").colour, 1000 * SMOOTH, atol=25)
    assert "12 of 720 pixels are no data (NaN and --mask" in capsys.readouterr().out
    fits.PrimaryHDU(np.full((24, 30), np.nan)).writeto(tmp_path / "nan.fits")
    last = (*files, "-o", tmp_path / "no.fits", "--scale", 1000)
    assert "has no pixel that is data" in refused(tmp_path / "nan.fits", *last)


def test_a_blank_in_integers_is_no_data(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    unit = fits.PrimaryHDU(np.int16(np.where(DEAD, -9, 1000 * SMOOTH)))
    unit.header["BLANK"] = -9
    unit.writeto(tmp_path / "sky.fits")
    photo = read_photo(tmp_path / "sky.fits")
    np.testing.assert_array_equal(photo.known, ~DEAD)
    assert photo.colour.dtype == np.float32


def test_nan_in_tiff_needs_a_mask(tmp_path, files):
    tifffile.imwrite(tmp_path / "in.tif", np.where(DEAD, np.nan, SMOOTH))
    common = (tmp_path / "in.tif", *files, "-o", tmp_path / "out.tif")
    assert "in.tif holds 10 NaN or infinite values of 720" in refused(*common)
    deblur(*common, "--mask", white_where_they_count(tmp_path / "mask.png"))
    np.testing.assert_allclose(read_photo(tmp_path / "out.tif").colour, SMOOTH, atol=0.025)


def test_masks_in_files_have_two_values(tmp_path, files):
    Image.fromarray(np.uint8(200 * ~DEAD)[..., None].repeat(3, 2)).save(tmp_path / "rgb.png")
    tifffile.imwrite(tmp_path / "deep.tif", np.float32(~DEAD))
    for name in ("rgb.png", "deep.tif"):
        np.testing.assert_array_equal(read_mask(tmp_path / name), ~DEAD)
    write_photo(Photo(np.uint8(np.rint(255 * SMOOTH))), tmp_path / "in.png")
    common = (tmp_path / "in.png", *files, "-o", tmp_path / "out.png", "--mask")
    for name, values, quoted in (
        ("grey", np.uint8(1 + COLUMNS), "grey.npy has values from 1 to 30 besides 0"),
        ("black", np.uint8(0 * COLUMNS), "black.npy is 0 everywhere"),
        ("small", np.ones((24, 29), bool), "small.npy has 24×29 pixels, and"),
        ("cube", np.ones((24, 30, 3), bool), "a mask is two-dimensional"),
        ("nan", np.where(DEAD, np.nan, 1.0), "nan.npy has values from nan"),
    ):
        np.save(tmp_path / f"{name}.npy", values)
        assert quoted in refused(*common, tmp_path / f"{name}.npy")
    assert not (tmp_path / "out.png").exists()


def test_many_photographs_share_a_mask_which_is_none_of_them(tmp_path, files, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    whole = np.uint8(np.rint(255 * SMOOTH))
    Image.fromarray(np.where(DEAD, 255, whole).astype(np.uint8)).save(folder / "a.png")
    Image.fromarray(whole[:-1]).save(folder / "b.png")
    mask = white_where_they_count(folder / "mask.png")
    common = (folder, *files, "--mask", mask)
    message = refused(*common, "--output-dir", tmp_path / "out")
    assert "1 of 2 photographs failed: " in message
    assert "b.png" in message
    shown = capsys.readouterr()
    assert "has 24×30 pixels, and" in shown.err
    found = read_photo(tmp_path / "out" / "a.png").colour
    np.testing.assert_allclose(found.astype(float), whole, atol=6)
    assert not (tmp_path / "out" / "mask.png").exists()
