"""Tables 1 to 3 of the paper beside what was measured here.

The paper's numbers stand in `paper_numbers.json`; ours come from `results.json` files of
`experiments.evaluate`. No number is anywhere else.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from experiments.evaluation.report import Results, format_interval, read_results
from experiments.evaluation.scores import (
    AS_IT_IS,
    MEAN_FACTOR,
    TOLD_FACTOR,
    Summary,
    summarize,
)

_HEAD = (
    "method",
    "paper, PSNR / SSIM",
    "paper, leak",
    "ours",
    "PSNR, dB",
    "volume SSIM",
    f"PSNR {MEAN_FACTOR}",
    f"PSNR {TOLD_FACTOR}",
    "measured on",
    "protocol",
    "ours, leak",
)
_TRIPLETS = "triplets"


@dataclass(frozen=True)
class Measured:
    """One method of one evaluation.

    Attributes:
      label: its name there.
      kind: see `experiments.evaluation.methods.Method`.
      leak: whether it has seen the images.
      images: what it was measured on.
      protocol: how the images were degraded.
      summaries: means by correction.
    """

    label: str
    kind: str
    leak: str
    images: str
    protocol: str
    summaries: dict[str, Summary]


def paper_numbers() -> dict[str, Any]:
    """Everything in `paper_numbers.json`."""
    return json.loads(
        resources.files(__package__).joinpath("paper_numbers.json").read_text("utf-8")
    )


def find_results(paths: Sequence[Path]) -> list[Path]:
    """Files of results: those given, and all `results.json` in and below the folders given.

    Raises:
      FileNotFoundError: a path that does not exist, or a folder without results.
    """
    found: list[Path] = []
    for path in paths:
        here = sorted(path.rglob("results.json")) if path.is_dir() else [path]
        if not here or not path.exists():
            raise FileNotFoundError(f"{path} is not a results.json, nor a folder that holds any")
        found += [file for file in here if file not in found]
    return found


def write_tables(files: Sequence[Path]) -> str:
    """The three tables as Markdown.

    Args:
      files: results.json files.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file that is not a whole results.json.
    """
    paper = paper_numbers()
    runs = [read_results(file) for file in files]
    leak = paper["leak"]
    parts = [
        f"Paper: {paper['paper']} ({paper['source']}). {paper['metrics']}. "
        f'"{paper["missing"]}": {paper["missing_reason"]}',
        f"Leak, paper's column: for {', '.join(leak['methods'])} in Table "
        f"{', '.join(map(str, leak['tables']))}, {leak['reason']}.",
    ]
    for table in paper["tables"]:
        parts.append(f"## Table {table['number']}: {table['title']}\n\n{table['note']}")
        for column in table["columns"]:
            parts.append(f"### {column['title']}\n\n{_format(paper, table, column, runs)}")
    return "\n\n".join(parts)


def matching(column: dict[str, Any], runs: Sequence[Results]) -> list[Measured]:
    """All methods of the evaluations that have a column's kernels and noise."""
    found = []
    for run in runs:
        config = run.config
        kernel = config["kernel"] or _TRIPLETS
        if kernel not in column["kernels"] or abs(config["noise"] - column["noise"]) > 1e-9:
            continue
        summaries: dict[str, dict[str, Summary]] = {}
        for row in summarize(run.records):
            summaries.setdefault(row.method, {})[row.correction] = row
        images = f"{len(run.cases)} images, {config['data']}"
        for method in config["methods"]:
            label = method["label"]
            found.append(
                Measured(
                    label,
                    method["kind"],
                    method["leak"],
                    images,
                    config["protocol"],
                    summaries[label],
                )
            )
    return found


def _format(
    paper: dict[str, Any], table: dict[str, Any], column: dict[str, Any], runs: Sequence[Results]
) -> str:
    measured = matching(column, runs)
    lines = ["| " + " | ".join(_HEAD) + " |", "| " + " | ".join("---" for _ in _HEAD) + " |"]
    kinds = {about.get("kind") for about in paper["methods"].values()}
    for name, about in paper["methods"].items():
        leaks = name in paper["leak"]["methods"] and table["number"] in paper["leak"]["tables"]
        first = [name, _paper_cell(paper, column["numbers"].get(name)), "leak" if leaks else ""]
        ours = [m for m in measured if m.kind == about.get("kind")]
        for one in ours:
            lines.append("| " + " | ".join([*first, *_cells(one)]) + " |")
            first = [name, "", ""]
        if not ours:
            reason = about.get("reason", "not measured")
            lines.append("| " + " | ".join([*first, reason, *[""] * 7]) + " |")
    for one in measured:
        if one.kind not in kinds:
            lines.append("| " + " | ".join(["", "", "", *_cells(one)]) + " |")
    return "\n".join(lines)


def _paper_cell(paper: dict[str, Any], number: dict[str, float | None] | None) -> str:
    psnr, ssim = (number or {}).get("psnr"), (number or {}).get("ssim")
    if psnr is None and ssim is None:
        return paper["missing"]
    cells = (paper["missing"] if value is None else f"{value:g}" for value in (psnr, ssim))
    return " / ".join(cells)


def _cells(one: Measured) -> list[str]:
    plain = one.summaries[AS_IT_IS]
    divided = (
        format_interval(one.summaries[name].psnr, 2) if name in one.summaries else ""
        for name in (MEAN_FACTOR, TOLD_FACTOR)
    )
    return [
        one.label,
        format_interval(plain.psnr, 2),
        format_interval(plain.ssim_volume, 3),
        *divided,
        one.images,
        one.protocol,
        one.leak,
    ]
