"""Draws figures 1, 2, 7 and 8 of the paper, and two more: `python -m experiments.figures`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

import glra_jax as gx
from experiments.drawing import csv_bytes, npz_bytes, png_bytes, save
from experiments.held_out import example_kernel
from experiments.paper_figures.core_structure import compute_core_structure, draw_core_structure
from experiments.paper_figures.feature_maps import (
    compute_map_comparison,
    draw_maps,
    tabulate_maps,
)
from experiments.paper_figures.inverses import draw_kernels, invert, mix
from experiments.paper_figures.photographs import grey, load_photographs
from experiments.paper_figures.rank_error import compute_rank_errors, draw_rank_errors
from experiments.paper_figures.regularization import (
    compute_regularization,
    draw_regularization,
)
from experiments.paper_figures.sensitivity import compute_sensitivity, draw_sensitivity
from experiments.paper_figures.truncation import (
    compute_truncation,
    draw_truncation,
    tabulate_truncation,
)
from glra_jax import validation

Name = Literal["fig1", "fig2", "fig7", "fig8", "rank-error", "regularization"]


@dataclass(frozen=True)
class FigureOptions:
    """Writes figures as PNG files, each with its numbers beside it as a CSV or NPZ file.

    fig1: eq. 8 with pseudo-inverses of growing rank. fig2: structure of the core M. fig7: feature
    maps with random and with GLRA start. fig8: sensitivity to support and rank. rank-error: what a
    basis of a rank loses of a pseudo-inverse, against the least possible. regularization: what
    eq. 8 restores by the regularisation of the pseudo-inverse, and by its smoothness.

    Attributes:
      output: Folder for the files.
      only: Which figures.
      model: fig7: name or file of the model with GLRA start; an untrained one if not given.
      random_model: fig7: file of the model with random start; an untrained one if not given.
      images: Folder of photographs; test photographs from scikit-image if not given.
      photographs: fig8, regularization: how many of them at most are averaged over; other figures
        show the first.
      crop: Side of the middle square of a photograph that is used, in pixels.
      blur: fig7: kind of blur.
      noise: Standard deviation of the noise, 0 or more.
      noise_levels: regularization: standard deviations of the noise.
      kernels: Distribution of the blur kernels that bases are fitted on.
      fit_kernels: Kernels that a basis is fitted on, at least 1 of each family.
      test_kernels: fig8, rank-error, regularization: kernels of each family that are averaged
        over, at least 1.
      support: Side of the pseudo-inverse kernels in pixels, at least the largest kernel.
      rank: fig2, fig7 without models, fig8: columns of the bases, from 1 to the support.
      features: fig7 without models: maps between layers 4 and 6.
      regularization: Of the pseudo-inverse, above 0.
      shown_ranks: fig1: ranks.
      ranks: fig8: ranks, each from 1 to the support.
      error_ranks: rank-error: ranks, each from 1 to the support.
      strengths: regularization: values of the regularisation, and of the smoothness, above 0.
      floor: regularization: the regularisation that goes with every smoothness, above 0.
      supports: fig8: supports, each at least the rank and the largest kernel.
      seed: Of kernels, noise and random weights.
      overwrite: Allow files in the folder to be replaced.
    """

    output: Path = Path("runs/figures")
    only: tuple[Name, ...] = get_args(Name)
    model: str | None = None
    random_model: Path | None = None
    images: Path | None = None
    photographs: int = 2
    crop: int = 256
    blur: Literal["gaussian", "disk", "motion"] = "disk"
    noise: float = 0.01
    noise_levels: tuple[float, ...] = (0.003, 0.01, 0.03)
    kernels: gx.KernelFamilies = field(default_factory=gx.KernelFamilies)
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
        for rank in (self.rank, *self.shown_ranks, *self.ranks, *self.error_ranks):
            if not 1 <= rank <= self.support:
                raise ValueError(f"ranks must be from 1 to the support {self.support}, got {rank}")
        least = max(self.rank, self.kernels.max_size)
        for support in self.supports:
            if support < least:
                raise ValueError(
                    f"supports must be at least the rank and the largest kernel, {least}, "
                    f"got {support}"
                )


@dataclass(frozen=True)
class Drawn:
    """A drawn figure: the canvas, and its numbers in the format of the suffix."""

    canvas: Any
    suffix: str
    data: bytes


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    try:
        options = tyro.cli(FigureOptions, args=arguments, prog="python -m experiments.figures")
        make_figures(options)
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"error: {error}") from error


def make_figures(options: FigureOptions) -> None:
    """Draws what is asked for and writes each figure when it is done."""
    names = tuple(dict.fromkeys(options.only))
    taken = [path for name in names for path in _paths(options, name).values() if path.exists()]
    if taken and not options.overwrite:
        raise FileExistsError(
            f"{', '.join(map(str, taken))} exists; choose another --output or allow --overwrite"
        )
    inputs = Inputs.load(options)
    options.output.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=1):
        track = partial(tqdm, desc=f"{name} ({number} of {len(names)})", unit="part")
        figure = _FIGURES[name](inputs, track)
        paths = _paths(options, name)
        save(
            {paths[".png"]: png_bytes(figure.canvas), paths[figure.suffix]: figure.data},
            overwrite=options.overwrite,
        )
        print(f"written: {', '.join(str(path) for path in paths.values())}", flush=True)


def _paths(options: FigureOptions, name: str) -> dict[str, Path]:
    return {suffix: options.output / f"{name}{suffix}" for suffix in (".png", _SUFFIXES[name])}


@dataclass(frozen=True)
class Inputs:
    """Options and what they name, read before anything long begins."""

    options: FigureOptions
    photographs: list[np.ndarray]
    models: dict[str, gx.Model]

    @classmethod
    def load(cls, options: FigureOptions) -> "Inputs":
        """Reads photographs and models."""
        photographs = load_photographs(options.images, count=options.photographs, side=options.crop)
        files = {"random start": options.random_model, "GLRA start": options.model}
        models = {}
        if "fig7" in options.only:
            for start, file in files.items():
                if file is not None:
                    models[start] = gx.load_model(file)
                    support = models[start].config.support
                    if options.kernels.max_size > support:
                        raise ValueError(
                            f"{file} has the support {support}, too small for kernels.max_size "
                            f"{options.kernels.max_size}; choose a smaller one"
                        )
        return cls(options, photographs, models)

    def key(self, purpose: int) -> jax.Array:
        """A PRNG key for one purpose."""
        return jax.random.fold_in(jax.random.key(self.options.seed), purpose)

    def fit_kernels(self) -> dict[str, jax.Array]:
        """Blur kernels to fit bases on, by family."""
        return draw_kernels(self.key(0), self.options.kernels, count=self.options.fit_kernels)

    def test_kernels(self) -> dict[str, jax.Array]:
        """Other blur kernels, by family."""
        return draw_kernels(self.key(1), self.options.kernels, count=self.options.test_kernels)

    def invert(self, kernels: jax.Array) -> jax.Array:
        """Pseudo-inverses of blur kernels."""
        options = self.options
        return invert(kernels, support=options.support, regularization=options.regularization)

    def basis(self) -> gx.Basis:
        """The basis of the options' rank, fitted on all families together."""
        return gx.fit_glra(self.invert(mix(self.fit_kernels())), rank=self.options.rank)[0]


Progress = Callable[[Sequence[Any]], Any]

# One compiled function is quicker than the many that it is made of.
_example = jax.jit(example_kernel, static_argnames=("family", "size"))


def _draw_fig1(inputs: Inputs, track: Progress) -> Drawn:
    options = inputs.options
    data = compute_truncation(
        inputs.key(2),
        inputs.photographs[0],
        {family: _example(family, options.kernels.max_size)
         for family in options.kernels.families},
        inputs.invert(mix(inputs.fit_kernels())),
        ranks=options.shown_ranks,
        regularization=options.regularization,
        noise=options.noise,
        track=track,
    )  # fmt: skip
    return Drawn(draw_truncation(data), ".npz", npz_bytes(tabulate_truncation(data)))


def _draw_fig2(inputs: Inputs, track: Progress) -> Drawn:
    low, high = inputs.options.kernels.min_size, inputs.options.kernels.max_size
    sizes = sorted({low, (low + high) // 4 * 2 + 1, high})
    kernels: dict[str, list[jax.Array]] = {
        family: [_example(family, size) for size in sizes]
        for family in inputs.options.kernels.families
    }
    data = compute_core_structure(
        kernels, inputs.basis(), regularization=inputs.options.regularization, track=track
    )
    arrays = {name: np.asarray(value) for name, value in vars(data).items()}
    return Drawn(draw_core_structure(data), ".npz", npz_bytes(arrays))


def _draw_fig7(inputs: Inputs, track: Progress) -> Drawn:
    options = inputs.options
    kernel = _example(options.blur, options.kernels.max_size)
    models = {}
    basis = None if len(inputs.models) == 2 else inputs.basis()
    for start, kind in (("random start", "random"), ("GLRA start", "glra")):
        if start in inputs.models:
            file = options.random_model if kind == "random" else options.model
            models[f"{start}: {file}"] = inputs.models[start]
        else:
            assert basis is not None
            models[f"{start}, untrained"] = gx.initial_model(
                inputs.key(3), basis, start=kind, features=options.features,
                regularization=options.regularization,
            )  # fmt: skip
    photograph = grey(inputs.photographs[0])
    data = compute_map_comparison(
        inputs.key(2), photograph, kernel, models, noise=options.noise, track=track
    )
    return Drawn(draw_maps(data), ".npz", npz_bytes(tabulate_maps(data)))


def _curves(canvas: Any, points: Sequence[Any]) -> Drawn:
    """A figure of curves, with a row for each of its points."""
    return Drawn(canvas, ".csv", csv_bytes([asdict(point) for point in points]))


def _draw_fig8(inputs: Inputs, track: Progress) -> Drawn:
    options = inputs.options
    points = compute_sensitivity(
        inputs.key(2),
        np.stack([grey(photograph) for photograph in inputs.photographs])[..., None],
        inputs.test_kernels(),
        inputs.fit_kernels(),
        supports=options.supports,
        ranks=options.ranks,
        support=options.support,
        rank=options.rank,
        regularization=options.regularization,
        noise=options.noise,
        track=track,
    )
    return _curves(draw_sensitivity(points), points)


def _draw_rank_error(inputs: Inputs, track: Progress) -> Drawn:
    points = compute_rank_errors(
        {family: inputs.invert(stack) for family, stack in inputs.fit_kernels().items()},
        {family: inputs.invert(stack) for family, stack in inputs.test_kernels().items()},
        ranks=inputs.options.error_ranks,
        track=track,
    )
    return _curves(draw_rank_errors(points), points)


def _draw_regularization(inputs: Inputs, track: Progress) -> Drawn:
    options = inputs.options
    points = compute_regularization(
        inputs.key(2),
        jnp.stack([jnp.asarray(grey(photograph)) for photograph in inputs.photographs]),
        inputs.test_kernels(),
        noise_levels=options.noise_levels,
        strengths=options.strengths,
        regularization=options.floor,
        support=options.support,
        track=track,
    )
    return _curves(draw_regularization(points), points)


_FIGURES: dict[str, Callable[[Inputs, Progress], Drawn]] = {
    "fig1": _draw_fig1,
    "fig2": _draw_fig2,
    "fig7": _draw_fig7,
    "fig8": _draw_fig8,
    "rank-error": _draw_rank_error,
    "regularization": _draw_regularization,
}
_SUFFIXES = dict.fromkeys(("fig1", "fig2", "fig7"), ".npz") | dict.fromkeys(
    ("fig8", "rank-error", "regularization"), ".csv"
)


if __name__ == "__main__":
    main()
