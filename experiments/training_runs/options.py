"""Command line of a training run: presets, overrides, and what a work directory records."""

import argparse
import hashlib
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from glra_jax import validation
from glra_jax.datasets import Planes
from glra_jax.model import Model
from glra_jax.training.config import PRESETS, TrainConfig


@dataclass(frozen=True)
class TrainOptions:
    """Trains the deconvolution network. The same command again resumes where it stopped.

    Attributes:
      preset: Defaults of all options below: a quick look, the paper's text, its solver file, or
        the models in the package.
      workdir: Folder for all that the run writes; runs/PRESET if not given.
      images: Folder of photographs; those in scikit-image if neither this nor bsds500 is given.
      bsds500: Folder of an unpacked BSDS500 to train on, or "tfds" for the copy that
        tensorflow-datasets keeps (71 MB are downloaded if there is none).
      initial: Name or file of a model to start from; its layers 4 to 6, or all of it and its basis,
        whichever is trained. The configuration's own start if not given.
      splits: Splits of BSDS500 to train on.
      allow_leak: Train on BSD100 (BSDS500's split val, folders of that name, triplets) on purpose,
        on which models are scored.
      cache: Folder that keeps fitted bases; the user's cache folder if not given.
      checkpoint_every: Steps between checkpoints, at least 1.
      log_every: Steps between rows of metrics, at least 1.
      config: What the result depends on.
    """

    preset: Literal["smoke", "paper", "release", "glra", "glra-release", "glra-random-init"] = (
        "smoke"
    )
    workdir: Path | None = None
    images: Path | None = None
    bsds500: Path | None = None
    initial: str | None = None
    splits: tuple[Literal["train", "test", "val", "bsd100"], ...] = ("train", "test")
    allow_leak: tyro.conf.FlagCreatePairsOff[bool] = False
    cache: Path | None = None
    checkpoint_every: int = 50
    log_every: int = 10
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        validation.check_size(self.checkpoint_every, "checkpoint_every")
        validation.check_size(self.log_every, "log_every")
        if self.images is not None and self.bsds500 is not None:
            raise ValueError(
                f"images {str(self.images)!r} and bsds500 {str(self.bsds500)!r} exclude each "
                f"other; give one of them"
            )

    @property
    def folder(self) -> Path:
        """The work directory."""
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
    return tyro.cli(
        TrainOptions, default=defaults, args=arguments, prog="python -m experiments.train"
    )


def describe_run(
    config: TrainConfig, planes: Planes, initial: Model | None = None
) -> dict[str, Any]:
    """What a run's result depends on, for its checkpoints: configuration, data, initial weights."""
    arrays = (planes.pixels, planes.starts, planes.heights, planes.widths)
    description = {"config": asdict(config), "images_sha256": _digest(arrays)}
    if initial is not None:
        description["initial_sha256"] = _digest(jax.tree.leaves(initial))
    return description


def _digest(arrays: Iterable[jax.Array]) -> str:
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(np.asarray(values).tobytes())
    return digest.hexdigest()
