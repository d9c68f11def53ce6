"""Draws the losses of training runs on the same axes: `python -m experiments.curves --help`."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from experiments.pictures.drawing import new_figure
from glra_jax import validation
from glra_jax.input_files import check_is_file
from glra_jax.numpy_files import read_archive
from glra_jax.programs import program

# The paper: 200,000 steps took 30 hours on one K80.
_REFERENCE_HOURS = 30.0


@dataclass(frozen=True)
class CurveOptions:
    """Draws the mean losses of runs over steps and over hours.

    Attributes:
      runs: Work directories of experiments.train; a curve is named after its folder.
      output: Picture to write, .png; must not exist.
      reference: File .npz with the authors' `training_loss`, one value a step of 200,000.
      points: Values on a curve, each a mean, at least 2.
    """

    runs: tuple[Path, ...]
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))]
    reference: Path | None = None
    points: int = 40


@dataclass(frozen=True)
class Curve:
    """Mean losses of a run.

    Attributes:
      name: what the legend calls it.
      steps: middle of each stretch of steps.
      hours: at those steps.
      losses: means over the stretches.
    """

    name: str
    steps: np.ndarray
    hours: np.ndarray
    losses: np.ndarray


def mean_curve(
    name: str, steps: np.ndarray, hours: np.ndarray, losses: np.ndarray, *, points: int
) -> Curve:
    """Means over stretches of steps whose lengths grow by one factor.

    Args:
      name: of the curve.
      steps: rising, above 0.
      hours: at the steps.
      losses: at the steps.
      points: number of stretches; those without a step are left out.

    Returns:
      The curve.
    """
    edges = np.geomspace(steps[0], steps[-1] * (1 + 1e-9), points + 1)
    place = np.clip(np.searchsorted(edges, steps, side="right") - 1, 0, points - 1)
    rows = [place == index for index in range(points) if (place == index).any()]
    return Curve(name, *(np.array([v[row].mean() for row in rows]) for v in (steps, hours, losses)))


def read_run(folder: Path, *, points: int) -> Curve:
    """The curve of a work directory.

    Raises:
      FileNotFoundError: no metrics.csv in it.
      ValueError: no whole row in it.
    """
    path = folder / "metrics.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; give work directories of experiments.train")
    check_is_file(path)
    try:
        text = path.read_bytes().decode()
        whole = io.StringIO(text[: text.rfind("\n") + 1], newline="")  # the run may be writing
        rows = [row for row in csv.DictReader(whole) if all(row.values())]
        steps, seconds, losses = (np.array([float(r[c]) for r in rows])
                                  for c in ("step", "seconds", "loss"))  # fmt: skip
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a whole metrics.csv ({error}); train anew") from error
    if not rows:
        raise ValueError(f"{path} holds no whole row yet")
    if not (steps[0] > 0 and np.isfinite(steps).all() and (np.diff(steps) > 0).all()):
        raise ValueError(f"{path} is not a whole metrics.csv (its steps do not rise); train anew")
    return mean_curve(folder.name, steps, seconds / 3600, losses, points=points)


def read_reference(path: Path, *, points: int) -> Curve:
    """The authors' curve; hours as if every step had taken as long.

    Raises:
      ValueError: no whole archive, or no 1-D array `training_loss` in it.
    """
    arrays = read_archive(path)
    losses = arrays.get("training_loss", np.zeros(()))
    if losses.ndim != 1 or losses.size == 0 or losses.dtype.kind not in "iuf":
        raise ValueError(
            f"{path} holds {sorted(arrays)}, and no 1-D array training_loss of real numbers"
        )
    losses = losses.astype(np.float64)
    steps = np.arange(1, len(losses) + 1)
    hours = steps * _REFERENCE_HOURS / len(losses)
    return mean_curve("authors, batch 1, K80", steps, hours, losses, points=points)


def save_curves(curves: list[Curve], path: Path) -> None:
    """Writes two panels: losses over steps and over hours, all axes logarithmic."""
    figure = new_figure(10.0, 3.8)
    axes = figure.subplots(1, 2, squeeze=False)
    for curve in curves:
        style = "k--" if curve.name.startswith("authors") else "-"
        axes[0, 0].plot(curve.steps, curve.losses, style, label=curve.name)
        axes[0, 1].plot(curve.hours, curve.losses, style, label=curve.name)
    for axis, label in zip(axes[0], ("step", "hours"), strict=True):
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel(label)
        axis.grid(color="0.9")
    axes[0, 0].set_ylabel("loss, ½‖·‖² an example")
    axes[0, 0].legend()
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    options = tyro.cli(CurveOptions, args=arguments, prog="python -m experiments.curves")
    with program("error"):
        validation.check_size(options.points, "points", minimum=2)
        if options.output.exists():
            raise FileExistsError(f"{options.output} exists; choose another name")
        curves = [read_run(folder, points=options.points) for folder in options.runs]
        if options.reference is not None:
            curves.append(read_reference(options.reference, points=options.points))
        save_curves(curves, options.output)
    for curve in curves:
        print(f"{curve.name}: {curve.losses[-1]:.1f} at the end, step {curve.steps[-1]:.0f} or so")


if __name__ == "__main__":
    main()
