"""Restoring many or large photographs: tile by tile, what can be done once being done once.

`deconvolve` works on an image as a whole, which is what differentiation and small images want. A
`Restorer` goes over an image in tiles of one size, so that memory does not grow with the image,
nothing is compiled twice, and what depends on the blur kernel or the weights alone is computed
once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from glra_jax import validation
from glra_jax.blurring import batched
from glra_jax.conditions import Told, condition_for, told_alike, told_for
from glra_jax.deprecated.keywords import warn
from glra_jax.deprecated.model_keywords import inverse_keywords
from glra_jax.geometry import extended_size, goes_together, reach, rounded_up, shape_of
from glra_jax.host_arrays import native_arrays
from glra_jax.inverses import Inverse
from glra_jax.masks import as_masks, fill_masked
from glra_jax.model import Model
from glra_jax.model_files import default_model
from glra_jax.networks.architecture import Architecture, Condition, Margins
from glra_jax.networks.data_step import StepFilters, take_step
from glra_jax.noise import NoiseModel
from glra_jax.restoration import (
    check_model,
    check_photograph,
    check_settings,
    restore_extended,
    restore_whole,
)
from glra_jax.units import in_unit, noise_in_unit, out_of_unit, unit_of


def even_tile(height: int, width: int, *, largest: int = Architecture.tile_side) -> tuple[int, int]:
    """Tile that shares an image out evenly.

    Args:
      height: of the image, in pixels.
      width: of the image, in pixels.
      largest: side that no tile may exceed; memory grows with its square. What serves a model well
        is its `architecture.tile_side`.

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
    data_fields=("model", "kernel", "noise", "inverse", "condition", "prepared"),
    meta_fields=("tile", "method"),
)
@dataclass(frozen=True)
class Restorer:
    """A model made ready for one blur kernel and one size of tiles; made by `prepare`. A pytree.

    Attributes:
      model: the model.
      kernel: the blur kernel.
      noise: standard deviation of the noise; None where it is estimated at each call.
      inverse: how the kernel is inverted, None as the model has it.
      condition: what the network is told of kernel and noise; None where that depends on the
        image, as where its noise is estimated.
      prepared: what the network computes once for tiles of this size.
      tile: height and width of the tiles that images are restored in; static.
      method: of computing; static.
    """

    model: Model
    kernel: jax.Array
    noise: jax.typing.ArrayLike | NoiseModel | None
    inverse: Inverse | None
    condition: Condition | None
    prepared: Any
    tile: tuple[int, int]
    method: str

    @property
    def core(self) -> jax.Array:
        """Deprecated: `condition.core`."""
        warn("Restorer.core", "Restorer.condition.core")
        if self.condition is None:
            raise ValueError(
                "there is no one core, since the noise is estimated from what is restored; give "
                "the level to prepare(..., noise=)"
            )
        core: jax.Array = self.condition.core
        return core

    @native_arrays
    @inverse_keywords(default_model, where=0)
    def with_kernel(
        self,
        kernel: jax.Array,
        *,
        noise: jax.typing.ArrayLike | NoiseModel | None = None,
        inverse: Inverse | None = None,
    ) -> "Restorer":
        """The same for another blur kernel; what was prepared is kept.

        Args:
          kernel: `(h, w)`, sum 1, each side at most the model's support.
          noise: see `prepare`.
          inverse: see `prepare`.

        Returns:
          A new restorer.

        Raises:
          TypeError: as `deconvolve`.
          ValueError: as `deconvolve`.
        """
        architecture = self.model.architecture
        check_settings(kernel, architecture, noise, inverse)
        changed = replace(self, kernel=kernel, noise=noise, inverse=inverse, condition=None)
        if architecture.by_image or (noise is None and architecture.uses_noise(inverse)):
            return changed  # what the network is told depends on each image
        condition = condition_for(
            architecture, self.model.constants, kernel, None, noise=noise, inverse=inverse
        )
        return replace(changed, condition=condition)

    def told_of(self, y: np.ndarray, mask: np.ndarray | None = None) -> Told:
        """Computes what restoring an image needs, as the noise in it where that is not known."""
        if self.condition is not None:
            return told_alike(self.condition)
        return told_for(
            self.model.architecture,
            self.model.constants,
            self.kernel,
            y,
            noise=self.noise,
            inverse=self.inverse,
            mask=mask,
        )

    @native_arrays
    def __call__(
        self,
        y: np.ndarray | jax.Array,
        *,
        boundary: str = "edge",
        mask: np.ndarray | jax.Array | None = None,
        scale: float | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Restores an image of any size, tile by tile, on the host's memory.

        Args:
          y: `(H, W)`, `(H, W, C)` or `(N, H, W, C)` float in [0, 1].
          boundary: see `deconvolve`; `"valid"` is restored in one piece.
          mask: where pixels count, see `deconvolve`.
          scale: see `deconvolve`.
          progress: whether to show a bar with the time left.

        Returns:
          NumPy array of the shape (but for `"valid"`) and dtype of `y`, equal to that of
          `deconvolve`: to rounding for networks of finite sight; for the unrolled network, whose
          FFTs see all of a tile, to half a grey level of 8 bits on the mean.

        Raises:
          TypeError: as `deconvolve`.
          ValueError: as `deconvolve`.
        """
        filled = fill_masked(y, mask)
        known = None if mask is None else np.asarray(mask)
        return self.restore_filled(filled, known, boundary=boundary, scale=scale, progress=progress)

    def restore_filled(
        self,
        y: np.ndarray | jax.Array,
        mask: np.ndarray | None,
        *,
        boundary: str,
        scale: float | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Restores an image that has been filled in where it is masked, maybe everywhere."""
        architecture = self.model.architecture
        if hasattr(y, "dtype"):  # a list is refused below
            y = np.asarray(y)  # JAX would compile what looks at it for every size
        unit = unit_of(y, scale)
        check_photograph(y, boundary, architecture, self.kernel, unit=unit)
        if unit != 1.0:
            noise = noise_in_unit(self.noise, unit)
            scaled = self.with_kernel(self.kernel, noise=noise, inverse=self.inverse)
            restored = scaled.restore_filled(
                in_unit(y, unit), mask, boundary=boundary, scale=1.0, progress=progress
            )
            return out_of_unit(restored, unit)
        told = self.told_of(y, mask)
        shape = shape_of(self.kernel)
        if boundary == "valid":
            whole = restore_whole(
                y, self.model, told, mask, kernel_shape=shape, boundary=boundary, method=self.method
            )
            return np.asarray(whole, y.dtype)
        images = batched(y)
        masks = None if mask is None else as_masks(mask)
        restored = np.empty(images.shape, np.float32)
        sizes = extended_size(self.tile, architecture, shape)
        margins = reach(architecture, shape)
        together = goes_together(y, architecture)
        tiles = list(_tiles(images.shape, self.tile, together=together))
        for tile in tiles if not progress else _with_bar(tiles):
            part, inside = _cut(images, tile, sizes, margins, boundary)
            known = _cut_mask(masks, tile, sizes, margins, boundary)
            out = _restore_tile(
                self.model,
                self.prepared,
                told.of(tile.position),
                part,
                inside if architecture.sees_frame else None,
                known if architecture.sees_frame else None,
                size=self.tile,
                method=self.method,
            )
            self._put(restored, tile, out)
        if architecture.step_filters(told.condition) is not None:
            restored = self._step_to_data(restored, images, masks, tiles, told, boundary)
        return restored.reshape(y.shape).astype(y.dtype)

    def _step_to_data(
        self,
        restored: np.ndarray,
        images: np.ndarray,
        masks: np.ndarray | None,
        tiles: "list[_Tile]",
        told: Told,
        boundary: str,
    ) -> np.ndarray:
        """Takes the step back to the data, tile by tile, where the network has restored all."""
        stepped = np.empty_like(restored)
        for tile in tiles:
            filters = self.model.architecture.step_filters(told.of(tile.position).condition)
            assert filters is not None
            near, far = filters.reach, filters.reach_restored
            whole, inside = _cut(restored, tile, _widened(self.tile, far), far, boundary)
            size = _widened(self.tile, near)
            part, _ = _cut(images, tile, size, near, boundary)
            known = _cut_mask(masks, tile, size, near, boundary)
            self._put(stepped, tile, _step_tile(whole, part, inside, known, filters))
        return stepped

    def _put(self, images: np.ndarray, tile: "_Tile", out: jax.Array) -> None:
        """Writes a restored tile where it belongs, as far as it lies in the image."""
        place = images[
            tile.image,
            tile.top : tile.top + self.tile[0],
            tile.left : tile.left + self.tile[1],
            tile.channels,
        ]
        place[...] = np.asarray(out)[: place.shape[0], : place.shape[1]]


@native_arrays
@inverse_keywords(default_model, where=0)
def prepare(
    model: Model,
    kernel: jax.Array,
    *,
    tile: tuple[int, int] = (256, 256),
    noise: jax.typing.ArrayLike | NoiseModel | None = None,
    inverse: Inverse | None = None,
    method: str = "auto",
) -> Restorer:
    """Makes a model ready for restoring many or large images blurred by one kernel.

    Args:
      model: from `load_model` or a training run.
      kernel: blur kernel, `(h, w)`, sum 1, each side at most the model's support.
      tile: height and width of the tiles, rounded up to what the network takes; `even_tile` finds
        good ones for an image.
      noise: see `deconvolve`; None estimates it at each call, where the model depends on it.
      inverse: how the model inverts the kernel; None takes what it was trained with.
      method: of computing, see `glra_jax.correlate`.

    Returns:
      A `Restorer`: call it with images.

    Raises:
      TypeError: as `deconvolve`.
      ValueError: as `deconvolve`, or a tile without pixels.
    """
    check_model(model)
    if np.shape(tile) != (2,):
        raise ValueError(f"tile must be a height and a width, got {tile!r}")
    for name, side in zip(("height", "width"), tile, strict=True):
        validation.check_size(side, f"tile {name}")
    architecture = model.architecture
    height, width = (rounded_up(side, architecture) for side in tile)
    extended = extended_size((height, width), architecture, shape_of(kernel))
    prepared = architecture.prepare(model.params, (1, *extended), method=method)
    ready = Restorer(model, kernel, None, None, None, prepared, (height, width), method)
    return ready.with_kernel(kernel, noise=noise, inverse=inverse)


class _Tile(NamedTuple):
    """A piece of a batch of images: which image, its top left corner, which channels.

    `position` counts what goes through the network: images, or their channels.
    """

    position: int
    image: int
    top: int
    left: int
    channels: slice


@partial(jax.jit, static_argnames=("size", "method"))
def _restore_tile(
    model: Model,
    prepared: Any,
    told: Told,
    tile: jax.Array,
    inside: jax.Array | None,
    known: jax.Array | None,
    *,
    size: tuple[int, int],
    method: str,
) -> jax.Array:
    """Restores one extended tile, `(H, W, C)`; what is not needed here compiles nothing again."""
    out = restore_extended(model, told, tile[None], inside, known, prepared=prepared, method=method)
    halo, (height, width) = model.architecture.halo, size
    return out[0, halo : halo + height, halo : halo + width]


@jax.jit
def _step_tile(
    restored: jax.Array,
    blurred: jax.Array,
    inside: jax.Array,
    known: jax.Array | None,
    filters: StepFilters,
) -> jax.Array:
    """Takes the step back to the data on one tile, `(H, W, C)`."""
    return take_step(restored[None], blurred[None], inside, filters, known=known)[0]


def _widened(size: tuple[int, int], margins: Margins) -> tuple[int, int]:
    """Height and width of a tile with margins."""
    height, width = (side + sum(margin) for side, margin in zip(size, margins, strict=True))
    return height, width


def _cut(
    images: np.ndarray, tile: _Tile, sizes: tuple[int, int], margins: Margins, boundary: str
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a tile with margins out of images, which go on outside of their frame.

    Args:
      images: `(N, H, W, C)`.
      tile: which.
      sizes: height and width to cut.
      margins: what of them lies before the tile; what lies behind it follows from `sizes`.
      boundary: how the images go on.

    Returns:
      float32 `(height, width, C)`, and 1 where it lies in the frame and 0 outside, `(1, height,
      width, 1)`; 1 everywhere with `"wrap"`.
    """
    start = tile.top - margins[0][0], tile.left - margins[1][0]
    rows, columns = _places(start, sizes, images.shape[1:3], boundary)
    part = images[tile.image, rows, columns, tile.channels]
    inside = np.ones((1, *sizes, 1), np.float32)
    if boundary != "wrap":
        inside = _in_frame(start, sizes, images.shape[1:3])
    return part.astype(np.float32), inside


def _cut_mask(
    masks: np.ndarray | None,
    tile: _Tile,
    sizes: tuple[int, int],
    margins: Margins,
    boundary: str,
) -> np.ndarray | None:
    """Cuts masks `(N, H, W)`, N 1 or that of the images, as `_cut` does: 0 outside the frame."""
    if masks is None:
        return None
    start = tile.top - margins[0][0], tile.left - margins[1][0]
    rows, columns = _places(start, sizes, masks.shape[1:], boundary)
    part = masks[tile.image if len(masks) > 1 else 0, rows, columns].astype(np.float32)
    if boundary != "wrap":
        return part[None, ..., None] * _in_frame(start, sizes, masks.shape[1:])
    return part[None, ..., None]


def _places(
    start: tuple[int, int], sizes: tuple[int, int], shape: tuple[int, ...], boundary: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of an image that stand for those of a tile, `(h, 1)` and `(1, w)`."""
    rows, columns = (
        _inside(first, first + size, whole, boundary)
        for first, size, whole in zip(start, sizes, shape, strict=True)
    )
    return rows[:, None], columns[None, :]


def _tiles(shape: tuple[int, ...], tile: tuple[int, int], *, together: bool) -> Iterator[_Tile]:
    """Yields the tiles of a batch; channels together, or one by one."""
    count, height, width, channels = shape
    groups = [slice(None)] if together else [slice(c, c + 1) for c in range(channels)]
    for image in range(count):
        for top in range(0, height, tile[0]):
            for left in range(0, width, tile[1]):
                for place, group in enumerate(groups):
                    yield _Tile(image * len(groups) + place, image, top, left, group)


def _inside(start: int, stop: int, size: int, boundary: str) -> np.ndarray:
    """Positions that stand for `start ... stop - 1` along an axis, as `numpy.pad` has it."""
    validation.check_choice(boundary, "boundary", ("edge", "reflect", "wrap"))
    index = np.arange(start, stop)
    if boundary == "edge" or size == 1:
        return np.clip(index, 0, size - 1)
    if boundary == "wrap":
        return index % size
    return np.abs((index + size - 1) % (2 * size - 2) - (size - 1))


def _in_frame(start: tuple[int, int], sizes: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Mask of a tile, `(1, H, W, 1)`: 1 where it lies in an image of a shape."""
    rows, columns = (
        (np.arange(first, first + size) >= 0) & (np.arange(first, first + size) < whole)
        for first, size, whole in zip(start, sizes, shape, strict=True)
    )
    return (rows[:, None] & columns[None, :]).astype(np.float32)[None, ..., None]


def _with_bar(tiles: list[_Tile]) -> Any:
    from tqdm import tqdm

    return tqdm(tiles, desc="restoring", unit="tile")
