"""Scores methods on published benchmarks: `python -m experiments.scoreboard --help`."""

import io
from pathlib import Path

import numpy as np

import glra_jax as gx
from experiments.evaluate import evaluate
from experiments.evaluation.results import Results, read_results
from experiments.pictures.drawing import png_bytes, save
from experiments.scoreboards.boards import Column
from experiments.scoreboards.options import ScoreboardOptions, check_data, evaluation_of, parse
from experiments.scoreboards.page import format_page
from experiments.scoreboards.plot import draw_scoreboard
from glra_jax.atomic_files import write_atomically
from glra_jax.programs import program


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    with program("error", hint="the same command resumes"):
        print(score(parse(arguments)))


def score(options: ScoreboardOptions) -> str:
    """Evaluates every column, writes page and picture, and returns the page.

    The same command resumes: a column that is done is in its folder, and is reused.

    Raises:
      OSError, ImportError: what is named cannot be read, or may not be replaced.
      ValueError: options or data that will not do, or restorations that failed.
    """
    page = options.used_page
    picture = page.with_suffix(".png")
    if (taken := [path for path in (page, picture) if path.exists()]) and not options.overwrite:
        raise FileExistsError(
            f"{', '.join(map(str, taken))} exists; choose another --page or allow --overwrite"
        )
    check_data(options)
    columns = options.measured
    evaluations = {c.name: evaluation_of(options, c, kernel_file(options, c)) for c in columns}
    results: dict[str, Results] = {}
    for number, (column, evaluation) in enumerate(
        zip(columns, evaluations.values(), strict=True), start=1
    ):
        print(f"{options.chosen.title}, {column.title} ({number} of {len(columns)})", flush=True)
        evaluate(evaluation)
        results[column.name] = read_results(evaluation.output / "results.json")
    text = format_page(options.chosen, results, picture=picture.name, command=command_of(options))
    page.parent.mkdir(parents=True, exist_ok=True)
    drawn = png_bytes(draw_scoreboard(options.chosen, results))
    save({picture: drawn, page: text.encode()}, overwrite=options.overwrite)
    return f"\n{text}\nin {page} and {picture}; results in {options.output}"


def kernel_file(options: ScoreboardOptions, column: Column) -> Path:
    """The file of a column's blur kernels: that which is given, or one that is written."""
    if column.gaussian is None:
        assert options.kernels is not None
        return options.kernels
    sigma, size = column.gaussian
    path = options.output / f"gaussian-{sigma:g}.npy"
    content = io.BytesIO()
    np.save(content, np.asarray(gx.gaussian_kernel(sigma=sigma, size=size)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue(), overwrite=path.exists())
    return path


def command_of(options: ScoreboardOptions) -> str:
    """The command that writes the page, with stand-ins for places of the user's machine."""
    lines = ["python -m experiments.scoreboard", f"--board {options.board}"]
    lines[0] += " --photographs PHOTOGRAPHS"
    if options.kernels is not None:
        lines[0] += f" --kernels {options.kernels.name}"
    if options.columns:
        lines[1] += f" --columns {' '.join(options.columns)}"
    if options.limit is not None:
        lines[1] += f" --limit {options.limit}"
    if options.seed:
        lines[1] += f" --seed {options.seed}"
    models = [spec if Path(spec).name == spec else Path(spec).name for spec in options.models]
    lines.append(" ".join(["--methods", *options.methods, "--models", *models]))
    if options.authors_weights is not None:
        lines[2] += " --authors-weights WEIGHTS"
    lines.append(f"--output {_shown(options.output)}")
    if options.page is not None:
        lines[3] += f" --page {_shown(options.page)}"
    if options.overwrite:
        lines[3] += " --overwrite"
    return " \\\n    ".join(lines)


def _shown(path: Path) -> str:
    return path.name if path.is_absolute() else str(path)


if __name__ == "__main__":
    main()
