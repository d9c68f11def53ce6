"""Runs notebooks and stores them with their outputs: `python -m experiments.notebooks NOTEBOOK...`.

It needs nbclient and ipykernel (extra `test`).
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from glra_jax.atomic_files import write_atomically
from glra_jax.programs import program


@dataclass(frozen=True)
class NotebooksOptions:
    """Runs notebooks from top to bottom and stores them with their outputs.

    Attributes:
      notebooks: Files; each is replaced, but not if one of its cells fails.
      timeout: Seconds that a cell may take, at least 1.
    """

    notebooks: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="NOTEBOOK")]
    timeout: int = 900

    def __post_init__(self) -> None:
        if not self.notebooks:
            raise ValueError("no notebook is named; give files, such as examples/*.ipynb")
        if self.timeout < 1:
            raise ValueError(f"timeout must be at least 1 second, got {self.timeout}")
        for path in self.notebooks:
            if path.suffix != ".ipynb" or not path.is_file():
                raise ValueError(f"{path} is not a notebook: a file whose name ends in .ipynb")


def execute(path: Path, folder: Path, *, timeout: int = 900) -> Any:
    """Runs a notebook in a new Python process; nothing is written.

    Args:
      path: the notebook.
      folder: where it runs.
      timeout: seconds that a cell may take.

    Returns:
      The notebook with its outputs, without times and versions: the same outputs, the same file.

    Raises:
      ValueError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        notebook = client.execute()
    except CellExecutionError as error:
        raise ValueError(
            f"{path} is left as it was: a cell fails with {error.ename}: {error.evalue}"
        ) from error
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    with program("error"):
        prog = "python -m experiments.notebooks"
        options = tyro.cli(NotebooksOptions, args=arguments, prog=prog)
        import nbformat

        for path in options.notebooks:
            start = time.monotonic()
            print(f"{path}: running", flush=True)
            notebook = execute(path, path.parent, timeout=options.timeout)
            text = nbformat.writes(notebook) + "\n"
            write_atomically(path, text.encode(), overwrite=True)
            seconds = time.monotonic() - start
            print(f"{path}: {len(text) / 1000:.0f} kB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
