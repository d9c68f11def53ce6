"""Draws figures 1, 2 and 4 to 8 of the paper, and two more: `python -m experiments.figures`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

import glra_jax as gx
from experiments.evaluation.methods import Method, collect
from experiments.evaluation.model_files import low_rank
from experiments.paper_figures.comparisons import (
    compute_comparison,
    draw_comparison,
    tabulate_comparison,
)
from experiments.paper_figures.core_structure import compute_core_structure, draw_core_structure
from experiments.paper_figures.feature_maps import (
    compute_map_comparison,
    draw_maps,
    tabulate_maps,
)
from experiments.paper_figures.inverses import draw_kernels, invert, mix
from experiments.paper_figures.options import COMPARED, FigureOptions
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
from experiments.pictures.drawing import csv_bytes, npz_bytes, png_bytes, save
from glra_jax.kernel_families import blur_family
from glra_jax.programs import program


@dataclass(frozen=True)
class Drawn:
    """A drawn figure: the canvas, and its numbers in the format of the suffix."""

    canvas: Any
    suffix: str
    data: bytes


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    with program("error"):
        options = tyro.cli(FigureOptions, args=arguments, prog="python -m experiments.figures")
        make_figures(options)


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
    """Options with the photographs and models that they name, read before the computation."""

    options: FigureOptions
    photographs: list[np.ndarray]
    models: dict[str, gx.Model]
    methods: list[Method]

    @classmethod
    def load(cls, options: FigureOptions) -> "Inputs":
        """Reads photographs and models."""
        photographs = load_photographs(
            options.dataset,
            options.split,
            data_dir=options.data_dir,
            count=options.photographs,
            side=options.crop,
        )
        files = {
            "random initialization": options.random_model,
            "GLRA initialization": options.model,
        }
        models = {}
        if "fig7" in options.only:
            for initialization, file in files.items():
                if file is not None:
                    models[initialization] = gx.load_model(file)
                    support = low_rank(models[initialization]).support
                    if options.kernels.max_size > support:
                        raise ValueError(
                            f"{file} has the support {support}, too small for kernels.max_size "
                            f"{options.kernels.max_size}; choose a smaller one"
                        )
        methods = _compared_methods(options) if set(COMPARED) & set(options.only) else []
        return cls(options, photographs, models, methods)

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


def _compared_methods(options: FigureOptions) -> list[Method]:
    methods = collect(
        options.methods,
        options.models,
        noise=options.noise,
        tell_models=True,
        authors_weights=options.authors_weights,
    )
    side = options.kernels.max_size
    for method in methods:
        if method.support is not None and side > method.support:
            raise ValueError(
                f"{method.label} takes kernels of up to {method.support} pixels: choose a smaller "
                f"kernels.max_size than {side}, or leave it out"
            )
        method.check((options.crop, options.crop, 3), (side, side))
    return methods


Progress = Callable[[Sequence[Any]], Any]


# One compiled function is quicker than the many that it is made of.
@partial(jax.jit, static_argnames=("family", "size"))
def _example(family: str, size: int) -> jax.Array:
    return blur_family(family).example(size)


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


def _draw_compared(inputs: Inputs, track: Progress, *, family: str) -> Drawn:
    example = compute_comparison(
        inputs.key(2),
        inputs.photographs[0],
        _example(family, inputs.options.kernels.max_size),
        inputs.methods,
        noise=inputs.options.noise,
        track=track,
    )
    return Drawn(draw_comparison(example), ".csv", csv_bytes(tabulate_comparison(example)))


def _draw_fig7(inputs: Inputs, track: Progress) -> Drawn:
    options = inputs.options
    kernel = _example(options.blur, options.kernels.max_size)
    models = {}
    basis = None if len(inputs.models) == 2 else inputs.basis()
    for initialization, kind in (
        ("random initialization", "random"),
        ("GLRA initialization", "glra"),
    ):
        if initialization in inputs.models:
            file = options.random_model if kind == "random" else options.model
            models[f"{initialization}: {file}"] = inputs.models[initialization]
        else:
            assert basis is not None
            support, rank = basis.left.shape
            inverse = gx.Inverse(options.regularization)
            network = gx.Glra(support, rank, options.features, inverse)
            models[f"{initialization}, untrained"] = gx.initial_model(
                inputs.key(3), network, basis, initialization=kind
            )
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
    **{name: partial(_draw_compared, family=family) for name, family in COMPARED.items()},
    "fig7": _draw_fig7,
    "fig8": _draw_fig8,
    "rank-error": _draw_rank_error,
    "regularization": _draw_regularization,
}
_SUFFIXES = dict.fromkeys(("fig1", "fig2", "fig7"), ".npz") | dict.fromkeys(
    (*COMPARED, "fig8", "rank-error", "regularization"), ".csv"
)


if __name__ == "__main__":
    main()
