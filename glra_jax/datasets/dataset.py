"""The record of a dataset: how its photographs are had, and which of them may be trained on."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np


class Load(Protocol):
    """Reads the photographs of one split by name: uint8 `(H, W)` or `(H, W, 3)`.

    `data_dir` is where the user keeps the dataset; what it may be is each dataset's own affair.
    """

    def __call__(
        self, split: str, *, data_dir: str | os.PathLike[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Reads them; raises ValueError for an unknown split or a `data_dir` of no use."""


class Find(Protocol):
    """Finds the files of the photographs of one split, by names that are theirs on every machine.

    Only names are looked at, so that a hundred thousand take seconds; nothing is decoded.
    """

    def __call__(
        self, split: str, *, data_dir: str | os.PathLike[str] | None = None
    ) -> dict[str, Path]:
        """Finds them; raises ValueError for an unknown split or a `data_dir` of no use."""


@dataclass(frozen=True)
class Dataset:
    """A named source of photographs.

    Attributes:
      name: By which programs know it.
      load: Reads a split.
      splits: Names of splits, and the split that each stands for (itself, unless it has several
        names).
      training_splits: Those that are trained on unless others are asked for.
      test_split: The one that is scored unless another is asked for.
      words: What results call it, with `{split}` and `{folder}`, the name of `data_dir`, filled in.
      scored: Splits on which models are compared, and what they are; training on them must be
        asked for.
      check_training: `check_training(data_dir)` raises ValueError where what lies there is scored
        on; None where the split says it all.
      licence: Terms of the photographs.
      find: Finds the files of a split, each of which `read_photograph` reads; None where there are
        none, so that the photographs cannot be streamed.
    """

    name: str
    load: Load
    splits: Mapping[str, str]
    training_splits: tuple[str, ...]
    test_split: str
    words: str
    scored: Mapping[str, str] = field(default_factory=dict)
    check_training: Callable[[str | os.PathLike[str] | None], None] | None = None
    licence: str = ""
    find: Find | None = None

    def describe(self, split: str, data_dir: str | os.PathLike[str] | None = None) -> str:
        """Says in words what a split is."""
        folder = Path(data_dir).resolve().name if data_dir is not None else ""
        return self.words.format(split=self.splits[split], folder=folder)
