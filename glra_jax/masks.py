"""Pixels of an image that are no data: dead ones, cosmic rays, holes of NaN.

A mask is Boolean, `(H, W)`, or `(N, H, W)` for a batch with a mask for each image: True where
pixels count. What is under it is filled in from around it before anything looks at the image, so
that whatever was there, also NaN, has no effect. Networks that see the frame are told besides which
pixels are no data.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.blurring import batched

# What an error says to do about NaN where there is no mask.
MASK_THEM = "replace them, or give deconvolve as mask= where pixels count"
# Means of neighbours that are taken at each size of the image.
_SWEEPS = 4

_Array = TypeVar("_Array", jax.Array, np.ndarray)


def fill_masked(y: Any, mask: Any, name: str = "y") -> Any:
    """Fills in an image where its mask is False: smoothly, between the pixels around.

    There, a pixel is about the mean of its four neighbours, as in a soap film; it is first guessed
    from smaller images, in which holes are smaller too. No value is beyond those that count.

    Args:
      y: `(H, W)`, `(H, W, C)` or `(N, H, W, C)` float; anything, also NaN, where `mask` is False.
      mask: see the module; None where all pixels count.
      name: what errors call the image.

    Returns:
      The image, as it was where `mask` is True; NumPy's where the values of `y` and `mask` are
      known. 0 where nothing counts.

    Raises:
      TypeError: integer image, or a mask that is not Boolean.
      ValueError: an image of another rank, NaN where `mask` is True, a mask of another shape, or
        one that is False all over an image.
    """
    if mask is None:
        return y
    validation.check_image(y, name, finite=False)
    check_mask(mask, y)
    if validation.is_known(mask):
        _check_some_count(mask)
    xp: Any = jnp
    if validation.is_known(y) and validation.is_known(mask):
        y, mask, xp = np.asarray(y), np.asarray(mask), np
    counts = as_masks(mask)[..., None]
    images = xp.where(counts, batched(y), 0)
    if xp is np and (bad := validation.count_not_finite(images)):
        raise ValueError(
            f"{name} holds {bad} NaN or infinite values of {y.size} where mask is True; mask them "
            f"too, or replace them"
        )
    filled = _filled(images.astype(np.float32), counts.astype(np.float32), xp)
    return xp.where(counts, images, filled.astype(y.dtype)).reshape(y.shape)


def check_mask(mask: Any, y: Any) -> None:
    """Raises what `fill_masked` says of the dtype and the shape of a mask."""
    validation.check_array(mask, "mask")
    if mask.dtype != np.bool_:
        raise TypeError(
            f"mask must be Boolean, True where pixels count, got {mask.dtype}; pass mask != 0, or "
            f"mask == 0 where 0 means good"
        )
    shape = y.shape[1:3] if y.ndim == 4 else y.shape[:2]
    allowed = (shape, y.shape[:3]) if y.ndim == 4 else (shape,)
    if mask.shape not in allowed:
        raise ValueError(
            f"mask must be {' or '.join(map(str, allowed))} for y of shape {y.shape}, got "
            f"{mask.shape}"
        )


def _check_some_count(mask: Any) -> None:
    masks = np.asarray(mask).reshape(-1, mask.shape[-2] * mask.shape[-1])
    if empty := int(np.sum(~masks.any(axis=1))):
        where = f" in {empty} of {len(masks)} images" if len(masks) > 1 else ""
        raise ValueError(f"mask is False everywhere{where}, so that no pixel counts")


def as_masks(mask: _Array) -> _Array:
    """A mask as those of a batch: `(1, H, W)` for all images, or `(N, H, W)`."""
    return mask if mask.ndim == 3 else mask[None]


def _filled(images: Any, counts: Any, xp: Any) -> Any:
    """Fills in `(N, H, W, C)`, 0 where nothing counts; `counts` is 1 or 0, `(N, H, W, 1)`."""
    height, width = images.shape[1:3]
    if height == width == 1:
        return images
    pads = [(0, 0), (0, height % 2), (0, width % 2), (0, 0)]

    def halved(x: Any) -> Any:  # in the same order for all channels, so that grey stays grey
        x = xp.pad(x, pads)
        x = x[:, ::2] + x[:, 1::2]
        return x[:, :, ::2] + x[:, :, 1::2]

    number = halved(counts)
    smaller = _filled(halved(images) / xp.maximum(number, 1.0), xp.minimum(number, 1.0), xp)
    guess = smaller.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
    filled = xp.where(counts > 0, images, guess)
    for _ in range(_SWEEPS):
        around = xp.pad(filled, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="edge")
        mean = (
            around[:, :-2, 1:-1] + around[:, 2:, 1:-1] + around[:, 1:-1, :-2] + around[:, 1:-1, 2:]
        ) / 4.0
        filled = xp.where(counts > 0, images, mean)
    return filled
