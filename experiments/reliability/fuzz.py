"""Malformed files for every reader: what must come of them is one line of error, and nothing else.

Most files are read in one process that is asked again and again, `experiments.reliability.reading`.
Some go through the real programs, each in a process of its own.
"""

import collections
import contextlib
import json
import os
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from experiments.evaluation.markdown import format_table
from experiments.reliability import model_seeds, photo_seeds, reading, record_seeds
from experiments.reliability.cases import Case, Cases, everything_in
from experiments.reliability.crafted import RAN
from experiments.reliability.readers import available
from experiments.reliability.scratch import scratch_folder
from glra_jax.programs import one_line

_LONGEST_SECONDS = 60.0
_PROGRAM_SECONDS = 300.0
_LARGEST = 768 * 2**20  # bytes that a small file may take to be refused
_PROGRAM_ADDRESSES = 24 * 2**30
_START_SECONDS = 300.0
_LONGEST_LINE = 2200

Outcome = Literal["refused", "still readable", "fault"]


@dataclass(frozen=True)
class Fuzz:
    """Reads malformed files, which must be refused in one line that names the file.

    Attributes:
      files: Number of malformed files; those that can still be read are not counted.
      programs: How many more go through the real programs, a process each.
      seed: Of the files.
      only: Number of one file, to repeat it alone.
      folder: Folder to work in, where the files that made faults stay; one for the time being if
        not given.
    """

    files: int = 300
    programs: int = 30
    seed: int = 0
    only: int | None = None
    folder: Path | None = None


@dataclass
class Tally:
    """What came of the files.

    Attributes:
      outcomes: number by reader and outcome.
      through_programs: number of files that went through the real programs.
      faults: what went wrong, a sentence each.
    """

    outcomes: collections.Counter[tuple[str, Outcome]] = field(default_factory=collections.Counter)
    through_programs: int = 0
    faults: list[str] = field(default_factory=list)

    def count(self, outcome: Outcome) -> int:
        """Number of files that this came of."""
        return sum(number for (_, name), number in self.outcomes.items() if name == outcome)

    @property
    def malformed(self) -> int:
        """Number of files that could not be read, and should not be."""
        return self.count("refused") + self.count("fault")

    def __str__(self) -> str:
        names = sorted({reader for reader, _ in self.outcomes})
        columns: tuple[Outcome, ...] = ("refused", "still readable", "fault")
        rows = [(name, *(str(self.outcomes[name, c]) for c in columns)) for name in names]
        table = format_table(("reader", *columns), rows)
        return (
            f"{table}\n\n{self.malformed} malformed files, {self.through_programs} of them through "
            f"the programs; {self.count('still readable')} more were damaged and could still be "
            f"read; {len(self.faults)} faults"
        )


def fuzz(options: Fuzz) -> Tally:
    """Does what the options say; prints faults as they are found, and a table at the end."""
    tally = Tally()
    try:
        with scratch_folder(options.folder) as folder:
            _fuzz(options, folder, tally)
    finally:
        print(tally)
    return tally


def _fuzz(options: Fuzz, folder: Path, tally: Tally) -> None:
    readers = available()
    cases = Cases(readers, options.seed)
    if options.only is not None:
        with _Reading(folder) as process:
            _try(cases.case(options.only), process.read, folder, tally)
        return
    total = options.files + options.programs
    _environment(folder), _room(folder)  # made before the first look at what is there
    with tqdm(total=total, unit="file", desc="reading") as bar, _Reading(folder) as process:
        number = 0
        while tally.malformed < options.files:
            case = cases.case(number)
            number += 1
            before = tally.malformed
            _try(case, process.read, folder, tally)
            bar.update(tally.malformed - before)
            bar.set_postfix(faults=len(tally.faults))
        good = _good_files(folder)
        while tally.through_programs < options.programs:
            case = cases.case(number)
            number += 1
            command = case.reader.command
            if command is None:
                continue
            before = tally.malformed
            _try(case, lambda c, path: _through_program(c, path, good, folder), folder, tally)
            done = tally.malformed - before
            tally.through_programs += done
            bar.update(done)
            bar.set_postfix(faults=len(tally.faults))


def _try(case: Case, read: Any, folder: Path, tally: Tally) -> None:
    """Makes a file, has it read, and notes what came of it."""
    # The paths of readers hold the number, by which the line is known to name this very file.
    here = folder / f"case{case.number}"
    path = case.make(here)
    before = everything_in(folder)
    found = read(case, path)
    outcome, why = _judge(path, found)
    if outcome == "refused" and not why:
        changed = {k: v for k, v in everything_in(folder).items() if before.get(k) != v}
        why = [f"left behind: {', '.join(changed)}"] if changed else []
        why += ["the file was removed"] if not os.path.lexists(path) else []
    if list(folder.rglob(RAN)):
        why.append("code of the file was run")
    if why:
        outcome = "fault"
        about = f"case {case.number}, {case.reader.name}, {case.damage}"
        tally.faults.append(one_line(f"{about}: {'; '.join(why)}"))
        tqdm.write(tally.faults[-1])
    tally.outcomes[case.reader.name, outcome] += 1
    if not why:
        shutil.rmtree(here)


def _judge(path: Path, found: dict[str, Any]) -> tuple[Outcome, list[str]]:
    """What came of a file, and what is wrong with that."""
    words, said = found["words"], found["said"].strip()
    why = []
    if found["ended"] not in ("read", "refused"):
        why.append(f"{found['ended']} {words}")
    if said:
        why.append(f"said beside it: {said[:300]}")
    if found["peak"] > _LARGEST:
        why.append(f"took {found['peak'] / 2**20:.0f} MiB")
    if found["memory_lacked"]:
        why.append("asked for memory that is not there")
    if found["ended"] == "refused":
        if "\n" in words or len(words) > _LONGEST_LINE:
            why.append(f"not one line: {words[:300]}")
        if path.name not in words or path.parts[-2] not in words:
            why.append(f"does not name the file: {words[:300]}")
    outcome: Outcome = "refused" if found["ended"] == "refused" else "still readable"
    return outcome, why


class _Reading(contextlib.AbstractContextManager["_Reading"]):
    """The process that reads, started again after one that hung or died."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def __exit__(self, *_: object) -> None:
        self._end()

    def read(self, case: Case, path: Path) -> dict[str, Any]:
        """Has a file read."""
        process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps({"reader": case.reader.name, "path": str(path)}) + "\n")
        process.stdin.flush()
        line = _line_of(process, _LONGEST_SECONDS)
        if line:
            return json.loads(line)
        hung = process.poll() is None
        self._end()
        how = f"no end in {_LONGEST_SECONDS:.0f} s" if hung else f"died ({process.returncode})"
        return {"ended": how, "words": "", "said": "", "peak": 0, "memory_lacked": False}

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", reading.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_room(self._folder),
            env=_environment(self._folder),
            start_new_session=True,
        )
        if _line_of(self._process, _START_SECONDS) != "ready\n":
            raise RuntimeError("the process that reads does not start")
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _line_of(process: subprocess.Popen[str], seconds: float) -> str:
    """The next line, or nothing where none comes in time."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline() if selector.select(seconds) else ""


def _room(folder: Path) -> Path:
    """The folder that programs run in."""
    room = folder / "here"
    room.mkdir(exist_ok=True)
    return room


def _environment(folder: Path) -> dict[str, str]:
    """Homes and temporary folders of their own, so that what is left behind is found."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    outside = Path(tempfile.gettempdir()) / "glra-jax-matplotlib"
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "HOME": str(home),
        "TMPDIR": str(home),
        "MPLCONFIGDIR": str(outside),  # its list of fonts is made once
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def _good_files(folder: Path) -> Path:
    """A folder of good files, which programs need beside the bad one."""
    good = folder / "good"
    good.mkdir()
    photo_seeds.by_pillow(good / "photo.png")
    photo_seeds.kernel_npy(good / "kernel.npy")
    model_seeds.basis(good / "basis.npz")
    model_seeds.caffe(good / "model.caffemodel")
    (good / "run").mkdir()
    record_seeds.metrics(good / "run" / "metrics.csv")
    return good


def _through_program(case: Case, path: Path, good: Path, folder: Path) -> dict[str, Any]:
    """Has a file read by a program."""
    assert case.reader.command is not None
    with _output() as (output, errors):
        process = subprocess.Popen(
            [sys.executable, *case.reader.command(path, good)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=_room(folder),
            env=_environment(folder),
            start_new_session=True,
            preexec_fn=_limit,
        )
        status, peak = _wait(process)
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    # Weights without checksums may be read and fail later: the bar shows that images were restored.
    if status == 0 or (status == 1 and "image/s" in said and "Traceback" not in said):
        _remove_outputs(path)
        return {"ended": "read", "words": "", "said": "", "peak": 0, "memory_lacked": False}
    ended = "refused" if status == 1 else f"status {status}"
    if "Traceback" in said:
        ended = "traceback"
    # What a program takes that refuses nothing is not counted.
    extra = max(peak - 2**31, 0)
    return {"ended": ended, "words": said, "said": "", "peak": extra, "memory_lacked": False}


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_PROGRAM_ADDRESSES, _PROGRAM_ADDRESSES))


@contextlib.contextmanager
def _output() -> Iterator[tuple[Any, Any]]:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        yield output, errors


def _wait(process: subprocess.Popen[bytes]) -> tuple[int | str, int]:
    """Exit status and the most memory that a process had; it is killed if it does not end."""
    last = time.monotonic() + _PROGRAM_SECONDS
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, 1024 * usage.ru_maxrss
        if time.monotonic() > last:
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
            process.returncode = -signal.SIGKILL
            return f"none in {_PROGRAM_SECONDS:.0f} s", 0
        time.sleep(0.05)


def _remove_outputs(path: Path) -> None:
    """What a program wrote of a file that could be read."""
    for made in path.parent.glob("output*"):
        shutil.rmtree(made) if made.is_dir() else made.unlink()
