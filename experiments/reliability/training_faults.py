"""Faults around a training run: what it is told by signals, and what happens to its files.

Every fault begins with a run that was stopped on the way, does one thing to it, starts the same
command again, and compares what comes out with a run that nobody disturbed.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments.reliability import tiny_training
from experiments.reliability.scratch import scratch_folder

_STEPS = 60
_HALF = 35
_LONGEST_SECONDS = 900.0


@dataclass(frozen=True)
class Faults:
    """Does to training runs what happens to them, and looks what comes of it.

    A full disk and a read-only one are made by `unshare` and `mount`, where these are allowed.

    Attributes:
      only: Names of the faults; all if not given.
      seed: Of the bits and places.
      folder: Folder to work in; one for the time being if not given.
    """

    only: tuple[str, ...] = ()
    seed: int = 0
    folder: Path | None = None


@dataclass
class Tally:
    """What came of the faults.

    Attributes:
      done: what was seen, by fault.
      faults: what went wrong, a sentence each.
    """

    done: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{name}: {seen}" for name, seen in self.done.items()]
        return "\n".join(
            [*lines, *self.faults, f"{len(self.done)} good, {len(self.faults)} faults"]
        )


class _Run:
    """A work directory and its command."""

    def __init__(self, work: Path, folder: Path) -> None:
        self.work, self.folder = work, folder

    @property
    def command(self) -> list[str]:
        return tiny_training.command(self.work, steps=_STEPS)

    def train(self, *before: str) -> subprocess.CompletedProcess[str]:
        """Runs the command to its end, behind other commands if there are any."""
        return subprocess.run(
            [*before, *self.command],
            env=tiny_training.environment(self.folder),
            capture_output=True,
            text=True,
            check=False,
        )

    def stop(self, number: signal.Signals, *, at: int = _HALF) -> tuple[int, str]:
        """Runs the command until a step, and sends a signal; exit status and output."""
        with (self.folder / "output.txt").open("w+") as output:
            process = subprocess.Popen(
                self.command,
                env=tiny_training.environment(self.folder),
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_heed_signals,
            )
            last = time.monotonic() + _LONGEST_SECONDS
            while len(tiny_training.metrics(self.work)) < at:
                if process.poll() is not None or time.monotonic() > last:
                    break
                time.sleep(0.002)
            process.send_signal(number)
            status = process.wait(_LONGEST_SECONDS)
            output.seek(0)
            return status, output.read()


def _heed_signals() -> None:
    """A shell's background has programs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class _FaultError(Exception):
    """What is not as it should be."""


def make_faults(options: Faults) -> Tally:
    """Does what the options say; prints what came of it, also where it is stopped."""
    if unknown := sorted(set(options.only) - set(_FAULTS)):
        raise ValueError(f"--only must be of {', '.join(_FAULTS)}, got {unknown[0]!r}")
    tally = Tally()
    names = options.only or tuple(_FAULTS)
    try:
        with scratch_folder(options.folder) as folder:
            undisturbed = _Run(folder / "undisturbed", folder)
            print("a run that nobody disturbs")
            _check(undisturbed.train().returncode == 0, "the undisturbed run failed")
            for name in tqdm(names, unit="fault"):
                run = _Run(folder / name.replace(" ", "-"), folder)
                rng = np.random.default_rng(options.seed)
                try:
                    tally.done[name] = _FAULTS[name](run, undisturbed.work, rng)
                    tqdm.write(f"{name}: {tally.done[name]}")
                except _FaultError as error:
                    tally.faults.append(f"{name}: {error}")
    finally:
        print(tally)
    return tally


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _FaultError(otherwise)


def _resume(run: _Run, undisturbed: Path) -> str:
    """Starts the command again, which must end as the undisturbed run; what it said."""
    done = run.train()
    said = "; ".join(tiny_training.without_bars(done.stdout + done.stderr))
    _check(done.returncode == 0, f"the same command ended with {done.returncode}: {said[-1500:]}")
    differences = tiny_training.differences(run.work, undisturbed)
    _check(not differences, f"{', '.join(differences)}; it said: {said[-1500:]}")
    return said


def _signal(number: signal.Signals, run: _Run, undisturbed: Path) -> str:
    status, said = run.stop(number)
    _check(status == 0, f"exit status {status}: {said[-1500:]}")
    _check("the same command resumes" in said, f"it said {said[-1500:]}")
    _check("Traceback" not in said, "a traceback")
    _resume(run, undisturbed)
    return "the step was finished and saved, exit status 0 with a word; resumed to the same bits"


def _sigterm(run: _Run, undisturbed: Path, rng: np.random.Generator) -> str:
    return _signal(signal.SIGTERM, run, undisturbed)


def _sigint(run: _Run, undisturbed: Path, rng: np.random.Generator) -> str:
    return _signal(signal.SIGINT, run, undisturbed)


def _flipped_bit(run: _Run, undisturbed: Path, rng: np.random.Generator) -> str:
    """Flips a bit of the largest file of the latest checkpoint, which holds the arrays."""
    run.stop(signal.SIGTERM)
    latest = tiny_training.checkpoint_steps(run.work)[-1]
    files = [p for p in (run.work / "checkpoints" / str(latest)).rglob("*") if p.is_file()]
    path = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[int(rng.integers(len(data) // 4, 3 * len(data) // 4))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    said = _resume(run, undisturbed)
    _check(f"{latest} is damaged" in said, f"it did not say so: {said}")
    return "the checkpoint before was taken and said; the same bits at the end"


def _cut_metrics(run: _Run, undisturbed: Path, rng: np.random.Generator) -> str:
    """Cuts metrics.csv within its last row."""
    run.stop(signal.SIGKILL)
    path = run.work / "metrics.csv"
    path.write_bytes(path.read_bytes()[: -int(rng.integers(2, 8))])
    _resume(run, undisturbed)
    return "the cut row was made again; the same rows and bits at the end"


def _moved(run: _Run, undisturbed: Path, rng: np.random.Generator) -> str:
    run.stop(signal.SIGKILL)
    former = run.work
    run.work = former.with_name("another place") / "run"
    run.work.parent.mkdir()
    shutil.move(former, run.work)
    _resume(run, undisturbed)
    return "the run went on in its new place, to the same bits"


def _mounted(run: _Run, script: str) -> subprocess.CompletedProcess[str]:
    """Trains by a shell script that may mount what it wants, seen by nobody else."""
    run.work.mkdir()
    return run.train("unshare", "-rm", "sh", "-c", script, str(run.work))


def _full_disk(run: _Run, undisturbed: Path, rng: np.random.Generator) -> str:
    """Trains on a small disk that fills up, makes room, and trains on."""
    kept = run.folder / "kept"
    script = f"""
        mount -t tmpfs -o size=1m none "$0" || exit 77
        head -c 700000 /dev/zero > "$0/filler"
        "$@" > '{kept}.out' 2> '{kept}.err'; echo "status $?"
        rm "$0/filler"; mount -o remount,size=16m "$0"
        "$@" > '{kept}.again' 2>&1; echo "then $?"
        cp -r "$0" '{kept}'
    """
    done = _mounted(run, script)
    _check(done.returncode != 77, "no disk can be mounted here")
    errors = Path(f"{kept}.err").read_text()
    lines = tiny_training.without_bars(errors)
    _check("status 1" in done.stdout, f"{done.stdout}{done.stderr}{errors[-1500:]}")
    _check(len(lines) == 1, f"not one line: {lines}")
    _check("then 0" in done.stdout, Path(f"{kept}.again").read_text()[-1500:])
    differences = tiny_training.differences(kept, undisturbed)
    _check(not differences, ", ".join(differences))
    return f"one line, exit status 1 ({lines[0]}); with room again, the same bits"


def _read_only(run: _Run, undisturbed: Path, rng: np.random.Generator) -> str:
    done = _mounted(run, 'mount -t tmpfs -o ro none "$0" || exit 77; exec "$@"')
    _check(done.returncode != 77, "no disk can be mounted here")
    lines = tiny_training.without_bars(done.stderr)
    _check(done.returncode == 1 and len(lines) == 1, f"{done.returncode}: {lines}")
    _check(run.work.name in lines[0], f"does not name the folder: {lines[0]}")
    os.rmdir(run.work)
    return f"one line, exit status 1 ({lines[0]})"


_FAULTS: dict[str, Callable[[_Run, Path, np.random.Generator], str]] = {
    "sigterm": _sigterm,
    "sigint": _sigint,
    "flipped bit": _flipped_bit,
    "metrics cut short": _cut_metrics,
    "folder moved": _moved,
    "disk full": _full_disk,
    "read-only folder": _read_only,
}
