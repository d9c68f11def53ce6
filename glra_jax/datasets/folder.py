"""Any folder of photographs, 8 bits a channel, grey or in colour."""

import os
from pathlib import Path

import numpy as np

from glra_jax import validation
from glra_jax.datasets.dataset import Dataset
from glra_jax.photo_files import read_photo

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
ALL = "all"  # the one split of a folder

# Folders that hold BSD100, on which models are scored.
_SCORED_FOLDERS = ("val", "bsd100")


def read_photograph(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads one photograph of 8 bits, upright, without its transparency.

    Args:
      path: a file.

    Returns:
      uint8 `(H, W)` if the file is grey, else `(H, W, 3)`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an image, a truncated one, or one of other pixels than 8-bit grey or RGB.
    """
    colour = read_photo(Path(path)).colour
    if colour.dtype != np.uint8:
        raise ValueError(
            f"{path} has pixels of {8 * colour.itemsize} bits a channel; photographs of a dataset "
            f"have 8-bit ones, convert it first"
        )
    return colour


def find_photographs(folder: str | os.PathLike[str]) -> list[Path]:
    """Finds all photographs in a folder and its subfolders, in the order of their names.

    Hidden files and folders are left out: `._photo.jpg` of macOS is no photograph, and those in
    `.thumbnails` are copies.

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
    paths = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )
    if not paths:
        raise ValueError(f"{root} holds no image ({', '.join(SUFFIXES)})")
    return paths


def folder_photographs(
    split: str = ALL, *, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, np.ndarray]:
    """Photographs of a folder and its subfolders by their path without ending, in its order.

    Args:
      split: `"all"`.
      data_dir: the folder.

    Returns:
      uint8 arrays, see `read_photograph`.

    Raises:
      NotADirectoryError: not a folder.
      ValueError: no folder given, no image in it, one that cannot be read, or two that differ in
        their ending only.
    """
    validation.check_choice(split, "split", (ALL,))
    root = _folder(data_dir)
    photographs: dict[str, np.ndarray] = {}
    for path in find_photographs(root):
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in photographs:
            raise ValueError(f"{root} holds several images named {name}; rename all but one")
        photographs[name] = read_photograph(path)
    return photographs


def folder_files(
    split: str = ALL, *, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, Path]:
    """Files of the same photographs by their path in the folder, in its order; none is opened.

    Args:
      split: `"all"`.
      data_dir: the folder.

    Returns:
      Paths, see `find_photographs`.

    Raises:
      NotADirectoryError: not a folder.
      ValueError: no folder given, or no image in it.
    """
    validation.check_choice(split, "split", (ALL,))
    root = _folder(data_dir)
    return {path.relative_to(root).as_posix(): path for path in find_photographs(root)}


def check_folder_for_training(data_dir: str | os.PathLike[str] | None) -> None:
    """Raises where BSD100 lies under its names: a split's, or those of triplets.

    Folders above the one that is given are not looked at, nor what the photographs show.

    Args:
      data_dir: the folder.

    Raises:
      NotADirectoryError: not a folder.
      ValueError: a photograph in a folder named as BSD100 is, or of a triplet; or no image at all.
    """
    root = _folder(data_dir)
    above = (root.name, root.resolve().name)
    for path in find_photographs(root):
        file = path.resolve()
        # From the folder that was given on, by the names given and by what links point to.
        folders = (*above, *path.relative_to(root).parts[:-1], file.parent.name)
        if named := [folder for folder in folders if folder.lower() in _SCORED_FOLDERS]:
            raise ValueError(
                f"{path} lies in a folder named {named[0]!r}, as BSD100 does, on which models are "
                f"scored; train on other folders, or say --allow-leak if that is meant"
            )
        if file.stem.endswith("_gt") and file.with_stem(f"{file.stem[:-3]}_batch").is_file():
            raise ValueError(
                f"{path} is of a triplet, as the authors released BSD100, on which models are "
                f"scored; train on other folders, or say --allow-leak if that is meant"
            )


def _folder(data_dir: str | os.PathLike[str] | None) -> Path:
    if data_dir is None:
        raise ValueError("dataset 'folder' is any folder of photographs: give data_dir, its path")
    return Path(data_dir)


DATASET = Dataset(
    "folder",
    load=folder_photographs,
    splits={ALL: ALL},
    training_splits=(ALL,),
    test_split=ALL,
    words="folder {folder}",
    check_training=check_folder_for_training,
    licence="That of the photographs",
    find=folder_files,
)
