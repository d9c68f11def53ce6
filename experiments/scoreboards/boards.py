"""Published benchmarks by name. Every published figure is in `published.json`, and nowhere else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from experiments.evaluation.methods import ModelBoundary
from glra_jax import validation


@dataclass(frozen=True)
class Column:
    """What differs between the columns of a benchmark's table.

    Attributes:
      name: on the command line, and of the folder of results.
      title: in tables.
      noise: standard deviation of the noise, of white.
      gaussian: standard deviation in pixels and side of a Gaussian blur kernel; None where the
        kernels are given as a file.
    """

    name: str
    title: str
    noise: float
    gaussian: tuple[float, int] | None


@dataclass(frozen=True)
class Published:
    """Published figures of one method.

    Attributes:
      name: of the method.
      kind: name of its implementation in `experiments.baselines`; None if there is none.
      reference: where the method was published.
      psnr: dB by the name of the column, where it was published.
    """

    name: str
    kind: str | None
    reference: str
    psnr: Mapping[str, float]


@dataclass(frozen=True)
class Board:
    """A published benchmark.

    Attributes:
      name: on the command line.
      title: in documents.
      data: what is restored, and how it is scored, in words.
      photographs: how many there are.
      kernels: how many blur each.
      protocol: see `experiments.evaluation.protocols`.
      boundary: how models continue images.
      source: paper, year, table if known, and address that the figures are from.
      columns: in the order of the table.
      methods: in the order of the table.
    """

    name: str
    title: str
    data: str
    photographs: int
    kernels: int
    protocol: str
    boundary: ModelBoundary
    source: Mapping[str, str | None]
    columns: tuple[Column, ...]
    methods: tuple[Published, ...]

    @property
    def cases(self) -> int:
        """Number of images to restore in each column."""
        return self.photographs * self.kernels

    @property
    def kernels_come_in_a_file(self) -> bool:
        """Tells whether the blur kernels are data from outside."""
        return any(column.gaussian is None for column in self.columns)

    @property
    def source_words(self) -> str:
        """The source as a Markdown link."""
        place = ", ".join(filter(None, (self.source["year"], self.source["table"])))
        return f"[{self.source['paper']}]({self.source['url']}), {place}"


def board_named(name: str) -> Board:
    """Looks up a benchmark.

    Raises:
      ValueError: unknown name.
    """
    boards = _boards()
    validation.check_choice(name, "board", tuple(boards))
    return boards[name]


@cache
def _boards() -> dict[str, Board]:
    text = resources.files(__package__).joinpath("published.json").read_text("utf-8")
    found = {}
    for name, fields in json.loads(text).items():
        columns = []
        for column in fields.pop("columns"):
            gaussian = column.get("gaussian")
            kernel = gaussian and (gaussian["sigma"], gaussian["size"])
            columns.append(Column(column["name"], column["title"], column["noise"], kernel))
        methods = tuple(Published(**method) for method in fields.pop("methods"))
        found[name] = Board(name=name, columns=tuple(columns), methods=methods, **fields)
    return found
