"""Gaussian mixtures of image patches: learning by EM, files, and the default one.

A prior on the zero-mean parts of square patches of photographs with pixels in [0, 1]: `K` Gaussians
of mean 0 (Zoran and Weiss, ICCV 2011; their mixture has 200, learned from two million patches).
"""

import functools
import hashlib
import os
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax.numpy_files import read_archive

# No patch is smoother than rounding to 8 bits leaves it; also keeps every covariance invertible.
VARIANCE_FLOOR = 1.0 / 12.0 / 255.0**2


class PatchPrior(NamedTuple):
    """A mixture of zero-mean Gaussians, by principal axes. A pytree.

    Attributes:
      log_weights: `(K,)` float32, logarithms of the mixture weights.
      variances: `(K, D)` float32 along the axes, above 0.
      axes: `(K, D, D)` float32, orthonormal axes as columns; D is the square of the patch's side.
    """

    log_weights: jax.Array | np.ndarray
    variances: jax.Array | np.ndarray
    axes: jax.Array | np.ndarray


def patch_side(prior: PatchPrior) -> int:
    """Side of the patches in pixels."""
    return round(prior.axes.shape[-1] ** 0.5)


def from_covariances(weights: np.ndarray, covariances: np.ndarray) -> PatchPrior:
    """Makes a prior of mixture weights `(K,)` and covariances `(K, D, D)`, in float64 inside."""
    variances, axes = np.linalg.eigh(np.asarray(covariances, np.float64))
    with np.errstate(divide="ignore"):  # an empty component has the log-weight -inf
        log_weights = np.log(np.asarray(weights, np.float64))
    return PatchPrior(
        log_weights.astype(np.float32),
        np.maximum(variances, VARIANCE_FLOOR).astype(np.float32),
        axes.astype(np.float32),
    )


def log_likelihoods(
    patches: jax.Array, prior: PatchPrior, *, noise_variance: jax.typing.ArrayLike = 0.0
) -> jax.Array:
    """Logarithm of weight times density of noisy patches under every component.

    Args:
      patches: `(N, D)`, zero-mean.
      prior: the mixture.
      noise_variance: of white noise in the patches.

    Returns:
      `(N, K)`; its `logsumexp` over the components is the log-likelihood.
    """
    count, dimension = prior.variances.shape
    variances = jnp.asarray(prior.variances) + noise_variance
    whitening = jnp.asarray(prior.axes) / jnp.sqrt(variances)[:, None, :]
    white = patches @ whitening.transpose(1, 0, 2).reshape(dimension, count * dimension)
    distance = jnp.sum(white.reshape(-1, count, dimension) ** 2, axis=2)
    determinant = jnp.sum(jnp.log(2.0 * jnp.pi * variances), axis=1)
    return jnp.asarray(prior.log_weights) - 0.5 * (determinant + distance)


def save_patch_prior(
    path: str | os.PathLike[str], weights: np.ndarray, covariances: np.ndarray
) -> None:
    """Writes a mixture to an `.npz` file; of each covariance one triangle, in float32.

    Raises:
      FileExistsError: the file is there already; it is not overwritten.
    """
    rows, columns = np.triu_indices(covariances.shape[-1])
    with open(path, "xb") as file:
        np.savez(
            file,
            weights=weights.astype(np.float32),
            triangles=covariances[:, rows, columns].astype(np.float32),
        )


def load_patch_prior(path: str | os.PathLike[str]) -> PatchPrior:
    """Reads what `save_patch_prior` wrote.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file of another kind.
    """
    arrays = read_archive(Path(path))
    make = "make one with python -m experiments.baselines.learn_patch_prior"
    if set(arrays) != {"weights", "triangles"}:
        raise ValueError(
            f"{path} holds {sorted(arrays)}, not the weights and triangles of a patch prior; {make}"
        )
    weights, triangles = arrays["weights"], arrays["triangles"]
    shapes = weights.shape, triangles.shape
    dimension = round((2 * triangles.shape[-1]) ** 0.5 - 0.5) if triangles.ndim == 2 else 0
    fits = triangles.shape == (weights.size, dimension * (dimension + 1) // 2)
    real = all(a.dtype.kind == "f" and np.isfinite(a).all() for a in (weights, triangles))
    if not (fits and real and weights.ndim == 1 and triangles.size):
        raise ValueError(f"{path} holds arrays of the shapes {shapes}, which are no prior; {make}")
    covariances = np.zeros((len(weights), dimension, dimension))
    rows, columns = np.triu_indices(dimension)
    covariances[:, rows, columns] = triangles
    covariances[:, columns, rows] = triangles
    return from_covariances(weights, covariances)


@functools.cache
def default_patch_prior() -> PatchPrior:
    """The mixture in `patch_prior.npz` beside this file; see README.md for how it was learned."""
    with resources.as_file(_default_file()) as path:
        return load_patch_prior(path)


def patch_prior_digest() -> str:
    """SHA-256 of the file that `default_patch_prior` reads."""
    return hashlib.sha256(_default_file().read_bytes()).hexdigest()


def _default_file() -> Traversable:
    return resources.files(__package__).joinpath("patch_prior.npz")


@jax.jit
def expectation_maximization_sums(
    patches: jax.Array, prior: PatchPrior
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums over a chunk of patches, for one step of EM.

    Args:
      patches: `(N, D)`, zero-mean.
      prior: the mixture before the step.

    Returns:
      Sums of the responsibilities `(K,)`, of the responsibility-weighted outer products
      `(K, D, D)`, and the log-likelihood of the chunk.
    """
    scores = log_likelihoods(patches, prior)
    evidence = jax.scipy.special.logsumexp(scores, axis=1)
    responsibility = jnp.exp(scores - evidence[:, None])

    def outer(column: jax.Array) -> jax.Array:
        return (patches * column[:, None]).T @ patches

    return responsibility.sum(axis=0), jax.lax.map(outer, responsibility.T), evidence.sum()


def expectation_maximization_step(
    patches: np.ndarray, prior: PatchPrior, *, chunk: int = 2048
) -> tuple[np.ndarray, np.ndarray, float]:
    """One step of EM over all patches, summed in float64.

    Args:
      patches: `(N, D)` float32, zero-mean.
      prior: the mixture before the step.
      chunk: how many patches at once.

    Returns:
      New weights `(K,)`, new covariances `(K, D, D)`, both float64, and the mean log-likelihood of
      a patch under the mixture before the step, which no step lowers (but for `VARIANCE_FLOOR`,
      which is added to the variances).
    """
    count, dimension = prior.variances.shape
    total = np.zeros(count)
    products = np.zeros((count, dimension, dimension))
    evidence = 0.0
    for start in range(0, len(patches), chunk):
        sums = expectation_maximization_sums(jnp.asarray(patches[start : start + chunk]), prior)
        total += np.asarray(sums[0], np.float64)
        products += np.asarray(sums[1], np.float64)
        evidence += float(sums[2])
    covariances = products / np.maximum(total, 1e-9)[:, None, None]
    covariances += VARIANCE_FLOOR * np.eye(dimension)
    return total / len(patches), covariances, evidence / len(patches)
