"""Timing several methods of the same task side by side, interleaved."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """Times of several methods of one task.

    Attributes:
      name: of the task.
      seconds: by method, one value a round; the first method is this library's.
      notes: further figures by name.
    """

    name: str
    seconds: dict[str, list[float]]
    notes: dict[str, float | str] = field(default_factory=dict)

    def median(self, method: str) -> float:
        """Median seconds of a method."""
        return float(np.median(self.seconds[method]))

    def ratio(self, method: str) -> tuple[float, float, float]:
        """Time of a method over that of the first: median, least and most over rounds."""
        ours = np.array(next(iter(self.seconds.values())))
        ratios = np.array(self.seconds[method]) / ours
        return float(np.median(ratios)), float(ratios.min()), float(ratios.max())


def compare(
    name: str,
    methods: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    notes: dict[str, float | str] | None = None,
) -> Comparison:
    """Runs every method once a round, after one run that does not count.

    Args:
      name: of the task.
      methods: functions without arguments that return when the work is done; ours first.
      rounds: how often.
      notes: for the result.

    Returns:
      The times.
    """
    for method in methods.values():
        method()
    seconds: dict[str, list[float]] = {label: [] for label in methods}
    for _ in range(rounds):
        for label, method in methods.items():
            start = time.perf_counter()
            method()
            seconds[label].append(time.perf_counter() - start)
    return Comparison(name, seconds, notes or {})


def format_table(comparisons: list[Comparison]) -> str:
    """Markdown: medians in milliseconds, ratios to ours with their range over rounds."""
    lines = ["| task | method | median, ms | times ours (range) |", "| --- | --- | --- | --- |"]
    for comparison in comparisons:
        for i, method in enumerate(comparison.seconds):
            middle, low, high = comparison.ratio(method)
            ratio = "1" if i == 0 else f"{middle:.1f} ({low:.1f} to {high:.1f})"
            name = comparison.name if i == 0 else ""
            lines.append(f"| {name} | {method} | {1e3 * comparison.median(method):.1f} | {ratio} |")
        lines += [f"| | *{key}* | {value} | |" for key, value in comparison.notes.items()]
    return "\n".join(lines)
