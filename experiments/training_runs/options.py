"""Command line of a training run: presets, overrides, and what a work directory records."""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import jax
import numpy as np
import tyro

from experiments.training_runs.processes import Processes
from glra_jax import validation
from glra_jax.datasets import PackedPhotographs, dataset_named
from glra_jax.model import Model
from glra_jax.networks import Architecture
from glra_jax.training.config import TrainConfig
from glra_jax.training.presets import PRESETS

A = TypeVar("A", bound=Architecture)


@dataclass(frozen=True)
class TrainOptions(Generic[A]):
    """Trains the deconvolution network. The same command again resumes where it stopped.

    Attributes:
      config: What the result depends on.
      preset: Defaults of all options below: smoke, a quick look; paper, the paper's text; release,
        its solver file; unrolled, unrolled-quick, glra, glra-all-layers, glra-release and
        glra-random-init, the models in the package.
      workdir: Folder for all that the run writes; runs/PRESET if not given.
      dataset: Photographs to train on, by a name in glra_jax.datasets.DATASETS; an unknown one
        lists them all.
      data_dir: Where the dataset lies. bsds500: a folder where the archive was unpacked, or a
        folder of tensorflow-datasets; if not given, that library's own, to which 71 MB are
        downloaded if they are not there yet. folder: the folder.
      splits: Splits of the dataset to train on; those meant for training if not given.
      initial: Name or file of a model to start from, as far as the architecture that is trained can
        take it over. The configuration's own initialization if not given.
      allow_leak: Train on purpose on what models are scored on: BSD100 (BSDS500's split val,
        folders of that name, triplets) or the embedded test photographs.
      cache: Folder that keeps what is fitted, such as bases; the user's cache folder if not given.
      checkpoint_every: Steps between checkpoints, at least 1.
      log_every: Steps between rows of metrics, at least 1.
      accumulate: Parts, one after the other, of what each device has of a batch, at least 1: saves
        memory, and the gradient is that of the whole batch.
      streaming: Read the photographs of each step as it comes, from their files, instead of all at
        the start: for more than memory holds. The dataset must be files, as folder is.
      workers: Threads that read, with --streaming, at least 1; as many as cores, at most 32, if not
        given. The result does not depend on them.
      hosts: Several processes, on one host or on many.
    """

    config: Annotated[TrainConfig[A], tyro.conf.arg(name="")]
    preset: str = "smoke"
    workdir: Path | None = None
    dataset: str = "embedded"
    data_dir: Path | None = None
    splits: tuple[str, ...] | None = None
    initial: str | None = None
    allow_leak: tyro.conf.FlagCreatePairsOff[bool] = False
    cache: Path | None = None
    checkpoint_every: int = 50
    log_every: int = 10
    accumulate: int = 1
    streaming: tyro.conf.FlagCreatePairsOff[bool] = False
    workers: int | None = None
    hosts: Annotated[Processes, tyro.conf.arg(name="")] = field(default_factory=Processes)

    def __post_init__(self) -> None:
        validation.check_size(self.checkpoint_every, "checkpoint_every")
        validation.check_size(self.log_every, "log_every")
        validation.check_size(self.accumulate, "accumulate")
        if self.workers is not None:
            validation.check_size(self.workers, "workers")
            if not self.streaming:
                raise ValueError(f"workers {self.workers} read photographs with --streaming only")
        dataset_named(self.dataset)  # raises for an unknown one

    @property
    def folder(self) -> Path:
        """Work directory."""
        return self.workdir if self.workdir is not None else Path("runs") / self.preset


def parse(arguments: list[str] | None = None) -> TrainOptions:
    """Reads the command line; a preset changes the defaults that the other options override."""
    arguments = sys.argv[1:] if arguments is None else arguments
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="smoke")
    preset = first.parse_known_args(arguments)[0].preset
    if preset not in PRESETS:
        sys.exit(f"--preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    config = PRESETS[preset]
    defaults = TrainOptions(
        preset=preset, config=config, checkpoint_every=min(1000, max(50, config.steps // 20))
    )
    # The preset's architecture says which options there are of it.
    form: Any = TrainOptions[type(config.architecture)]  # type: ignore[misc]
    return tyro.cli(form, default=defaults, args=arguments, prog="python -m experiments.train")


def describe_run(
    config: TrainConfig,
    photographs: PackedPhotographs | Mapping[str, Path],
    initial: Model | None = None,
) -> dict[str, Any]:
    """Records what a result depends on, for checkpoints: configuration, data, initial weights.

    Of photographs that are streamed it has the names, as nobody could wait for their pixels.
    """
    description: dict[str, Any] = {"config": config.describe()}
    if isinstance(photographs, PackedPhotographs):
        packed = photographs
        arrays = (packed.pixels, packed.starts, packed.heights, packed.widths)
        description["images_sha256"] = _digest(arrays)
    else:
        names = json.dumps(list(photographs)).encode()
        description["image_names_sha256"] = hashlib.sha256(names).hexdigest()
    if initial is not None:
        description["initial_sha256"] = _digest(jax.tree.leaves(initial))
    return description


def _digest(arrays: Iterable[jax.Array]) -> str:
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(np.asarray(values).tobytes())
    return digest.hexdigest()
