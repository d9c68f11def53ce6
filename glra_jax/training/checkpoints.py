"""Checkpoints of a training run; the only module that knows orbax.

Each checkpoint is a folder named after its step, with the state, the constants and a description of
the run (its configuration, seed and data). It appears under its name only when it is whole, so
that a kill at any moment leaves the earlier ones readable.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from glra_jax.model_files import named_arrays
from glra_jax.networks.architecture import Constants
from glra_jax.safetensors_files import digest
from glra_jax.training.step import TrainState

_FORMAT = 2  # of what a checkpoint holds
_DIGEST = "sha256"  # of its arrays, in the description


class Saved(NamedTuple):
    """Arrays that a checkpoint holds."""

    state: TrainState
    constants: Constants


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: of another run, truncated, or not one at all."""


class Checkpoints:
    """The checkpoints of one run in one folder; a context manager.

    Args:
      folder: made if missing.
      description: what the run is; values as JSON knows them. Checkpoints of another description
        are refused.
      keep: how many of the latest to keep.

    Attributes:
      set_aside: what `restore` found damaged, a sentence for each checkpoint.

    Raises:
      CheckpointError: the folder holds files, but no checkpoint; or checkpoints of another run.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, description: dict[str, Any], keep: int = 2
    ) -> None:
        import orbax.checkpoint as ocp  # adds a log handler when imported: only where it is needed

        self._ocp = ocp
        self._folder = Path(folder).absolute()
        self._description = json.loads(json.dumps({"format": _FORMAT, **description}))
        if self._folder.exists() and not self._folder.is_dir():
            raise CheckpointError(f"{self._folder} is a file; choose another folder")
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, create=True, enable_async_checkpointing=False
            ),
        )
        self.set_aside: tuple[str, ...] = ()
        if self.latest_step() is None:
            names = sorted(path.name for path in self._folder.iterdir())
            foreign = [name for name in names if "orbax-checkpoint-tmp" not in name]
            if foreign:
                self.close()
                raise CheckpointError(
                    f"{self._folder} holds {', '.join(foreign[:5])} but no whole "
                    f"checkpoint; choose an empty or a new folder"
                )
        else:
            try:
                self._check_description()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the folder."""
        self._manager.close()

    def latest_step(self) -> int | None:
        """Step of the latest whole checkpoint, None if there is none."""
        return self._manager.latest_step()

    def save(self, saved: Saved) -> None:
        """Writes a checkpoint of the state's own step; returns when it is whole."""
        args = self._ocp.args
        described = {**self._description, _DIGEST: _digest(saved)}
        self._manager.save(
            int(saved.state.step),
            args=args.Composite(
                arrays=args.StandardSave(saved), description=args.JsonSave(described)
            ),
        )
        self._manager.wait_until_finished()

    def restore(self, like: Saved) -> Saved:
        """Reads the latest checkpoint that is whole.

        Damaged ones of later steps get names that end in `.damaged`, and `set_aside` says so. Where
        none is whole, nothing is changed.

        Args:
          like: arrays or `ShapeDtypeStruct`s with the shapes, dtypes and shardings wanted; the
            number of devices may differ from that of the run that saved.

        Returns:
          The arrays, sharded as `like`.

        Raises:
          CheckpointError: there is none, all are damaged, or their arrays differ from `like`.
        """
        steps = self._steps()
        if not steps:
            raise CheckpointError(f"{self._folder} holds no checkpoint")
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
        )
        faults: dict[int, CheckpointError] = {}
        for step in steps:
            try:
                arrays = self._read(step, abstract)
            except CheckpointError as error:
                faults[step] = error
                continue
            if faults:
                self._set_aside(faults)
            return arrays
        raise faults[steps[0]]

    def _steps(self) -> list[int]:
        """Steps of all checkpoints, the latest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def _read(self, step: int, abstract: Saved) -> Saved:
        """Reads one checkpoint, and checks that its arrays are those that were written."""
        args = self._ocp.args
        try:
            restored = self._manager.restore(
                step,
                args=args.Composite(
                    arrays=args.StandardRestore(abstract), description=args.JsonRestore()
                ),
            )
        except Exception as error:
            raise CheckpointError(
                f"checkpoint {self._folder / str(step)} cannot be read ({_first_line(error)}); it "
                f"is damaged or of another program, and none before it can be read. Nothing was "
                f"changed: choose another work directory"
            ) from error
        self._compare(step, restored["description"])
        arrays = restored["arrays"]
        written = restored["description"].get(_DIGEST)  # files of earlier versions lack it
        if written is not None and written != _digest(arrays):
            raise CheckpointError(
                f"checkpoint {self._folder / str(step)} is damaged: its arrays are not those that "
                f"were written, and none before it can be read. Nothing was changed: choose "
                f"another work directory"
            )
        return arrays

    def _set_aside(self, faults: dict[int, CheckpointError]) -> None:
        """Takes damaged checkpoints out of the way of those that the run will write."""
        said = []
        for step in faults:
            damaged = self._folder / str(step)
            name = _unused(self._folder / f"{step}.damaged")
            said.append(f"checkpoint {damaged} is damaged and is kept as {name.name}")
            if jax.process_index() == 0:
                damaged.rename(name)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are set aside")
        self._manager.reload()
        self.set_aside = tuple(said)

    def _check_description(self) -> None:
        """Raises unless a checkpoint is of this run; those that are not are damaged then."""
        failures = []
        for step in self._steps():
            try:
                self._compare(step, self._describe(step))
                return
            except CheckpointError as error:
                failures.append(error)
        raise failures[0]

    def _describe(self, step: int) -> dict[str, Any]:
        """Reads the description of a checkpoint."""
        args = self._ocp.args
        try:
            restored = self._manager.restore(
                step, args=args.Composite(description=args.JsonRestore())
            )
            return dict(restored["description"])
        except Exception as error:
            raise CheckpointError(
                f"{self._folder / str(step)} is not a checkpoint of this program or is damaged "
                f"({_first_line(error)}); nothing was changed, choose another work directory"
            ) from error

    def _compare(self, step: int, found: dict[str, Any]) -> None:
        """Raises unless a description is that of this run."""
        found = {key: value for key, value in found.items() if key != _DIGEST}
        if found.get("format") != _FORMAT:
            raise CheckpointError(
                f"{self._folder} holds checkpoints of an earlier version of this program, which "
                f"cannot be gone on from; nothing was changed, choose another work directory"
            )
        if differences := _differences(found, self._description):
            raise CheckpointError(
                f"{self._folder} belongs to another run, by its checkpoint {step}: "
                f"{'; '.join(differences)}. Use the same options, or another work directory"
            )


def _unused(path: Path) -> Path:
    """The name itself, or with a number where that is taken."""
    names = (path, *(path.with_name(f"{path.name}-{number}") for number in range(2, 1000)))
    return next(name for name in names if not name.exists())


def _digest(saved: Saved) -> str:
    named = named_arrays(saved)
    return digest({name: np.asarray(jax.device_get(leaf)) for name, leaf in named.items()})


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"


def _differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    """Entries that differ between two descriptions, as `name: found, now wanted`."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        lines: list[str] = []
        for key in sorted(found.keys() | wanted.keys()):
            inner = f"{name}.{key}" if name else key
            lines += _differences(found.get(key), wanted.get(key), inner)
        return lines
    return [] if found == wanted else [f"{name} was {found!r}, now {wanted!r}"]
