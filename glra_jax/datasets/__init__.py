"""Photographs to train and score on."""

from glra_jax.datasets.embedded import embedded_photographs
from glra_jax.datasets.files import read_folder, read_photograph
from glra_jax.datasets.planes import Planes, pack_planes

__all__ = [
    "Planes",
    "embedded_photographs",
    "pack_planes",
    "read_folder",
    "read_photograph",
]
