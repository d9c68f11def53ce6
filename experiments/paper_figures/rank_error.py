"""Error of pseudo-inverses in a basis of a rank, against the least possible error.

No approximation of rank `m` of one matrix is nearer than its truncated singular value
decomposition (Eckart & Young 1936). A basis shared by many kernels cannot reach that for each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import glra_jax as gx
from experiments.paper_figures.inverses import mix
from experiments.pictures.drawing import (
    FAMILY_COLOURS,
    FAMILY_MARKERS,
    FAMILY_NAMES,
    Track,
    label_curves,
    new_figure,
    silent,
)

ALL = "all"
BOUND = "svd"

_FLOOR = 1e-5  # errors below are not drawn


@dataclass(frozen=True)
class ErrorPoint:
    """Relative error `‖k† - approximation‖ / ‖k†‖` over kernels of one family.

    Attributes:
      family: of the kernels.
      basis: what the basis was fitted on: a family, or `"all"` together; or `"svd"`, the best
        approximation of each kernel alone.
      rank: of the approximation.
      mean: over the kernels.
      smallest: the best kernel's.
      largest: the worst kernel's.
    """

    family: str
    basis: str
    rank: int
    mean: float
    smallest: float
    largest: float


def svd_errors(inverses: np.ndarray, ranks: Sequence[int]) -> np.ndarray:
    """Relative error of the best approximation of each matrix, in float64.

    Args:
      inverses: `(n, d, d)`.
      ranks: each at most `d`.

    Returns:
      `(ranks, n)`: norm of the singular values beyond the rank over the norm of all.
    """
    values = np.linalg.svd(np.asarray(inverses, np.float64), compute_uv=False)
    return np.array(
        [
            np.linalg.norm(values[:, rank:], axis=1) / np.linalg.norm(values, axis=1)
            for rank in ranks
        ]
    )


def basis_errors(basis: gx.Basis, inverses: np.ndarray) -> np.ndarray:
    """Relative error of `L Lᵀ k† R Rᵀ` for each of `(n, d, d)` inverses, `(n,)`, in float64.

    With a basis of full rank it is about 1e-6, because float32 bases are not exactly orthonormal.
    """
    left, right = (np.asarray(side, np.float64) for side in basis)
    exact = np.asarray(inverses, np.float64)
    lost = exact - left @ (left.T @ exact @ right) @ right.T
    return np.linalg.norm(lost, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))


def compute_rank_errors(
    fit_inverses: dict[str, jax.Array],
    test_inverses: Mapping[str, jax.Array],
    *,
    ranks: Sequence[int],
    track: Track[int] = silent,
) -> list[ErrorPoint]:
    """Errors of kernels of each family in a basis of their own family and of all together.

    Args:
      fit_inverses: by family, `(p, d, d)`; every basis is fitted on `p` of them.
      test_inverses: by family, `(n, d, d)`, others than those.
      ranks: each at most `d`.
      track: shows progress over the ranks.

    Returns:
      Points by rank, then by family and basis.
    """
    stacks = dict(fit_inverses)
    if len(stacks) > 1:
        stacks[ALL] = mix(fit_inverses)
    tests = {family: np.asarray(inverses) for family, inverses in test_inverses.items()}
    bounds = {family: svd_errors(inverses, ranks) for family, inverses in tests.items()}
    points = []
    for i, rank in enumerate(track(ranks)):
        bases = {name: gx.fit_glra(stack, rank=rank)[0] for name, stack in stacks.items()}
        for family, inverses in tests.items():
            found = {
                name: basis_errors(basis, inverses)
                for name, basis in bases.items()
                if name in (family, ALL)
            }
            found[BOUND] = bounds[family][i]
            points += [
                ErrorPoint(family, name, rank, float(e.mean()), float(e.min()), float(e.max()))
                for name, e in found.items()
            ]
    return points


def draw_rank_errors(points: Sequence[ErrorPoint]) -> Any:
    """A panel a family: own basis, basis of all, and the bound; the least errors are left out.

    Float32 does not resolve those below `_FLOOR`, and they are not visible in pictures.
    """
    families = list(dict.fromkeys(point.family for point in points))
    figure = new_figure(3.5 * len(families) + 0.4, 3.7)
    axes = figure.subplots(1, len(families), sharex=True, sharey=True, squeeze=False)[0]
    for axis, family in zip(axes, families, strict=True):
        styles = {
            family: {"color": FAMILY_COLOURS[family], "marker": FAMILY_MARKERS[family],
                     "label": f"basis of {FAMILY_NAMES[family]} kernels"},
            ALL: {"color": "#CC79A7", "marker": "D", "label": "basis of all families"},
            BOUND: {"color": "black", "linestyle": "--", "label": "bound: each kernel's own SVD"},
        }  # fmt: skip
        for name, style in styles.items():
            own = [p for p in points if (p.family, p.basis) == (family, name) and p.mean >= _FLOOR]
            own.sort(key=lambda point: point.rank)
            axis.plot([p.rank for p in own], [p.mean for p in own], markersize=4, **style)
        axis.set_yscale("log")
        axis.set_title(f"{FAMILY_NAMES[family]} kernels", fontsize=10)
        label_curves(axis, "rank m")
        axis.legend(fontsize=8, loc="upper right")
    axes[0].set_ylabel("relative error of the pseudo-inverse")
    return figure
