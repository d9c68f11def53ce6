"""Command line of `experiments.figures`: which figures, of what, and where they go."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import tyro

from glra_jax import validation
from glra_jax.datasets import dataset_named
from glra_jax.kernel_families import FAMILIES, KernelFamilies
from glra_jax.metrics import SMALLEST_SSIM_SIDE

COMPARED = {"fig4": "gaussian", "fig5": "disk", "fig6": "motion"}  # families of blur

Name = Literal[
    "fig1", "fig2", "fig4", "fig5", "fig6", "fig7", "fig8", "rank-error", "regularization"
]


@dataclass(frozen=True)
class FigureOptions:
    """Writes figures as PNG files, each with its numbers beside it as a CSV or NPZ file.

    fig1: linear restoration (eq. 8) with pseudo-inverses of growing rank. fig2: structure of the
    core M. fig4, fig5, fig6: Gaussian, disk and motion blur of a saturated photograph, restored by
    all methods side by side. fig7: feature maps with random and with GLRA initialization. fig8:
    sensitivity to support and rank. rank-error: error of pseudo-inverses in a basis of a rank,
    against the least possible. regularization: PSNR of the linear restoration over the
    regularisation of the pseudo-inverse, and over its smoothness.

    Attributes:
      output: Folder for the files.
      only: Which figures.
      model: fig7: name or file of the model with GLRA initialization; None for an untrained one.
      random_model: fig7: name or file of the model with random initialization; None for an
        untrained one.
      methods: fig4, fig5, fig6: see experiments.evaluate. All are told the noise.
      models: fig4, fig5, fig6: likewise.
      authors_weights: fig4, fig5, fig6: likewise.
      dataset: Photographs, by a name in glra_jax.datasets.DATASETS; an unknown one lists them all.
      split: Split of the dataset; that which is meant for tests if not given.
      data_dir: Where the dataset lies, see experiments.evaluate; for folder, the folder.
      photographs: fig8, regularization: how many of them at most are averaged over; other figures
        show the first.
      crop: Side of the middle square of a photograph that is used, in pixels.
      blur: fig7: family of the blur kernel: gaussian, disk or motion.
      noise: Standard deviation of the noise, 0 or more.
      noise_levels: regularization: standard deviations of the noise.
      kernels: Distribution of the blur kernels that bases are fitted on.
      fit_kernels: Kernels that a basis is fitted on, at least 1 of each family.
      test_kernels: fig8, rank-error, regularization: kernels of each family that are averaged
        over, at least 1.
      support: Side of the pseudo-inverse kernels in pixels, at least the largest kernel; fig1,
        regularization: at most the crop.
      rank: fig2, fig7 of untrained models, fig8: columns of the bases, from 1 to the support.
      features: fig7 of untrained models: maps between layers 4 and 6.
      regularization: Of the pseudo-inverse, above 0.
      shown_ranks: fig1: ranks.
      ranks: fig8: ranks, each from 1 to the support.
      error_ranks: rank-error: ranks, each from 1 to the support.
      strengths: regularization: values of the regularisation, and of the smoothness, above 0.
      floor: regularization: the regularisation that goes with every smoothness, above 0.
      supports: fig8: supports, each at least the rank and the largest kernel, at most the crop.
      seed: Of kernels, noise and random weights.
      overwrite: Allow files in the folder to be replaced.
    """

    output: Path = Path("runs/figures")
    only: tuple[Name, ...] = get_args(Name)
    model: str | None = "glra"
    random_model: str | None = "glra-random-init"
    methods: tuple[str, ...] = ("blurred", "wiener", "richardson_lucy", "hl", "tv_saturated",
                                "vem", "epll")  # fmt: skip
    models: tuple[str, ...] = ("glra", "unrolled")
    authors_weights: Path | None = None
    dataset: str = "embedded"
    split: str | None = None
    data_dir: Path | None = None
    photographs: int = 2
    crop: int = 256
    blur: str = "disk"
    noise: float = 0.01
    noise_levels: tuple[float, ...] = (0.003, 0.01, 0.03)
    kernels: KernelFamilies = field(default_factory=KernelFamilies)
    fit_kernels: int = 120
    test_kernels: int = 6
    support: int = 151
    rank: int = 50
    features: int = 128
    regularization: float = 0.01
    shown_ranks: tuple[int, ...] = (5, 10, 20, 50)
    ranks: tuple[int, ...] = (10, 20, 30, 40, 50, 60, 75, 90, 100, 125, 150)
    error_ranks: tuple[int, ...] = (1, 2, 3, 5, 10, 15, 20, 30, 40, 50, 75, 100, 150)
    strengths: tuple[float, ...] = tuple(float(f"{10 ** (p / 4):.3g}") for p in range(-16, -1))
    floor: float = 0.002
    supports: tuple[int, ...] = (51, 75, 101, 125, 151, 175, 201)
    seed: int = 0
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False

    def __post_init__(self) -> None:
        for name in ("photographs", "crop", "fit_kernels", "test_kernels", "support", "rank"):
            validation.check_size(getattr(self, name), name)
        dataset_named(self.dataset)  # raises for an unknown one
        validation.check_choice(self.blur, "blur", tuple(FAMILIES))
        validation.check_non_negative(self.noise, "noise")
        validation.check_positive(self.regularization, "regularization")
        validation.check_positive(self.floor, "floor")
        validation.check_non_negative(self.noise_levels, "noise_levels")
        for strength in self.strengths:
            validation.check_positive(strength, "strengths")
        for name in ("only", "shown_ranks", "ranks", "error_ranks", "supports", "noise_levels",
                     "strengths"):  # fmt: skip
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; name at least one")
        if len(set(self.kernels.families)) < len(self.kernels.families):
            raise ValueError(f"kernels.families holds one twice: {self.kernels.families}")
        if self.fit_kernels < len(self.kernels.families):
            raise ValueError(
                f"fit_kernels must be at least the number of families, got {self.fit_kernels}"
            )
        if self.kernels.max_size > min(self.crop, self.support):
            raise ValueError(
                f"kernels.max_size {self.kernels.max_size} is above the crop {self.crop} or the "
                f"support {self.support}"
            )
        smallest = 2 * self.kernels.max_size + SMALLEST_SSIM_SIDE
        if self.crop < smallest and set(COMPARED) & set(self.only):
            raise ValueError(
                f"{', '.join(COMPARED)} leave kernels.max_size {self.kernels.max_size} out on each "
                f"side of the crop, which must be {smallest} at least, got {self.crop}"
            )
        for rank in (self.rank, *self.shown_ranks, *self.ranks, *self.error_ranks):
            if not 1 <= rank <= self.support:
                raise ValueError(f"ranks must be from 1 to the support {self.support}, got {rank}")
        if self.support > self.crop and {"fig1", "regularization"} & set(self.only):
            raise ValueError(
                f"support {self.support} is above the crop {self.crop}, which fig1 and "
                f"regularization restore; choose a smaller --support or a larger --crop"
            )
        least = max(self.rank, self.kernels.max_size)
        for support in self.supports if "fig8" in self.only else ():
            if not least <= support <= self.crop:
                raise ValueError(
                    f"supports must be at least the rank and the largest kernel, {least}, and at "
                    f"most the crop, {self.crop}, got {support}"
                )
