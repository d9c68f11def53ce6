"""Tables 1 to 3 of the paper beside what was measured here.

The paper's numbers are in `paper_numbers.json`; ours come from `results.json` files of
`experiments.evaluate`. No number is anywhere else.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from experiments.evaluation.markdown import format_table
from experiments.evaluation.method_specs import method_title
from experiments.evaluation.report import count_images, format_failed, format_interval
from experiments.evaluation.results import Results, read_results
from experiments.evaluation.scores import (
    AS_IT_IS,
    MEAN_FACTOR,
    TOLD_FACTOR,
    Summary,
    summarize,
)
from glra_jax.datasets import DATASETS

_OURS = (
    "ours",
    "PSNR, dB",
    "SSIM",
    "volume SSIM",
    f"PSNR {MEAN_FACTOR}",
    f"PSNR {TOLD_FACTOR}",
    "measured on",
    "protocol",
    "ours, leak",
)
_HEAD = ("method", "paper, PSNR / SSIM", "paper, leak", *_OURS)
_SETTINGS = {"seed": 0, "margin": 75, "subtract": 0.0}  # named where they are others
_OTHERS = ("blur", "noise", *_OURS)


@dataclass(frozen=True)
class Measured:
    """One method of one evaluation.

    Attributes:
      kind: see `experiments.evaluation.methods.Method`.
      random: whether it is a model whose layers 1 and 3 started from random weights.
      cells: what stands under `_OURS`.
    """

    kind: str
    random: bool
    cells: tuple[str, ...]


def paper_numbers() -> dict[str, Any]:
    """Everything in `paper_numbers.json`."""
    return json.loads(
        resources.files(__package__).joinpath("paper_numbers.json").read_text("utf-8")
    )


def write_tables(files: Sequence[Path]) -> str:
    """The three tables as Markdown, and the evaluations that belong in none.

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
    placed: list[Results] = []
    for table in paper["tables"]:
        parts.append(f"## Table {table['number']}: {table['title']}\n\n{table['note']}")
        for column in table["columns"]:
            found = [run for run in runs if belongs(run, table, column)]
            placed += found
            parts.append(f"### {column['title']}\n\n{_format(paper, table, column, found)}")
    others = [run for run in runs if not any(run is one for one in placed)]
    if others:
        rows = [[*_degradation(run), *one.cells] for run in others for one in measured_methods(run)]
        parts.append(f"## Other evaluations\n\n{paper['others']}\n\n{format_table(_OTHERS, rows)}")
    return "\n\n".join(parts)


def belongs(run: Results, table: dict[str, Any], column: dict[str, Any]) -> bool:
    """Tells whether an evaluation is of a column's blur and noise, and of what its table takes."""
    return (
        run.config["protocol"] in table["takes"].get(find_source(run), ())
        and find_family(run) == column["kernel"]
        and run.config["margin"] == table["margin"]
        and run.config["noise"] is not None
        and abs(run.config["noise"] - column["noise"]) < 1e-9
    )


def find_source(run: Results) -> str:
    """Says what was evaluated: "triplets", or a dataset and its split, as "bsds500 val"."""
    dataset, split = run.config["dataset"], run.config["split"]
    if run.config["triplets"]:
        return "triplets"
    names = DATASETS[dataset].splits if dataset in DATASETS else {}
    return f"{dataset} {names.get(split, split)}"


def find_family(run: Results) -> str | None:
    """The family that all of an evaluation's kernels are of, if it is known."""
    families = {case.get("family") for case in run.cases}
    return run.config["kernel"] or (families.pop() if len(families) == 1 else None)


def measured_methods(run: Results) -> list[Measured]:
    """Lists the methods of an evaluation."""
    config = run.config
    summaries: dict[str, dict[str, Summary]] = {}
    for row in summarize(run.comparable, run.photographs):
        summaries.setdefault(row.method, {})[row.correction] = row
    images = f"{count_images(run)}, {config['data']}" + "".join(
        f", {name} {config[name]:g}" for name, usual in _SETTINGS.items() if config[name] != usual
    )
    return [
        Measured(
            method["kind"],
            bool(method.get("random_start")),
            (
                _name(method),
                *_scores(run, method["label"], summaries),
                images,
                config["protocol"],
                method["leak"],
            ),
        )
        for method in config["methods"]
    ]


def _name(method: dict[str, Any]) -> str:
    """Title; of a model also the start of its file's hash, as weights change under a name."""
    digest = method.get("sha256") if method["kind"] == "model" else None
    title = method_title(method["label"], method["kind"])
    return f"{title} ({digest[:8]})" if digest else title


def _scores(run: Results, label: str, summaries: dict[str, dict[str, Summary]]) -> list[str]:
    if label not in summaries:
        return [format_failed(run, label), "", "", "", ""]
    plain = summaries[label][AS_IT_IS]
    divided = (summaries[label].get(name) for name in (MEAN_FACTOR, TOLD_FACTOR))
    return [
        format_interval(plain.psnr, 2),
        format_interval(plain.ssim, 3),
        format_interval(plain.ssim_volume, 3),
        *("" if row is None else format_interval(row.psnr, 2) for row in divided),
    ]


def _degradation(run: Results) -> tuple[str, str]:
    kernel, level = find_family(run), run.config["noise"]
    noise = "of a camera" if level is None else f"{100 * level:g} %"
    return (
        Path(kernel).name if kernel else "of the files",
        noise if run.config["kernel"] else "of the files",
    )


def _format(
    paper: dict[str, Any], table: dict[str, Any], column: dict[str, Any], runs: Sequence[Results]
) -> str:
    measured = [one for run in runs for one in measured_methods(run)]
    rows: list[list[str]] = []
    for name, about in paper["methods"].items():
        leaks = name in paper["leak"]["methods"] and table["number"] in paper["leak"]["tables"]
        first = [name, _paper_cell(paper, column["numbers"].get(name)), "leak" if leaks else ""]
        ours = [one for one in measured if _is_of(one, about)]
        for one in ours:
            rows.append([*first, *one.cells])
            first = [name, "", ""]
        if not ours:
            reason = about.get("reason", "not measured")
            rows.append([*first, reason, *[""] * (len(_OURS) - 1)])
    rows += [
        ["", "", "", *one.cells]
        for one in measured
        if not any(_is_of(one, about) for about in paper["methods"].values())
    ]
    return format_table(_HEAD, rows)


def _is_of(one: Measured, about: dict[str, Any]) -> bool:
    """Tells whether a method of ours is the paper's."""
    return one.kind == about.get("kind") and one.random == about.get("random", False)


def _paper_cell(paper: dict[str, Any], number: dict[str, Any] | None) -> str:
    psnr, ssim = (number or {}).get("psnr"), (number or {}).get("ssim")
    if number is None or (psnr is None and ssim is None):
        return paper["missing"]
    cells = [paper["missing"] if value is None else f"{value:g}" for value in (psnr, ssim)]
    kind = number["ssim_kind"]
    return " / ".join(cells) + (f" ({kind})" if kind else "")
