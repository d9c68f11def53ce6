"""BSDS500: 500 photographs of 321 x 481 pixels, upright or lying, by split.

Arbelaez, Maire, Fowlkes and Malik, "Contour Detection and Hierarchical Image Segmentation",
IEEE TPAMI 33(5), 2011; for non-commercial research and teaching. The splits are `train` (200),
`test` (200) and `val` (100). `val` is also named `bsd100`: the paper's Table 2 scores those
images, so training on them is refused unless asked for by name.

The photographs come from the official archive, which is downloaded, or lies in `manual_dir`, and
is prepared once by tensorflow-datasets (`bsds500_builder.py`); or straight from a folder where the
archive was unpacked, for which tensorflow-datasets is not needed.
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

from glra_jax import validation

ARCHIVE_URL = (
    "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz"
)
ARCHIVE_NAME = "BSR_bsds500.tgz"
ARCHIVE_SIZE = 70_763_455
# The publisher gives no checksum. This is the one that several unrelated public projects hold the
# archive to, each beside the same size.
ARCHIVE_SHA256 = "97e49d31764f3912f0c4122707d53062ac9e783ba0f095e447a4d53c1a41af8e"

SPLIT_SIZES = {"train": 200, "test": 200, "val": 100}
SPLITS = {"train": "train", "test": "test", "val": "val", "bsd100": "val"}

_ARCHIVE_MEMBER = re.compile(r"(?:\./)?BSR/BSDS500/data/images/(train|test|val)/([^/.][^/]*)\.jpg")
# Where `images` may lie below the folder that is given: the archive has it four levels down.
_IMAGES_FOLDERS = ("images", "*/images", "*/*/images", "*/*/*/images")


def bsds500_photographs(
    split: str,
    *,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
) -> dict[str, np.ndarray]:
    """Photographs of one split by name, in the order of the names.

    With `folder`, its files are read and nothing is written. Without, the dataset prepared in
    `data_dir` is read; if there is none yet, it is made of what lies in `manual_dir`, else the
    archive (71 MB) is downloaded for it. Once the files are there, nothing needs a network.

    Args:
      split: `"train"`, `"test"`, `"val"`, or `"bsd100"`, which is `val` by another name.
      folder: where the archive was unpacked: any folder with `images/train`, `images/test` or
        `images/val` in it or up to three levels down, or the `images` folder itself.
      data_dir: where prepared data is kept; by default that of tensorflow-datasets
        (`$TFDS_DATA_DIR`, else `~/tensorflow_datasets`).
      manual_dir: a folder with `BSR_bsds500.tgz` or what was unpacked from it; by default
        `downloads/manual` in `data_dir`, if the archive lies there.

    Returns:
      uint8 arrays `(H, W, 3)`, RGB.

    Raises:
      FileNotFoundError: no BSDS500 in `folder` or `manual_dir`, or this split is not in it.
      ImportError: tensorflow-datasets is missing and no `folder` is given.
      NotADirectoryError: `folder` or `manual_dir` is not a folder.
      OSError: the download failed.
      ValueError: unknown split, `folder` along with the other two, a truncated or foreign archive,
        another number of images than BSDS500 has, or one that cannot be decoded.
    """
    validation.check_choice(split, "split", tuple(SPLITS))
    if folder is not None:
        if data_dir is not None or manual_dir is not None:
            raise ValueError(
                f"folder={str(folder)!r} is read as it is; give it without data_dir and manual_dir"
            )
        images = find_images(folder)
        if images is None:
            raise FileNotFoundError(
                f"{folder} holds no unpacked BSDS500: no JPEG files in images/train, images/test "
                f"or images/val, here or up to three levels down; an archive goes in manual_dir"
            )
        jpegs = read_images(images, (SPLITS[split],))[SPLITS[split]]
    else:
        try:
            from glra_jax.datasets import bsds500_builder
        except ImportError as error:
            raise ImportError(
                "BSDS500 is prepared by tensorflow-datasets: pip install 'glra-jax[experiments]', "
                "or unpack the archive and give its folder (folder=...)"
            ) from error
        jpegs = bsds500_builder.prepared_jpegs(
            SPLITS[split], data_dir=data_dir, manual_dir=manual_dir
        )
    return {name: decode_jpeg(jpegs[name], name) for name in sorted(jpegs)}


def bsds500_training_photographs(
    splits: Sequence[str] = ("train", "test"),
    *,
    allow_leak: bool = False,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
) -> dict[str, np.ndarray]:
    """Photographs to train on, of several splits together; see `bsds500_photographs`.

    Args:
      splits: which ones.
      allow_leak: train on `val`, which is BSD100, on purpose.
      folder: see `bsds500_photographs`.
      data_dir: see `bsds500_photographs`.
      manual_dir: see `bsds500_photographs`.

    Returns:
      uint8 arrays `(H, W, 3)` by name, split after split.

    Raises:
      ValueError: see `check_training_splits` and `bsds500_photographs`, or two splits have an
        image of the same name.
    """
    check_training_splits(splits, allow_leak=allow_leak)
    photographs: dict[str, np.ndarray] = {}
    for split in splits:
        more = bsds500_photographs(split, folder=folder, data_dir=data_dir, manual_dir=manual_dir)
        if twice := sorted(photographs.keys() & more.keys()):
            raise ValueError(
                f"{len(twice)} images of split {split!r} are in an earlier one of {list(splits)} "
                f"too, among them {twice[0]}; BSDS500's splits share none, so unpack it anew"
            )
        photographs |= more
    return photographs


def check_training_splits(splits: Sequence[str], *, allow_leak: bool = False) -> None:
    """Raises unless `splits` may be trained on.

    Args:
      splits: names of splits.
      allow_leak: let `val` (`bsd100`) pass.

    Raises:
      TypeError: `splits` is a string.
      ValueError: no split, an unknown one, one twice, or `val` without `allow_leak`.
    """
    if isinstance(splits, str):
        raise TypeError(f"splits must be a sequence of names, got {splits!r}; give ({splits!r},)")
    if not splits:
        raise ValueError(f"splits is empty; name one or more of {', '.join(SPLITS)}")
    for split in splits:
        validation.check_choice(split, "split", tuple(SPLITS))
    folders = [SPLITS[split] for split in splits]
    if len(set(folders)) != len(folders):
        raise ValueError(f"splits {list(splits)} hold the same images twice; name each split once")
    if "val" in folders and not allow_leak:
        raise ValueError(
            f"split {splits[folders.index('val')]!r} is BSD100, the 100 images that the paper's "
            f"Table 2 scores: a model trained on them is tested on what it has seen, and its "
            f"figures compare with no other. Train on 'train' and 'test'; to repeat the leak of "
            f"the released code on purpose, say allow_leak=True"
        )


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
    mend = (
        f"download {ARCHIVE_URL} again; if the images are good, unpack them and give their folder"
    )
    size = path.stat().st_size
    if size != ARCHIVE_SIZE:
        fault = "truncated or another file" if size < ARCHIVE_SIZE else "another file"
        raise ValueError(
            f"{path} has {size:,} bytes and the official archive has {ARCHIVE_SIZE:,}: it is "
            f"{fault}; {mend}"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != ARCHIVE_SHA256:
        raise ValueError(
            f"{path} has SHA-256 {digest} and the official archive has {ARCHIVE_SHA256}; {mend}"
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
                f"images (read_folder)"
            )
