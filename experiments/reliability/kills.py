"""Kills of a training run by SIGKILL, at random moments and in the middle of saves.

The same command is started again after each kill. Runs that reach their end are compared, bit for
bit, with one that nobody disturbed, and another one begins.
"""

import collections
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from experiments.reliability import tiny_training
from experiments.reliability.scratch import scratch_folder

Moment = Literal["start", "training", "save"]
_POLL_SECONDS = 0.001
_LONGEST_SECONDS = 900.0


@dataclass(frozen=True)
class Kills:
    """Kills a small training run again and again, and compares what comes out of it.

    Attributes:
      kills: Number of SIGKILLs, at least 1; one in ten comes while a checkpoint is written, and one
        in ten before the first step.
      seed: Of the moments.
      folder: Folder to work in; one for the time being if not given.
    """

    kills: int = 100
    seed: int = 0
    folder: Path | None = None


@dataclass
class Tally:
    """What came of the kills.

    Attributes:
      kills: number by moment.
      equal: runs that ended as the undisturbed one.
      faults: what went wrong, a sentence each.
    """

    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    equal: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        count = sum(self.kills.values())
        return (
            f"{count} SIGKILLs, {self.kills['save']} of them while a checkpoint was written and "
            f"{self.kills['start']} before the first step; {self.equal} runs ended, bit for bit, "
            f"as the undisturbed one; {len(self.faults)} faults"
        )


def kill_again_and_again(options: Kills) -> Tally:
    """Does what the options say; prints what it finds, also where it is stopped."""
    tally = Tally()
    rng = np.random.default_rng(options.seed)
    try:
        with scratch_folder(options.folder) as folder:
            _kill_all(options.kills, rng, folder, tally)
    finally:
        for fault in tally.faults:
            print(fault)
        print(tally)
    return tally


def _kill_all(kills: int, rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    undisturbed = folder / "undisturbed"
    print("a run that nobody disturbs")
    started = time.monotonic()
    _train(undisturbed, folder)
    print(f"it took {time.monotonic() - started:.0f} s")
    number, work = 1, folder / "run1"
    with tqdm(total=kills, unit="kill", desc="killing") as bar:
        while sum(tally.kills.values()) < kills:
            before = tiny_training.checkpoint_steps(work)
            moment = _moment(sum(tally.kills.values()))
            killed = _start_and_kill(work, folder, moment, rng, tally)
            if killed:
                tally.kills[moment] += 1
                bar.update()
                tally.faults += _lost(work, before, undisturbed)
            elif killed is None:
                _compare(work, undisturbed, tally)
                number, work = number + 1, folder / f"run{number + 1}"
            bar.set_postfix(runs=number, faults=len(tally.faults))
    print("the last run, to its end")
    _train(work, folder)
    _compare(work, undisturbed, tally)


def _moment(index: int) -> Moment:
    """One kill in ten in a save, and one before the first step."""
    return {9: "save", 4: "start"}.get(index % 10, "training")  # type: ignore[return-value]


def _start_and_kill(
    work: Path, folder: Path, moment: Moment, rng: np.random.Generator, tally: Tally
) -> bool | None:
    """Starts the run and kills it.

    Returns:
      True if it was killed at such a moment, False if at another, None if it ended before.
    """
    before = len(tiny_training.metrics(work))
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            tiny_training.command(work),
            env=tiny_training.environment(folder),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            reached = _wait(process, work, moment, rng, before)
        finally:
            process.kill()
            status = process.wait()
    if reached:
        return moment != "save" or tiny_training.unfinished_save(work)
    if status != 0:
        said = (folder / "output.txt").read_text(errors="replace")[-2000:]
        tally.faults.append(f"the same command ended with status {status}: {said}")
    return None


def _wait(
    process: subprocess.Popen[bytes],
    work: Path,
    moment: Moment,
    rng: np.random.Generator,
    rows: int,
) -> bool:
    """Waits for the moment to kill; False if the process ends before."""
    latest = max(tiny_training.checkpoint_steps(work), default=0)
    if moment == "start":
        return _sleep(process, rng.uniform(0.0, 6.0))
    # The work directory's file of metrics is another one as soon as the run begins to train.
    former = _inode(work / "metrics.csv")
    if not _until(process, lambda: _inode(work / "metrics.csv") != former):
        return False
    if moment == "save":
        found = _until(process, lambda: tiny_training.unfinished_save(work))
        return found and _sleep(process, rng.uniform(0.0, 0.02))
    target = latest + int(rng.integers(0, 2 * tiny_training.CHECKPOINT_EVERY + 1))
    if target > tiny_training.STEPS:  # while the results are written
        target = tiny_training.STEPS
    found = _until(process, lambda: len(tiny_training.metrics(work)) >= target)
    return found and _sleep(process, rng.uniform(0.0, 0.05))


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


def _until(process: subprocess.Popen[bytes], holds: Callable[[], bool]) -> bool:
    """Waits until something holds; False if the process ends before it does."""
    last = time.monotonic() + _LONGEST_SECONDS
    while not holds():
        if process.poll() is not None:
            return False
        if time.monotonic() > last:
            raise TimeoutError(f"nothing came of the run in {_LONGEST_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
    return True


def _sleep(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Lets the process go on for some time; False if it ends before."""
    time.sleep(seconds)
    return process.poll() is None


def _lost(work: Path, before: list[int], undisturbed: Path) -> list[str]:
    """What a kill took away that was there."""
    faults = []
    after = tiny_training.checkpoint_steps(work)
    if before and (not after or after[-1] < before[-1]):
        faults.append(f"the checkpoint of step {before[-1]} is lost: {after}")
    whole = tiny_training.metrics(undisturbed)
    if tiny_training.metrics(work) != whole[: len(tiny_training.metrics(work))]:
        faults.append(f"after a kill, the metrics of {work.name} are not those of the other run")
    return faults


def _train(work: Path, folder: Path) -> None:
    """Trains to the end."""
    done = subprocess.run(
        tiny_training.command(work),
        env=tiny_training.environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"training failed: {done.stdout}{done.stderr}")


def _compare(work: Path, undisturbed: Path, tally: Tally) -> None:
    if not (work / "model.safetensors").exists():
        tally.faults.append(f"{work.name} ended without a model")
        return
    found = tiny_training.differences(work, undisturbed)
    tally.equal += not found
    tally.faults += [f"{work.name}: {fault}" for fault in found]
