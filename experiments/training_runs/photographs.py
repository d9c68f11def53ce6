"""The photographs that a training run learns from."""

import numpy as np

from experiments.training_runs.options import TrainOptions
from glra_jax.datasets import (
    PackedPhotographs,
    dataset_named,
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
    licence = dataset_named(options.dataset).licence
    terms = f" (licence: {licence})" if licence else ""
    print(f"{len(photographs)} photographs of dataset {options.dataset}{terms}")
    config = options.config
    channels = max(config.architecture.joint_channels)
    return pack_photographs(photographs, channels=channels, min_side=config.crop)
