"""Layers 4 to 6 of the faithful network with one map going in: to and from its full weights.

As long as layers 1 to 3 give the linear restoration and layer 4 has the same filter for every map,
layers 4 to 6 see one image, the sum of the maps. Tied weights are those layers for that one image.
"""

import jax.numpy as jnp

from glra_jax.networks.architecture import Params

LAYERS = ("refine_1", "refine_2", "refine_3")


def tie(params: Params) -> Params:
    """Layers 4 to 6 for one map that come nearest to those of the faithful network.

    Args:
      params: of the faithful network.

    Returns:
      Layers 4 to 6; the filters of layer 4 are the means over the maps, `(15, 15, 1, features)`.
    """
    layers = {name: dict(params[name]) for name in LAYERS}
    layers["refine_1"]["kernel"] = layers["refine_1"]["kernel"].mean(axis=2, keepdims=True)
    return layers


def untie(layers: Params, params: Params) -> Params:
    """Weights of the faithful network that restores as tied layers do.

    Args:
      layers: tied.
      params: of a faithful network whose layers 1 to 3 give the linear restoration, such as those
        of `init_params`.

    Returns:
      `params` with layers 4 to 6 replaced.
    """
    first = layers["refine_1"]
    rank = params["refine_1"]["kernel"].shape[2]
    kernel = jnp.repeat(first["kernel"], rank, axis=2)
    return {**params, **layers, "refine_1": {**first, "kernel": kernel}}
