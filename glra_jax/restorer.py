"""Restoring many or large photographs: tile by tile, what can be done once being done once.

`deconvolve` works on an image as a whole, which is what differentiation and small images want. A
`Restorer` goes over an image in tiles of one size, so that memory does not grow with the image,
nothing is compiled twice, and what depends on the blur kernel or the weights alone is computed
once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

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
from glra_jax.networks.architecture import Architecture, Condition
from glra_jax.noise import NoiseModel
from glra_jax.restoration import check_model, check_photograph, check_settings, restore_whole
from glra_jax.tile_batches import (
    Cut,
    Devices,
    batch_for,
    default_devices,
    memory_of,
    restored_tiles,
    step_tile,
    tile_for,
)
from glra_jax.tiles import Tile, cut, cut_mask, put_tile, tiles_of, widened
from glra_jax.units import in_unit, noise_in_unit, out_of_unit, unit_of

_Done = TypeVar("_Done")


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
    meta_fields=("tile", "batch", "devices", "method"),
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
      batch: number of tiles that a device restores at once; static.
      devices: that tiles are shared out to; static.
      method: of computing; static.
    """

    model: Model
    kernel: jax.Array
    noise: jax.typing.ArrayLike | NoiseModel | None
    inverse: Inverse | None
    condition: Condition | None
    prepared: Any
    tile: tuple[int, int]
    batch: int
    devices: Devices
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
        y: Any,
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
        if boundary == "valid":
            shape = shape_of(self.kernel)
            whole = restore_whole(
                y, self.model, told, mask, kernel_shape=shape, boundary=boundary, method=self.method
            )
            return np.asarray(whole, y.dtype)
        images = batched(y)
        masks = None if mask is None else as_masks(mask)
        restored = np.empty(images.shape, np.float32)
        self.restore_tiles(
            images,
            masks,
            told,
            boundary=boundary,
            put=partial(put_tile, restored),
            scratch=partial(np.empty, images.shape, np.float32),
            progress=progress,
        )
        return restored.reshape(y.shape).astype(y.dtype)

    def restore_tiles(
        self,
        images: Any,
        masks: np.ndarray | None,
        told: Told,
        *,
        boundary: str,
        put: Callable[[Tile, np.ndarray], None],
        scratch: Callable[[], np.ndarray],
        after_tile: Callable[[], None] = lambda: None,
        progress: bool = False,
    ) -> None:
        """Restores images tile by tile, from wherever they are to wherever they go.

        Args:
          images: `(N, H, W, C)` in [0, 1]: an array, or what is indexed as one.
          masks: see `deconvolve`, `(1 or N, H, W)`; the images are filled in.
          told: of the images.
          boundary: see `deconvolve`.
          put: takes each restored tile, row by row.
          scratch: makes an array of the images' shape, where the network ends with a step back to
            the data, which is taken behind all of its tiles.
          after_tile: called after each.
          progress: whether to show a bar with the time left.
        """
        architecture = self.model.architecture
        shape = shape_of(self.kernel)
        sizes = extended_size(self.tile, architecture, shape)
        margins = reach(architecture, shape)
        together = goes_together(images, architecture)

        def cut_out(tile: Tile) -> Cut:
            part, inside = cut(images, tile, sizes, margins, boundary)
            if not architecture.sees_frame:
                return part, None, None
            return part, inside, cut_mask(masks, tile, sizes, margins, boundary)

        tiles = list(tiles_of(images.shape, self.tile, together=together))
        steps = architecture.step_filters(told.condition) is not None
        between = scratch() if steps else None
        done = restored_tiles(
            *(tiles, cut_out, told, self.model, self.prepared),
            size=self.tile,
            batch=self.batch,
            devices=self.devices,
            method=self.method,
        )
        for tile, out in _with_bar(done, len(tiles), "restoring") if progress else done:
            if between is None:
                put(tile, out)
            else:
                put_tile(between, tile, out)
            after_tile()
        if between is not None:
            stepped: Iterable[tuple[Tile, np.ndarray]] = self._stepped(
                between, images, masks, tiles, told, boundary
            )
            if progress:
                stepped = _with_bar(stepped, len(tiles), "fitting to the data")
            for tile, out in stepped:
                put(tile, out)
                after_tile()

    def _stepped(
        self,
        restored: np.ndarray,
        images: Any,
        masks: np.ndarray | None,
        tiles: list[Tile],
        told: Told,
        boundary: str,
    ) -> Iterator[tuple[Tile, np.ndarray]]:
        """Takes the step back to the data, tile by tile, where the network has restored all."""
        for tile in tiles:
            filters = self.model.architecture.step_filters(told.of(tile.position).condition)
            assert filters is not None
            near, far = filters.reach, filters.reach_restored
            whole, inside = cut(restored, tile, widened(self.tile, far), far, boundary)
            size = widened(self.tile, near)
            part, _ = cut(images, tile, size, near, boundary)
            known = cut_mask(masks, tile, size, near, boundary)
            yield tile, np.asarray(step_tile(whole, part, inside, known, filters))


@native_arrays
@inverse_keywords(default_model, where=0)
def prepare(
    model: Model,
    kernel: jax.Array,
    *,
    tile: tuple[int, int] | None = None,
    batch: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    noise: jax.typing.ArrayLike | NoiseModel | None = None,
    inverse: Inverse | None = None,
    method: str = "auto",
) -> Restorer:
    """Makes a model ready for restoring many or large images blurred by one kernel.

    Args:
      model: from `load_model` or a training run.
      kernel: blur kernel, `(h, w)`, sum 1, each side at most the model's support.
      tile: height and width of the tiles, rounded up to what the network takes; `even_tile` finds
        good ones for an image. None takes 256×256 on CPUs, and on a GPU what its memory allows.
      batch: number of tiles that a device restores at once; None takes 1 on CPUs, and on a GPU what
        its memory allows.
      devices: of this process, that tiles are shared out to; None takes all accelerators, or one
        CPU device: several would share the cores that one has.
      noise: see `deconvolve`; None estimates it at each call, where the model depends on it.
      inverse: how the model inverts the kernel; None takes what it was trained with.
      method: of computing, see `glra_jax.correlate`.

    Returns:
      A `Restorer`: call it with images.

    Raises:
      TypeError: as `deconvolve`.
      ValueError: as `deconvolve`, a tile without pixels, or no device.
    """
    check_model(model)
    used = default_devices() if devices is None else tuple(devices)
    if not used:
        raise ValueError("devices has none; give some of jax.local_devices(), or leave it out")
    memory = memory_of(used)
    tile = tile_for(memory, model.architecture) if tile is None else tile
    if np.shape(tile) != (2,):
        raise ValueError(f"tile must be a height and a width, got {tile!r}")
    for name, side in zip(("height", "width"), tile, strict=True):
        validation.check_size(side, f"tile {name}")
    architecture = model.architecture
    height, width = (rounded_up(side, architecture) for side in tile)
    if batch is None:
        batch = batch_for(memory, architecture, (height, width), shape_of(kernel))
    validation.check_size(batch, "batch")
    extended = extended_size((height, width), architecture, shape_of(kernel))
    prepared = architecture.prepare(model.params, (batch, *extended), method=method)
    ready = Restorer(
        *(model, kernel, None, None, None, prepared, (height, width)), batch, used, method
    )
    return ready.with_kernel(kernel, noise=noise, inverse=inverse)


def _with_bar(done: Iterable[_Done], count: int, what: str) -> Iterable[_Done]:
    from tqdm import tqdm

    bar: Iterable[_Done] = tqdm(done, desc=what, unit="tile", total=count)
    return bar
