"""How images go through a network: as a batch, and continued as far as it sees."""

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax.blurring import Pixels
from glra_jax.networks.architecture import Architecture, Margins


def goes_together(y: jax.Array | np.ndarray, architecture: Architecture) -> bool:
    """Tells whether channels of an image go through a network together, rather than as a batch.

    Raises:
      ValueError: a number of channels that the network does not take.
    """
    channels = 1 if y.ndim == 2 else y.shape[-1]
    if channels in architecture.joint_channels:
        return True
    if 1 in architecture.joint_channels:
        return False
    taken = " or ".join(str(count) for count in architecture.joint_channels)
    raise ValueError(f"y of shape {y.shape} has {channels} channels; this model takes {taken}")


def as_batch(x: Pixels, *, together: bool) -> Pixels:
    """`(N, H, W, C)` as what goes through a network: itself, or every channel an image."""
    if together:
        return x
    batch, height, width, channels = x.shape
    return x.transpose(0, 3, 1, 2).reshape(batch * channels, height, width, 1)


def shape_of(kernel: jax.Array) -> tuple[int, int]:
    """Height and width of a kernel that may not have been checked yet."""
    shape = (*np.shape(kernel), 1, 1)
    return shape[0], shape[1]


def reach(architecture: Architecture, kernel_shape: tuple[int, int]) -> Margins:
    """Pixels outside an image that a network needs, `((top, bottom), (left, right))`."""
    (top, bottom), (left, right) = architecture.margins(kernel_shape)
    halo = architecture.halo
    return (top + halo, bottom + halo), (left + halo, right + halo)


def rounded_up(size: int, architecture: Architecture) -> int:
    """The least size not below one that the network takes."""
    multiple = architecture.tile_multiple
    return -(-size // multiple) * multiple


def extended_size(
    size: tuple[int, ...], architecture: Architecture, kernel_shape: tuple[int, int]
) -> tuple[int, int]:
    """Height and width of an image or tile that goes on as far as the network needs."""
    height, width = (
        rounded_up(before + side + after, architecture)
        for side, (before, after) in zip(size, reach(architecture, kernel_shape), strict=True)
    )
    return height, width


def mask_as_batch(known: jax.Array | None, channels: int, *, together: bool) -> jax.Array | None:
    """A mask `(N, H, W)`, N 1 or all images, for what `as_batch` gives: `(N', H, W, 1)` float."""
    if known is None:
        return None
    if not together and known.shape[0] > 1:
        known = known.repeat(channels, axis=0)
    return known[..., None].astype(np.float32)


def extend(
    x: jax.Array,
    architecture: Architecture,
    kernel_shape: tuple[int, int],
    boundary: str,
    *,
    known: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """Continues `(N, H, W, C)` by what the network needs, and up to a size that it takes.

    Args:
      x: the images.
      architecture: of the network.
      kernel_shape: of the blur kernel.
      boundary: how the images go on.
      known: `(N', H, W, 1)`, 1 where they are data; None if all are.

    Returns:
      The images; 1 in their frame and 0 outside, None where that is not looked at; `known` of that
      size, 0 outside.
    """
    sizes = x.shape[1:3]
    wholes = extended_size(sizes, architecture, kernel_shape)
    befores = (before for before, _ in reach(architecture, kernel_shape))
    pads = [(b, whole - b - size) for size, whole, b in zip(sizes, wholes, befores, strict=True)]
    widths = [(0, 0), *pads, (0, 0)]
    inside = None
    if architecture.sees_frame and boundary != "wrap":
        inside = jnp.pad(jnp.ones((1, *sizes, 1), jnp.float32), widths)
    if known is not None:
        known = jnp.pad(known, widths, mode="wrap" if boundary == "wrap" else "constant")
    return jnp.pad(x, widths, mode=boundary), inside, known
