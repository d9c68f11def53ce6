"""Timing several ways of doing the same thing side by side, interleaved."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """Times of several ways of doing one thing.

    Attributes:
      name: of the thing.
      seconds: by way, one value a round; the first way is this library's.
      notes: further figures by name.
    """

    name: str
    seconds: dict[str, list[float]]
    notes: dict[str, float | str] = field(default_factory=dict)

    def median(self, way: str) -> float:
        """Median seconds of a way."""
        return float(np.median(self.seconds[way]))

    def ratio(self, way: str) -> tuple[float, float, float]:
        """How many times longer a way takes than the first: median, least, most over rounds."""
        ours = np.array(next(iter(self.seconds.values())))
        ratios = np.array(self.seconds[way]) / ours
        return float(np.median(ratios)), float(ratios.min()), float(ratios.max())


def compare(
    name: str,
    ways: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    notes: dict[str, float | str] | None = None,
) -> Comparison:
    """Runs every way once a round, after one run that does not count.

    Args:
      name: of what is compared.
      ways: functions without arguments that return when the work is done; ours first.
      rounds: how often.
      notes: handed on.

    Returns:
      The times.
    """
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {label: [] for label in ways}
    for _ in range(rounds):
        for label, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[label].append(time.perf_counter() - start)
    return Comparison(name, seconds, notes or {})


def format_table(comparisons: list[Comparison]) -> str:
    """Markdown: medians in milliseconds, ratios to ours with their range over rounds."""
    lines = ["| what | way | median, ms | times ours (range) |", "| --- | --- | --- | --- |"]
    for comparison in comparisons:
        for i, way in enumerate(comparison.seconds):
            middle, low, high = comparison.ratio(way)
            ratio = "1" if i == 0 else f"{middle:.1f} ({low:.1f} to {high:.1f})"
            name = comparison.name if i == 0 else ""
            lines.append(f"| {name} | {way} | {1e3 * comparison.median(way):.1f} | {ratio} |")
        lines += [f"| | *{key}* | {value} | |" for key, value in comparison.notes.items()]
    return "\n".join(lines)
