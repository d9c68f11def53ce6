"""Learns the mixture of patches that `epll` uses, by EM from photographs.

    python -m experiments.baselines.learn_patch_prior --dataset folder --data-dir DIR -o FILE

Photographs are converted to grey (0.299 R + 0.587 G + 0.114 B) in [0, 1]; the mean of every patch
is subtracted. Use training images only.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from tqdm import tqdm

from experiments.baselines import patch_prior
from glra_jax import validation
from glra_jax.datasets import load_training_photographs
from glra_jax.programs import program

_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class LearnOptions:
    """Learn a Gaussian mixture of image patches.

    Attributes:
      dataset: training photographs: embedded, bsds500 or folder, see glra_jax.datasets.
      output: file to write (.npz), in a folder that exists; must not exist itself.
      data_dir: where the dataset lies, see experiments.train; for folder, the folder.
      splits: of the dataset; those meant for training if not given.
      components: number of Gaussians.
      side: side of the patches in pixels.
      patches: number of patches, as many from every photograph.
      steps: steps of EM.
      seed: of the patches and the start.
      allow_leak: take on purpose what methods are scored on: BSD100 (BSDS500's split val, folders
        of that name, triplets) or the embedded test photographs.
    """

    dataset: str
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))]
    data_dir: Path | None = None
    splits: tuple[str, ...] | None = None
    components: int = 100
    side: int = 8
    patches: int = 200_000
    steps: int = 40
    seed: int = 0
    allow_leak: tyro.conf.FlagCreatePairsOff[bool] = False


def draw_patches(photographs: list[np.ndarray], *, side: int, count: int, seed: int) -> np.ndarray:
    """Draws zero-mean patches, as many from every photograph.

    Args:
      photographs: uint8 `(H, W)` or `(H, W, 3)`.
      side: of the patches.
      count: how many; rounded up to a multiple of the number of photographs.
      seed: of the draw.

    Returns:
      `(>= count, side²)` float32.

    Raises:
      ValueError: a photograph smaller than a patch.
    """
    random = np.random.default_rng(seed)
    each = -(-count // len(photographs))
    drawn = []
    for photograph in photographs:
        grey = (photograph @ _LUMA if photograph.ndim == 3 else photograph) / 255.0
        if min(grey.shape) < side:
            raise ValueError(f"a photograph of shape {photograph.shape} is smaller than {side}")
        windows = np.lib.stride_tricks.sliding_window_view(grey, (side, side))
        rows = random.integers(0, windows.shape[0], each)
        columns = random.integers(0, windows.shape[1], each)
        drawn.append(windows[rows, columns].reshape(each, side * side))
    patches = np.concatenate(drawn)
    return (patches - patches.mean(axis=1, keepdims=True)).astype(np.float32)


def first_mixture(
    patches: np.ndarray, *, components: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Makes the first mixture: every Gaussian around the line through one random patch.

    Patches of all contrasts are chosen, so that smooth and textured ones get separate Gaussians.

    Returns:
      Weights `(components,)` and covariances `(components, D, D)`, float64.
    """
    random = np.random.default_rng(seed)
    by_contrast = np.argsort(patches.std(axis=1))
    strata = np.array_split(by_contrast, components)
    seeds = np.stack([patches[random.choice(stratum)] for stratum in strata]).astype(np.float64)
    everywhere = np.cov(patches.T, bias=True)
    power = np.mean(seeds**2, axis=1) / np.mean(patches.astype(np.float64) ** 2)
    covariances = 0.5 * power[:, None, None] * everywhere + 0.5 * np.einsum(
        "ki,kj->kij", seeds, seeds
    )
    covariances += patch_prior.VARIANCE_FLOOR * np.eye(patches.shape[1])
    return np.full(components, 1.0 / components), covariances


def learn(
    patches: np.ndarray, *, components: int, steps: int, seed: int
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Runs EM.

    Returns:
      Weights, covariances, and the mean log-likelihood of a patch before every step.
    """
    weights, covariances = first_mixture(patches, components=components, seed=seed)
    likelihoods: list[float] = []
    progress = tqdm(range(steps), desc="EM")
    for _ in progress:
        prior = patch_prior.from_covariances(weights, covariances)
        weights, covariances, likelihood = patch_prior.expectation_maximization_step(patches, prior)
        likelihoods.append(likelihood)
        progress.set_postfix(log_likelihood=f"{likelihood:.3f}")
    return weights, covariances, likelihoods


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    prog = "python -m experiments.baselines.learn_patch_prior"
    with program("error"):
        learn_file(tyro.cli(LearnOptions, args=arguments, prog=prog))


def learn_file(options: LearnOptions) -> None:
    """Learns and writes a mixture.

    Raises:
      OSError: the output is there already or cannot be written, or the photographs are not there.
      ValueError: numbers below 1, images that will not do, or that methods are scored on.
    """
    for name in ("components", "side", "patches", "steps"):
        validation.check_size(getattr(options, name), name)
    if options.patches < options.components:
        raise ValueError(
            f"{options.patches} patches are too few for {options.components} components"
        )
    if options.output.exists():
        raise FileExistsError(f"{options.output} exists; remove it or choose another name")
    folder = options.output.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; make it before {options.output}")
    photographs = list(
        load_training_photographs(
            options.dataset,
            options.splits,
            data_dir=options.data_dir,
            allow_leak=options.allow_leak,
        ).values()
    )
    patches = draw_patches(photographs, side=options.side, count=options.patches, seed=options.seed)
    weights, covariances, likelihoods = learn(
        patches, components=options.components, steps=options.steps, seed=options.seed
    )
    patch_prior.save_patch_prior(options.output, weights, covariances)
    print(
        f"{len(patches)} patches of {len(photographs)} photographs; mean log-likelihood "
        f"{likelihoods[0]:.3f} before the first step, {likelihoods[-1]:.3f} before the last; "
        f"wrote {options.output} ({options.output.stat().st_size / 1e6:.2f} MB)"
    )


if __name__ == "__main__":
    main()
