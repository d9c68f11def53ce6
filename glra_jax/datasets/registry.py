"""Datasets by name. A new one is a file with a record, and a line here."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from glra_jax import validation
from glra_jax.datasets import bsds500, embedded, folder
from glra_jax.datasets.dataset import Dataset

T = TypeVar("T")

_RECORDS = (embedded.DATASET, bsds500.DATASET, folder.DATASET)
DATASETS: dict[str, Dataset] = {record.name: record for record in _RECORDS}


def dataset_named(name: str) -> Dataset:
    """Looks up a dataset.

    Args:
      name: one in `DATASETS`.

    Returns:
      Its record.

    Raises:
      ValueError: unknown name.
    """
    validation.check_choice(name, "dataset", tuple(DATASETS))
    return DATASETS[name]


def load_photographs(
    name: str, split: str | None = None, *, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, np.ndarray]:
    """Reads the photographs of one split of a dataset.

    Args:
      name: of the dataset.
      split: one of its splits; by default its test split.
      data_dir: where the dataset lies, see its loader.

    Returns:
      uint8 arrays, `(H, W)` or `(H, W, 3)`, by name.

    Raises:
      ImportError: a library for the dataset is missing.
      OSError: the dataset is not there, or cannot be downloaded.
      ValueError: unknown dataset or split, a `data_dir` of no use, or a file that cannot be read.
    """
    dataset = dataset_named(name)
    return dataset.load(split or dataset.test_split, data_dir=data_dir)


def load_training_photographs(
    name: str,
    splits: Sequence[str] | None = None,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    allow_leak: bool = False,
) -> dict[str, np.ndarray]:
    """Reads photographs to train on, of several splits together.

    Args:
      name: of the dataset.
      splits: some of its splits; by default those meant for training.
      data_dir: where the dataset lies, see its loader.
      allow_leak: train on what models are scored on (BSD100 above all) on purpose.

    Returns:
      uint8 arrays, `(H, W)` or `(H, W, 3)`, by name, split after split.

    Raises:
      ImportError: a library for the dataset is missing.
      OSError: the dataset is not there, or cannot be downloaded.
      TypeError: `splits` is a string.
      ValueError: see `check_training_splits`; photographs that models are scored on without
        `allow_leak`; two splits with an image of the same name; and what the loader refuses.
    """
    dataset = dataset_named(name)
    return _of_splits(dataset, dataset.load, splits, data_dir, allow_leak)


def find_training_photographs(
    name: str,
    splits: Sequence[str] | None = None,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    allow_leak: bool = False,
) -> dict[str, Path]:
    """Finds the files of photographs to train on, without opening them; for more than memory holds.

    Args:
      name: of a dataset whose photographs are files.
      splits: as for `load_training_photographs`.
      data_dir: as there.
      allow_leak: as there.

    Returns:
      Paths by name, split after split, which `read_photograph` reads.

    Raises:
      OSError: the dataset is not there.
      TypeError: `splits` is a string.
      ValueError: a dataset whose photographs are no files; else as `load_training_photographs`.
    """
    dataset = dataset_named(name)
    if dataset.find is None:
        streamed = ", ".join(record.name for record in _RECORDS if record.find is not None)
        raise ValueError(
            f"dataset {name!r} cannot be streamed, as its photographs are no files of their own; "
            f"train without streaming, or put them into a folder ({streamed} can be)"
        )
    return _of_splits(dataset, dataset.find, splits, data_dir, allow_leak)


def _of_splits(
    dataset: Dataset,
    get: Callable[..., dict[str, T]],
    splits: Sequence[str] | None,
    data_dir: str | os.PathLike[str] | None,
    allow_leak: bool,
) -> dict[str, T]:
    """What `get` gives for splits that may be trained on, by name."""
    splits = dataset.training_splits if splits is None else splits
    check_training_splits(dataset, splits, allow_leak=allow_leak)
    if dataset.check_training is not None and not allow_leak:
        dataset.check_training(data_dir)
    found: dict[str, T] = {}
    for split in splits:
        more = get(split, data_dir=data_dir)
        if twice := sorted(found.keys() & more.keys()):
            raise ValueError(
                f"{len(twice)} images of split {split!r} are in an earlier one of {list(splits)} "
                f"too, among them {twice[0]}; the splits of {dataset.name} share none, so get it "
                f"anew"
            )
        found |= more
    return found


def check_training_splits(
    dataset: Dataset, splits: Sequence[str], *, allow_leak: bool = False
) -> None:
    """Raises unless `splits` may be trained on.

    Args:
      dataset: whose splits.
      splits: their names.
      allow_leak: let those pass on which models are scored.

    Raises:
      TypeError: `splits` is a string.
      ValueError: no split, an unknown one, one twice, or one that is scored without `allow_leak`.
    """
    if isinstance(splits, str):
        raise TypeError(f"splits must be a sequence of names, got {splits!r}; give ({splits!r},)")
    if not splits:
        raise ValueError(f"splits is empty; name one or more of {', '.join(dataset.splits)}")
    for split in splits:
        validation.check_choice(split, "split", tuple(dataset.splits))
    meant = [dataset.splits[split] for split in splits]
    if len(set(meant)) != len(meant):
        raise ValueError(f"splits {list(splits)} hold the same images twice; name each split once")
    for split, same in zip(splits, meant, strict=True):
        if same in dataset.scored and not allow_leak:
            training = " and ".join(map(repr, dataset.training_splits))
            raise ValueError(
                f"split {split!r} is {dataset.scored[same]}: a model trained on them is tested on "
                f"what it has seen, and its figures compare with no other. Train on {training}; if "
                f"that leak is meant, say allow_leak=True (--allow-leak)"
            )
