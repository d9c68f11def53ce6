"""Kernels and arithmetic in NumPy that the tests of the paper's figures share."""

import jax
import numpy as np
import scipy.ndimage

import glra_jax as gx
from experiments.paper_figures.inverses import (
    draw_kernels,
    invert,
)


def few_kernels(families: gx.KernelFamilies) -> dict[str, jax.Array]:
    """Two of every family."""
    drawn = draw_kernels(jax.random.key(1), families, count=12)
    return {family: stack[:2] for family, stack in drawn.items()}


def kernels_to_fit(families: gx.KernelFamilies) -> dict[str, jax.Array]:
    """Others, which a basis is fitted on."""
    return draw_kernels(jax.random.key(2), families, count=12)


SUPPORT = 31


def inverted(stacks: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {
        name: invert(stack, support=SUPPORT, regularization=0.01) for name, stack in stacks.items()
    }


def numpy_psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return -10 * np.log10(np.mean((np.float64(image) - np.float64(truth)) ** 2))


def numpy_convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Circular convolution with a centred kernel, in float64."""
    return scipy.ndimage.convolve(np.float64(image), np.float64(kernel), mode="wrap")
