"""The page of a scoreboard: published figures beside measured ones, in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.evaluation.markdown import format_table
from experiments.evaluation.report import format_interval
from experiments.evaluation.results import Results
from experiments.evaluation.scores import FEWEST_PHOTOGRAPHS
from experiments.scoreboards.boards import Board, Published
from experiments.scoreboards.measured import Measured, measured_methods


@dataclass(frozen=True)
class Row:
    """A method in the table: its published figures, what was measured, or both."""

    published: Published | None
    measured: Mapping[str, Measured]  # by column

    @property
    def title(self) -> str:
        """Name of the method, and as what it was measured."""
        labels = {f"`{one.label}`" for one in self.measured.values()}
        names = [self.published.name] if self.published else []
        return ", ".join([*names, *sorted(labels)])


def make_rows(
    board: Board, measured: Mapping[str, Sequence[Measured]], *, whole: bool
) -> list[Row]:
    """Rows of the table, the best in the first measured column first.

    Where a part of the cases was measured, which published figures do not compare with, methods
    that were measured come before all others.

    A method with an implementation here stands in one row with its published figures; if it was
    measured with several options, with the first of them.

    Args:
      board: the benchmark.
      measured: methods by column.
      whole: whether all cases of the first measured column were measured.
    """
    by_label: dict[str, dict[str, Measured]] = {}
    for column, methods in measured.items():
        for one in methods:
            by_label.setdefault(one.label, {})[column] = one
    rows = []
    for published in board.methods:
        same = [
            label
            for label, found in by_label.items()
            if next(iter(found.values())).kind == published.kind
        ]
        rows.append(Row(published, by_label.pop(same[0]) if same else {}))
    rows += [Row(None, found) for found in by_label.values()]
    first = next(iter(measured))
    return sorted(rows, key=lambda row: _rank(row, first, whole=whole), reverse=True)


def _rank(row: Row, column: str, *, whole: bool) -> tuple[bool, float]:
    published = row.published.psnr.get(column, 0.0) if row.published else 0.0
    if column not in row.measured:
        return False, published
    measured = row.measured[column].psnr.mean
    return (False, max(published, measured)) if whole else (True, measured)


def format_page(board: Board, results: Mapping[str, Results], *, picture: str, command: str) -> str:
    """The page.

    Args:
      board: the benchmark.
      results: by column, at least one.
      picture: name of the picture's file, beside the page.
      command: that it is written by, as a reader would type it.
    """
    measured = {column: measured_methods(found) for column, found in results.items()}
    first = next(iter(results.values()))
    rows = make_rows(board, measured, whole=len(first.cases) == board.cases)
    parts = [
        f"# Scoreboard: {board.title}",
        board.data,
        f'"Published" is from {board.source_words}. "Here" is measured by the command below; the '
        f"methods of `experiments.baselines` and the models are told the noise, as the published "
        f"ones.",
        _table(board, rows, results),
        f"![PSNR against the time for each megapixel]({picture})",
        *_notes(board, results),
        f"```bash\n{command}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _table(board: Board, rows: Sequence[Row], results: Mapping[str, Results]) -> str:
    head = ["method"]
    for column in board.columns:
        head.append(f"{column.title}, published")
        if column.name in results:
            head.append(f"here{_part(board, results[column.name])}")
    titles = {column.name: column.title for column in board.columns}
    several = len(results) > 1
    for name in results:
        more = f", {titles[name]}" if several else ""
        head += [f"SSIM here{more}", f"s a megapixel{more}"]
    cells = []
    for row in rows:
        line = [row.title]
        for column in board.columns:
            psnr = row.published.psnr.get(column.name) if row.published else None
            line.append("" if psnr is None else f"{psnr:.2f}")
            if column.name in results:
                one = row.measured.get(column.name)
                line.append("" if one is None else format_interval(one.psnr, 2))
        for name in results:
            one = row.measured.get(name)
            line.append("" if one is None else f"{one.ssim.mean:.3f}")
            line.append("" if one is None or one.seconds == 0 else f"{one.seconds:.3g}")
        cells.append(line)
    return format_table(head, cells)


def _part(board: Board, results: Results) -> str:
    """What part of the cases was measured, where it is not all."""
    done = len(results.cases)
    return "" if done == board.cases else f", {done} of {board.cases} cases"


def _notes(board: Board, results: Mapping[str, Results]) -> list[str]:
    some = next(iter(results.values()))
    machine = some.machine
    lines = [
        f"Times are of one call on a whole image, compiled before: the median over the cases, on "
        f"{machine['processor']} ({machine['cores']} cores), {machine['backend']}. Other programs "
        f"may have run beside."
    ]
    if len(set(some.photographs.values())) >= FEWEST_PHOTOGRAPHS:
        lines[:0] = [
            "In brackets: 95 % bootstrap interval of the mean over photographs, each with all its "
            "kernels."
        ]
    if any(_part(board, found) for found in results.values()):
        lines.append(
            "Figures of a part of the cases compare with each other, not with published ones."
        )
    titles = {column.name: column.title for column in board.columns}
    for name, found in results.items():
        counts = ", ".join(f"`{label}` ({n})" for label, n in found.reused.items())
        if counts:
            lines.append(
                f"{titles[name]}: scores and times that were taken over from earlier runs: "
                f"{counts}, of {len(found.cases)} cases."
            )
        failures = [f"`{label}` failed on {n} cases" for label, n in found.failed.items()]
        lines += [f"{titles[name]}: {failure}." for failure in failures]
    references = "; ".join(f"{method.name}: {method.reference}" for method in board.methods)
    return ["\n".join(lines), f"Methods: {references}."]
