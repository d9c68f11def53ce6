"""Command line of an evaluation: what is evaluated, by which methods, and where it goes."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments.evaluation.cases import PendingCase
from experiments.evaluation.synthetic import read_named_folder, synthetic_cases
from experiments.evaluation.triplets import triplet_cases
from glra_jax import validation
from glra_jax.datasets import embedded_photographs
from glra_jax.datasets.bsds500 import SPLITS, bsds500_photographs
from glra_jax.degradation import noise_deviation


@dataclass(frozen=True)
class EvaluateOptions:
    """Restores the same blurred images by several methods and models, and scores them.

    The images are triplets of files, a split of BSDS500, a folder of photographs, or, if none of
    these is given, the embedded test photographs. All but triplets are blurred here.

    Attributes:
      triplets: Folder of NAME_batch.png, NAME_gt.png, NAME_kernel.png, as the authors released
        them.
      bsds500: Split of BSDS500; bsd100 is val.
      bsds500_folder: Where BSDS500 was unpacked; if not given, it is downloaded and prepared once.
      data_dir: Where prepared datasets lie, instead of tensorflow-datasets' default.
      images: Folder of photographs.
      kernel: Family of blur kernels (gaussian, disk, motion), one drawn for each photograph; or a
        file of kernels (.npy, .npz), all of them for each. Not for triplets.
      protocol: How photographs are degraded, see glra_jax.degradation. Triplets are "release".
      noise: Standard deviation (paper) or largest value (release) of the noise.
      seed: Of kernels, factors and noise.
      limit: Number of photographs, the first by name; all if not given.
      methods: blurred, eq8, and the names in experiments.baselines; options follow a colon:
        wiener:noise_to_signal=0.001
      models: Names, files, or LABEL=FILE. Files may be of PyTorch or Caffe (.caffemodel).
      basis: .npz file with the arrays left and right, for weights that come without them.
      leaky: Labels of models and baselines that were trained or tuned on images scored here;
        recorded.
      clean: Labels of those that were not; recorded.
      random: Labels of models whose layers 1 and 3 started from random weights, as the paper's
        comparison does; recorded. It is known of glra-random-init.
      borders: Score the centre crop, or the full image. Images are blurred circularly, as the
        authors' are, and every method makes up what is outside in its own way: near the borders
        that is scored too, unless a baseline is told boundary=wrap.
      margin: Pixels left out on each side by the centre crop; 75 is half the network's support.
      subtract: Taken off an output before it is divided by a factor; the mean of the release's
        noise is 0.005.
      sheet: Number of photographs on the sheet of pictures.
      output: Folder for results.json, results.csv, results.md, sheet.png.
      reuse: Results of earlier evaluations of the same images (results.json, or folders that hold
        some): what the same methods scored is taken over, whatever has changed in their programs
        since; but images on the sheet are restored again (--sheet 0 for none).
      overwrite: Allow results in the folder to be replaced.
    """

    triplets: Path | None = None
    bsds500: Literal["train", "test", "val", "bsd100"] | None = None
    bsds500_folder: Path | None = None
    data_dir: Path | None = None
    images: Path | None = None
    kernel: str | None = None
    protocol: Literal["paper", "release"] | None = None
    noise: float = 0.01
    seed: int = 0
    limit: int | None = None
    methods: tuple[str, ...] = ("blurred", "eq8", "wiener")
    models: tuple[str, ...] = ("glra",)
    basis: Path | None = None
    leaky: tuple[str, ...] = ()
    clean: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    borders: Literal["crop", "full"] = "crop"
    margin: int = 75
    subtract: float = 0.0
    sheet: int = 4
    output: Path = Path("runs/evaluate")
    reuse: tuple[Path, ...] = ()
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False

    def __post_init__(self) -> None:
        sources = [name for name in ("triplets", "bsds500", "images") if getattr(self, name)]
        if len(sources) > 1:
            raise ValueError(f"give one of --triplets, --bsds500 and --images, not {sources}")
        if self.triplets and (self.kernel or self.protocol):
            raise ValueError(
                "triplets have their own kernels and protocol: leave --kernel and --protocol out"
            )
        if not self.bsds500 and (self.bsds500_folder or self.data_dir):
            raise ValueError("--bsds500-folder and --data-dir are for --bsds500 SPLIT")
        validation.check_non_negative(self.noise, "noise")
        validation.check_non_negative(self.subtract, "subtract")
        validation.check_size(self.margin, "margin", minimum=0)
        validation.check_size(self.sheet, "sheet", minimum=0)
        if self.limit is not None:
            validation.check_size(self.limit, "limit")
        validation.check_seed(self.seed)
        if self.triplets and self.seed:
            raise ValueError(f"nothing of triplets is drawn: leave --seed {self.seed} out")

    @property
    def scored_margin(self) -> int:
        """Pixels left out on each side."""
        return self.margin if self.borders == "crop" else 0

    @property
    def used_protocol(self) -> str:
        """The protocol of the images."""
        return self.protocol or ("release" if self.triplets else "paper")

    @property
    def noise_deviation(self) -> float:
        """Standard deviation of the noise, which baselines are told."""
        return noise_deviation(self.noise, protocol=self.used_protocol)

    @property
    def used_kernel(self) -> str | None:
        """Family or file of kernels; None for triplets."""
        return None if self.triplets else self.kernel or "gaussian"

    @property
    def data(self) -> str:
        """What is evaluated, in words."""
        if self.triplets:
            return f"triplets of {self.triplets.resolve().name}"
        if self.bsds500:
            return f"BSDS500 {SPLITS[self.bsds500]}"
        return (
            f"folder {self.images.resolve().name}" if self.images else "embedded test photographs"
        )

    def describe(self) -> dict[str, Any]:
        """What the results depend on, for results.json; of folders and files only the names."""
        plain = {k: v.resolve().name if isinstance(v, Path) else v for k, v in asdict(self).items()}
        for name in ("methods", "models", "leaky", "clean", "random", "output", "reuse",
                     "overwrite", "borders"):  # fmt: skip
            del plain[name]
        kernel = self.used_kernel and Path(self.used_kernel).name
        found = {"kernel": kernel, "protocol": self.used_protocol,
                 "margin": self.scored_margin, "data": self.data}  # fmt: skip
        return plain | found


def parse(arguments: list[str] | None = None) -> EvaluateOptions:
    """Reads the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return tyro.cli(EvaluateOptions, args=arguments, prog="python -m experiments.evaluate")


def load_cases(options: EvaluateOptions) -> list[PendingCase]:
    """Reads what is evaluated.

    Raises:
      FileNotFoundError: see `triplet_cases`, `synthetic_cases`, `bsds500_photographs`.
      ImportError: a library for the dataset is missing.
      NotADirectoryError: no such folder.
      ValueError: a file that cannot be read.
    """
    if options.triplets:
        return triplet_cases(options.triplets, limit=options.limit)
    if options.bsds500:
        photographs = bsds500_photographs(
            options.bsds500, folder=options.bsds500_folder, data_dir=options.data_dir
        )
    elif options.images:
        photographs = read_named_folder(options.images)
    else:
        photographs = embedded_photographs("test")
    return synthetic_cases(
        photographs,
        kernel=options.used_kernel or "gaussian",
        protocol=options.used_protocol,
        noise=options.noise,
        seed=options.seed,
        limit=options.limit,
    )
