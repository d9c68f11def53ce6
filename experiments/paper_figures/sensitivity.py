"""Figure 8: PSNR of the linear restoration (eq. 8) over support `d` and rank `m` of its basis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import glra_jax as gx
from experiments.paper_figures.inverses import (
    apply_inverse,
    blurred_photographs,
    invert,
    mix,
    truncated_inverse,
    whole_inverse,
)
from experiments.pictures.drawing import (
    FAMILY_COLOURS,
    FAMILY_MARKERS,
    FAMILY_NAMES,
    Track,
    label_curves,
    new_figure,
    silent,
)


@dataclass(frozen=True)
class Point:
    """Mean PSNR over kernels of one family and photographs.

    Attributes:
      varied: which curve it belongs to, `"support"` or `"rank"`.
      support: side of the pseudo-inverses, `d`.
      rank: columns of the bases, `m`.
      family: of the blur kernels.
      psnr: of the linear restoration, dB.
      psnr_whole: by the whole pseudo-inverse of that support, dB.
    """

    varied: str
    support: int
    rank: int
    family: str
    psnr: float
    psnr_whole: float


def compute_sensitivity(
    key: jax.Array,
    photographs: np.ndarray,
    kernels: Mapping[str, jax.Array],
    fit_kernels: dict[str, jax.Array],
    *,
    supports: Sequence[int],
    ranks: Sequence[int],
    support: int = 151,
    rank: int = 50,
    regularization: float = 0.01,
    noise: float = 0.01,
    track: Track[tuple[str, int, int]] = silent,
) -> list[Point]:
    """Restores linearly with one basis for all families, over `d` and then over `m`.

    Args:
      key: PRNG key of the noise.
      photographs: `(N, H, W, 1)` float32 in [0, 1].
      kernels: by family, `(n, k, k)`, what photographs are blurred with.
      fit_kernels: by family, `(p, k, k)`; bases are fitted on `p` kernels of all families mixed.
      supports: values of `d`, with `rank`; each at least `rank` and the kernels' size.
      ranks: values of `m`, with `support`; each at most `support`.
      support: fixed `d`.
      rank: fixed `m`.
      regularization: of the pseudo-inverses.
      noise: standard deviation.
      track: shows progress over the settings.

    Returns:
      Points in the order of the settings, then of the families.
    """
    x = jnp.asarray(photographs)
    truth = gx.sharp_target(x, protocol="paper")
    blurred = {
        family: [
            blurred_photographs(jax.random.fold_in(key, 1000 * i + j), x, kernel, noise)
            for j, kernel in enumerate(stack)
        ]
        for i, (family, stack) in enumerate(kernels.items())
    }

    def score(family: str, inverses: list[jax.Array]) -> float:
        pairs = zip(blurred[family], inverses, strict=True)
        return float(np.mean([gx.psnr(apply_inverse(y, inverse), truth) for y, inverse in pairs]))

    settings = [("support", d, rank) for d in supports] + [("rank", support, m) for m in ranks]
    whole: dict[tuple[int, str], float] = {}
    mixed = mix(fit_kernels)
    points = []
    for varied, d, m in track(settings):
        fitted_on = invert(mixed, support=d, regularization=regularization)
        basis, _ = gx.fit_glra(fitted_on, rank=m)
        for family, stack in kernels.items():
            inverses = invert(stack, support=d, regularization=regularization)
            if (d, family) not in whole:
                whole[d, family] = score(family, [whole_inverse(k) for k in inverses])
            psnr = score(family, [truncated_inverse(basis, k) for k in inverses])
            points.append(Point(varied, d, m, family, psnr, whole[d, family]))
    return points


def draw_sensitivity(points: Sequence[Point]) -> Any:
    """Two panels of curves, one a family: PSNR over `d`, and over `m`."""
    figure = new_figure(9.6, 3.9)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_panel(left, points, "support", "rank", "support d, pixels")
    _draw_panel(right, points, "rank", "support", "rank m")
    left.set_ylabel("mean PSNR of linear (eq. 8), dB")
    right.legend(fontsize=8, loc="lower right")
    return figure


def _draw_panel(axis: Any, points: Sequence[Point], varied: str, fixed: str, label: str) -> None:
    chosen = [point for point in points if point.varied == varied]
    for family in dict.fromkeys(point.family for point in chosen):
        own = sorted(
            (p for p in chosen if p.family == family), key=lambda p: int(getattr(p, varied))
        )
        values = [getattr(point, varied) for point in own]
        colour, name = FAMILY_COLOURS[family], FAMILY_NAMES[family]
        axis.plot(
            values, [p.psnr for p in own], color=colour, marker=FAMILY_MARKERS[family],
            markersize=5, label=f"{name}, rank m",
        )  # fmt: skip
        axis.plot(
            values, [p.psnr_whole for p in own], color=colour, linestyle="--", linewidth=1.0,
            label=f"{name}, whole inverse",
        )  # fmt: skip
    if chosen:
        symbol = {"support": "d", "rank": "m"}[fixed]
        axis.set_title(
            f"{symbol} = {getattr(chosen[0], fixed)}, basis of all families", fontsize=10
        )
    label_curves(axis, label)
