"""Writes the paper's Tables 1 to 3 beside what `experiments.evaluate` measured here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.evaluation.paper_tables import write_tables
from experiments.evaluation.results import find_results
from glra_jax.atomic_files import write_atomically
from glra_jax.programs import program


@dataclass(frozen=True)
class TablesOptions:
    """Sets the paper's numbers beside those of stored evaluations.

    Attributes:
      results: results.json files of experiments.evaluate, or folders that hold some.
      output: Markdown file to write.
      overwrite: Allow it to be replaced.
    """

    results: tyro.conf.Positional[tuple[Path, ...]]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/tables.md")
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    options = tyro.cli(TablesOptions, args=arguments, prog="python -m experiments.tables")
    with program("error"):
        text = write_tables(find_results(options.results))
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.output, f"{text}\n".encode(), overwrite=options.overwrite)
    print(f"{text}\n\nin {options.output}")


if __name__ == "__main__":
    main()
