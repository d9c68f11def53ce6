"""Figure 2: structure of the core `M` of a pseudo-inverse, by family and size of blur."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

import glra_jax as gx
from experiments.pictures.drawing import (
    FAMILY_NAMES,
    Track,
    new_figure,
    show_kernel,
    silent,
)

# The colours of |M| go down to this fraction of the largest.
_FLOOR = 1e-5

# A leading block of the core holds this share of its energy.
_SHARE = 0.99


@dataclass(frozen=True)
class CoreStructure:
    """Content of figure 2.

    Attributes:
      families: of the blur kernels, one a row.
      sizes: of the blur kernels in pixels, one a column.
      kernels: `(families, sizes, k, k)`, smaller ones in the middle of zeros.
      cores: `(families, sizes, m, m)`.
      leading: `(families, sizes)`, see `leading_block`.
    """

    families: tuple[str, ...]
    sizes: tuple[int, ...]
    kernels: np.ndarray
    cores: np.ndarray
    leading: np.ndarray


def leading_block(core: np.ndarray) -> int:
    """Side of the smallest leading square block that holds the share `_SHARE` of `‖M‖²`."""
    energy = np.cumsum(np.cumsum(np.square(core, dtype=np.float64), axis=0), axis=1)
    blocks = np.diagonal(energy)
    return int(np.searchsorted(blocks, _SHARE * blocks[-1])) + 1


def compute_core_structure(
    kernels: Mapping[str, Sequence[jax.Array]],
    basis: gx.Basis,
    *,
    regularization: float = 0.01,
    track: Track[str] = silent,
) -> CoreStructure:
    """Cores of blur kernels in one basis.

    Args:
      kernels: by family, square and growing; the same sizes for each family.
      basis: of the cores.
      regularization: of the pseudo-inverses.
      track: shows progress over the families.

    Returns:
      Kernels and cores.
    """
    rows = list(kernels.values())
    largest = max(kernel.shape[0] for kernel in rows[0])
    core_of = partial(gx.deconvolution_core, basis, inverse=gx.Inverse(regularization))
    cores = np.array([[core_of(k) for k in kernels[family]] for family in track(list(kernels))])
    return CoreStructure(
        families=tuple(kernels),
        sizes=tuple(kernel.shape[0] for kernel in rows[0]),
        kernels=np.array([[_embed(np.asarray(k), largest) for k in row] for row in rows]),
        cores=cores,
        leading=np.array([[leading_block(core) for core in row] for row in cores]),
    )


def _embed(kernel: np.ndarray, size: int) -> np.ndarray:
    before = size // 2 - kernel.shape[0] // 2
    return np.pad(kernel, (before, size - kernel.shape[0] - before))


def draw_core_structure(data: CoreStructure) -> Any:
    """|M| on one logarithmic scale of colours, each with its blur kernel in a corner."""
    from matplotlib.colors import LogNorm

    rows, columns = data.cores.shape[:2]
    figure = new_figure(2.75 * columns + 0.8, 2.75 * rows, layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    top = float(np.abs(data.cores).max())
    norm = LogNorm(vmin=_FLOOR * top, vmax=top)
    for (i, j), axis in np.ndenumerate(axes):
        # Nothing is below the scale: exact zeros take its lowest colour.
        magnitude = np.maximum(np.abs(data.cores[i, j]), _FLOOR * top)
        rank = len(magnitude)
        picture = axis.imshow(
            magnitude, cmap="viridis", norm=norm, interpolation="nearest",
            extent=(0.5, rank + 0.5, rank + 0.5, 0.5),
        )  # fmt: skip
        name, size, block = FAMILY_NAMES[data.families[i]], data.sizes[j], data.leading[i, j]
        axis.set_title(f"{name}, {size}×{size}: {100 * _SHARE:g} % in {block}×{block}", fontsize=9)
        inset = axis.inset_axes((0.69, 0.69, 0.29, 0.29))
        show_kernel(inset, data.kernels[i, j])
        for spine in inset.spines.values():
            spine.set_edgecolor("white")
        if i == rows - 1:
            axis.set_xlabel("column of R")
        if j == 0:
            axis.set_ylabel("column of L")
    figure.colorbar(
        picture, ax=axes, label="|M|", extend="min", fraction=0.05, pad=0.02, shrink=0.7
    )
    return figure
