"""The photographs that a training run learns from."""

from pathlib import Path

import numpy as np

from experiments.training_runs.options import TrainOptions
from glra_jax.datasets import (
    PackedPhotographs,
    dataset_named,
    find_training_photographs,
    load_training_photographs,
    pack_photographs,
)


def load_photographs(options: TrainOptions) -> list[np.ndarray]:
    """Reads the photographs that the options name.

    Args:
      options: of the run.

    Returns:
      uint8 arrays `(H, W)` or `(H, W, 3)`.

    Raises:
      FileNotFoundError: the dataset or a split is missing.
      NotADirectoryError: a folder is not there.
      ValueError: what models are scored on is among them and `allow_leak` is not set, or an image
        cannot be read.
    """
    return list(_by_name(options).values())


def _by_name(options: TrainOptions) -> dict[str, np.ndarray]:
    return load_training_photographs(
        options.dataset,
        options.splits,
        data_dir=options.data_dir,
        allow_leak=options.allow_leak,
    )


def load_packed(options: TrainOptions) -> PackedPhotographs:
    """Packs the same photographs for training; raises if one is smaller than a patch needs."""
    photographs = _by_name(options)
    print(_in_words(options, len(photographs)))
    config = options.config
    channels = max(config.architecture.joint_channels)
    return pack_photographs(photographs, channels=channels, min_side=config.crop)


def find_streamed(options: TrainOptions) -> dict[str, Path]:
    """Files of the same photographs by name, none of which is opened yet."""
    paths = find_training_photographs(
        options.dataset,
        options.splits,
        data_dir=options.data_dir,
        allow_leak=options.allow_leak,
    )
    print(f"{_in_words(options, len(paths))}, read as they are needed")
    return paths


def _in_words(options: TrainOptions, count: int) -> str:
    licence = dataset_named(options.dataset).licence
    terms = f" (licence: {licence})" if licence else ""
    return f"{count} photographs of dataset {options.dataset}{terms}"
