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
        step = self.latest_step()
        if step is None:
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
                self._check_description(step)
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
        """Reads the latest checkpoint.

        Args:
          like: arrays or `ShapeDtypeStruct`s with the shapes, dtypes and shardings wanted; the
            number of devices may differ from that of the run that saved.

        Returns:
          The arrays, sharded as `like`.

        Raises:
          CheckpointError: there is none, it is damaged, or its arrays differ from `like`.
        """
        step = self.latest_step()
        if step is None:
            raise CheckpointError(f"{self._folder} holds no checkpoint")
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
        )
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
                f"is damaged or of another program. Nothing was changed: remove that folder to go "
                f"on from an earlier step, or choose another work directory"
            ) from error
        arrays = restored["arrays"]
        written = restored["description"].get(_DIGEST)  # files of earlier versions lack it
        if written is not None and written != _digest(arrays):
            raise CheckpointError(
                f"checkpoint {self._folder / str(step)} is damaged: its arrays are not those that "
                f"were written. Nothing was changed: remove that folder to go on from an earlier "
                f"step, or choose another work directory"
            )
        return arrays

    def _check_description(self, step: int) -> None:
        args = self._ocp.args
        try:
            restored = self._manager.restore(
                step, args=args.Composite(description=args.JsonRestore())
            )
            found = restored["description"]
        except Exception as error:
            raise CheckpointError(
                f"{self._folder / str(step)} is not a checkpoint of this program or is damaged "
                f"({_first_line(error)}); nothing was changed, choose another work directory"
            ) from error
        found.pop(_DIGEST, None)
        if found.get("format") != _FORMAT:
            raise CheckpointError(
                f"{self._folder} holds checkpoints of an earlier version of this program, which "
                f"cannot be gone on from; nothing was changed, choose another work directory"
            )
        differences = _differences(found, self._description)
        if differences:
            raise CheckpointError(
                f"{self._folder} belongs to another run: {'; '.join(differences)}. Use the same "
                f"options, or another work directory"
            )


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
