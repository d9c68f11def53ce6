"""PSNR of the linear restoration, over the strength of both regularisations of its inverse.

The pseudo-inverses are whole, without a basis: the best of them bounds the low-rank restoration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import glra_jax as gx
from experiments.pictures.drawing import FAMILY_NAMES, Track, label_curves, new_figure, silent

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
_LINES = {"regularization": "--", "smoothness": "-"}


@dataclass(frozen=True)
class StrengthPoint:
    """Mean PSNR of restored photographs blurred by kernels of one family.

    Attributes:
      family: of the kernels.
      noise: standard deviation, protocol `"paper"`.
      kind: `"regularization"` or `"smoothness"`, see `glra_jax.kernels.pseudo_inverse`.
      strength: its value; beside a regularisation the smoothness is 0, beside a smoothness the
        regularisation is the given constant.
      psnr: mean, dB.
    """

    family: str
    noise: float
    kind: str
    strength: float
    psnr: float


@partial(jax.jit, static_argnames=("support",))
def _mean_psnr(
    blurred: jax.Array,
    sharp: jax.Array,
    kernels: jax.Array,
    regularization: jax.Array,
    smoothness: jax.Array,
    *,
    support: int,
) -> jax.Array:
    def one(y: jax.Array, x: jax.Array, kernel: jax.Array) -> jax.Array:
        inverse = gx.pseudo_inverse(
            kernel, support=support, regularization=regularization, smoothness=smoothness
        )
        restored = gx.blur(y, inverse / inverse.sum(), boundary="wrap")
        return gx.psnr(jnp.clip(restored, 0.0, 1.0), x)

    return jax.vmap(one)(blurred, sharp, kernels).mean()


def compute_regularization(
    key: jax.Array,
    photographs: jax.Array,
    kernels: Mapping[str, jax.Array],
    *,
    noise_levels: Sequence[float],
    strengths: Sequence[float],
    regularization: float,
    support: int,
    track: Track[str] = silent,
) -> list[StrengthPoint]:
    """Blurs photographs circularly and undoes it, for every strength of either kind.

    Args:
      key: PRNG key of the noise.
      photographs: `(n, s, s)` in [0, 1], `s` at least the support; used in turn.
      kernels: by family, `(p, h, w)`, each of which blurs one photograph.
      noise_levels: standard deviations.
      strengths: regularisations without smoothness; and smoothnesses with `regularization`.
      regularization: the constant beside the smoothness.
      support: of the pseudo-inverses.
      track: shows progress over the families.

    Returns:
      Points by family, noise level, kind and strength.
    """
    points = []
    for family in track(tuple(kernels)):
        stack = kernels[family]
        turns = photographs[jnp.arange(len(stack)) % len(photographs)]
        sharp = gx.sharp_target(turns)
        for noise in noise_levels:
            keys = jax.random.split(key, len(stack))
            blurred = jax.jit(jax.vmap(partial(gx.degrade, noise=noise)))(keys, turns, stack)
            for kind in _LINES:
                for strength in strengths:
                    flat = kind == "regularization"
                    values = (strength, 0.0) if flat else (regularization, strength)
                    pair = map(jnp.float32, values)
                    score = _mean_psnr(blurred, sharp, stack, *pair, support=support)
                    points.append(StrengthPoint(family, noise, kind, strength, float(score)))
    return points


def draw_regularization(points: Sequence[StrengthPoint]) -> Any:
    """A panel a family; a colour a noise level, a line a kind, a dot on the best strength."""
    families = list(dict.fromkeys(point.family for point in points))
    levels = list(dict.fromkeys(point.noise for point in points))
    figure = new_figure(3.5 * len(families) + 0.4, 3.9)
    axes = figure.subplots(1, len(families), sharex=True, squeeze=False)[0]
    for axis, family in zip(axes, families, strict=True):
        for level, colour in zip(levels, _COLOURS * len(levels), strict=False):
            for kind, line in _LINES.items():
                own = [p for p in points if (p.family, p.noise, p.kind) == (family, level, kind)]
                label = f"{kind}, noise {100 * level:g} %"
                strengths, psnrs = [p.strength for p in own], [p.psnr for p in own]
                axis.plot(strengths, psnrs, line, color=colour, label=label)
                best = max(own, key=lambda point: point.psnr)
                axis.plot(best.strength, best.psnr, "o", color=colour, markersize=5)
        # Points far below the best are not shown.
        worst_best = min(
            max(p.psnr for p in points if (p.family, p.noise) == (family, level))
            for level in levels
        )
        axis.set_ylim(bottom=worst_best - 3.0)
        axis.set_xscale("log")
        axis.set_title(f"{FAMILY_NAMES[family]} kernels", fontsize=10)
        label_curves(axis, "strength")
    axes[0].set_ylabel("PSNR of linear (eq. 8), dB")
    axes[0].legend(fontsize=7, loc="lower right")
    return figure
