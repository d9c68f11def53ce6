"""What an evaluation writes: results.json, results.csv, results.md."""

import csv
import io
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from experiments.evaluation.scores import (
    AS_IT_IS,
    CORRECTIONS,
    LEVEL,
    RESAMPLES,
    Interval,
    Record,
    count_wins,
    summarize,
)
from glra_jax.model import write_atomically

FORMAT = "glra_jax-evaluation-1"
SHEET = "sheet.png"
NAMES = ("results.json", "results.csv", "results.md", SHEET)


@dataclass(frozen=True)
class Results:
    """An evaluation.

    Attributes:
      config: all that it depends on.
      machine: what its times belong to.
      cases: what is known of every image: its factor, its size and its kernel's, and the hash of
        the blurred image, by which two evaluations can be told to have had the same.
      records: the scores.
    """

    config: dict[str, Any]
    machine: dict[str, Any]
    cases: list[dict[str, Any]]
    records: list[Record]


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Raises FileExistsError if a folder has results in it that may not be replaced."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose another --output")
    found = [name for name in NAMES if (folder / name).exists()]
    if found and not overwrite:
        raise FileExistsError(
            f"{folder} holds {', '.join(found)}; choose another --output or allow --overwrite"
        )


def write_results(results: Results, folder: Path, *, overwrite: bool) -> str:
    """Writes CSV, Markdown and JSON, the last one last, and returns the Markdown."""
    table = format_markdown(results)
    content = {"results.csv": format_csv(results), "results.md": table + "\n",
               "results.json": format_json(results)}  # fmt: skip
    for name, text in content.items():
        write_atomically(folder / name, text.encode(), overwrite=overwrite)
    return table


def format_json(results: Results) -> str:
    """Everything, as `read_results` takes it."""
    return json.dumps({"format": FORMAT, **asdict(results)}, indent=1, ensure_ascii=False) + "\n"


def read_results(path: Path) -> Results:
    """Reads a results.json.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file that is truncated or of another kind.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        records = [Record(**record) for record in content["records"]]
        return Results(content["config"], content["machine"], content["cases"], records)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a whole results.json of an evaluation: {error}") from error


def format_csv(results: Results) -> str:
    """A row for every image, method and correction."""
    gains = {case["image"]: case["gain"] for case in results.cases}
    buffer = io.StringIO()
    names = [field.name for field in fields(Record)]
    writer = csv.DictWriter(buffer, [*names, "gain"], lineterminator="\n")
    writer.writeheader()
    for record in results.records:
        gain = gains[record.image]
        writer.writerow(asdict(record) | {"gain": "" if gain is None else f"{gain:.5f}"})
    return buffer.getvalue()


def format_markdown(results: Results) -> str:
    """Means with intervals, wins, and how they came about."""
    used = [c for c in CORRECTIONS if any(r.correction == c for r in results.records)]
    parts = [f"{describe(results)}.", _table(results, used)]
    for correction in used:
        heading = "Wins in PSNR, row over column"
        if len(used) > 1:
            heading += f", outputs {correction}"
        parts.append(f"{heading}:\n\n{_wins(results, correction)}")
    parts.append(_notes(results, used))
    return "\n\n".join(parts)


def describe(results: Results) -> str:
    """One line on what was evaluated."""
    config = results.config
    text = f"{len(results.cases)} images: {config['data']}"
    if config["kernel"]:
        noise = f"{100 * config['noise']:g} %"
        text += (
            f", {Path(config['kernel']).name} blur, protocol {config['protocol']}, noise {noise}"
        )
        text += f", seed {config['seed']}"
    margin = config["margin"]
    return text + (f", {margin} pixels off each side" if margin else ", scored to the borders")


def _table(results: Results, used: list[str]) -> str:
    told = len(used) > 1
    head = [
        "method",
        *(["output"] if told else []),
        "PSNR, dB",
        "SSIM",
        "volume SSIM",
        "s an image",
    ]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for row in summarize(results.records):
        cells = [row.method, *([row.correction] if told else [])]
        cells.append(format_interval(row.psnr, 2))
        cells += [format_interval(value, 3) for value in (row.ssim, row.ssim_volume)]
        cells.append(f"{row.seconds:.3g}" if row.correction == AS_IT_IS else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def format_interval(value: Interval, digits: int) -> str:
    """Mean and interval; the mean alone where there is no interval."""
    mean = f"{value.mean:.{digits}f}"
    if value.low != value.low:
        return mean
    return f"{mean} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _wins(results: Results, correction: str) -> str:
    methods, wins = count_wins(results.records, correction)
    lines = ["| | " + " | ".join(methods) + " |", "| --- |" + " --- |" * len(methods)]
    for i, method in enumerate(methods):
        cells = ("" if i == j else str(wins[i, j]) for j in range(len(methods)))
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _notes(results: Results, used: list[str]) -> str:
    machine, config = results.machine, results.config
    lines = [
        f"In brackets: {100 * LEVEL:.0f} % bootstrap interval of the mean over images "
        f"({RESAMPLES} resamples). Every output is clipped to [0, 1]; SSIM is the mean over "
        f"channels, volume SSIM takes the channels for a third axis, as the paper does. Time: one "
        f"call on the whole image, compiled before, on {machine['processor']} "
        f"({machine['cores']} cores), {machine['backend']}."
    ]
    if len(used) > 1:
        where = "fitted to the files" if not config["kernel"] else "drawn"
        before = f" {config['subtract']:g} is subtracted before." if config["subtract"] else ""
        lines.append(
            f"The blurred images are too bright by a factor that no method is told. ÷ 1.1: the "
            f"output is divided by that factor's mean; ÷ own factor: by the image's own, {where}."
            f"{before}"
        )
    return "\n".join(lines)
