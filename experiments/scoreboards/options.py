"""Command line of `experiments.scoreboard`, and what it asks `experiments.evaluate` for."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.evaluation.options import EvaluateOptions
from experiments.evaluation.results import find_results, read_results
from experiments.evaluation.synthetic import read_kernels
from experiments.scoreboards.boards import Board, Column, board_named
from glra_jax import validation
from glra_jax.datasets.folder import find_photographs


@dataclass(frozen=True)
class ScoreboardOptions:
    """Scores methods and models on a published benchmark, and sets the published figures beside.

    Boards: set12-levin, twelve grey photographs blurred by the eight kernels of Levin et al. 2009;
    cbsd68-gaussian, 68 colour photographs with Gaussian blur. Every method is told the noise.
    Neither photographs nor kernels come with the project.

    Attributes:
      photographs: Folder of the board's photographs. Noise is drawn by the names of the files:
        those of Set12 are 01.png to 12.png.
      board: Name of the benchmark.
      kernels: File of the blur kernels (.npy, .npz), for set12-levin: eight arrays, k1 to k8.
      columns: Names of those that are measured: 2.55, 5.1, 7.65, 10.2, 12.75 (set12-levin, the
        noise); 1.6, 2.0 (cbsd68-gaussian, the blur). All if not given.
      limit: Number of photographs, the first by name; all if not given. Figures of a part compare
        with each other, not with published ones.
      methods: See experiments.evaluate. On cbsd68-gaussian, baselines that can be told that the
        image wraps around are written tv:boundary=wrap.
      models: See experiments.evaluate.
      authors_weights: See experiments.evaluate.
      seed: Of the noise.
      output: Folder of the results, a folder in it for each column.
      page: Markdown file to write, with the picture beside it; scoreboard.md in the output folder
        if not given.
      reuse: Results of earlier evaluations, see experiments.evaluate; those in the output folder
        are always reused.
      overwrite: Allow page, picture and results of other methods to be replaced.
    """

    photographs: Path
    board: str = "set12-levin"
    kernels: Path | None = None
    columns: tuple[str, ...] = ()
    limit: int | None = None
    methods: tuple[str, ...] = ("blurred", "tv")
    models: tuple[str, ...] = ("unrolled",)
    authors_weights: Path | None = None
    seed: int = 0
    output: Path = Path("runs/scoreboard")
    page: Path | None = None
    reuse: tuple[Path, ...] = ()
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False

    def __post_init__(self) -> None:
        board = board_named(self.board)
        for name in self.columns:
            validation.check_choice(name, "columns", tuple(c.name for c in board.columns))
        if board.kernels_come_in_a_file and self.kernels is None:
            raise ValueError(
                f"board {board.name!r} has {board.kernels} blur kernels: give the file that holds "
                f"them with --kernels FILE (.npz)"
            )
        if not board.kernels_come_in_a_file and self.kernels is not None:
            raise ValueError(
                f"board {board.name!r} has kernels that are computed: leave --kernels "
                f"{self.kernels} out"
            )
        if self.page is not None and self.page.suffix != ".md":
            raise ValueError(f"page must be a Markdown file, NAME.md, got {str(self.page)!r}")
        if self.limit is not None:
            validation.check_size(self.limit, "limit")
        validation.check_seed(self.seed)

    @property
    def chosen(self) -> Board:
        """The benchmark."""
        return board_named(self.board)

    @property
    def measured(self) -> list[Column]:
        """Columns that are measured, in the order of the board."""
        return [c for c in self.chosen.columns if c.name in self.columns or not self.columns]

    @property
    def used_page(self) -> Path:
        """The page; the picture has its name but for the ending."""
        return self.output / "scoreboard.md" if self.page is None else self.page


def parse(arguments: list[str] | None = None) -> ScoreboardOptions:
    """Reads the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return tyro.cli(ScoreboardOptions, args=arguments, prog="python -m experiments.scoreboard")


def check_data(options: ScoreboardOptions) -> None:
    """Raises unless photographs and kernels are there, as many as the board has.

    Raises:
      OSError: no such folder or file.
      ValueError: another number of them, or files that cannot be read.
    """
    board = options.chosen
    found = len(find_photographs(options.photographs))
    if found != board.photographs:
        raise ValueError(
            f"board {board.name!r} has {board.photographs} photographs, and {options.photographs} "
            f"holds {found}: give the folder of exactly these; --limit takes the first of them"
        )
    if options.kernels is not None and len(kernels := read_kernels(options.kernels)) != (
        board.kernels
    ):
        raise ValueError(
            f"board {board.name!r} has {board.kernels} blur kernels, and {options.kernels} holds "
            f"{len(kernels)}: {', '.join(kernels)}"
        )


def evaluation_of(options: ScoreboardOptions, column: Column, kernels: Path) -> EvaluateOptions:
    """The evaluation of a column.

    Args:
      options: of the scoreboard.
      column: one of its board's.
      kernels: file of the blur kernels.

    Returns:
      Options of `experiments.evaluate`. Earlier results in the column's own folder are reused and
      then replaced.

    Raises:
      FileExistsError: the folder has results of methods that are not asked for now.
    """
    board, folder = options.chosen, options.output / column.name
    own = folder / "results.json"
    wanted = (*options.methods, *options.models)
    if own.exists() and not options.overwrite:
        labels = {method["label"] for method in read_results(own).config["methods"]}
        if lost := sorted(labels - {spec.partition("=")[0] for spec in options.models} - {*wanted}):
            raise FileExistsError(
                f"{folder} has results of {', '.join(lost)}, which would be lost: name these too, "
                f"choose another --output or allow --overwrite"
            )
    reused = [path for path in _files(options.reuse) if _is_of(path, board, column, kernels)]
    if own.exists() and own.resolve() not in {path.resolve() for path in reused}:
        reused.append(own)
    return EvaluateOptions(
        dataset="folder",
        data_dir=options.photographs,
        kernel=str(kernels),
        protocol=board.protocol,
        noise=column.noise,
        seed=options.seed,
        limit=options.limit,
        methods=options.methods,
        models=options.models,
        authors_weights=options.authors_weights,
        tell_models=True,
        model_boundary=board.boundary,
        sheet=0,
        output=folder,
        reuse=tuple(reused),
        overwrite=own.exists(),
    )


def _files(paths: Sequence[Path]) -> list[Path]:
    return find_results(paths) if paths else []


def _is_of(path: Path, board: Board, column: Column, kernels: Path) -> bool:
    """Tells whether results are of a column, so that a folder may hold those of all columns."""
    config = read_results(path).config
    return (
        config["protocol"] == board.protocol
        and config["noise"] == column.noise
        and config["kernel"] == kernels.name
    )
