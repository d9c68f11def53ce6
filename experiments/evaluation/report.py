"""Files of an evaluation: results.json, results.csv, results.md."""

import csv
import io
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path

from experiments.evaluation.camera import Camera
from experiments.evaluation.markdown import format_table
from experiments.evaluation.protocols import PROTOCOLS
from experiments.evaluation.results import Results, format_json
from experiments.evaluation.scores import (
    AS_IT_IS,
    CORRECTIONS,
    FEWEST_PHOTOGRAPHS,
    LEVEL,
    RESAMPLES,
    Interval,
    Record,
    count_wins,
    summarize,
)
from glra_jax.atomic_files import write_atomically


def write_results(results: Results, folder: Path, *, overwrite: bool) -> str:
    """Writes CSV, Markdown and JSON, the last one last, and returns the Markdown."""
    table = format_markdown(results)
    content = {"results.csv": format_csv(results), "results.md": table + "\n",
               "results.json": format_json(results)}  # fmt: skip
    for name, text in content.items():
        write_atomically(folder / name, text.encode(), overwrite=overwrite)
    return table


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
    """Means with intervals, wins, and notes on how they were computed."""
    used = [c for c in CORRECTIONS if any(r.correction == c for r in results.comparable)]
    parts = [f"{describe(results)}.", _table(results, used)]
    for correction in used:
        heading = "Wins in PSNR, row over column"
        if _several_kernels(results):
            heading += ", by photographs' means over their kernels"
        if len(used) > 1:
            heading += f", outputs {correction}"
        parts.append(f"{heading}:\n\n{_wins(results, correction)}")
    parts.append(_notes(results, used))
    return "\n\n".join(parts)


def describe(results: Results) -> str:
    """One line on what was evaluated."""
    config = results.config
    text = f"{count_images(results)}: {config['data']}"
    if config["kernel"]:
        text += f", {Path(config['kernel']).name} blur, protocol {config['protocol']}"
        if config["noise"] is not None:
            text += f", noise {100 * config['noise']:g} %"
        if camera := config.get("camera"):
            light = "linear light" if camera["light"] == "linear" else "the file's values"
            text += f", {Camera(**camera).words}, restored in {light}"
        text += f", seed {config['seed']}"
    margin = config["margin"]
    return text + (f", {margin} pixels off each side" if margin else ", scored to the borders")


def count_images(results: Results) -> str:
    """Number of images, or of photographs and kernels for each."""
    images = len(results.cases)
    if not _several_kernels(results):
        return f"{images} images"
    counts = Counter(results.photographs.values())
    kernels = set(counts.values())
    if len(kernels) == 1:
        return f"{len(counts)} photographs × {kernels.pop()} kernels"
    return f"{images} images of {len(counts)} photographs"


def _several_kernels(results: Results) -> bool:
    return len(set(results.photographs.values())) < len(results.cases)


def _table(results: Results, used: list[str]) -> str:
    told = len(used) > 1
    head = ["method", *(["output"] if told else []), "PSNR, dB", "SSIM", "volume SSIM",
            "s an image"]  # fmt: skip
    rows = []
    for row in summarize(results.comparable, results.photographs):
        cells = [results.titles[row.method], *([row.correction] if told else [])]
        cells.append(format_interval(row.psnr, 2))
        cells += [format_interval(value, 3) for value in (row.ssim, row.ssim_volume)]
        timed = row.correction == AS_IT_IS and row.method not in results.reused
        cells.append(f"{row.seconds:.3g}" if timed else "")
        rows.append(cells)
    for method in results.failed:
        title = results.titles[method]
        rows.append([title, *([""] if told else []), format_failed(results, method), "", "", ""])
    return format_table(head, rows)


def format_failed(results: Results, method: str) -> str:
    """Reason why a method has no mean."""
    return f"failed on {results.failed[method]} of {len(results.cases)} images"


def format_interval(value: Interval, digits: int) -> str:
    """Mean and interval; the mean alone where there is no interval."""
    mean = f"{value.mean:.{digits}f}"
    if value.low != value.low:
        return mean
    return f"{mean} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _wins(results: Results, correction: str) -> str:
    methods, wins = count_wins(results.comparable, correction, results.photographs)
    titles = [results.titles[method] for method in methods]
    rows = [
        [title, *("" if i == j else str(wins[i, j]) for j in range(len(titles)))]
        for i, title in enumerate(titles)
    ]
    return format_table(["", *titles], rows)


def _notes(results: Results, used: list[str]) -> str:
    machine, config = results.machine, results.config
    over = "photographs, each with all its kernels" if _several_kernels(results) else "images"
    if len(set(results.photographs.values())) < FEWEST_PHOTOGRAPHS:
        intervals = f"No intervals: fewer than {FEWEST_PHOTOGRAPHS} photographs."
    else:
        intervals = (
            f"In brackets: {100 * LEVEL:.0f} % bootstrap interval of the mean over {over} "
            f"({RESAMPLES} resamples)."
        )
    lines = [
        f"{intervals} Every output is clipped to [0, 1]; SSIM is the mean over channels, volume "
        f"SSIM takes the channels for a third axis, as the authors' programs do. "
        f"Time: one call on the whole image, compiled before, on {machine['processor']} "
        f"({machine['cores']} cores), {machine['backend']}."
    ]
    if len(used) > 1:
        where = "fitted to the files" if not config["kernel"] else "drawn"
        before = f" {config['subtract']:g} is subtracted before." if config["subtract"] else ""
        lines.append(
            f"The blurred images are too bright by a factor that no method knows. ÷ 1.1: the "
            f"output is divided by that factor's mean; ÷ own factor: by the image's own, {where}."
            f"{before}"
        )
    protocol = PROTOCOLS.get(config["protocol"])
    if not config["margin"]:
        circular = "" if protocol and protocol.valid else "; the images are blurred circularly"
        lines.append(
            f"Scored to the borders, beyond which every method continues the image in its own form"
            f"{circular}."
        )
    if protocol and protocol.note:
        lines.append(protocol.note)
    if results.reused:
        counts = ", ".join(f"{results.titles[m]} ({count})" for m, count in results.reused.items())
        lines.append(
            f"Scores taken over from earlier evaluations, where their times are: {counts}, of "
            f"{len(results.cases)} images."
        )
    lines += [
        f"{results.titles[f['method']]} failed on {f['image']}: {f['error']}"
        for f in results.failures
    ]
    return "\n".join(lines)
