"""Picture of a scoreboard: PSNR against the time for each megapixel."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.evaluation.results import Results
from experiments.pictures.drawing import COLOURS, MARKERS, label_curves, new_figure
from experiments.scoreboards.boards import Board
from experiments.scoreboards.measured import measured_methods

_GAP = 0.045  # between labels, of the axis' height


def draw_scoreboard(board: Board, results: Mapping[str, Results]) -> Any:
    """A panel for each measured column: a marker for each method, a line for each published figure.

    Published figures have no times of this machine. They are drawn where all cases were measured;
    blurred images, far below all else, are not.
    """
    figure = new_figure(6.4 * len(results), 4.2)
    axes = figure.subplots(1, len(results), squeeze=False)[0]
    titles = {column.name: column.title for column in board.columns}
    for axis, (name, found) in zip(axes, results.items(), strict=True):
        shown = [one for one in measured_methods(found) if one.seconds > 0]
        for index, one in enumerate(shown):
            axis.plot(
                one.seconds,
                one.psnr.mean,
                MARKERS[index % len(MARKERS)],
                color=COLOURS[index % len(COLOURS)],
                label=one.label,
                linestyle="none",
                markersize=8,
            )
        whole = len(found.cases) == board.cases
        published = {
            method.name: method.psnr[name] for method in board.methods if name in method.psnr
        }
        if whole:
            for psnr in published.values():
                axis.axhline(psnr, color="0.75", linewidth=0.8, linestyle="--", zorder=0)
        axis.set_xscale("log")
        axis.margins(x=0.15, y=0.08)
        label_curves(axis, "seconds a megapixel")
        axis.set_ylabel("PSNR, dB")
        axis.set_title(titles[name] + ("" if whole else f", {len(found.cases)} cases"), fontsize=10)
        if shown:
            axis.legend(fontsize=8, title="here", title_fontsize=8, loc="best")
        if whole:
            low, high = axis.get_ylim()
            for label, psnr, place in spread_labels(published, gap=_GAP * (high - low)):
                axis.annotate(
                    f"{label} {psnr:.2f}",
                    (1.01, place),
                    xycoords=("axes fraction", "data"),
                    fontsize=7,
                    color="0.35",
                    va="center",
                    annotation_clip=False,
                )
    return figure


def spread_labels(values: Mapping[str, float], *, gap: float) -> Sequence[tuple[str, float, float]]:
    """Places labels as near to their values as they can stand without overlap, from below.

    Args:
      values: by label.
      gap: least distance of two labels.

    Returns:
      Label, value and place, by value.
    """
    found: list[tuple[str, float, float]] = []
    for label, value in sorted(values.items(), key=lambda item: item[1]):
        least = found[-1][2] + gap if found else value
        found.append((label, value, max(value, least)))
    return found
