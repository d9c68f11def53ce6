"""Counts how often a restored photograph is worse than the blurred one.

    python -m experiments.never_worse --dataset folder --data-dir DIR --models unrolled --cases 300

Cases are drawn at random from a grid: kind and size of the blur, noise, file, exposure, grey or
colour, and whether the kernel that the method is told is the right one or a pixel too large on each
side. Photographs are halved, which takes most of their own noise away, and cropped; what the blur
needs beyond the crop is nobody's. Noise is estimated, of JPEG as `deconvolve` does it. Images are
scored as a whole, by PSNR.

A restoration is worse if it is more than 0.05 dB below the blurred image, unless it differs from
the truth by less than half a grey level of 8 bits. The program prints the share of these for each
value of each factor, and lists them.
"""

import itertools
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

from experiments.evaluation.markdown import format_table
from experiments.noise_grid import check_qualities, halved_crop, stored
from glra_jax import validation
from glra_jax.blurring import blur
from glra_jax.datasets import load_photographs
from glra_jax.file_noise import noise_with_jpeg
from glra_jax.kernel_families import FAMILIES, KernelFamilies, sample_kernel
from glra_jax.metrics import psnr
from glra_jax.model_files import load_model
from glra_jax.programs import program
from glra_jax.restoration import deconvolve

FACTORS = ("family", "size", "noise", "file", "exposure", "channels", "kernel")
_LARGEST = 61
# A loss that nobody sees, in dB, and half a grey level of 8 bits.
_TOLERANCE = 0.05
_SAME = 0.5 / 255.0


@dataclass(frozen=True)
class NeverWorseOptions:
    """Restores photographs of a grid of degradations, and counts what became worse.

    Attributes:
      dataset: Photographs, by a name in glra_jax.datasets.DATASETS.
      split: Split of the dataset; that which is meant for tests if not given.
      data_dir: Where the dataset lies, see experiments.evaluate.
      models: Names of models that come with the package, or model files.
      cases: Number of cases that are drawn from the grid.
      size: Side in pixels of the blurred crops, at least 48.
      sizes: Sides of the blur kernels in pixels, odd, 1 to 61.
      noise: Standard deviations of the noise before the exposure is shortened.
      qualities: Of JPEG; 0 for a file of 8 bits that is not compressed.
      exposures: Factors of the brightness, above 0, at most 1.
      seed: Of what is drawn.
    """

    dataset: str = "embedded"
    split: str | None = None
    data_dir: Path | None = None
    models: tuple[str, ...] = ("unrolled",)
    cases: int = 300
    size: int = 88
    sizes: tuple[int, ...] = (1, 3, 7, 15, 27, 41, 61)
    noise: tuple[float, ...] = (0.0, 0.003, 0.01, 0.03, 0.05)
    qualities: tuple[int, ...] = (0, 100, 90, 75, 60)
    exposures: tuple[float, ...] = (1.0, 0.1, 0.01)
    seed: int = 0

    def __post_init__(self) -> None:
        validation.check_size(self.cases, "cases")
        validation.check_size(self.size, "size", minimum=48)
        validation.check_seed(self.seed)
        validation.check_non_negative(self.noise, "noise")
        for size in self.sizes:
            if size not in range(1, _LARGEST + 1, 2):
                raise ValueError(f"sizes must be odd, from 1 to {_LARGEST}, got {size}")
        check_qualities(self.qualities)
        for exposure in self.exposures:
            if not 0 < exposure <= 1:
                raise ValueError(f"exposures must be above 0 and at most 1, got {exposure}")


class Case(NamedTuple):
    """One case of the grid; its photograph, and its number, which its key depends on."""

    family: str
    size: int
    noise: float
    quality: int
    exposure: float
    grey: bool
    right: bool
    photograph: int
    number: int

    @property
    def words(self) -> dict[str, str]:
        """The factors as the table has them."""
        return {
            "family": self.family,
            "size": str(self.size),
            "noise": f"{100 * self.noise:g} %",
            "file": f"JPEG {self.quality}" if self.quality else "8 bits",
            "exposure": f"{self.exposure:g}",
            "channels": "grey" if self.grey else "colour",
            "kernel": "right" if self.right else "a pixel too large",
        }


class Scores(NamedTuple):
    """PSNR of the blurred image and of the restored one, in dB."""

    blurred: float
    restored: float

    @property
    def worse(self) -> bool:
        """Whether restoring did harm."""
        if self.restored > -20.0 * math.log10(_SAME):
            return False
        return not self.restored >= self.blurred - _TOLERANCE


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with program("error"):
        options = tyro.cli(
            NeverWorseOptions, args=arguments, prog="python -m experiments.never_worse"
        )
        for model in options.models:
            print(f"## {model}\n\n{measure(options, model)}")


def draw_cases(options: NeverWorseOptions, photographs: int) -> list[Case]:
    """Draws cases from the grid, each once."""
    grid = itertools.product(
        FAMILIES,
        options.sizes,
        options.noise,
        options.qualities,
        options.exposures,
        (False, True),
        (True, False),
        range(photographs),
    )
    everything = list(grid)
    generator = np.random.default_rng(options.seed)
    chosen = generator.permutation(len(everything))[: options.cases]
    return [Case(*(*everything[place], number)) for number, place in enumerate(chosen)]


def measure(options: NeverWorseOptions, model_name: str) -> str:
    """Restores all cases by a model and returns the tables.

    Raises:
      OSError, ImportError: the photographs or the model cannot be read.
      ValueError: options that will not do, or a photograph too small.
    """
    model = load_model(model_name)
    photographs = load_photographs(options.dataset, options.split, data_dir=options.data_dir)
    crop = options.size + _LARGEST - 1
    sharp = [halved_crop(photographs[name], crop) for name in sorted(photographs)]
    restore = jax.jit(lambda y, kernel, noise: deconvolve(y, kernel, model, noise=noise))
    found = []
    for case in tqdm(draw_cases(options, len(sharp)), desc="restoring", unit="case"):
        pixels = sharp[case.photograph]
        if case.grey:
            pixels = pixels.mean(axis=2, keepdims=True)
        key = jax.random.fold_in(jax.random.key(options.seed), case.number)
        truth, blurred, kernel = degraded(key, pixels, case)
        # As deconvolve does it where nothing is traced.
        noise = noise_with_jpeg(blurred, kernel, None, model.architecture, None)
        restored = jnp.clip(restore(blurred, kernel, noise), 0.0, 1.0)
        images = blurred / case.exposure, restored / case.exposure
        scores = Scores(*(float(psnr(image, truth)) for image in images))
        found.append((case, scores))
    return "\n".join(tables(found))


def degraded(key: jax.Array, x: jax.Array, case: Case) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Makes the truth `(H, W, C)`, the file of the blurred image, and the kernel that is told."""
    kernel_key, noise_key = jax.random.split(key)
    true, told = kernels(kernel_key, case)
    margin = (_LARGEST - 1) // 2
    truth = x[margin:-margin, margin:-margin]
    clean = jnp.clip(blur(x, true, boundary="valid"), 0.0, 1.0)
    noisy = clean + case.noise * jax.random.normal(noise_key, clean.shape)
    y = jnp.clip(case.exposure * noisy, 0.0, 1.0)
    return truth, stored(y, case.quality, compressed=case.quality > 0), told


def kernels(key: jax.Array, case: Case) -> tuple[jax.Array, jax.Array]:
    """The kernel of a blur, 61×61, and the one that the method is told, 63×63."""
    size = case.size
    kernel = jnp.ones((1, 1), jnp.float32)
    if size > 1:
        sigma = max(0.5, size / 6)
        families = KernelFamilies(
            families=(case.family,), min_size=size, max_size=size, min_sigma=0.5, max_sigma=sigma
        )
        kernel = sample_kernel(key, families)
    told = kernel
    if not case.right:
        told = jax.image.resize(kernel, (size + 2, size + 2), "linear")
    return _window(kernel, _LARGEST), _window(told / told.sum(), _LARGEST + 2)


def _window(kernel: jax.Array, side: int) -> jax.Array:
    return jnp.pad(kernel, (side - kernel.shape[0]) // 2)


def tables(found: list[tuple[Case, Scores]]) -> Iterator[str]:
    """A table of what became worse by each factor, and the list of it."""
    worse = [(case, scores) for case, scores in found if scores.worse]
    gains = [scores.restored - scores.blurred for _, scores in found]
    yield (
        f"{len(worse)} of {len(found)} cases became worse; the median gain is "
        f"{np.median(gains):.2f} dB.\n"
    )
    rows: list[list[str]] = []
    for factor in FACTORS:
        values = list(dict.fromkeys(case.words[factor] for case, _ in sorted(found)))
        for value in values:
            of_it = [scores for case, scores in found if case.words[factor] == value]
            gain = np.median([scores.restored - scores.blurred for scores in of_it])
            count = sum(scores.worse for scores in of_it)
            rows.append([factor, value, str(len(of_it)), str(count), f"{gain:.2f}"])
    yield format_table(["factor", "value", "cases", "worse", "median gain in dB"], rows)
    if worse:
        listed: list[Any] = [
            [*case.words.values(), f"{scores.blurred:.2f}", f"{scores.restored:.2f}"]
            for case, scores in worse
        ]
        yield "\n" + format_table([*FACTORS, "blurred", "restored"], listed)


if __name__ == "__main__":
    main()
