"""Photographs of any sizes in one array, so that random patches can be cut inside `jit`.

Every colour channel counts as a picture by itself, a plane, because the network restores channels
one by one. Pixels stay uint8 until a patch is cut.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dataclasses import dataclass  # isort: skip


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("pixels", "starts", "heights", "widths"),
    meta_fields=(),
)
@dataclass(frozen=True)
class Planes:
    """Planes one after the other, rows one after the other. A pytree.

    Attributes:
      pixels: uint8, all pixels of all planes.
      starts: int32 `(n,)`, where each plane begins.
      heights: int32 `(n,)`.
      widths: int32 `(n,)`.
    """

    pixels: jax.Array
    starts: jax.Array
    heights: jax.Array
    widths: jax.Array


def pack_planes(photographs: Sequence[np.ndarray], *, min_side: int = 1) -> Planes:
    """Packs photographs, plane by plane.

    Args:
      photographs: uint8 `(H, W)` or `(H, W, C)`.
      min_side: smallest side that will do, that of the patches to be cut.

    Returns:
      The planes, on the default device.

    Raises:
      TypeError: another dtype.
      ValueError: no photograph, one of another rank or a smaller side, or 2 GiB of pixels and more.
    """
    planes: list[np.ndarray] = []
    for index, photograph in enumerate(photographs):
        if photograph.dtype != np.uint8:
            raise TypeError(f"photograph {index} has dtype {photograph.dtype}, expected uint8")
        if photograph.ndim not in (2, 3):
            raise ValueError(f"photograph {index} has shape {photograph.shape}, not (H, W[, C])")
        if min(photograph.shape[:2]) < min_side:
            raise ValueError(
                f"photograph {index} of shape {photograph.shape} is smaller than the {min_side} "
                f"pixels that a patch and its blur need; leave it out or choose a smaller patch"
            )
        planes += list(np.moveaxis(np.atleast_3d(photograph), 2, 0))
    if not planes:
        raise ValueError("no photographs")
    sizes = np.array([plane.size for plane in planes], np.int64)
    if sizes.sum() >= 2**31:
        raise ValueError(
            f"photographs hold {sizes.sum()} values, and 2^31 is the limit; take fewer or smaller"
        )
    return Planes(
        pixels=jnp.asarray(np.concatenate([plane.ravel() for plane in planes])),
        starts=jnp.asarray(np.concatenate([[0], np.cumsum(sizes)[:-1]]), jnp.int32),
        heights=jnp.asarray([plane.shape[0] for plane in planes], jnp.int32),
        widths=jnp.asarray([plane.shape[1] for plane in planes], jnp.int32),
    )


def random_patch(key: jax.Array, planes: Planes, size: int) -> jax.Array:
    """Cuts a random square from a random plane, turned and mirrored at random.

    Args:
      key: PRNG key.
      planes: every side at least `size`.
      size: side of the square.

    Returns:
      `(size, size)` float32 in [0, 1].
    """
    plane_key, row_key, column_key, turn_key = jax.random.split(key, 4)
    plane = jax.random.randint(plane_key, (), 0, planes.starts.shape[0])
    width = planes.widths[plane]
    top = jax.random.randint(row_key, (), 0, planes.heights[plane] - size + 1)
    left = jax.random.randint(column_key, (), 0, width - size + 1)
    first = planes.starts[plane] + top * width + left

    def row(index: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(planes.pixels, (first + index * width,), (size,))

    patch = jax.vmap(row)(jnp.arange(size)).astype(jnp.float32) / 255.0
    mirror_rows, mirror_columns, transpose = jax.random.bernoulli(turn_key, shape=(3,))
    patch = jnp.where(mirror_rows, patch[::-1], patch)
    patch = jnp.where(mirror_columns, patch[:, ::-1], patch)
    return jnp.where(transpose, patch.T, patch)
