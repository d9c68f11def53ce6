"""Command line of an evaluation: what is evaluated, by which methods, and where it goes."""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tyro

from experiments.evaluation.camera import SHAKE, Camera
from experiments.evaluation.cases import PendingCase
from experiments.evaluation.methods import ModelBoundary
from experiments.evaluation.protocols import Borders, protocol_named
from experiments.evaluation.synthetic import synthetic_cases
from experiments.evaluation.triplets import triplet_cases
from glra_jax import validation
from glra_jax.datasets import dataset_named, load_photographs


@dataclass(frozen=True)
class EvaluateOptions:
    """Restores the same blurred images by several methods and models, and scores them.

    The images are triplets of files, or photographs of a dataset, which are blurred here.

    Attributes:
      triplets: Folder of NAME_batch.png, NAME_gt.png, NAME_kernel.png, as the authors released
        them.
      dataset: Photographs, by a name in glra_jax.datasets.DATASETS; an unknown one lists them all.
      split: Split of the dataset, as val of bsds500, also named bsd100; that which is meant for
        tests if not given.
      data_dir: Where the dataset lies. bsds500: a folder where the archive was unpacked, or a
        folder of tensorflow-datasets; if not given, that library's own, to which 71 MB are
        downloaded if they are not there yet. folder: the folder.
      kernel: Family of blur kernels (see glra_jax.kernel_families.FAMILIES), one drawn for each
        photograph; or a file of kernels (.npy, .npz), all of them for each. gaussian if not given,
        or camera shake (camera-file). Not for triplets.
      protocol: How photographs are degraded, by a name in glra_jax.degradation.DEGRADATIONS; or
        valid, as published scoreboards do: real borders, noise that is not clipped, outputs rounded
        to 8 bits; or circular, the same with a blur that wraps around; or camera-file, as a camera
        does: blur in linear light, real borders, noise of photons, 8-bit sRGB. paper if not given.
        Triplets are "release".
      noise: Standard deviation (paper, valid, circular) or largest value (release) of the noise;
        0.01 if not given. Not for camera-file.
      camera: Of protocol camera-file alone.
      seed: Of kernels, factors and noise.
      limit: Number of photographs, the first by name; all if not given.
      methods: blurred, linear (eq. 8 of the paper), and the names in experiments.baselines;
        options follow a colon: wiener:noise_to_signal=0.001
      authors_weights: Folder of the files that networks among the methods have from their authors;
        experiments/baselines/README.md lists them.
      models: Names, files, or LABEL=FILE. Files may be of PyTorch or Caffe (.caffemodel).
      tell_models: Tell models the level of the noise, as baselines are; if not given, they estimate
        it from the image.
      model_boundary: How models continue images: edge, reflect or wrap. Give wrap where the blur
        wraps around and methods may know it.
      basis: .npz file with the arrays left and right, for weights that come without them.
      leaky: Labels of models and baselines that were trained or tuned on images scored here;
        recorded.
      clean: Labels of those that were not; recorded.
      random: Labels of models whose layers 1 and 3 started from random weights, as the paper's
        comparison does; recorded. It is known of glra-random-init.
      borders: Score the centre crop, or the full image; the crop if not given. Images are blurred
        circularly, as the authors' are, unless the protocol says otherwise. Every method continues
        them in its own form, which is scored too near the borders, unless a baseline is given
        boundary=wrap and models --model-boundary wrap.
      margin: Pixels left out on each side by the centre crop; if not given, 75, which is half the
        network's support, or 30 (valid). camera-file and circular are scored in full if neither is
        given.
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
    dataset: str = "embedded"
    split: str | None = None
    data_dir: Path | None = None
    kernel: str | None = None
    protocol: str | None = None
    noise: float | None = None
    camera: Camera = field(default_factory=Camera)
    seed: int = 0
    limit: int | None = None
    methods: tuple[str, ...] = ("blurred", "linear", "wiener")
    authors_weights: Path | None = None
    models: tuple[str, ...] = ("glra",)
    tell_models: tyro.conf.FlagCreatePairsOff[bool] = False
    model_boundary: ModelBoundary = "edge"
    basis: Path | None = None
    leaky: tuple[str, ...] = ()
    clean: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    borders: Borders | None = None
    margin: int | None = None
    subtract: float = 0.0
    sheet: int = 4
    output: Path = Path("runs/evaluate")
    reuse: tuple[Path, ...] = ()
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False

    def __post_init__(self) -> None:
        dataset = dataset_named(self.dataset)
        if self.split is not None:
            validation.check_choice(self.split, "split", tuple(dataset.splits))
        if self.triplets and (self.dataset != "embedded" or self.split or self.data_dir):
            raise ValueError(
                "triplets are no dataset: leave --dataset, --split and --data-dir out, or leave "
                "--triplets out"
            )
        if self.triplets and (self.kernel or self.protocol):
            raise ValueError(
                "triplets have their own kernels and protocol: leave --kernel and --protocol out"
            )
        protocol_named(self.used_protocol)  # raises for an unknown one
        self._check_noise()
        validation.check_non_negative(self.subtract, "subtract")
        if self.margin is not None:
            validation.check_size(self.margin, "margin", minimum=0)
        validation.check_size(self.sheet, "sheet", minimum=0)
        if self.limit is not None:
            validation.check_size(self.limit, "limit")
        validation.check_seed(self.seed)
        if self.triplets and self.seed:
            raise ValueError(f"nothing of triplets is drawn: leave --seed {self.seed} out")

    def _check_noise(self) -> None:
        if self.noise is not None:
            validation.check_non_negative(self.noise, "noise")
        given = asdict(self.camera)
        changed = [key for key, usual in asdict(Camera()).items() if given[key] != usual]
        if not self.takes_camera and changed:
            raise ValueError(
                f"protocol {self.used_protocol!r} has no camera: leave --camera.{changed[0]} "
                f"{given[changed[0]]} out, or take --protocol camera-file"
            )
        if self.takes_camera and self.noise is not None:
            raise ValueError(
                f"the noise of protocol {self.used_protocol!r} is that of its camera: leave "
                f"--noise {self.noise:g} out; --camera.full-well and --camera.read-noise set it"
            )
        if self.used_kernel != SHAKE and "shake" in changed:
            raise ValueError(
                f"--kernel {self.kernel} is no camera shake: leave it or --camera.shake "
                f"{self.camera.shake} out"
            )

    @property
    def takes_camera(self) -> bool:
        """Tells whether a camera takes the photographs."""
        return protocol_named(self.used_protocol).noise_deviation is None

    @property
    def used_noise(self) -> float | None:
        """Level of the noise; None where it is a camera's."""
        if self.takes_camera:
            return None
        return 0.01 if self.noise is None else self.noise

    @property
    def scored_margin(self) -> int:
        """Pixels left out on each side."""
        protocol = protocol_named(self.used_protocol)
        borders = self.borders or (protocol.borders if self.margin is None else "crop")
        if borders == "full":
            return 0
        return protocol.margin if self.margin is None else self.margin

    @property
    def used_protocol(self) -> str:
        """Protocol of the images."""
        return self.protocol or ("release" if self.triplets else "paper")

    @property
    def noise_deviation(self) -> float | None:
        """Standard deviation of the noise, for the baselines; None where each image has its own."""
        deviation = protocol_named(self.used_protocol).noise_deviation
        return None if deviation is None or self.used_noise is None else deviation(self.used_noise)

    @property
    def used_kernel(self) -> str | None:
        """Family or file of kernels; None for triplets."""
        usual = SHAKE if self.takes_camera else "gaussian"
        return None if self.triplets else self.kernel or usual

    @property
    def used_split(self) -> str | None:
        """Split of the dataset, by the first of its names; None for triplets."""
        dataset = dataset_named(self.dataset)
        return None if self.triplets else dataset.splits[self.split or dataset.test_split]

    @property
    def data(self) -> str:
        """Data that is evaluated, in words."""
        if self.used_split is None:
            return f"triplets of {Path(self.triplets or '').resolve().name}"
        return dataset_named(self.dataset).describe(self.used_split, self.data_dir)

    def describe(self) -> dict[str, Any]:
        """Records what results depend on, for results.json; of folders and files only the names."""
        plain = {k: v.resolve().name if isinstance(v, Path) else v for k, v in asdict(self).items()}
        for name in ("methods", "authors_weights", "models", "leaky", "clean", "random", "output",
                     "reuse", "overwrite", "borders", "tell_models", "model_boundary"):  # fmt: skip
            del plain[name]
        if not self.takes_camera:
            del plain["camera"]
        kernel = self.used_kernel and Path(self.used_kernel).name
        found = {"dataset": None if self.triplets else self.dataset, "split": self.used_split,
                 "kernel": kernel, "protocol": self.used_protocol, "noise": self.used_noise,
                 "margin": self.scored_margin, "data": self.data}  # fmt: skip
        return plain | found


def parse(arguments: list[str] | None = None) -> EvaluateOptions:
    """Reads the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return tyro.cli(EvaluateOptions, args=arguments, prog="python -m experiments.evaluate")


def load_cases(options: EvaluateOptions) -> list[PendingCase]:
    """Reads what is evaluated.

    Raises:
      FileNotFoundError: see `triplet_cases`, `synthetic_cases`, and the dataset's loader.
      ImportError: a library for the dataset is missing.
      NotADirectoryError: no such folder.
      ValueError: a file that cannot be read.
    """
    if options.triplets:
        return triplet_cases(options.triplets, limit=options.limit)
    return synthetic_cases(
        load_photographs(options.dataset, options.split, data_dir=options.data_dir),
        kernel=options.used_kernel or "gaussian",
        protocol=options.used_protocol,
        noise=options.used_noise or 0.0,
        seed=options.seed,
        limit=options.limit,
        camera=options.camera,
    )
