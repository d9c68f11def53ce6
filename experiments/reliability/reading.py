"""A process that reads malformed files one after the other and tells what came of each.

It gets lines of JSON, `{"reader": ..., "path": ...}`, and answers each with one line. Everything
that is written to its streams meanwhile, by whichever library, is part of the answer.
"""

import contextlib
import json
import os
import resource
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from glra_jax.programs import program

NAME = "fuzz"
_ROOM = 6 * 2**30  # of addresses beside those that are taken before the first file


def main() -> None:
    """Answers until its input ends."""
    answers = os.fdopen(os.dup(1), "w")
    warnings.simplefilter("always")
    from experiments.reliability.readers import READERS

    readers = {reader.name: reader for reader in READERS}
    _warm_up()
    limit = _pages(0) + _ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        found = _read(readers[asked["reader"]].read, Path(asked["path"]))
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def _warm_up() -> None:
    """Reads a good file of each kind, so that libraries are imported and caches filled."""
    from experiments.reliability.readers import available

    with tempfile.TemporaryDirectory() as folder:
        for index, reader in enumerate(available()):
            path = Path(folder) / str(index) / reader.file
            path.parent.mkdir(parents=True)
            reader.write(path)
            reader.read(path)


def _read(read: Any, path: Path) -> dict[str, Any]:
    """What came of one file: how it ended, in which words, what else was said, and the memory."""
    before = _reset_peak()
    with _streams() as said:
        ended, words, memory_lacked = _ended(read, path)
    return {
        "ended": ended,
        "words": words,
        "memory_lacked": memory_lacked,
        "said": said[0],
        "peak": _peak() - before,
    }


def _ended(read: Any, path: Path) -> tuple[str, str, bool]:
    try:
        with program(NAME):
            read(path)
    except SystemExit as exit_:
        return "refused", str(exit_.code), _lacked_memory(exit_)
    except BaseException as error:  # what a program would show as a traceback
        return "traceback", f"{type(error).__name__}: {error}"[:3000], _lacked_memory(error)
    return "read", "", False


def _lacked_memory(error: BaseException | None) -> bool:
    """Tells whether memory was asked for that was not there."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def _streams() -> Any:
    """Catches what is written to standard output and error, by C libraries too."""
    said: list[str] = [""]
    with tempfile.TemporaryFile() as file:
        kept = [os.dup(1), os.dup(2)]
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield said
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            file.seek(0)
            said[0] = file.read(20_000).decode(errors="replace")


def _reset_peak() -> int:
    """Memory in use, from which on the peak is counted."""
    Path("/proc/self/clear_refs").write_text("5")
    return _pages(1)


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return 1024 * int(peak.split()[1])


def _pages(column: int) -> int:
    """Bytes of addresses (0) or of memory (1) that this process has."""
    pages = Path("/proc/self/statm").read_text().split()
    return int(pages[column]) * resource.getpagesize()


if __name__ == "__main__":
    main()
