"""The archive of BSDS500 as its publisher has it: what is in it, and reading it.

Nothing here needs tensorflow-datasets; `bsds500.py`, which loads, and `bsds500_builder.py`, which
prepares, both build on it.
"""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

ARCHIVE_URL = (
    "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz"
)
ARCHIVE_NAME = "BSR_bsds500.tgz"
ARCHIVE_SIZE = 70_763_455
# The publisher gives no checksum. This is the one that several unrelated public projects hold the
# archive to, each beside the same size.
ARCHIVE_SHA256 = "97e49d31764f3912f0c4122707d53062ac9e783ba0f095e447a4d53c1a41af8e"

LICENCE = "Non-commercial research and educational purposes"
SPLIT_SIZES = {"train": 200, "test": 200, "val": 100}

_ARCHIVE_MEMBER = re.compile(r"(?:\./)?BSR/BSDS500/data/images/(train|test|val)/([^/.][^/]*)\.jpg")
# Where `images` may lie below the folder that is given: the archive has it four levels down.
_IMAGES_FOLDERS = ("images", "*/images", "*/*/images", "*/*/*/images")


def find_archive(folder: str | os.PathLike[str]) -> Path | None:
    """Returns the path of the archive if it lies in `folder`, under its official name."""
    path = Path(folder) / ARCHIVE_NAME
    return path if path.is_file() else None


def find_images(folder: str | os.PathLike[str]) -> Path | None:
    """Finds what was unpacked: a folder that has JPEG files in `train`, `test` or `val`.

    Args:
      folder: that folder, or one that has it as `images` in it or up to three levels down.

    Returns:
      Its path, or None. The search ends at the first level that has one.

    Raises:
      NotADirectoryError: `folder` is not a folder.
      ValueError: several folders on one level might be meant.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder; give the one that holds BSDS500")
    levels = [[root]] + [sorted(root.glob(pattern)) for pattern in _IMAGES_FOLDERS]
    for level in levels:
        found = [path for path in level if any(_jpeg_paths(path, s) for s in SPLIT_SIZES)]
        if len(found) > 1:
            raise ValueError(
                f"{root} holds {len(found)} folders that may be BSDS500: {found[0]}, {found[1]}; "
                f"give the one that is meant"
            )
        if found:
            return found[0]
    return None


def read_images(images: Path, splits: Sequence[str] = ()) -> dict[str, dict[str, bytes]]:
    """Reads the encoded images of an unpacked folder, and counts them.

    Args:
      images: what `find_images` found.
      splits: some of `train`, `test`, `val`; by default those that there are.

    Returns:
      The files' bytes, by split and name (the file's name without its ending).

    Raises:
      FileNotFoundError: a split that was asked for is missing.
      ValueError: a split has another number of images than BSDS500.
    """
    paths = {split: _jpeg_paths(images, split) for split in SPLIT_SIZES}
    splits = splits or [split for split in paths if paths[split]]
    _check_counts({split: len(paths[split]) for split in splits}, images)
    return {split: {name: p.read_bytes() for name, p in paths[split].items()} for split in splits}


def read_archive(path: Path) -> dict[str, dict[str, bytes]]:
    """Reads the encoded images of the official archive; see `read_images`.

    Args:
      path: what `find_archive` found.

    Returns:
      The files' bytes, by split and name.

    Raises:
      ValueError: see `check_archive`.
    """
    check_archive(path)
    jpegs: dict[str, dict[str, bytes]] = {split: {} for split in SPLIT_SIZES}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            match = _ARCHIVE_MEMBER.fullmatch(member.name)
            file = archive.extractfile(member) if match and member.isfile() else None
            if match and file:
                jpegs[match[1]][match[2]] = file.read()
    _check_counts({split: len(jpegs[split]) for split in jpegs}, path)
    return jpegs


def check_archive(path: Path) -> None:
    """Raises ValueError unless `path` is the official archive, by its size and its SHA-256."""
    fix = f"download {ARCHIVE_URL} again; if the images are good, unpack them and give their folder"
    size = path.stat().st_size
    if size != ARCHIVE_SIZE:
        fault = "truncated or another file" if size < ARCHIVE_SIZE else "another file"
        raise ValueError(
            f"{path} has {size:,} bytes and the official archive has {ARCHIVE_SIZE:,}: it is "
            f"{fault}; {fix}"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != ARCHIVE_SHA256:
        raise ValueError(
            f"{path} has SHA-256 {digest} and the official archive has {ARCHIVE_SHA256}; {fix}"
        )


def decode_jpeg(data: bytes, name: str) -> np.ndarray:
    """Decodes one JPEG file to uint8 RGB `(H, W, 3)`; ValueError names it if that fails."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"image {name!r} ({len(data):,} bytes) cannot be decoded as JPEG, it may be "
            f"truncated: {error}"
        ) from error


def _jpeg_paths(images: Path, split: str) -> dict[str, Path]:
    # Thumbs.db lies among the images of the official archive; dot files come from macOS.
    files = sorted((images / split).glob("[!.]*"))
    return {p.stem: p for p in files if p.suffix.lower() == ".jpg" and p.is_file()}


def _check_counts(counts: Mapping[str, int], source: Path) -> None:
    for split, count in counts.items():
        if count == 0:
            raise FileNotFoundError(
                f"{source} has no images of split {split!r}; take the official archive "
                f"({ARCHIVE_URL}), which has all three splits"
            )
        if count != SPLIT_SIZES[split]:
            raise ValueError(
                f"{source} has {count} images of split {split!r}, and BSDS500 has "
                f"{SPLIT_SIZES[split]}; unpack the archive anew, or read it as a plain folder of "
                f"images (dataset folder)"
            )
