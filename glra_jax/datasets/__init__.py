"""Photographs to train and score on: uint8 arrays by name, `(H, W)` or `(H, W, 3)`."""

from glra_jax.datasets.dataset import Dataset
from glra_jax.datasets.embedded import embedded_photographs
from glra_jax.datasets.folder import find_photographs, folder_photographs, read_photograph
from glra_jax.datasets.packing import PackedPhotographs, pack_photographs, random_patch
from glra_jax.datasets.registry import (
    DATASETS,
    dataset_named,
    find_training_photographs,
    load_photographs,
    load_training_photographs,
)
from glra_jax.datasets.streaming import PhotographStream

__all__ = [
    "DATASETS",
    "Dataset",
    "PackedPhotographs",
    "PhotographStream",
    "dataset_named",
    "embedded_photographs",
    "find_photographs",
    "find_training_photographs",
    "folder_photographs",
    "load_photographs",
    "load_training_photographs",
    "pack_photographs",
    "random_patch",
    "read_photograph",
]
