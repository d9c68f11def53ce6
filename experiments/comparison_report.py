"""What `compare_torch` writes: a table and a plot of the differences over the steps."""

import csv
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      precision: "float32" or "float64".
      quantity: what is compared.
      difference: the largest.
      bound: what it must stay under, if anything.
      jax_seconds: time of JAX, compilation left out.
      torch_seconds: time of PyTorch.
    """

    precision: str
    quantity: str
    difference: float
    bound: float | None = None
    jax_seconds: float | None = None
    torch_seconds: float | None = None


def write_report(folder: Path, rows: list[Row], curves: dict[str, dict[str, list[float]]]) -> str:
    """Writes the table and the curves into a new folder, and returns the table."""
    table = format_table(rows)
    (folder / "comparison.md").write_text(table + "\n")
    with (folder / "comparison.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    columns = {
        f"{precision} {name}": curve
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

    def time_of(seconds: float | None) -> str:
        return "" if seconds is None else f"{seconds:.3g} s"

    lines = [
        "| precision | compared | largest difference | must be under | JAX | PyTorch |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        bound = "" if row.bound is None else f"{row.bound:.0e}"
        lines.append(
            f"| {row.precision} | {row.quantity} | {row.difference:.2e} | {bound} "
            f"| {time_of(row.jax_seconds)} | {time_of(row.torch_seconds)} |"
        )
    return "\n".join(lines)


def plot(columns: dict[str, list[float]], path: Path) -> None:
    """Draws the largest difference of the weights over the steps, one line a column."""
    # The object-oriented interface leaves matplotlib's global state alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for label, curve in columns.items():
        style = {"Adam": "o-", "AdamW": "x--"}[label.split()[-1]]
        axes.plot(range(1, len(curve) + 1), curve, style, label=label, markersize=4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_yscale("log", nonpositive="clip")
    axes.set_xlabel("step")
    axes.set_ylabel("largest difference of a weight")
    axes.set_title("JAX and PyTorch from the same start, on the same batches")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
