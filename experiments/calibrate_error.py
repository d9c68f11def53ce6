"""Fits the expected error of a model's restorations, and draws how well it holds.

    python -m experiments.calibrate_error --dataset bsds500 --data-dir DIR --output FILE.json

Crops of photographs are degraded as in training and restored. The coefficients of
`glra_jax.expected_error` are those under which the errors are most likely, were they Gaussian. The
picture beside the file shows the errors that were found, for photographs that were not fitted on,
against those expected.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import tyro
from tqdm import tqdm

from experiments.pictures.drawing import COLOURS, label_curves, new_figure, png_bytes, save
from glra_jax import validation
from glra_jax.datasets import load_photographs, load_training_photographs, pack_photographs
from glra_jax.datasets.packing import random_patch
from glra_jax.degradation import degraded_pair
from glra_jax.error_maps import FEATURES, error_features
from glra_jax.kernel_families import KernelFamilies, sample_kernel
from glra_jax.model_files import load_model
from glra_jax.programs import program
from glra_jax.restoration import deconvolve

_FAMILIES = KernelFamilies(
    families=("gaussian", "disk", "motion", "motion", "ellipse", "motion", "mixture"),
    min_size=3,
    max_size=41,
    min_sigma=0.5,
)
_PROTOCOLS = ("paper", "camera")
_LARGEST_NOISE = 0.05
# Squared errors are those of 8-bit rounding at the least, as those expected.
_LEAST = (0.2 / 255.0) ** 2
# Of this many pixels one is taken: neighbours tell next to nothing more.
_EVERY = 7
_BINS = 12
_SMOOTHED = 1e-3


@dataclass(frozen=True)
class CalibrationOptions:
    """Fits the coefficients of the expected error, and draws how well it holds.

    Attributes:
      output: File of the coefficients, JSON; the picture gets its name, and .png.
      model: Name of a model that comes with the package, or a model file.
      dataset: Photographs to fit on, by a name in glra_jax.datasets.DATASETS.
      data_dir: Where the dataset lies.
      check: Photographs to check on, by a name in glra_jax.datasets.DATASETS.
      check_dir: Where they lie.
      cases: Number of degraded crops to fit on.
      check_cases: Number of them to check on.
      size: Side of the crops in pixels, at least 64.
      seed: Of what is drawn.
      overwrite: Replace files that exist.
    """

    output: Path
    model: str = "unrolled"
    dataset: str = "bsds500"
    data_dir: Path | None = None
    check: str = "embedded"
    check_dir: Path | None = None
    cases: int = 240
    check_cases: int = 60
    size: int = 128
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("cases", "check_cases"):
            validation.check_size(getattr(self, name), name)
        validation.check_size(self.size, "size", minimum=64)
        validation.check_seed(self.seed)


class Sample(NamedTuple):
    """Pixels of restored crops.

    Attributes:
      features: `(n, len(FEATURES))`, see `error_features`.
      squared: `(n,)`, squared errors.
      case: `(n,)`, the number of the crop that each is of.
    """

    features: np.ndarray
    squared: np.ndarray
    case: np.ndarray


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with program("error"):
        options = tyro.cli(
            CalibrationOptions, args=arguments, prog="python -m experiments.calibrate_error"
        )
        calibrate(options)


def calibrate(options: CalibrationOptions) -> None:
    """Fits, checks, and writes both files.

    Raises:
      FileExistsError: one of them exists, without `overwrite`.
      OSError, ImportError: photographs or the model cannot be read.
      ValueError: photographs too small.
    """
    picture = options.output.with_suffix(".png")
    for path in (options.output, picture):
        if path.exists() and not options.overwrite:
            raise FileExistsError(f"{path} exists; add --overwrite to replace it")
    photographs = load_training_photographs(options.dataset, data_dir=options.data_dir)
    fitted = sample(options, photographs, options.cases, stream=0)
    coefficients = fit(fitted)
    photographs = load_photographs(options.check, data_dir=options.check_dir)
    checked = sample(options, photographs, options.check_cases, stream=1)
    content = {
        "model": options.model,
        "cases": options.cases,
        "coefficients": dict(zip(FEATURES, map(float, coefficients), strict=True)),
    }
    expected = np.exp(0.5 * checked.features @ coefficients)
    curve = reliability(expected, checked.squared)
    for low, found in curve:
        print(f"expected {low:.4f}, found {found:.4f}, ratio {found / low:.2f}")
    save(
        {
            options.output: (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode(),
            picture: png_bytes(draw(curve)),
        },
        overwrite=options.overwrite,
    )


def sample(
    options: CalibrationOptions, photographs: Mapping[str, np.ndarray], cases: int, *, stream: int
) -> Sample:
    """Degrades and restores crops, and takes pixels of them."""
    model = load_model(options.model)
    crop = options.size + _FAMILIES.max_size - 1
    large = [photo for _, photo in sorted(photographs.items()) if min(photo.shape[:2]) >= crop]
    if not large:
        raise ValueError(f"no photograph has {crop} pixels a side; take a smaller --size")
    packed = pack_photographs([np.asarray(photo) for photo in large], channels=3)
    margin = (_FAMILIES.max_size - 1) // 2

    def one(key: jax.Array, protocol: str, grey: bool) -> tuple[jax.Array, jax.Array]:
        patch_key, kernel_key, level_key, degrade_key = jax.random.split(key, 4)
        x = random_patch(patch_key, packed, crop)
        x = x.mean(axis=2, keepdims=True) if grey else x
        kernel = sample_kernel(kernel_key, _FAMILIES)
        level = _LARGEST_NOISE * jax.random.uniform(level_key) ** 2
        pair = degraded_pair(
            degrade_key, x, kernel, protocol=protocol, noise=level, boundary="valid"
        )
        y, truth = pair.blurred, pair.sharp[margin:-margin, margin:-margin]
        restored = deconvolve(y, kernel, model)
        features = error_features(restored, y, kernel)
        return features, (restored - truth) ** 2

    run = jax.jit(one, static_argnames=("protocol", "grey"))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    keys = jax.random.split(jax.random.fold_in(jax.random.key(options.seed), stream), cases)
    for number in tqdm(range(cases), desc="restoring", unit="crop"):
        protocol, grey = _PROTOCOLS[number % 2], number % 4 >= 2
        features, squared = jax.device_get(run(keys[number], protocol, grey))
        kept = features.reshape(-1, len(FEATURES))[number % _EVERY :: _EVERY]
        values = squared.reshape(-1)[number % _EVERY :: _EVERY]
        parts.append((kept, values, np.full(len(values), number)))
    return Sample(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def fit(data: Sample) -> np.ndarray:
    """Coefficients `(len(FEATURES),)` under which the errors are most likely, if Gaussian."""
    features = jnp.asarray(data.features)
    squared = jnp.asarray(data.squared) + _LEAST
    centre = features.mean(axis=0).at[0].set(0.0)
    spread = features.std(axis=0).at[0].set(1.0)
    scaled = (features - centre) / spread

    @jax.jit
    def loss(weights: jax.Array) -> jax.Array:
        logarithm = scaled @ weights
        ridge = _SMOOTHED * jnp.sum(weights[1:] ** 2)
        return jnp.mean(logarithm + squared * jnp.exp(-logarithm)) + ridge

    start = jnp.zeros(len(FEATURES)).at[0].set(jnp.log(squared.mean()))
    slope = jax.jit(jax.grad(loss))
    found: Any = scipy.optimize.minimize(
        lambda weights: float(loss(jnp.asarray(weights, jnp.float32))),
        np.asarray(start, np.float64),
        jac=lambda weights: np.asarray(slope(jnp.asarray(weights, jnp.float32)), np.float64),
        method="L-BFGS-B",
    )
    weights = found.x / np.asarray(spread, np.float64)
    weights[0] -= float(weights[1:] @ np.asarray(centre, np.float64)[1:])
    return np.asarray(weights)


def reliability(expected: np.ndarray, squared: np.ndarray) -> list[tuple[float, float]]:
    """Errors expected and found, root mean squares in equal shares of the pixels."""
    order = np.argsort(expected)
    return [
        (float(np.sqrt(np.mean(expected[part] ** 2))), float(np.sqrt(np.mean(squared[part]))))
        for part in np.array_split(order, _BINS)
    ]


def draw(curve: list[tuple[float, float]]) -> Any:
    """The reliability curve, in percent of white."""
    figure = new_figure(4.5, 4.2)
    axis = figure.subplots()
    expected, found = 100.0 * np.asarray(curve).T
    ends = [0.8 * min(expected.min(), found.min()), 1.25 * max(expected.max(), found.max())]
    axis.plot(ends, ends, color="0.6", linewidth=1.0, label="as expected")
    axis.plot(expected, found, "o-", color=COLOURS[0], label="found")
    axis.set_xscale("log")
    axis.set_yscale("log")
    label_curves(axis, "expected error, % of white")
    axis.set_ylabel("root mean square error found, % of white")
    axis.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
