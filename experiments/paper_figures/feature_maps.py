"""Figure 7: feature maps of networks with random and with GLRA initialization."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import glra_jax as gx
from experiments.evaluation.model_files import faithful
from experiments.paper_figures.inverses import blurred_photographs
from experiments.pictures.drawing import Track, new_figure, show_image, silent
from glra_jax.blurring import pad_for_kernel
from glra_jax.networks.low_rank import HALO

# Flax names of the layers whose outputs are shown, by the paper's number.
_LAYERS = {3: "horizontal", 4: "refine_1"}

# Maps of a layer that are drawn and kept, the strongest.
_SHOWN = 8


@dataclass(frozen=True)
class FeatureMaps:
    """Maps and output of one network for a blurred photograph.

    Attributes:
      layers: by the paper's number, 3 (behind the horizontal filters) and 4 (behind its leaky
        ReLU): `(H, W, maps)`.
      restored: the network's output, `(H, W)`.
      psnr: of the output, dB.
    """

    layers: dict[int, np.ndarray]
    restored: np.ndarray
    psnr: float

    def strongest(self, layer: int, count: int) -> np.ndarray:
        """Indices of the maps of a layer that vary most over the image, first the strongest."""
        return np.argsort(-self.layers[layer].std(axis=(0, 1)), kind="stable")[:count]


@dataclass(frozen=True)
class MapComparison:
    """Content of figure 7; images are `(H, W)`.

    Attributes:
      sharp: the truth.
      blurred: input of all networks.
      blurred_psnr: dB.
      networks: by title.
    """

    sharp: np.ndarray
    blurred: np.ndarray
    blurred_psnr: float
    networks: dict[str, FeatureMaps]


def compute_map_comparison(
    key: jax.Array,
    photograph: np.ndarray,
    kernel: jax.Array,
    models: Mapping[str, gx.Model],
    *,
    noise: float = 0.01,
    track: Track[str] = silent,
) -> MapComparison:
    """Blurs a photograph and runs networks over it.

    Args:
      key: PRNG key of the noise.
      photograph: `(H, W)` float32 in [0, 1].
      kernel: blur kernel, at most as large as the models' supports.
      models: by title.
      noise: standard deviation.
      track: shows progress over the models.

    Returns:
      Maps of the size of the photograph, which is continued circularly.
    """
    x = jnp.asarray(photograph)
    sharp = gx.sharp_target(x, protocol="paper")
    y = blurred_photographs(key, x, kernel, noise)
    return MapComparison(
        sharp=np.asarray(sharp),
        blurred=np.asarray(y),
        blurred_psnr=float(gx.psnr(y, sharp)),
        networks={
            title: _run(models[title], y, kernel, sharp, noise) for title in track(list(models))
        },
    )


def _run(
    model: gx.Model, y: jax.Array, kernel: jax.Array, sharp: jax.Array, noise: float
) -> FeatureMaps:
    maps, restored = feature_maps(y, kernel, model, noise)
    layers = {layer: np.asarray(value) for layer, value in maps.items()}
    return FeatureMaps(layers, np.asarray(restored), float(gx.psnr(restored, sharp)))


@jax.jit
def feature_maps(
    y: jax.Array, kernel: jax.Array, model: gx.Model, noise: float
) -> tuple[dict[int, jax.Array], jax.Array]:
    """Outputs of layers 3 and 4 and of the whole network, for a circular image.

    Args:
      y: `(H, W)` float32 in [0, 1], blurred.
      kernel: blur kernel, sum 1.
      model: basis, weights and configuration.
      noise: standard deviation of the noise in `y`.

    Returns:
      By layer, `(H, W, maps)`; and the restored image, `(H, W)`, the same as of
      `gx.deconvolve(..., boundary="wrap")`.
    """
    architecture = faithful(model)
    core = architecture.condition(model.constants, kernel, noise=noise).core
    wide = architecture.support + 2 * HALO
    x = pad_for_kernel(y[None, :, :, None], (wide, wide), "wrap")
    shown = partial(_is_shown, names=tuple(_LAYERS.values()))
    restored, state = architecture.module().apply(
        {"params": model.params}, x, core, capture_intermediates=shown, mutable=["intermediates"]
    )
    window = tuple(slice(HALO, HALO + side) for side in y.shape)
    maps = {
        layer: state["intermediates"][name]["__call__"][0][0][window]
        for layer, name in _LAYERS.items()
    }
    maps[4] = nn.leaky_relu(maps[4], 0.2)
    return maps, restored[0, :, :, 0][window]


def _is_shown(module: nn.Module, method: str, *, names: tuple[str, ...]) -> bool:
    return method == "__call__" and module.name in names


def tabulate_maps(data: MapComparison) -> dict[str, np.ndarray]:
    """Arrays to keep: images, shown maps with their indices, and deviations of all maps."""
    arrays = {"sharp": data.sharp, "blurred": data.blurred}
    arrays["titles"] = np.array(list(data.networks))
    for i, network in enumerate(data.networks.values()):
        arrays[f"network_{i}.restored"] = network.restored
        arrays[f"network_{i}.psnr"] = np.array(network.psnr)
        for layer, maps in network.layers.items():
            indices = network.strongest(layer, _SHOWN)
            arrays[f"network_{i}.layer_{layer}.indices"] = indices
            arrays[f"network_{i}.layer_{layer}.maps"] = maps[..., indices].astype(np.float16)
            arrays[f"network_{i}.layer_{layer}.deviations"] = maps.std(axis=(0, 1))
    return arrays


def draw_maps(data: MapComparison) -> Any:
    """A block a network: its input and output, and the strongest maps of layers 3 and 4.

    Each map has a grey scale of its own, from its 1st to its 99th percentile.
    """
    per_row = (_SHOWN + 1) // 2
    figure = new_figure(1.45 * (2 * per_row + 1) + 0.3, 3.5 * len(data.networks))
    blocks = figure.subfigures(len(data.networks), 1, squeeze=False)[:, 0]
    for block, (title, network) in zip(blocks, data.networks.items(), strict=True):
        block.suptitle(title, fontsize=11, fontweight="bold")
        ends, *parts = block.subfigures(
            1,
            1 + len(network.layers),
            wspace=0.04,
            width_ratios=[1] + [per_row] * len(network.layers),
        )
        ends.suptitle("input and output", fontsize=10)
        axes = ends.subplots(2, 1)
        show_image(axes[0], data.blurred, f"blurred, {data.blurred_psnr:.2f} dB")
        show_image(axes[1], network.restored, f"output, {network.psnr:.2f} dB")
        for part, (layer, maps) in zip(parts, network.layers.items(), strict=True):
            part.suptitle(f"layer {layer}: strongest {_SHOWN} of {maps.shape[2]} maps", fontsize=10)
            _draw_layer(part.subplots(2, per_row, squeeze=False), maps, network, layer)
    return figure


def _draw_layer(axes: np.ndarray, maps: np.ndarray, network: FeatureMaps, layer: int) -> None:
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, index in zip(axes.flat, network.strongest(layer, _SHOWN), strict=False):
        low, high = np.percentile(maps[..., index], (1, 99))
        axis.imshow(maps[..., index], cmap="gray", vmin=low, vmax=high)
        axis.set_title(f"{index + 1}: σ = {maps[..., index].std():.2g}", fontsize=9)
