"""One training run in several processes, on one host or on many.

All processes run the same program with the same options and see the same work directory. Together
they compute the steps and write the checkpoints; files, pictures and words are of process 0 alone.
With one process nothing here does anything.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.experimental import multihost_utils

from glra_jax import validation
from glra_jax.programs import MISTAKES, one_line

T = TypeVar("T")

# Without a sign of life for so long a process is taken for dead, and the others end.
_SILENCE_SECONDS = 30
_MEETING_SECONDS = 300
_LAST_WORDS_SECONDS = 2
_RESUME = "The same commands on all hosts resume from the last checkpoint"
_LONGEST_WORD = 1000  # bytes of a message between processes


class ProcessesError(ValueError):
    """A run of several processes that cannot begin or go on."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, and which of them this one is.

    Attributes:
      coordinator: HOST:PORT at which process 0 listens, the same for all processes; they find each
        other there. Not given, the run has one process.
      processes: Number of processes, with --coordinator.
      process: Number of this process from 0, with --coordinator; process 0 is on HOST.
      cluster: Ask the cluster for all three: SLURM, a TPU pod or another that JAX knows.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    cluster: tyro.conf.FlagCreatePairsOff[bool] = False

    def __post_init__(self) -> None:
        numbers = {"processes": self.processes, "process": self.process}
        given = [name for name, value in numbers.items() if value is not None]
        if self.cluster and (given or self.coordinator is not None):
            raise ValueError(
                "cluster asks the cluster for what coordinator, processes and process say; give "
                "one or the other"
            )
        if self.coordinator is None:
            if given:
                raise ValueError(
                    f"{' and '.join(given)} need coordinator, the HOST:PORT to meet at"
                )
            return
        host, _, port = self.coordinator.rpartition(":")
        if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
            raise ValueError(f"coordinator must be HOST:PORT, got {self.coordinator!r}")
        if self.processes is None or self.process is None:
            raise ValueError(
                f"coordinator {self.coordinator} needs processes, how many there are, and process, "
                f"which of them this is"
            )
        validation.check_size(self.processes, "processes")
        validation.check_size(self.process, "process", minimum=0)
        if self.process >= self.processes:
            raise ValueError(
                f"process must be from 0 to {self.processes - 1}, as processes is "
                f"{self.processes}, got {self.process}"
            )


@contextlib.contextmanager
def joined(asked: Processes) -> Iterator[None]:
    """Joins the other processes of a run; must come before anything is computed.

    Args:
      asked: which they are.

    Yields:
      When all are there. Only process 0 writes to the standard output then.

    Raises:
      ProcessesError: not all are there in five minutes, or one of them is lost on the way.
    """
    if asked.coordinator is None and not asked.cluster:
        yield
        return
    where = "the address of the cluster" if asked.coordinator is None else asked.coordinator
    number = "" if asked.process is None else f" {asked.process} of {asked.processes}"
    minutes = _MEETING_SECONDS // 60
    print(f"process{number} meets the others at {where}, for up to {minutes} minutes", flush=True)
    unmet = (
        f"the processes did not meet at {where}; start all within {minutes} minutes, process 0 "
        f"where the others reach it by that name"
    )
    with contextlib.ExitStack() as stack:
        last_word = stack.enter_context(_watched())
        last_word(unmet)
        try:
            jax.distributed.initialize(
                asked.coordinator,
                asked.processes,
                asked.process,
                initialization_timeout=_MEETING_SECONDS,
                heartbeat_timeout_seconds=_SILENCE_SECONDS,
            )
        except ValueError as error:
            raise ProcessesError(
                f"no cluster that JAX knows says where the processes meet ({error}); give "
                f"coordinator, processes and process"
            ) from error
        except RuntimeError as error:
            raise ProcessesError(f"{unmet} ({error})") from error
        me = f"process {jax.process_index()} of {jax.process_count()}"
        last_word(f"{me} was ended, most likely because another one has ended. {_RESUME}")
        if not is_first():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            _connect()
            yield
        except jax.errors.JaxRuntimeError as error:
            raise ProcessesError(
                f"{me} cannot go on, most likely because another one has ended ({error}). {_RESUME}"
            ) from error


def _connect() -> None:
    """Opens the connections that will be needed, while all processes are here.

    On CPUs opening one fails if another process comes 30 seconds later, as it may from reading
    photographs or compiling; open ones wait.
    """
    count, here = jax.device_count(), jax.local_device_count()
    if count != here * jax.process_count():
        raise ProcessesError(
            f"process {jax.process_index()} has {here} devices of {count} in "
            f"{jax.process_count()} processes; all need the same number"
        )
    from_all("")
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((count,), ("data",), axis_types=auto)
    each = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    ones = jax.make_array_from_callback((count,), each, np.ones(count, np.float32).__getitem__)
    jax.block_until_ready(jnp.sum(ones))


@contextlib.contextmanager
def _watched() -> Iterator[Callable[[str], None]]:
    """Has a small process say so if this one ends without a word.

    Where another process is missing or lost, JAX or its collectives end this one from within, with
    words for their authors.

    Yields:
      A function that is told what is to be said then.
    """
    watch = (
        "import sys; heard = list(sys.stdin.buffer); sys.stderr.buffer.write(heard[-1].lstrip())"
    )
    # In a session of its own it does not hear what is typed to end this one.
    watcher = subprocess.Popen(
        [sys.executable, "-S", "-c", watch], stdin=subprocess.PIPE, start_new_session=True
    )
    assert watcher.stdin is not None
    stream = watcher.stdin

    def last_word(word: str) -> None:
        with contextlib.suppress(OSError):
            stream.write(f"{word}\n".encode())
            stream.flush()

    with watcher:
        try:
            yield lambda word: last_word(f"error: {one_line(word)}")
        finally:
            last_word("")


def part() -> None:
    """Lets go of the other processes; process 0 may compute on, alone."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """Ends this process at once where its run fails among several.

    Python's own end would first wait for the others, which wait for this one.
    """
    try:
        yield
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        status: object = 1
        if isinstance(error, SystemExit):
            status = error.code
            if isinstance(status, str):
                print(status, file=sys.stderr)
        else:
            traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        if is_first():  # with which the others lose their coordinator, and are ended
            time.sleep(_LAST_WORDS_SECONDS)
        os._exit(status if isinstance(status, int) else 1)


def is_first() -> bool:
    """Whether this is process 0, which writes files and words."""
    return jax.process_index() == 0


def from_all(word: str) -> list[str]:
    """What each process says, by its number; the end of very long words is lost."""
    said = np.zeros(_LONGEST_WORD, np.uint8)
    encoded = np.frombuffer(word.encode()[:_LONGEST_WORD], np.uint8)
    said[: encoded.size] = encoded
    heard = np.asarray(multihost_utils.process_allgather(said)).reshape(-1, _LONGEST_WORD)
    return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in heard]


def together(work: Callable[[], T]) -> T:
    """Does what may fail in every process; where it fails in one, it fails in all.

    Process 0 goes first, so that the others find what it downloads or writes.

    Args:
      work: computes nothing together with other processes.

    Returns:
      What it gives here.

    Raises:
      ProcessesError: it failed in another process, whose error is quoted.
    """
    if jax.process_count() == 1:
        return work()
    for turn in (True, False):
        failure, word = None, ""
        if is_first() is turn:
            try:
                done = work()
            except MISTAKES as error:
                failure, word = error, str(error) or type(error).__name__
        heard = from_all(word)
        if failure is not None:
            raise failure
        for index, said in enumerate(heard):
            if said:
                raise ProcessesError(f"process {index} failed: {said}")
    return done


def from_first(work: Callable[[], T], like: T) -> T:
    """Gives all processes the arrays that process 0 computes.

    Args:
      work: gives a pytree of arrays; only process 0 does it.
      like: `ShapeDtypeStruct`s of its shapes and dtypes.

    Returns:
      The arrays; where there are several processes, NumPy's.
    """
    if jax.process_count() == 1:
        return work()

    def make() -> T:
        return work() if is_first() else jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)

    arrays: T = multihost_utils.broadcast_one_to_all(together(make))
    return arrays


def check_same(description: str) -> None:
    """Raises ProcessesError unless all processes describe the same run."""
    if jax.process_count() == 1:
        return
    heard = from_all(hashlib.sha256(description.encode()).hexdigest())
    others = [index for index, word in enumerate(heard) if word != heard[0]]
    if others:
        raise ProcessesError(
            f"process {others[0]} has other options or photographs than process 0; start all with "
            f"the same command but for --process, on the same data"
        )
