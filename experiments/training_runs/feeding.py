"""What the training step takes its photographs from: all in memory, or a stream of files."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax

from experiments.training_runs.options import TrainOptions
from glra_jax.datasets import PackedPhotographs, PhotographStream
from glra_jax.training.batches import Photographs
from glra_jax.training.config import TrainConfig
from glra_jax.training.step import replicate, shared_out


class Feed(Protocol):
    """Gives each step its photographs."""

    @property
    def waited(self) -> float | None:
        """Seconds without anything to compute for want of photographs; None if that cannot be."""

    def take(self, running: Any) -> Photographs:
        """Gives the photographs of the next step.

        Args:
          running: arrays that the step before computes, maybe still; None if there is none.
        """


@contextlib.contextmanager
def feed(
    options: TrainOptions,
    photographs: PackedPhotographs | Mapping[str, Path],
    mesh: jax.sharding.Mesh,
    *,
    first: int,
) -> Iterator[Feed]:
    """Feeds the steps of a run from some step on, in order.

    Args:
      options: of the run.
      photographs: all of them, or their files.
      mesh: of the devices.
      first: step to begin with, from 0.

    Yields:
      The feed.
    """
    if isinstance(photographs, PackedPhotographs):
        in_memory = _InMemory(replicate(photographs, mesh))
        del photographs  # or there would be two copies of them
        yield in_memory
        return
    config = options.config
    stream = PhotographStream(
        list(photographs.values()),
        seed=config.seed,
        batch=config.batch,
        size=config.crop,
        channels=max(config.architecture.joint_channels),
        steps=range(first, config.steps),
        examples=examples_here(config.batch, mesh),
        workers=options.workers,
    )
    with stream:
        yield _Streamed(stream, config, mesh)


def examples_here(batch: int, mesh: jax.sharding.Mesh) -> list[int]:
    """Examples of a batch that devices of this process make."""
    slices = shared_out(mesh).addressable_devices_indices_map((batch,)).values()
    return sorted({i for part in slices if part for i in range(*part[0].indices(batch))})


class _InMemory:
    waited: float | None = None

    def __init__(self, photographs: PackedPhotographs) -> None:
        self._photographs = photographs

    def take(self, running: Any) -> Photographs:
        return self._photographs


class _Streamed:
    def __init__(
        self, stream: PhotographStream, config: TrainConfig, mesh: jax.sharding.Mesh
    ) -> None:
        self.waited = 0.0
        self._stream, self._batch, self._sharding = stream, config.batch, shared_out(mesh)
        self._place = {i: n for n, i in enumerate(examples_here(config.batch, mesh))}
        self._before: Any = None

    def take(self, running: Any) -> Photographs:
        if self._stream.is_ready:
            squares = self._stream.take()
        else:
            # From here on, and not while the step before is at work, nothing is computed.
            jax.block_until_ready(running)
            since = time.perf_counter()
            squares = self._stream.take()
            self.waited += time.perf_counter() - since
        # Without this, squares of all steps that are asked for early would lie on the device.
        jax.block_until_ready(self._before)
        self._before = running

        def share(index: tuple[slice, ...] | None) -> Any:
            assert index is not None  # devices of other processes
            return squares[[self._place[i] for i in range(*index[0].indices(self._batch))]]

        shape = (self._batch, *squares.shape[1:])
        return jax.make_array_from_callback(shape, self._sharding, share)
