"""Squares cut from more photographs than memory holds, read by threads ahead of their use.

Which photograph an example gets and where it is cut is a pure function of `(seed, step, example)`,
so that neither the number of threads nor a stop and resumption changes a batch. The photographs are
gone through in passes, each in a random order of its own: every one is used once before any is used
again.
"""

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from glra_jax import validation
from glra_jax.datasets.folder import read_photograph
from glra_jax.datasets.packing import check_channels, photograph_entries
from glra_jax.photo_files import quiet_threads

_MOST_THREADS = 32  # by default; more wait for the disk and for each other

# Branches of the seed: numbers of one are independent of those of the other.
_ORDER, _SQUARE = 0, 1


def photograph_of(seed: int, index: int, count: int) -> int:
    """Says which photograph the example of this index in the whole run is cut from.

    Args:
      seed: of the run.
      index: `step * batch + example`, from 0.
      count: number of photographs.

    Returns:
      Its number, from 0 to `count - 1`: in every pass of `count` examples each one once.
    """
    which, place = divmod(index, count)
    return int(_order(seed, which, count)[place])


@lru_cache(maxsize=4)  # of the passes that threads are at
def _order(seed: int, which: int, count: int) -> np.ndarray:
    return _generator(seed, _ORDER, which).permutation(count).astype(np.int32)


def _generator(seed: int, *branch: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=branch))


def cut_square(
    path: Path, *, seed: int, step: int, example: int, size: int, channels: int
) -> np.ndarray:
    """Reads a photograph and cuts a random square from it, as `random_patch` does.

    Args:
      path: its file.
      seed: of the run; with `step` and `example` it decides where the square lies and, for one
        channel, which colour it is of.
      step: from 0.
      example: of the step's batch, from 0.
      size: side of the square.
      channels: 1 or 3, see `pack_photographs`.

    Returns:
      uint8 `(size, size, channels)`, which keeps nothing of the rest in memory.

    Raises:
      OSError: the file is gone or may not be read.
      ValueError: not an image of 8 bits, or one that is too small.
    """
    entries = photograph_entries(read_photograph(path), path, channels=channels, min_side=size)
    generator = _generator(seed, _SQUARE, step, example)
    entry = entries[generator.integers(len(entries))]
    top, left = (int(generator.integers(side - size + 1)) for side in entry.shape[:2])
    square = entry[top : top + size, left : left + size]
    return square.reshape(size, size, channels).copy()


class PhotographStream:
    """Squares for the steps of a run, one step after the other, made by threads ahead of time.

    At any time at most `workers` photographs are decoded in memory, and squares of at most `ahead`
    steps wait. It is a context manager, in which the threads are at work.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        seed: int,
        batch: int,
        size: int,
        channels: int = 1,
        steps: range,
        examples: Sequence[int] | None = None,
        workers: int | None = None,
        ahead: int | None = None,
    ) -> None:
        """Checks what is asked for; reading begins with the context.

        Args:
          paths: files of the photographs, in an order that does not change.
          seed: of the run.
          batch: examples a step, of all processes together.
          size: side of the squares.
          channels: 1 cuts from a random colour channel, 3 from RGB, grey ones repeated.
          steps: for which squares are wanted, counted from 0.
          examples: those of a batch that are read here; all if not given.
          workers: threads; by default as many as there are cores for this process, at most 32.
          ahead: steps that are read before their time; by default so many that no thread is idle.

        Raises:
          ValueError: no photographs, or a number out of range.
        """
        if not paths:
            raise ValueError("no photographs")
        for name, value in (("batch", batch), ("size", size)):
            validation.check_size(value, name)
        check_channels(channels)
        examples = range(batch) if examples is None else examples
        if not examples or not 0 <= min(examples) <= max(examples) < batch:
            raise ValueError(f"examples must be some of 0 to {batch - 1}, got {list(examples)}")
        workers = default_workers() if workers is None else workers
        validation.check_size(workers, "workers")
        ahead = 2 + -(-workers // len(examples)) if ahead is None else ahead
        validation.check_size(ahead, "ahead")
        self._paths, self._examples = paths, examples
        self._seed, self._batch, self._size, self._channels = seed, batch, size, channels
        self._left, self._ahead = iter(steps), ahead
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="photographs")
        self._waiting: deque[list[Future[np.ndarray]]] = deque()
        self._held = contextlib.ExitStack()

    def _ask(self) -> None:
        """Has the next step's squares made, if there is one."""
        step = next(self._left, None)
        if step is not None:
            self._waiting.append([self._pool.submit(self._cut, step, i) for i in self._examples])

    def _cut(self, step: int, example: int) -> np.ndarray:
        index = step * self._batch + example
        return cut_square(
            self._paths[photograph_of(self._seed, index, len(self._paths))],
            seed=self._seed,
            step=step,
            example=example,
            size=self._size,
            channels=self._channels,
        )

    @property
    def is_ready(self) -> bool:
        """Whether the next step's squares are there, so that taking them does not wait."""
        return not self._waiting or all(square.done() for square in self._waiting[0])

    def take(self) -> np.ndarray:
        """Takes the squares of the next step, and has those of a later one made.

        Returns:
          uint8 `(len(examples), size, size, channels)`.

        Raises:
          OSError, ValueError: a photograph cannot be used, see `cut_square`.
          IndexError: no step is left.
        """
        if not self._waiting:
            raise IndexError("all steps have their photographs already")
        squares = np.stack([square.result() for square in self._waiting.popleft()])
        self._ask()
        return squares

    def __enter__(self) -> "PhotographStream":
        self._held.enter_context(quiet_threads())
        self._held.callback(self._pool.shutdown, cancel_futures=True)
        for _ in range(self._ahead):
            self._ask()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()


def default_workers() -> int:
    """As many threads as there are cores for this process, at most 32."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # outside Linux
        cores = os.cpu_count() or 1
    return min(cores, _MOST_THREADS)
