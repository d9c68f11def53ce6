"""FITS: what astropy writes is read, and what is written astropy reads."""

import numpy as np
import pytest

from glra_jax import fits_files
from glra_jax.photo_files import Photo, read_kernel, read_photo, write_photo

PIXELS = np.arange(60, dtype=np.uint16).reshape(6, 10) * 1000


def by_hand(path, cards: dict[str, object], data: bytes) -> None:
    """A FITS file without any library: cards of 80 characters, blocks of 2880 bytes."""
    head = {"SIMPLE": "T", **cards}
    lines = [f"{name:<8}= {value!s:>20}" for name, value in head.items()] + ["END"]
    text = "".join(line.ljust(80) for line in lines)
    whole = text.ljust(-(-len(text) // 2880) * 2880).encode()
    path.write_bytes(whole + data.ljust(-(-len(data) // 2880) * 2880, b"\0"))


def grey(bits: int, **cards: object) -> dict[str, object]:
    return {"BITPIX": bits, "NAXIS": 2, "NAXIS1": 10, "NAXIS2": 6, **cards}


def test_without_astropy_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "astropy.io", None)
    monkeypatch.setitem(sys.modules, "astropy", None)
    by_hand(tmp_path / "a.fits", grey(16), PIXELS.astype(">i2").tobytes())
    with pytest.raises(ValueError, match=r"a\.fits is a FITS file.*glra-jax\[fits\]"):
        read_photo(tmp_path / "a.fits")
    with pytest.raises(ValueError, match=r"out\.fits is a FITS file.*glra-jax\[fits\]"):
        write_photo(Photo(PIXELS), tmp_path / "out.fits")


def test_unsigned_and_scaled_integers_are_what_they_mean(tmp_path):
    pytest.importorskip("astropy")
    stored = (PIXELS.astype(np.int32) - 32768).astype(">i2").tobytes()
    by_hand(tmp_path / "u.fits", grey(16, BZERO=32768, BSCALE=1), stored)
    found = read_photo(tmp_path / "u.fits").colour
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, PIXELS)

    by_hand(tmp_path / "s.fit", grey(16, BZERO=100.0, BSCALE=0.5), stored)
    found = read_photo(tmp_path / "s.fit").colour
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, 100.0 + 0.5 * (PIXELS.astype(np.float32) - 32768))

    values = PIXELS / 7.0
    by_hand(tmp_path / "f.fits", grey(-64), values.astype(">f8").tobytes())
    np.testing.assert_array_equal(read_kernel(tmp_path / "f.fits"), values.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(6, 10), (6, 10, 3)])
def test_what_is_written_astropy_reads(tmp_path, dtype, shape):
    fits = pytest.importorskip("astropy.io.fits")
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    cards = fits.Header([("OBJECT", "M 31"), ("CRVAL1", 10.5)]).tostring(sep="\n")
    write_photo(Photo(pixels, metadata={"fits": cards}), tmp_path / "out.fits")
    with fits.open(tmp_path / "out.fits") as units:
        stored = units[0].data
        np.testing.assert_array_equal(
            stored if len(shape) == 2 else np.moveaxis(stored, 0, 2), pixels
        )
        assert (units[0].header["OBJECT"], units[0].header["CRVAL1"]) == ("M 31", 10.5)
    found = read_photo(tmp_path / "out.fits")
    assert found.colour.dtype == dtype
    np.testing.assert_array_equal(found.colour, pixels)
    write_photo(found, tmp_path / "again.fits")
    assert (tmp_path / "again.fits").read_bytes() == (tmp_path / "out.fits").read_bytes()


def test_cubes_and_several_pictures_are_refused(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    fits.PrimaryHDU(np.zeros((5, 6, 10), np.float32)).writeto(tmp_path / "cube.fits")
    with pytest.raises(ValueError, match=r"cube\.fits holds float32\(5, 6, 10\)"):
        read_photo(tmp_path / "cube.fits")
    units = [fits.PrimaryHDU(), fits.ImageHDU(PIXELS), fits.ImageHDU(PIXELS[::-1].copy())]
    fits.HDUList(units).writeto(tmp_path / "two.fits")
    with pytest.raises(ValueError, match=r"two\.fits holds 2 pictures"):
        read_photo(tmp_path / "two.fits")
    np.testing.assert_array_equal(read_photo(tmp_path / "two.fits", page=2).colour, PIXELS[::-1])
    fits.PrimaryHDU().writeto(tmp_path / "none.fits")
    with pytest.raises(ValueError, match=r"none\.fits holds no picture"):
        read_photo(tmp_path / "none.fits")


def test_damaged_files_are_named(tmp_path):
    pytest.importorskip("astropy")
    by_hand(tmp_path / "a.fits", grey(16), PIXELS.astype(">i2").tobytes())
    data = (tmp_path / "a.fits").read_bytes()
    for keep in (10, 1000, 2900):
        (tmp_path / "a.fits").write_bytes(data[:keep])
        with pytest.raises(ValueError, match=r"a\.fits"):
            read_photo(tmp_path / "a.fits")


def test_fits_is_told_by_its_beginning_too(tmp_path):
    by_hand(tmp_path / "a.dat", grey(16), PIXELS.astype(">i2").tobytes())
    assert fits_files.is_fits(tmp_path / "a.dat")
