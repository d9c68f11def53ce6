"""The photographs that a training run learns from."""

from pathlib import Path

import numpy as np

from experiments.training_runs.options import TrainOptions
from glra_jax.datasets import (
    Planes,
    bsds500_training_photographs,
    embedded_photographs,
    find_photographs,
    pack_planes,
    read_photograph,
)

# Folders that hold BSD100, on which models are scored.
_SCORED_FOLDERS = ("val", "bsd100")


def load_photographs(options: TrainOptions) -> list[np.ndarray]:
    """Reads the photographs that the options name.

    Args:
      options: of the run.

    Returns:
      uint8 arrays `(H, W)` or `(H, W, 3)`.

    Raises:
      FileNotFoundError: BSDS500 or a split is missing.
      NotADirectoryError: a folder is not there.
      ValueError: BSD100 is among them and `allow_leak` is not set, or an image cannot be read.
    """
    if options.bsds500 is not None:
        folder = None if str(options.bsds500) == "tfds" else options.bsds500
        photographs = bsds500_training_photographs(
            options.splits, allow_leak=options.allow_leak, folder=folder
        )
        return list(photographs.values())
    if options.images is None:
        return list(embedded_photographs("train").values())
    paths = find_photographs(options.images)
    if not options.allow_leak:
        _check_folders(options.images, paths)
    return [read_photograph(path) for path in paths]


def load_planes(options: TrainOptions) -> Planes:
    """The same photographs packed for training; raises if one is smaller than a patch needs."""
    return pack_planes(load_photographs(options), min_side=options.config.crop)


def _check_folders(root: Path, paths: list[Path]) -> None:
    """Raises ValueError where BSD100 lies under its names: a split's, or those of triplets.

    Folders above the one that was given are not looked at, nor what the photographs show.
    """
    above = (root.name, root.resolve().name)
    for path in paths:
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
