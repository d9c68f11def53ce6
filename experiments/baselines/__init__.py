"""Classical baselines: non-blind deconvolution methods as pure JAX functions of one signature.

`BASELINES[name](y, kernel, noise=...) -> x`; `contract` says what goes in and out, `boundaries` how
images go on outside, `tuned` where the default parameters come from, README.md how they were made.
"""

from collections.abc import Callable

import jax

from experiments.baselines import epll, hl, richardson_lucy, tv, vem, wiener

# Every one is called as `baseline(y, kernel, noise=..., family=...)`.
BASELINES: dict[str, Callable[..., jax.Array]] = {
    "wiener": wiener.wiener,
    "richardson_lucy": richardson_lucy.richardson_lucy,
    "hl": hl.hl,
    "tv": tv.tv,
    "tv_saturated": tv.tv_saturated,
    "epll": epll.epll,
    "vem": vem.vem,
}

__all__ = ["BASELINES"]
