"""Batches of tiles on the devices of this process: what is computed for them, and how many fit.

Every device restores its own part of a batch, without a word to the others. While accelerators
compute, the host cuts the next tiles and takes the last results.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from glra_jax.conditions import Told
from glra_jax.geometry import extended_size
from glra_jax.model import Model
from glra_jax.networks.architecture import Architecture
from glra_jax.networks.data_step import StepFilters, take_step
from glra_jax.restoration import restore_extended
from glra_jax.tiles import Tile

Devices = tuple[jax.Device, ...]
# What is cut for a tile: pixels `(H, W, C)`, and `inside` and `known`, `(1, H, W, 1)` or None.
Cut = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]

_CPU_TILE = (256, 256)
# Of an accelerator's memory the tiles in work may take half, and one tile an eighth.
_SHARE, _SHARE_OF_TILE = 1 / 2, 1 / 8
_LARGEST_SIDE, _MOST_TILES = 1024, 16


def default_devices() -> Devices:
    """All local accelerators; of CPU devices, which share the cores of one machine, the first."""
    devices = jax.local_devices()
    return tuple(devices[:1] if devices[0].platform == "cpu" else devices)


def memory_of(devices: Devices) -> int | None:
    """Bytes of the device that has the fewest; None where JAX does not know them, as on CPUs."""
    known = [(device.memory_stats() or {}).get("bytes_limit") for device in devices]
    limits = [int(limit) for limit in known if limit]
    return min(limits) if len(limits) == len(devices) else None


def tile_for(memory: int | None, architecture: Architecture) -> tuple[int, int]:
    """Height and width of the tiles of a device of so many bytes."""
    if memory is None:
        return _CPU_TILE
    side = int(math.sqrt(_SHARE_OF_TILE * memory / architecture.bytes_per_pixel))
    side = max(1, min(_LARGEST_SIDE, side))
    return side, side


def batch_for(
    memory: int | None,
    architecture: Architecture,
    tile: tuple[int, int],
    kernel_shape: tuple[int, int],
) -> int:
    """Number of tiles that a device of so many bytes restores at once; 1 where it is not known."""
    if memory is None:
        return 1
    pixels = math.prod(extended_size(tile, architecture, kernel_shape))
    fitting = int(_SHARE * memory / (pixels * architecture.bytes_per_pixel))
    return max(1, min(_MOST_TILES, fitting))


def _ahead(devices: Devices) -> int:
    """Batches that devices work on while the host takes the results of one before."""
    # Where the host's processor is the device nothing is gained, and memory is lost.
    return 0 if devices[0].platform == "cpu" else 1


def restored_tiles(
    tiles: Iterable[Tile],
    cut: Callable[[Tile], Cut],
    told: Told,
    model: Model,
    prepared: Any,
    *,
    size: tuple[int, int],
    batch: int,
    devices: Devices,
    method: str,
) -> Iterator[tuple[Tile, np.ndarray]]:
    """Restores tiles, in their order.

    Args:
      tiles: which.
      cut: cuts one out, with what is around it.
      told: of the images.
      model: the model.
      prepared: what the network computes once for batches of `batch` tiles.
      size: height and width of a tile.
      batch: tiles that each device restores at once. Fewer remaining ones are filled up to a power
        of two, so that few programs are compiled.
      devices: where.
      method: of computing.

    Yields:
      Each tile with what it is restored to, `(height, width, C)`.
    """
    alone = devices == tuple(jax.local_devices()[:1])
    if not alone:
        everywhere = _sharding(devices, PartitionSpec())
        model, prepared = jax.device_put((model, prepared), everywhere)
    ahead = _ahead(devices)
    remaining, waiting = iter(tiles), deque[tuple[list[Tile], jax.Array]]()
    while group := list(islice(remaining, batch * len(devices))):
        if alone and batch == 1:
            part, inside, known = cut(group[0])
            of_tile = told.of(group[0].position)
            out = restore_tile(
                *(model, prepared, of_tile, part, inside, known), size=size, method=method
            )[None]
        else:
            count = -(-len(group) // len(devices))
            count = min(batch, 1 << (count - 1).bit_length())
            fitting = prepared if count == batch else None
            arrays = _stacked(group, cut, told, count * len(devices))
            if not alone:
                arrays = jax.device_put(
                    arrays, jax.tree.map(lambda x: _sharding(devices, _spec(x)), arrays)
                )
            out = restore_batch(
                *(model, fitting, *arrays), size=size, method=method, devices=devices
            )
        waiting.append((group, out))
        if ahead:
            out.copy_to_host_async()
        if len(waiting) > ahead:
            yield from _taken(*waiting.popleft())
    for done in waiting:
        yield from _taken(*done)


def _taken(group: list[Tile], out: jax.Array) -> Iterator[tuple[Tile, np.ndarray]]:
    return zip(group, np.asarray(out), strict=False)  # a batch may have been filled up


def _stacked(
    group: list[Tile], cut: Callable[[Tile], Cut], told: Told, count: int
) -> tuple[Told, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """What a batch of `count` tiles is restored from; the last tile is repeated."""
    filled = [*group, *group[-1:] * (count - len(group))]
    cuts = [cut(tile) for tile in group]
    cuts += cuts[-1:] * (count - len(group))
    positions = [tile.position for tile in filled]
    parts, insides, knowns = zip(*cuts, strict=True)
    return (
        told.of_each(positions),
        np.stack(parts),
        None if insides[0] is None else np.concatenate(insides),
        None if knowns[0] is None else np.concatenate(knowns),
    )


def _sharding(devices: Devices, spec: PartitionSpec) -> NamedSharding:
    return NamedSharding(jax.sharding.Mesh(np.array(devices), ("tile",)), spec)


def _spec(x: Any) -> PartitionSpec:
    """Leaves of one for all tiles are on every device; the others are shared out."""
    return PartitionSpec("tile") if x.shape[0] > 1 else PartitionSpec()


@partial(jax.jit, static_argnames=("size", "method"))
def restore_tile(
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
    return _middles(model, prepared, told, tile[None], inside, known, size=size, method=method)[0]


@partial(jax.jit, static_argnames=("size", "method", "devices"))
def restore_batch(
    model: Model,
    prepared: Any,
    told: Told,
    tiles: jax.Array,
    inside: jax.Array | None,
    known: jax.Array | None,
    *,
    size: tuple[int, int],
    method: str,
    devices: Devices,
) -> jax.Array:
    """Restores extended tiles, `(N, H, W, C)`, every device as many of them."""
    of_device = partial(_middles, size=size, method=method)
    if len(devices) == 1:
        return of_device(model, prepared, told, tiles, inside, known)
    shared = PartitionSpec("tile")
    # Left to the compiler, every device would gather all tiles for each FFT.
    restore = jax.shard_map(
        of_device,
        mesh=jax.sharding.Mesh(np.array(devices), ("tile",)),
        in_specs=(
            *(PartitionSpec(), PartitionSpec(), jax.tree.map(_spec, told)),
            *(shared, shared, shared),
        ),
        out_specs=shared,
        check_vma=False,
    )
    return restore(model, prepared, told, tiles, inside, known)


def _middles(
    model: Model,
    prepared: Any,
    told: Told,
    tiles: jax.Array,
    inside: jax.Array | None,
    known: jax.Array | None,
    *,
    size: tuple[int, int],
    method: str,
) -> jax.Array:
    """What extended tiles, `(N, H, W, C)`, are restored to, without what was around them."""
    out = restore_extended(model, told, tiles, inside, known, prepared=prepared, method=method)
    halo, (height, width) = model.architecture.halo, size
    return out[:, halo : halo + height, halo : halo + width]


@jax.jit
def step_tile(
    restored: jax.Array,
    blurred: jax.Array,
    inside: jax.Array,
    known: jax.Array | None,
    filters: StepFilters,
) -> jax.Array:
    """Takes the step back to the data on one tile, `(H, W, C)`."""
    return take_step(restored[None], blurred[None], inside, filters, known=known)[0]
