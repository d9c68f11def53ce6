"""Layers 4 to 6 by themselves, on eq. 8: a cheap way to train most of what the network learns.

At the start the sum of the maps behind layer 3 is eq. 8 of the paper. As long as layers 1 to 3 stay
there and layer 4 has the same filter for every map, layers 4 to 6 see one image instead of `m`
maps: a step costs a fraction, the gradients are those of a small and well-conditioned network, and
what comes out is a set of weights of the faithful network like any other.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from glra_jax.lowrank import Basis, reconstruct
from glra_jax.networks.glra import Correlate, Params

LAYERS = ("refine_1", "refine_2", "refine_3")


class Refinement(nn.Module):
    """Layers 4 to 6 of `DeconvNet` with one map going in.

    Attributes:
      features: number of maps between the layers.
    """

    features: int = 128

    def setup(self) -> None:
        """Names the layers."""
        self.refine_1 = Correlate(self.features, (15, 15), 7)
        self.refine_2 = Correlate(self.features, (1, 1))
        self.refine_3 = Correlate(1, (7, 7), 3)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `(N, H, W, 1)` to the same shape, in (0, 1)."""
        x = nn.leaky_relu(self.refine_1(x), 0.2)
        x = nn.leaky_relu(self.refine_2(x), 0.2)
        return nn.sigmoid(self.refine_3(x))


def tie(params: Params) -> dict[str, dict[str, jax.Array]]:
    """Weights of `Refinement` that come nearest to those of a `DeconvNet`.

    Args:
      params: of a `DeconvNet`.

    Returns:
      Layers 4 to 6; the filters of layer 4 are the means over the maps, `(15, 15, 1, features)`.
    """
    layers = {name: dict(params[name]) for name in LAYERS}
    layers["refine_1"]["kernel"] = layers["refine_1"]["kernel"].mean(axis=2, keepdims=True)
    return layers


def untie(layers: Params, params: Params) -> dict[str, Mapping[str, jax.Array]]:
    """Weights of a `DeconvNet` that restores as `Refinement` does on eq. 8.

    Args:
      layers: of a `Refinement`.
      params: of a `DeconvNet` whose layers 1 to 3 give eq. 8, such as those of `init_params`.

    Returns:
      `params` with layers 4 to 6 replaced.
    """
    first = layers["refine_1"]
    rank = params["refine_1"]["kernel"].shape[2]
    kernel = jnp.repeat(first["kernel"], rank, axis=2)
    return {**params, **layers, "refine_1": {**first, "kernel": kernel}}


def low_rank_restoration(y: jax.Array, core: jax.Array, basis: Basis) -> jax.Array:
    """Eq. 8 where nothing outside the images is needed.

    Args:
      y: `(N, H, W, 1)`, each side at least the support `d`.
      core: `(N, m, m)`.
      basis: `(d, m)`.

    Returns:
      `(N, H - d + 1, W - d + 1, 1)`.
    """
    inverses = reconstruct(basis, core)
    grid, support = y.shape[1:3], inverses.shape[-1]
    spectra = jnp.fft.rfft2(y[..., 0]) * jnp.fft.rfft2(inverses, s=grid)
    restored = jnp.fft.irfft2(spectra, s=grid)
    return restored[:, support - 1 :, support - 1 :, None]
