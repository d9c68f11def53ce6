"""Good photographs, kernels and masks in all kinds of files, for the fuzzer to damage."""

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from glra_jax.photo import Photo
from glra_jax.photo_files import write_photo

_HEIGHT, _WIDTH = 24, 32


def pixels(dtype: str = "uint8", channels: int = 3) -> np.ndarray:
    """A slope with noise: `(24, 32, C)`, or `(24, 32)` of one channel."""
    rng = np.random.default_rng(0)
    slope = np.linspace(0.1, 0.8, _WIDTH) + np.linspace(0.0, 0.1, _HEIGHT)[:, None]
    values = slope[..., None] + 0.05 * rng.random((_HEIGHT, _WIDTH, channels))
    if dtype != "float32":
        values = values * np.iinfo(dtype).max
    return values.astype(dtype) if channels > 1 else values[..., 0].astype(dtype)


def kernel() -> np.ndarray:
    """A Gaussian of 9×9 pixels, float64, sum 1."""
    profile = np.exp(-0.5 * (np.arange(-4, 5) / 1.3) ** 2)
    values = np.outer(profile, profile)
    return values / values.sum()


def by_pillow(path: Path) -> None:
    """8-bit RGB with EXIF, in the format of the suffix."""
    exif = Image.Exif()
    exif[274], exif[271] = 6, "camera"  # held sideways; the maker
    buffer = io.BytesIO()
    options = {} if path.suffix in (".bmp", ".gif", ".ppm") else {"exif": exif}
    Image.init()
    Image.fromarray(pixels()).save(buffer, Image.EXTENSION[path.suffix], **options)
    path.write_bytes(buffer.getvalue())


def palette_png(path: Path) -> None:
    """PNG of 16 colours, one of them transparent."""
    Image.fromarray(pixels()).quantize(16).save(path, transparency=3)


def deep(path: Path) -> None:
    """16 bits a channel, in the format of the suffix."""
    write_photo(Photo(pixels("uint16")), path, overwrite=True)


def deep_pgm(path: Path) -> None:
    """Grey PGM of 16 bits."""
    values = pixels("uint16", 1)
    path.write_bytes(b"P5\n%d %d\n65535\n" % (_WIDTH, _HEIGHT) + values.astype(">u2").tobytes())


def float_tiff(path: Path) -> None:
    """Compressed floating-point TIFF in tiles, of another byte order."""
    layout: dict[str, Any] = {"tile": (16, 16), "compression": "zlib", "photometric": "rgb"}
    tifffile.imwrite(path, pixels("float32"), byteorder=">", **layout)


def big_tiff(path: Path) -> None:
    """16-bit BigTIFF of two pages, one of them a preview."""
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(pixels("uint16"), photometric="rgb", compression="zlib")
        file.write(pixels()[::2, ::2], photometric="rgb", subfiletype=1)


def fits(path: Path) -> None:
    """Grey floating-point FITS."""
    write_photo(Photo(pixels("float32", 1)), path, overwrite=True)


def packed_fits(path: Path) -> None:
    """The same, packed by gzip."""
    plain = path.with_name("plain.fits")
    fits(plain)
    path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()


def kernel_npy(path: Path) -> None:
    """A kernel as an array."""
    np.save(path, kernel())


def kernel_png(path: Path) -> None:
    """A kernel as a grey picture."""
    Image.fromarray(np.uint8(255 * kernel() / kernel().max())).save(path)


def kernels_npz(path: Path) -> None:
    """Kernels by name."""
    np.savez(path, one=kernel(), stack=np.stack([kernel(), kernel().T]))


def mask_npy(path: Path) -> None:
    """A mask as an array."""
    mask = np.ones((_HEIGHT, _WIDTH), bool)
    mask[3:6, 4:9] = False
    np.save(path, mask)
