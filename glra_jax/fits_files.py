"""FITS files, through astropy: grey pictures, and cubes of three channels.

Rows are in the order of the file, as astropy gives them; displays show the first one at the bottom.
"""

import gzip
import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from glra_jax.input_files import one_of_many
from glra_jax.photo import Photo

_GZIP = b"\x1f\x8b"
# What gzip unpacks at most: photographs of noise hardly pack, those that are mostly 0 do.
_FREE, _RATIO = 64 * 2**20, 100
SUFFIXES = (".fits", ".fit", ".fts")
_READ = (*SUFFIXES, ".fits.gz", ".fit.gz", ".fits.fz")


def is_fits(path: Path) -> bool:
    """Tells by the name, or by what every FITS file begins with."""
    if path.name.lower().endswith(_READ):
        return True
    with path.open("rb") as file:
        return file.read(9) == b"SIMPLE  ="


def read_fits(path: Path, *, page: int | None = None) -> Photo:
    """Reads the only picture of a FITS file, or the one of a number.

    Scaled and unsigned integers come as they are meant: uint8 and uint16 stay, all else is float32.
    NaN, and what the card BLANK says, are pixels without data.

    Args:
      path: the file.
      page: which of its pictures, from 1 on; None for the only one.

    Returns:
      Colour `(H, W)`, or `(H, W, 3)` of a cube of three channels; the header's cards as metadata.

    Raises:
      ValueError: astropy is missing, several pictures and no `page`, another number of axes, or
        what cannot be read.
    """
    fits = _astropy(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that are not quite to the standard
            with fits.open(_unpacked(path), memmap=False) as units:
                images = [unit for unit in units if unit.is_image]
                for unit in images:
                    _check_size(unit.header, path.stat().st_size)
                found = [
                    (np.asarray(unit.data), unit.header.copy(strip=True))
                    for unit in images
                    if unit.data is not None
                ]
    except Exception as error:  # astropy raises many kinds
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} cannot be read as FITS, it may be truncated: {reason}") from error
    if not found:
        raise ValueError(f"{path} holds no picture; give a FITS file with image data")
    data, header = found[one_of_many(path, len(found), page)]
    data = data.squeeze().astype(data.dtype.newbyteorder("="), copy=False)
    if data.ndim == 3 and data.shape[0] == 3:
        data = np.moveaxis(data, 0, 2)
    elif data.ndim != 2:
        raise ValueError(
            f"{path} holds {data.dtype}{data.shape}; one picture is restored at a time, (H, W) or "
            f"three channels (3, H, W): save it as a file of its own"
        )
    kept = data.dtype.kind == "u" and data.dtype.itemsize <= 2
    data = data if kept else data.astype(np.float32)
    blank = np.isnan(data) if data.ndim == 2 else np.isnan(data).any(axis=2)
    known = ~blank if blank.any() else None
    return Photo(data, metadata={"fits": header.tostring(sep="\n")}, known=known)


def _check_size(header: Any, held: int) -> None:
    """Raises ValueError for a header that announces more than what a file of some bytes holds."""
    sides = [max(int(header.get(f"NAXIS{i + 1}", 0)), 0) for i in range(header.get("NAXIS", 0))]
    announced = math.prod(sides) * abs(int(header.get("BITPIX", 8))) // 8 if sides else 0
    if announced > _FREE + _RATIO * held:  # also of what is packed
        raise ValueError(f"{announced} bytes are announced, and the file has {held}")


def _unpacked(path: Path) -> Path | io.BytesIO:
    """The file, or what is in it where gzip has packed it, of which a little could become much."""
    with path.open("rb") as file:
        if file.read(2) != _GZIP:
            return path
    most = _FREE + _RATIO * path.stat().st_size
    with gzip.open(path) as packed:
        data = packed.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it unpacks to more than {most} bytes; unpack it by gunzip first")
    return io.BytesIO(data)


def write_fits(photo: Photo, buffer: io.BytesIO) -> None:
    """Writes colour in its own dtype, with the cards of the file that it came from."""
    from astropy.io import fits

    cards = photo.metadata.get("fits", "")
    header = fits.Header.fromstring(cards, sep="\n") if cards else None
    colour = photo.colour if photo.colour.ndim == 2 else np.moveaxis(photo.colour, 2, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unit = fits.PrimaryHDU(np.ascontiguousarray(colour), header=header)
        unit.writeto(buffer, output_verify="silentfix")


def check_astropy(path: Path) -> None:
    """Raises ValueError where astropy is missing."""
    _astropy(path)


def _astropy(path: Path) -> Any:
    try:
        from astropy.io import fits
    except ImportError as error:
        raise ValueError(
            f"{path} is a FITS file, which needs astropy: pip install 'glra-jax[fits]'"
        ) from error
    return fits
