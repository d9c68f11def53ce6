"""Photographs to train and score on."""

from glra_jax.datasets.bsds500 import (
    bsds500_photographs,
    bsds500_training_photographs,
)
from glra_jax.datasets.embedded import embedded_photographs
from glra_jax.datasets.files import find_photographs, read_folder, read_photograph
from glra_jax.datasets.planes import Planes, pack_planes

__all__ = [
    "Planes",
    "bsds500_photographs",
    "bsds500_training_photographs",
    "embedded_photographs",
    "find_photographs",
    "pack_planes",
    "read_folder",
    "read_photograph",
]
