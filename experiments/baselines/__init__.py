"""Baselines: non-blind deconvolution methods as pure JAX functions of one signature.

`baseline_named(name).restore(y, kernel, noise=...) -> x`; `contract` has the record and the
convention of inputs and outputs, `boundaries` the continuation of images outside their frame,
`tuned` the default parameters, which README.md says how to make. A new baseline is one file and
one line here. `BASELINES` are the classical ones. `AUTHORS_NETWORKS` have weights of their authors,
which users fetch, see `authors_network`.
"""

from experiments.baselines import csf, epll, fcnn, fdn, hl, richardson_lucy, tv, usrnet, vem, wiener
from experiments.baselines.authors_network import AuthorsNetwork
from experiments.baselines.contract import Baseline

BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        wiener.WIENER,
        richardson_lucy.RICHARDSON_LUCY,
        hl.HL,
        tv.TV,
        tv.TV_SATURATED,
        epll.EPLL,
        vem.VEM,
    )
}

AUTHORS_NETWORKS: dict[str, AuthorsNetwork] = {
    network.name: network
    for network in (csf.CSF, fcnn.FCNN, fdn.FDN, fdn.FDN_LOW_NOISE, usrnet.USRNET_TINY)
}


def baseline_named(name: str) -> Baseline:
    """The baseline of a name.

    Raises:
      ValueError: an unknown name.
    """
    if name not in BASELINES:
        raise ValueError(f"no baseline is called {name!r}; there are: {', '.join(BASELINES)}")
    return BASELINES[name]


__all__ = ["AUTHORS_NETWORKS", "BASELINES", "AuthorsNetwork", "Baseline", "baseline_named"]
