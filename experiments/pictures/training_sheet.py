"""Pictures that programs write: sheets of restored photographs and training curves."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.timing import Comparison
from experiments.pictures.drawing import new_figure
from experiments.training_runs.held_out import Example


def _new_axes(rows: int, columns: int, width: float, height: float) -> tuple[Any, np.ndarray]:
    figure = new_figure(width, height)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save_sheet(examples: list[Example], path: Path) -> None:
    """Writes kernel, blurred, linear, restored and sharp side by side, a row an example."""
    columns = ("kernel", *examples[0].images, "sharp")
    figure, axes = _new_axes(len(examples), len(columns), 3.2 * len(columns), 2.5 * len(examples))
    for row, example in zip(axes, examples, strict=True):
        shown = {"kernel": example.kernel, **example.images, "sharp": example.sharp}
        for axis, column in zip(row, columns, strict=True):
            top = example.kernel.max() if column == "kernel" else 1.0
            axis.imshow(shown[column], cmap="gray", vmin=0.0, vmax=top, interpolation="nearest")
            score = example.scores.get(column)
            title = f"{column}, {score[0]:.2f} dB" if score else f"{column}"
            axis.set_title(f"{example.family} kernel" if column == "kernel" else title, fontsize=9)
            axis.set_axis_off()
    figure.savefig(path, dpi=110)


def save_curve(steps: list[int], losses: list[float], path: Path) -> None:
    """Writes the training loss over steps, with a running mean."""
    figure, axes = _new_axes(1, 1, 6.4, 4.0)
    axis = axes[0, 0]
    axis.plot(steps, losses, color="0.75", linewidth=0.8, label="logged")
    window = max(1, len(losses) // 20)
    mean = np.convolve(losses, np.ones(window) / window, mode="valid")
    axis.plot(steps[window - 1 :], mean, label=f"mean of {window}")
    axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_ylabel("loss, ½‖·‖² an example")
    axis.legend()
    figure.savefig(path, dpi=110)


def save_ratios(comparisons: list[Comparison], path: Path) -> None:
    """Writes bars of the time of every other method over that of this library."""
    bars = [
        (f"{c.name}: {name}", *c.ratio(name)) for c in comparisons for name in list(c.seconds)[1:]
    ]
    if not bars:
        return
    figure, axes = _new_axes(1, 1, 8.0, 0.6 + 0.4 * len(bars))
    names, middle, low, high = zip(*bars[::-1], strict=True)
    spread = [np.subtract(middle, low), np.subtract(high, middle)]
    axes[0, 0].barh(names, middle, xerr=spread)
    axes[0, 0].axvline(1.0, color="black", linewidth=0.8)
    axes[0, 0].set_xlabel("time over that of glra_jax, with range")
    figure.savefig(path, dpi=110)
