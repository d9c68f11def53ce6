"""Restoring many or large photographs: tile by tile, what can be done once being done once.

`deconvolve` works on an image as a whole, which is what differentiation and small images want. A
`Restorer` goes over an image in tiles of one size, so that memory does not grow with the image,
nothing is compiled twice, and the transforms of the network's filters and the core of the blur
kernel are computed once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.cores import unscaled_core
from glra_jax.correlation.correlate import prepare_filters
from glra_jax.degradation import BOUNDARIES, convolution_padding
from glra_jax.lowrank import brightness
from glra_jax.model import Model
from glra_jax.networks.glra import PREPARED
from glra_jax.restoration import (
    REFINEMENT_REACH,
    check_model,
    check_settings,
    core_settings,
)

LARGEST_TILE = 320


def even_tile(height: int, width: int, *, largest: int = LARGEST_TILE) -> tuple[int, int]:
    """Tile that shares an image out evenly.

    Args:
      height: of the image, in pixels.
      width: of the image, in pixels.
      largest: side that no tile may exceed; memory grows with its square.

    Returns:
      Height and width of the tile.

    Raises:
      ValueError: a size below 1.
    """
    validation.check_size(height, "height")
    validation.check_size(width, "width")
    validation.check_size(largest, "largest")
    rows, columns = (-(-size // -(-size // largest)) for size in (height, width))
    return rows, columns


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("model", "core", "prepared"),
    meta_fields=("tile", "method"),
)
@dataclass(frozen=True)
class Restorer:
    """A model made ready for one blur kernel and one size of tiles; made by `prepare`. A pytree.

    Attributes:
      model: the model.
      core: `(m, m)`, of the blur kernel.
      prepared: transformed filters by layer.
      tile: height and width of the tiles that images are restored in; static.
      method: way of computing; static.
    """

    model: Model
    core: jax.Array
    prepared: dict[str, Any]
    tile: tuple[int, int]
    method: str

    def with_kernel(
        self,
        kernel: jax.Array,
        *,
        noise: jax.typing.ArrayLike | None = None,
        regularization: jax.typing.ArrayLike | None = None,
    ) -> "Restorer":
        """The same for another blur kernel; the transformed filters are kept.

        Args:
          kernel: `(h, w)`, sum 1, each side at most the model's support.
          noise: see `prepare`.
          regularization: of the pseudo-inverse; None takes the model's own.

        Returns:
          A new restorer.

        Raises:
          TypeError: as `deconvolve`.
          ValueError: as `deconvolve`.
        """
        return replace(self, core=_core(self.model, kernel, noise, regularization))

    def __call__(
        self, y: np.ndarray | jax.Array, *, boundary: str = "edge", progress: bool = False
    ) -> np.ndarray:
        """Restores an image of any size, tile by tile, on the host's memory.

        Args:
          y: `(H, W)`, `(H, W, C)` or `(N, H, W, C)` float in [0, 1].
          boundary: `"edge"`, `"reflect"` or `"wrap"`, see `deconvolve`.
          progress: whether to show a bar with the time left.

        Returns:
          NumPy array of the shape and dtype of `y`, equal to that of `deconvolve` to rounding.

        Raises:
          TypeError: integer image.
          ValueError: image of another rank, NaN, or an unknown boundary.
        """
        validation.check_choice(boundary, "boundary", BOUNDARIES[:-1])
        y = np.asarray(y)
        validation.check_image(y, "y")
        validation.check_range(y, "y")
        images = y[None, :, :, None] if y.ndim == 2 else y.reshape(-1, *y.shape[-3:])
        restored = np.empty_like(images)
        before, after = (
            side + REFINEMENT_REACH for side in convolution_padding(self.model.config.support)
        )
        height, width = self.tile
        tiles = list(_corners(images.shape, self.tile))
        for n, top, left, channel in _with_progress(tiles, progress):
            rows = _inside(top - before, top + height + after, images.shape[1], boundary)
            columns = _inside(left - before, left + width + after, images.shape[2], boundary)
            tile = images[n, rows[:, None], columns[None, :], channel].astype(np.float32)
            out = np.asarray(_restore_tile(self, tile))
            part = restored[n, top : top + height, left : left + width, channel]
            part[...] = out[: part.shape[0], : part.shape[1]]
        return restored.reshape(y.shape)


def prepare(
    model: Model,
    kernel: jax.Array,
    *,
    tile: tuple[int, int] = (256, 256),
    noise: jax.typing.ArrayLike | None = None,
    regularization: jax.typing.ArrayLike | None = None,
    method: str = "auto",
) -> Restorer:
    """Makes a model ready for restoring many or large images blurred by one kernel.

    Args:
      model: from `load_model` or a training run.
      kernel: blur kernel, `(h, w)`, sum 1, each side at most the model's support.
      tile: height and width of the tiles; `even_tile` finds good ones for an image.
      noise: standard deviation of the noise in the images; needed if the model's pseudo-inverse
        depends on it (`model.config.noise_weight` is not 0), see `estimate_noise`.
      regularization: of the pseudo-inverse; None takes the one that the model was trained with.
      method: way of computing, see `glra_jax.correlation.correlate.correlate`.

    Returns:
      A `Restorer`: call it with images.

    Raises:
      TypeError: as `deconvolve`.
      ValueError: as `deconvolve`, a tile without pixels, or no noise level where one is needed.
    """
    check_model(model)
    if np.shape(tile) != (2,):
        raise ValueError(f"tile must be a height and a width, got {tile!r}")
    height, width = tile
    validation.check_size(height, "tile height")
    validation.check_size(width, "tile width")
    core = _core(model, kernel, noise, regularization)
    support, wide = model.config.support, 2 * REFINEMENT_REACH
    inner = (height + wide, width + wide)
    shapes = {
        "vertical": (1, inner[0] + support - 1, inner[1] + support - 1),
        "horizontal": (1, inner[0], inner[1] + support - 1),
        "refine_1": (1, *inner),
        "refine_3": (1, *inner),
    }
    pads = {"refine_1": 7, "refine_3": 3}
    prepared = {}
    for layer, images in shapes.items():
        padding = pads.get(layer, "valid")
        transform = jax.jit(partial(prepare_filters, images=images, padding=padding, method=method))
        filters = transform(model.params[layer]["kernel"])
        if filters is not None:
            prepared[layer] = {"kernel": filters}
    return Restorer(model, core, prepared, (height, width), method)


def _core(
    model: Model,
    kernel: jax.Array,
    noise: jax.typing.ArrayLike | None,
    regularization: jax.typing.ArrayLike | None,
) -> jax.Array:
    check_settings(kernel, model, noise, regularization)
    if noise is None and model.config.noise_weight > 0:
        raise ValueError(
            "this model's pseudo-inverse depends on the noise level, got noise=None; give "
            "noise=estimate_noise(y) of an image y, or the level if it is known"
        )
    noise = 0.0 if noise is None else noise
    unscaled, gain = _unscaled_core(kernel, model, noise, regularization)
    if validation.is_known(gain) and float(gain) < 0.1:
        raise ValueError(
            f"the model's basis of rank {model.config.rank} does not hold the pseudo-inverse of "
            f"this kernel of shape {kernel.shape}: it would turn 1 into {float(gain):.3g}; centre "
            f"the kernel, or fit a basis on kernels like it"
        )
    return unscaled / gain


@jax.jit
def _unscaled_core(
    kernel: jax.Array,
    model: Model,
    noise: jax.typing.ArrayLike,
    regularization: jax.typing.ArrayLike | None,
) -> tuple[jax.Array, jax.Array]:
    """The core before it is divided by the brightness that it keeps, and that brightness."""
    settings = core_settings(model, noise=noise, regularization=regularization)
    unscaled = unscaled_core(model.basis, kernel, **settings)
    return unscaled, brightness(model.basis, unscaled)


@jax.jit
def _restore_tile(restorer: Restorer, tile: jax.Array) -> jax.Array:
    network = restorer.model.network(method=restorer.method)
    variables = {"params": restorer.model.params, PREPARED: restorer.prepared}
    out = network.apply(variables, tile[None, :, :, None], restorer.core)
    reach = REFINEMENT_REACH
    return jnp.asarray(out)[0, reach:-reach, reach:-reach, 0]


def _corners(shape: tuple[int, ...], tile: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Image, top, left and channel of every tile."""
    count, height, width, channels = shape
    for n in range(count):
        for top in range(0, height, tile[0]):
            for left in range(0, width, tile[1]):
                for channel in range(channels):
                    yield n, top, left, channel


def _inside(start: int, stop: int, size: int, boundary: str) -> np.ndarray:
    """Positions that stand for `start ... stop - 1` along an axis, as `numpy.pad` has it."""
    index = np.arange(start, stop)
    if boundary == "edge" or size == 1:
        return np.clip(index, 0, size - 1)
    if boundary == "wrap":
        return index % size
    return np.abs((index + size - 1) % (2 * size - 2) - (size - 1))


def _with_progress(tiles: list[tuple[int, int, int, int]], show: bool) -> Any:
    if not show:
        return tiles
    from tqdm import tqdm

    return tqdm(tiles, desc="restoring", unit="tile")
