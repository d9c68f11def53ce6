"""What all baselines share: their checks of what comes in, and their way through the colours.

A baseline is `restore(y, kernel, *, noise, family, ...) -> x`. `y` is `(H, W)` or `(H, W, C)`
float32 in [0, 1]; the result has its shape, is float32, and is not clipped. Every channel is restored by
itself. `noise` is the standard deviation of the noise, above 0 (a / √12 for the even noise in
[0, a] of protocol "release"); parameters that are left out follow from it (and from the family, if
it is known) as they were tuned, see `tuned`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.baselines import boundaries
from glra_jax import validation


def check_inputs(
    y: jax.Array,
    kernel: jax.Array,
    noise: jax.typing.ArrayLike,
    boundary: str,
    allowed: tuple[str, ...],
) -> None:
    """Raises unless a baseline can be run on these.

    Raises:
      TypeError: integer image or kernel.
      ValueError: an image that is not `(H, W)` or `(H, W, C)`, NaN; a kernel that is not 2-D, of a
        sum other than 1 or larger than the image; noise not above 0; a boundary not allowed.
    """
    validation.check_choice(boundary, "boundary", allowed)
    validation.check_image(y, "y")
    if np.ndim(y) == 4:
        raise ValueError(
            f"y must be (H, W) or (H, W, C), got shape {np.shape(y)}; use jax.vmap for a batch"
        )
    validation.check_kernel(kernel)
    frame = np.shape(y)[:2]
    if any(k > n for k, n in zip(np.shape(kernel), frame, strict=True)):
        raise ValueError(
            f"kernel {np.shape(kernel)} is larger than the image {frame}; crop it to its "
            f"non-zero part"
        )
    validation.check_positive(noise, "noise")


def by_channel(
    restore_plane: Callable[[jax.Array], jax.Array], y: jax.Array, *, at_once: bool = True
) -> jax.Array:
    """Applies a method for one plane to every channel of an image.

    Args:
      restore_plane: from `(H, W)` float32 to the same.
      y: `(H, W)` or `(H, W, C)`.
      at_once: all channels together, or one after the other to save memory.

    Returns:
      float32 of the shape of `y`.
    """
    y = jnp.asarray(y, jnp.float32)
    if y.ndim == 2:
        return restore_plane(y)
    planes = jnp.moveaxis(y, 2, 0)
    restored = jax.vmap(restore_plane)(planes) if at_once else jax.lax.map(restore_plane, planes)
    return jnp.moveaxis(restored, 0, 2)


def restore_extended(
    restore_periodic: Callable[[jax.Array, jax.Array], jax.Array],
    y: jax.Array,
    kernel: jax.Array,
    boundary: str,
    *,
    at_once: bool = True,
) -> jax.Array:
    """Continues every channel, applies a method for periodic planes, and crops.

    Args:
      restore_periodic: from a plane and its mask of observed pixels to the restored plane.
      y: `(H, W)` or `(H, W, C)`.
      kernel: `(h, w)`.
      boundary: see `boundaries`.
      at_once: see `by_channel`.

    Returns:
      float32 of the shape of `y`.
    """
    pads = boundaries.margins(y.shape[:2], kernel.shape, boundary)
    observed = boundaries.observed_mask(y.shape[:2], pads)

    def restore_plane(plane: jax.Array) -> jax.Array:
        extended = boundaries.extend(plane, kernel, boundary=boundary)
        return boundaries.crop(restore_periodic(extended, observed), pads)

    return by_channel(restore_plane, y, at_once=at_once)
