"""Photographs of any sizes in one array, so that random patches can be cut inside `jit`.

An entry is what a patch is cut from: a single colour channel, for networks that restore channels
independently, or a whole RGB photograph. Pixels stay uint8 until a patch is cut.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dataclasses import dataclass  # isort: skip


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("pixels", "starts", "heights", "widths"),
    meta_fields=("channels",),
)
@dataclass(frozen=True)
class PackedPhotographs:
    """Entries one after the other, rows one after the other, channels last. A pytree.

    Attributes:
      pixels: uint8, all pixels of all entries.
      starts: int32 `(n,)`, where each entry begins.
      heights: int32 `(n,)`.
      widths: int32 `(n,)`.
      channels: of every entry, 1 or 3; static.
    """

    pixels: jax.Array
    starts: jax.Array
    heights: jax.Array
    widths: jax.Array
    channels: int = 1


def pack_photographs(
    photographs: Sequence[np.ndarray] | Mapping[str, np.ndarray],
    *,
    channels: int = 1,
    min_side: int = 1,
) -> PackedPhotographs:
    """Packs photographs, one after the other.

    Args:
      photographs: uint8 `(H, W)` or `(H, W, C)`; by the names that errors call them, if they have
        any.
      channels: 1 makes every colour channel an entry of its own; 3 makes every photograph one entry
        of RGB, grey ones repeated to three channels.
      min_side: smallest side that will do, that of the patches to be cut.

    Returns:
      The entries, on the default device.

    Raises:
      TypeError: another dtype.
      ValueError: no photograph, one of another rank or a smaller side, one of neither 1 nor 3
        channels where 3 are wanted, another number of channels, or 2 GiB of pixels and more.
    """
    check_channels(channels)
    entries: list[np.ndarray] = []
    named = photographs if isinstance(photographs, Mapping) else dict(enumerate(photographs))
    for index, photograph in named.items():
        entries += photograph_entries(photograph, index, channels=channels, min_side=min_side)
    if not entries:
        raise ValueError("no photographs")
    sizes = np.array([entry.size for entry in entries], np.int64)
    if sizes.sum() >= 2**31:
        raise ValueError(
            f"photographs hold {sizes.sum()} values, and 2^31 is the limit; take fewer or smaller"
        )
    return PackedPhotographs(
        pixels=jnp.asarray(np.concatenate([entry.ravel() for entry in entries])),
        starts=jnp.asarray(np.concatenate([[0], np.cumsum(sizes)[:-1]]), jnp.int32),
        heights=jnp.asarray([entry.shape[0] for entry in entries], jnp.int32),
        widths=jnp.asarray([entry.shape[1] for entry in entries], jnp.int32),
        channels=channels,
    )


def check_channels(channels: int) -> None:
    """Raises ValueError unless entries can have so many channels."""
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")


def photograph_entries(
    photograph: np.ndarray, name: object, *, channels: int, min_side: int
) -> list[np.ndarray]:
    """What patches of a photograph are cut from.

    Args:
      photograph: uint8 `(H, W)` or `(H, W, C)`.
      name: what errors call it.
      channels: 1 makes every colour channel an entry of its own; 3 makes one of RGB.
      min_side: smallest side that will do.

    Returns:
      Views, `(H, W)` for one channel and `(H, W, 3)` for RGB.

    Raises:
      TypeError, ValueError: see `pack_photographs`.
    """
    if photograph.dtype != np.uint8:
        raise TypeError(f"photograph {name} has dtype {photograph.dtype}, expected uint8")
    if photograph.ndim not in (2, 3):
        raise ValueError(f"photograph {name} has shape {photograph.shape}, not (H, W[, C])")
    if min(photograph.shape[:2]) < min_side:
        raise ValueError(
            f"photograph {name} of shape {photograph.shape} is smaller than the {min_side} "
            f"pixels that a patch and its blur need; leave it out or choose a smaller patch"
        )
    layers = np.atleast_3d(photograph)
    if channels == 1:
        return list(np.moveaxis(layers, 2, 0))
    if layers.shape[2] in (1, 3):
        return [np.broadcast_to(layers, (*layers.shape[:2], 3))]
    raise ValueError(f"photograph {name} has shape {photograph.shape}, not grey or RGB")


def random_patch(key: jax.Array, packed: PackedPhotographs, size: int) -> jax.Array:
    """Cuts a random square from a random entry, rotated and mirrored at random.

    Args:
      key: PRNG key.
      packed: every side at least `size`.
      size: side of the square.

    Returns:
      `(size, size, channels)` float32 in [0, 1].
    """
    entry_key, row_key, column_key, flip_key = jax.random.split(key, 4)
    entry = jax.random.randint(entry_key, (), 0, packed.starts.shape[0])
    width = packed.widths[entry]
    top = jax.random.randint(row_key, (), 0, packed.heights[entry] - size + 1)
    left = jax.random.randint(column_key, (), 0, width - size + 1)
    first = packed.starts[entry] + packed.channels * (top * width + left)

    def row(index: jax.Array) -> jax.Array:
        start = first + packed.channels * index * width
        return jax.lax.dynamic_slice(packed.pixels, (start,), (packed.channels * size,))

    pixels = jax.vmap(row)(jnp.arange(size)).reshape(size, size, packed.channels)
    return turned(flip_key, pixels)


def turned(key: jax.Array, pixels: jax.Array) -> jax.Array:
    """Rotates and mirrors a square at random.

    Args:
      key: PRNG key.
      pixels: uint8 `(size, size, channels)`.

    Returns:
      The same shape, float32 in [0, 1].
    """
    patch = pixels.astype(jnp.float32) / 255.0
    mirror_rows, mirror_columns, transpose = jax.random.bernoulli(key, shape=(3,))
    patch = jnp.where(mirror_rows, patch[::-1], patch)
    patch = jnp.where(mirror_columns, patch[:, ::-1], patch)
    return jnp.where(transpose, patch.swapaxes(0, 1), patch)
