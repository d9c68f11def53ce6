"""Trains the deconvolution network: `python -m experiments.train --help`."""

import contextlib
import csv
import io
import json
import logging
import os
import time
from functools import partial
from pathlib import Path
from typing import TextIO

import jax
import numpy as np
from tqdm import tqdm

from experiments.pictures.training_sheet import save_curve, save_sheet
from experiments.training_runs.feeding import feed
from experiments.training_runs.held_out import restore_held_out, score_table
from experiments.training_runs.lock import only_run_in
from experiments.training_runs.options import TrainOptions, describe_run, parse
from experiments.training_runs.photographs import find_streamed, load_packed
from experiments.training_runs.processes import (
    check_same,
    ended_at_once,
    from_first,
    is_first,
    joined,
    part,
    together,
)
from experiments.training_runs.stopping import StopRequest, stop_on_request
from glra_jax.atomic_files import write_atomically
from glra_jax.input_files import check_is_file
from glra_jax.model import Model, abstract_model
from glra_jax.model_files import load_model, save_model
from glra_jax.networks.architecture import Constants, Params
from glra_jax.programs import one_line, program
from glra_jax.training.checkpoints import CheckpointError, Checkpoints, Saved
from glra_jax.training.config import TrainConfig
from glra_jax.training.constants_cache import cached_training_constants, default_cache_folder
from glra_jax.training.step import (
    Metrics,
    TrainState,
    check_accumulate,
    create_state,
    data_mesh,
    initial_params,
    is_finite,
    make_train_step,
    replicate,
    replicated,
    trained_model,
)

_COLUMNS = ("step", "loss", "psnr", "learning_rate", "seconds")


class DivergedError(ValueError):
    """A training run whose loss or weights are no longer finite."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    logging.basicConfig(level=logging.WARNING)  # before orbax brings a handler of its own
    with ended_at_once(), program("error", hint="the same command resumes"):
        options = parse(arguments)
        with joined(options.hosts):
            train(options)


def train(options: TrainOptions) -> None:
    """Trains, or goes on training, and leaves everything in the work directory."""
    config, folder = options.config, options.folder
    mesh = devices_of_run(config)
    check_accumulate(options.accumulate, config, mesh)
    named = options.initial
    initial = None if named is None else together(lambda: load_model(named))
    adopted = None if initial is None else adopt(config, initial)
    photographs = together(
        lambda: find_streamed(options) if options.streaming else load_packed(options)
    )
    description = describe_run(config, photographs, initial)
    pace = (options.checkpoint_every, options.log_every, options.accumulate)
    check_same(json.dumps([description, pace]))

    with contextlib.ExitStack() as held:
        together(lambda: held.enter_context(only_run_in(folder)))
        checkpoints = held.enter_context(
            Checkpoints(folder / "checkpoints", description=description)
        )
        if checkpoints.latest_step() is None:
            together(lambda: check_unused(folder, config) if is_first() else None)
        state, constants = start_or_resume(options, checkpoints, mesh, adopted)
        if is_first():
            config_file = folder / "config.json"
            write_atomically(config_file, config_text(config).encode(), overwrite=True)
        train_step = make_train_step(config, mesh, accumulate=options.accumulate)
        first = int(state.step)
        source = held.enter_context(feed(options, photographs, mesh, first=first))
        del photographs  # or there would be two copies of them
        bar = held.enter_context(
            tqdm(
                total=config.steps,
                initial=first,
                unit="step",
                desc="training",
                smoothing=0.1,
                disable=not is_first(),
            )
        )
        metrics_file = folder / "metrics.csv" if is_first() else None
        log = held.enter_context(MetricsLog(metrics_file, first_step=first))
        # Several processes are not asked in the same step: they end at once, as before.
        alone = jax.process_count() == 1
        stop = held.enter_context(stop_on_request()) if alone else StopRequest()
        stops = False
        pending: list[Metrics] = []
        began = time.perf_counter()
        for step in range(first + 1, config.steps + 1):
            # Metrics, as the state before is no more.
            running = pending[-1] if pending else None
            state, metrics = train_step(state, source.take(running), constants)
            pending.append(metrics)
            bar.update()
            stops = stop.made and step < config.steps
            saves = step % options.checkpoint_every == 0 or step == config.steps or stops
            if not (step % options.log_every == 0 or saves or step == first + 1):
                continue
            row = log.write(step, pending)
            shown = {"loss": f"{row['loss']:.2f}", "psnr": f"{row['psnr']:.2f} dB"}
            if source.waited is not None:
                shown["waited"] = f"{source.waited:.1f} s"
            bar.set_postfix(shown)
            pending = []
            if not (np.isfinite(row["loss"]) and bool(is_finite(state))):
                raise DivergedError(
                    f"the loss or the weights are not finite at step {step}; the checkpoint "
                    f"of step {checkpoints.latest_step()} is kept. Take a lower "
                    f"--learning-rate than {config.learning_rate:g}, and another work directory"
                )
            if saves:
                checkpoints.save(Saved(state, constants))
            if stops:
                break
        took = time.perf_counter() - began
    part()
    if source.waited is not None:
        print(f"waited {source.waited:.1f} of {took:.1f} s for photographs")
    if stops:
        print(f"stopped at step {step} of {config.steps}; the same command resumes")
        return
    if is_first():
        report(options, *jax.device_get((state, constants)))


def devices_of_run(config: TrainConfig) -> jax.sharding.Mesh:
    """The devices that share a batch: of several processes all, of one as many as can.

    Raises:
      ValueError: those of several processes cannot share it evenly.
    """
    turns, count = len(config.protocols), jax.device_count()
    mesh = data_mesh(config.batch // turns)
    even = f"a --batch that is a multiple of {turns * count}"
    if jax.process_count() > 1 and mesh.size < count:
        raise ValueError(
            f"a batch of {config.batch} examples by {turns} protocol(s) cannot be divided among "
            f"{count} devices in {jax.process_count()} processes; take {even}"
        )
    idle = f"; {even} uses all" if mesh.size < count else ""
    print(f"{mesh.size} of {count} {jax.default_backend()} device(s){idle}")
    return mesh


def config_text(config: TrainConfig) -> str:
    """Text of `config.json`."""
    return json.dumps(config.describe(), indent=2) + "\n"


def check_unused(folder: Path, config: TrainConfig) -> None:
    """Raises if a work directory without a checkpoint holds files that the run would replace.

    Left alone are those of the same run, killed before its first checkpoint.
    """
    names = ["model.safetensors", "scores.md", "restored.png", "curve.png"]
    written = folder / "config.json"
    if os.path.lexists(written):
        check_is_file(written)
    if not written.exists() or written.read_bytes() != config_text(config).encode():
        names += ["config.json", "metrics.csv"]
    found = [name for name in names if (folder / name).exists()]
    if found:
        raise CheckpointError(
            f"{folder} holds {', '.join(found)} but no checkpoint of this run; remove it "
            f"or choose another work directory"
        )


def adopt(config: TrainConfig, initial: Model) -> tuple[Constants | None, Params]:
    """Constants, where they are not fitted anew, and weights of a model to start from."""
    return config.architecture.adopt(initial.architecture, initial.constants, initial.params)


def start_or_resume(
    options: TrainOptions,
    checkpoints: Checkpoints,
    mesh: jax.sharding.Mesh,
    adopted: tuple[Constants | None, Params] | None,
) -> tuple[TrainState, Constants]:
    """The state to go on from, replicated over the mesh."""
    config = options.config
    abstract = abstract_model(config.architecture)
    state = jax.eval_shape(partial(create_state, config), abstract.params)
    if checkpoints.latest_step() is None:
        start = from_first(lambda: make_start(options, adopted), (state, abstract.constants))
        return replicate(start, mesh)

    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)),
        Saved(state, abstract.constants),
    )
    saved = checkpoints.restore(like)
    for line in checkpoints.set_aside:
        print(line)
    print(f"resuming {options.folder} at step {int(saved.state.step)} of {config.steps}")
    return saved.state, saved.constants


def make_start(
    options: TrainOptions, adopted: tuple[Constants | None, Params] | None
) -> tuple[TrainState, Constants]:
    """State and constants at step 0."""
    config = options.config
    constants, params = (None, None) if adopted is None else adopted
    if constants is None:
        if jax.tree.leaves(config.architecture.abstract_constants()):
            print(f"fitting what is not trained on {config.basis_kernels} blur kernels")
        constants = cached_training_constants(config, options.cache or default_cache_folder())
    if params is None:
        params = initial_params(config, constants)
    return create_state(config, params), constants


class MetricsLog:
    """Rows of a CSV file, flushed one by one; rows after the step resumed from are dropped.

    Without a path, means are computed and nothing is written.
    """

    def __init__(self, path: Path | None, *, first_step: int) -> None:
        self._file: TextIO = io.StringIO()
        self._before, self._started = 0.0, time.perf_counter()
        if path is None:
            return
        kept = [row for row in read_metrics(path) if int(row["step"]) <= first_step]
        self._before = float(kept[-1]["seconds"]) if kept else 0.0
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
        write_atomically(path, text.getvalue().encode(), overwrite=True)
        self._file = path.open("a", newline="")

    def write(self, step: int, metrics: list[Metrics]) -> dict[str, float]:
        """Adds the means of some steps' metrics and gives them back."""
        host = jax.device_get(metrics)
        row = {
            "step": step,
            "loss": float(np.mean([m.loss for m in host])),
            "psnr": float(np.mean([m.psnr for m in host])),
            "learning_rate": float(host[-1].learning_rate),
            "seconds": round(self._before + time.perf_counter() - self._started, 2),
        }
        csv.DictWriter(self._file, _COLUMNS).writerow(row)
        self._file.flush()
        return row

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Whole rows of a metrics file; none if there is no file."""
    if not path.exists():
        return []
    check_is_file(path)
    try:
        text = path.read_bytes().decode()
        whole = io.StringIO(text[: text.rfind("\n") + 1], newline="")  # a kill may cut the last
        rows = [row for row in csv.DictReader(whole) if all(row.get(c) for c in _COLUMNS)]
        for row in rows:
            int(row["step"]), float(row["loss"]), float(row["seconds"])
    except (csv.Error, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({one_line(str(error))}); move it away, and the run goes on"
        ) from error
    return rows


def report(options: TrainOptions, state: TrainState, constants: Constants) -> None:
    """Writes the model, scores it on held-out photographs, and draws pictures."""
    config, folder = options.config, options.folder
    model = trained_model(config, state, constants)
    save_model(model, folder / "model.safetensors", overwrite=True)
    print("restoring photographs that were not trained on")
    examples = restore_held_out(model, config)
    table = score_table(examples)
    (folder / "scores.md").write_text(table + "\n")
    save_sheet(examples, folder / "restored.png")
    rows = read_metrics(folder / "metrics.csv")
    save_curve(
        [int(row["step"]) for row in rows],
        [float(row["loss"]) for row in rows],
        folder / "curve.png",
    )
    print(f"\n{table}\n\nin {folder}: model.safetensors, scores.md, restored.png, curve.png")
    if options.preset == "smoke":
        print(
            "\nThis was a smoke run: it shows that everything works, not what the method can do.\n"
            "To train for real: python -m experiments.train --preset paper --dataset bsds500"
        )


if __name__ == "__main__":
    main()
