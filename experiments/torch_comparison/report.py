"""Report of `compare_torch`: a table and a plot of the differences over the steps."""

import csv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from experiments.pictures.drawing import new_figure


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      precision: "float32" or "float64".
      quantity: what is compared.
      difference: the largest.
      typical: root mean square of the differences, where it says more than the largest.
      bound: what the largest must stay under, if anything.
      jax_seconds: time of JAX, compilation left out.
      torch_seconds: time of PyTorch.
    """

    precision: str
    quantity: str
    difference: float
    typical: float | None = None
    bound: float | None = None
    jax_seconds: float | None = None
    torch_seconds: float | None = None


class Difference(NamedTuple):
    """Differences between two sets of weights.

    Attributes:
      largest: over all weights.
      typical: root mean square.
    """

    largest: float
    typical: float


def write_report(
    folder: Path, rows: list[Row], curves: dict[str, dict[str, list[Difference]]]
) -> str:
    """Writes table and curves into a new folder, and returns the table.

    Args:
      folder: exists, and is empty.
      rows: of the table.
      curves: differences of the weights after each step, by precision and optimiser.
    """
    table = format_table(rows)
    (folder / "comparison.md").write_text(table + "\n")
    with (folder / "comparison.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    columns = {
        f"{precision} {name} {kind}": [getattr(difference, kind) for difference in curve]
        for kind in Difference._fields
        for precision, by_name in curves.items()
        for name, curve in by_name.items()
    }
    with (folder / "steps.csv").open("w", newline="") as file:
        lines = zip(*columns.values(), strict=True)
        csv.writer(file).writerow(["step", *columns])
        csv.writer(file).writerows([step, *line] for step, line in enumerate(lines, start=1))
    plot(columns, folder / "difference.png")
    return table


def format_table(rows: list[Row]) -> str:
    """The rows in Markdown."""

    def show(value: float | None, style: str) -> str:
        return "" if value is None else format(value, style)

    lines = [
        "| precision | compared | largest difference | must be under | root mean square "
        "| JAX, s | PyTorch, s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.precision} | {row.quantity} | {row.difference:.2e} | {show(row.bound, '.0e')} "
        f"| {show(row.typical, '.2e')} | {show(row.jax_seconds, '.3g')} "
        f"| {show(row.torch_seconds, '.3g')} |"
        for row in rows
    ]
    return "\n".join(lines)


def plot(columns: dict[str, list[float]], path: Path) -> None:
    """Draws the columns of `steps.csv`: a panel for the largest and one for the typical."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(10, 4)
    panels = figure.subplots(1, 2, sharey=True)
    titles = ("largest difference of a weight", "root mean square over the weights")
    for axes, kind, title in zip(panels, Difference._fields, titles, strict=True):
        for column, curve in columns.items():
            precision, name, of_kind = column.split()
            if of_kind == kind:
                style = {"Adam": "o-", "AdamW": "x--"}[name]
                steps = range(1, len(curve) + 1)
                axes.plot(steps, curve, style, label=f"{precision} {name}", markersize=4)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_yscale("log", nonpositive="clip")
        axes.set_xlabel("step")
        axes.set_title(title)
        axes.grid(alpha=0.3)
    panels[0].legend()
    figure.suptitle("JAX and PyTorch from the same start, on the same batches")
    figure.savefig(path, dpi=100)
