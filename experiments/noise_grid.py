"""Measures how well the noise in blurred photographs is estimated.

    python -m experiments.noise_grid --dataset folder --data-dir DIR --limit 5

Photographs are halved, which takes most of their own noise away, and cropped. Each is blurred,
noise is added, the exposure shortened, and the result rounded to 8 bits or compressed by JPEG, in
all combinations. The truth is the root mean square of what the file differs by from the blurred
photograph, in each channel, where that is not clipped. The table has the ratio of estimate and
truth: the median, and the least and the largest.
"""

import itertools
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

from experiments.evaluation.markdown import format_table
from glra_jax import jpeg, validation
from glra_jax.blurring import blur
from glra_jax.datasets import load_photographs
from glra_jax.kernels import disk_kernel, gaussian_kernel, motion_kernel
from glra_jax.noise import estimate_noise, estimate_noise_by_channel
from glra_jax.noise_behind_blur import estimate_noise_behind_blur
from glra_jax.programs import program

# Of an image and its kernel.
ESTIMATES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "estimate_noise": lambda y, kernel: jax.vmap(estimate_noise, in_axes=2)(y),
    "estimate_noise_by_channel": lambda y, kernel: estimate_noise_by_channel(y),
    "estimate_noise_behind_blur": estimate_noise_behind_blur,
}
# By which cells of the table can be formed.
FACTORS = ("photograph", "channels", "blur", "noise", "smoothed", "exposure", "file")


@dataclass(frozen=True)
class NoiseGridOptions:
    """Sets estimates of the noise beside the truth, and prints a table.

    Attributes:
      dataset: Photographs, by a name in glra_jax.datasets.DATASETS.
      split: Split of the dataset; that which is meant for tests if not given.
      data_dir: Where the dataset lies, see experiments.evaluate.
      limit: Number of photographs, the first by name; all if not given.
      size: Side in pixels of the crop from the middle of each halved photograph.
      noise: Standard deviations of the noise before the exposure is shortened.
      smoothed: Standard deviations in pixels of Gaussians that the noise is smoothed by; 0 for
        white noise.
      exposures: Factors of the brightness.
      qualities: Of JPEG; 0 for a file of 8 bits that is not compressed.
      by: What the cells of the table differ by, out of photograph, channels, blur, noise, smoothed,
        exposure and file.
      seed: Of the noise.
    """

    dataset: str = "embedded"
    split: str | None = None
    data_dir: Path | None = None
    limit: int | None = None
    size: int = 144
    noise: tuple[float, ...] = (0.0, 0.003, 0.01, 0.02, 0.03, 0.05)
    smoothed: tuple[float, ...] = (0.0, 0.7)
    exposures: tuple[float, ...] = (1.0, 0.1)
    qualities: tuple[int, ...] = (0, 100, 90, 75, 60)
    by: tuple[str, ...] = ("blur", "noise")
    seed: int = 0

    def __post_init__(self) -> None:
        validation.check_size(self.size, "size", minimum=27)
        if self.limit is not None:
            validation.check_size(self.limit, "limit")
        validation.check_non_negative(self.noise, "noise")
        validation.check_non_negative(self.smoothed, "smoothed")
        validation.check_seed(self.seed)
        for exposure in self.exposures:
            validation.check_positive(exposure, "exposures")
        check_qualities(self.qualities)
        for factor in self.by:
            validation.check_choice(factor, "by", FACTORS)


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    arguments = sys.argv[1:] if arguments is None else arguments
    with program("error"):
        options = tyro.cli(
            NoiseGridOptions, args=arguments, prog="python -m experiments.noise_grid"
        )
        print(measure(options))


def check_qualities(qualities: tuple[int, ...]) -> None:
    """Raises ValueError for what is no quality of JPEG, nor 0 for a file without."""
    for quality in qualities:
        if not 0 <= quality <= 100:
            raise ValueError(f"qualities must be from 0 to 100, got {quality}")


def measure(options: NoiseGridOptions) -> str:
    """Estimates the noise in everything and returns the table.

    Raises:
      OSError, ImportError: the photographs cannot be read.
      ValueError: options that will not do, or a photograph too small.
    """
    photographs = load_photographs(options.dataset, options.split, data_dir=options.data_dir)
    names = sorted(photographs)[: options.limit]
    ratios: dict[tuple[Any, ...], list[np.ndarray]] = defaultdict(list)
    for index, name in enumerate(tqdm(names, desc="estimating", unit="photograph")):
        x = halved_crop(photographs[name], options.size)
        key = jax.random.fold_in(jax.random.key(options.seed), index)
        for factors, found in photograph_ratios(key, x, options):
            factors |= {"photograph": name, "channels": x.shape[2]}
            ratios[tuple(factors[factor] for factor in options.by)].append(found)
    head = [*options.by, *ESTIMATES, "images"]
    rows = []
    for cell, images in ratios.items():
        described = [describe(values) for values in np.concatenate(images, axis=1)]
        rows.append([*map(str, cell), *described, str(len(images))])
    return format_table(head, rows)


def describe(ratios: np.ndarray) -> str:
    """The median of ratios, and the least and the largest."""
    return f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


def halved_crop(photograph: np.ndarray, size: int) -> jax.Array:
    """The middle of a uint8 photograph, halved by averaging, as `(size, size, C)` in [0, 1].

    Raises:
      ValueError: it is smaller.
    """
    height, width = (side // 2 for side in photograph.shape[:2])
    if min(height, width) < size:
        raise ValueError(
            f"a photograph of {photograph.shape[:2]} pixels has no crop of {size} when halved; "
            f"choose a smaller --size"
        )
    pixels = np.float32(photograph[: 2 * height, : 2 * width]) / 255.0
    halves = pixels.reshape(height, 2, width, 2, -1).mean(axis=(1, 3))
    top, left = (height - size) // 2, (width - size) // 2
    return jnp.asarray(halves[top : top + size, left : left + size])


def photograph_ratios(
    key: jax.Array, x: jax.Array, options: NoiseGridOptions
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Yields estimates over truth, `(estimates, C)`, for every degradation of a photograph."""
    unit = jax.random.normal(key, x.shape)
    alike = {smoothed: smooth(unit, smoothed) for smoothed in options.smoothed}
    noises = [(level, s) for level in options.noise for s in alike if level > 0.0 or s == 0.0]
    for (kernel_name, kernel), (level, smoothed), exposure, quality in itertools.product(
        kernels().items(), noises, options.exposures, options.qualities
    ):
        found = np.asarray(
            estimates_and_truth(
                x, kernel, level * alike[smoothed], exposure, quality, compressed=quality > 0
            )
        )
        factors = {
            "blur": kernel_name,
            "noise": f"{100 * level:g} %",
            "smoothed": f"σ {smoothed:g}" if smoothed else "white",
            "exposure": f"{exposure:g}",
            "file": f"JPEG {quality}" if quality else "8 bits",
        }
        yield factors, found[:-1] / found[-1]


def kernels() -> dict[str, jax.Array]:
    """Blur kernels by name, the first of which does nothing; all of the same size."""
    return {
        "none": jnp.zeros((27, 27)).at[13, 13].set(1.0),
        "gaussian, σ 1": gaussian_kernel(sigma=1.0, size=27),
        "gaussian, σ 2.5": gaussian_kernel(sigma=2.5, size=27),
        "gaussian, σ 5": gaussian_kernel(sigma=5.0, size=27),
        "disk, radius 3.5": disk_kernel(radius=3.5, size=27),
        "motion, 9 pixels": motion_kernel(jax.random.key(1), size=27, extent=4.0),
        "motion, 27 pixels": motion_kernel(jax.random.key(2), size=27, extent=13.0),
    }


def smooth(noise: jax.Array, sigma: float) -> jax.Array:
    """Smooths white noise `(H, W, C)` by a Gaussian, at the same standard deviation."""
    if sigma == 0.0:
        return noise
    kernel = gaussian_kernel(sigma=sigma, size=2 * int(np.ceil(4 * sigma)) + 1)
    return blur(noise, kernel, boundary="wrap") / jnp.sqrt(jnp.sum(kernel**2))


def stored(y: jax.Array, quality: jax.typing.ArrayLike, *, compressed: bool) -> jax.Array:
    """An image in [0, 1] as a file of 8 bits gives it back: JPEG of a quality, or uncompressed."""
    return jpeg.compress(y, quality=quality) if compressed else jnp.round(255.0 * y) / 255.0


@partial(jax.jit, static_argnames="compressed")
def estimates_and_truth(
    x: jax.Array,
    kernel: jax.Array,
    noise: jax.Array,
    exposure: float,
    quality: jax.typing.ArrayLike,
    *,
    compressed: bool,
) -> jax.Array:
    """Degrades a photograph and estimates its noise; `(estimates + 1, C)`, last the truth."""
    clean = jnp.clip(blur(x, kernel, boundary="reflect"), 0.0, 1.0)
    y = jnp.clip(exposure * (clean + noise), 0.0, 1.0)
    clean = exposure * clean
    file = stored(y, quality, compressed=compressed)
    inside = (clean > 0.0) & (clean < 1.0)
    truth = jnp.sqrt(jnp.mean((file - clean) ** 2, axis=(0, 1), where=inside))
    return jnp.stack([*(estimate(file, kernel) for estimate in ESTIMATES.values()), truth])


if __name__ == "__main__":
    main()
