"""Photographs from files: 8-bit arrays, any format that Pillow reads."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def read_photograph(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads one photograph as 8-bit grey or RGB.

    Args:
      path: a file.

    Returns:
      uint8 `(H, W)` if the file is grey, else `(H, W, 3)`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an image, or a truncated one.
    """
    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;16")
            if image.mode in ("I", "F") or image.mode.startswith("I;16"):
                raise ValueError(
                    f"{path} has {image.mode} pixels; 8-bit ones are wanted, convert it first"
                )
            return np.asarray(image.convert("L" if grey else "RGB"))
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image that Pillow can read") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"{path} cannot be read as an image, it may be truncated: {error}"
        ) from error


def find_photographs(folder: str | os.PathLike[str]) -> list[Path]:
    """Finds all photographs in a folder and its subfolders, in the order of their names.

    Args:
      folder: a directory.

    Returns:
      Paths, by their suffix alone.

    Raises:
      NotADirectoryError: `folder` is not a directory.
      ValueError: no image in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder")
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise ValueError(f"{root} holds no image ({', '.join(SUFFIXES)})")
    return paths


def read_folder(folder: str | os.PathLike[str]) -> list[np.ndarray]:
    """Reads all photographs in a folder and its subfolders, in the order of their names.

    Args:
      folder: a directory.

    Returns:
      uint8 arrays, see `read_photograph`.

    Raises:
      NotADirectoryError: `folder` is not a directory.
      ValueError: no image in it, or one that cannot be read.
    """
    return [read_photograph(path) for path in find_photographs(folder)]
