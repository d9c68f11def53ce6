"""Blur that varies over the image: a grid of kernels, interpolated between their centres.

The kernel at a pixel is `Σ w_ij k_ij`, where the weights `w_ij` are linear between neighbouring
centres, constant outside the grid, and sum to one. Restorations by the single kernels are joined
with the same weights, each computed only where its weight is not zero. See Nagy, O'Leary,
"Restoring images degraded by spatially variant blur", SIAM J. Sci. Comput. 19(4), 1998.
"""

from collections.abc import Callable
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.blurring import blur
from glra_jax.geometry import reach, shape_of
from glra_jax.host_arrays import native_arrays
from glra_jax.masks import MASK_THEM, fill_masked
from glra_jax.model import Model
from glra_jax.model_files import default_model
from glra_jax.noise import NoiseModel
from glra_jax.restorer import even_tile, prepare

Centres = tuple[jax.typing.ArrayLike, jax.typing.ArrayLike]
_Part = tuple[slice, slice]


def blur_varying(
    x: jax.Array, kernels: jax.Array, centres: Centres, *, boundary: str = "edge"
) -> jax.Array:
    """Blurs an image by kernels that vary over it.

    Works under `jit`, `vmap`, and `grad` with respect to image and kernels.

    Args:
      x: `(H, W)` or `(H, W, C)`.
      kernels: `(R, Q, h, w)`, each of sum 1: those of a grid of R rows and Q columns.
      centres: where they hold: increasing rows `(R,)` and columns `(Q,)` in pixels, known before
        tracing.
      boundary: `"edge"`, `"reflect"` or `"wrap"`, see `blur`.

    Returns:
      Array of the shape of `x`.

    Raises:
      TypeError: integer image or kernels.
      ValueError: what `blur` refuses; another number of centres than of kernels; centres that do
        not increase; the boundary `"valid"`.
    """
    validation.check_choice(boundary, "boundary", ("edge", "reflect", "wrap"))
    validation.check_image(x, "x")
    _check_rank(x, "x")
    rows, columns = _weights(kernels, centres, x.shape[:2])
    x, kernels = jnp.asarray(x), jnp.asarray(kernels)
    total = jnp.zeros_like(x)
    for i, j in product(range(len(rows)), range(len(columns))):
        weight = jnp.asarray(np.outer(rows[i], columns[j]), x.dtype)
        weight = weight if x.ndim == 2 else weight[..., None]
        total += weight * blur(x, kernels[i, j], boundary=boundary)
    return total


@native_arrays
def deconvolve_varying(
    y: jax.Array | np.ndarray,
    kernels: jax.Array | np.ndarray,
    centres: Centres,
    model: Model | None = None,
    *,
    boundary: str = "edge",
    noise: jax.typing.ArrayLike | NoiseModel | None = None,
    mask: jax.Array | np.ndarray | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Restores an image whose blur varies, tile by tile, on the host's memory.

    Args:
      y: `(H, W)` or `(H, W, C)` float in [0, 1].
      kernels: see `blur_varying`.
      centres: see `blur_varying`.
      model: from `load_model` or a training run; None takes the default one of the package.
      boundary: `"edge"` or `"reflect"`, see `deconvolve`.
      noise: see `deconvolve`; None estimates it around each centre.
      mask: `(H, W)`, where pixels count, see `deconvolve`.
      progress: whether to show a bar for each kernel, with the time left.

    Returns:
      NumPy array of the shape and dtype of `y`.

    Raises:
      TypeError: as `deconvolve`.
      ValueError: as `deconvolve` and `blur_varying`.
    """
    validation.check_choice(boundary, "boundary", ("edge", "reflect"))
    model = default_model() if model is None else model
    y = fill_masked(y, mask)
    validation.check_image(y, "y", fix=MASK_THEM)
    _check_rank(y, "y")
    _weights(kernels, centres, y.shape[:2])  # refuses what cannot be, before anything is compiled
    y, known = np.asarray(y), None if mask is None else np.asarray(mask)
    kernels = jnp.asarray(kernels)
    sides = reach(model.architecture, shape_of(kernels[0, 0]))
    distance = max(side for pair in sides for side in pair)
    tile = even_tile(*y.shape[:2], largest=model.architecture.tile_side)
    restorer = prepare(model, kernels[0, 0], tile=tile, noise=noise)

    def restore(part: _Part, kernel: jax.Array) -> np.ndarray:
        ready = restorer.with_kernel(kernel, noise=noise)
        seen = None if known is None else known[part]
        return ready.restore_filled(y[part], seen, boundary=boundary, progress=progress)

    return _joined(restore, y, kernels, centres, distance=distance)


def restore_varying(
    restore: Callable[[np.ndarray, jax.Array], jax.Array | np.ndarray],
    y: jax.Array | np.ndarray,
    kernels: jax.Array | np.ndarray,
    centres: Centres,
    *,
    distance: int,
) -> np.ndarray:
    """Restores an image whose blur varies by any method for blur that does not.

    Args:
      restore: `restore(part, kernel)` restores a part of the image, and gives one of its shape.
      y: `(H, W)` or `(H, W, C)`.
      kernels: see `blur_varying`.
      centres: see `blur_varying`.
      distance: pixels beyond which a restored pixel does not depend on the image; parts are larger
        by it.

    Returns:
      NumPy array of the shape and dtype of `y`.

    Raises:
      ValueError: as `blur_varying`, or a distance below 0.
    """
    validation.check_size(distance, "distance", minimum=0)
    y = np.asarray(y)
    _check_rank(y, "y")

    def restore_part(part: _Part, kernel: jax.Array) -> jax.Array | np.ndarray:
        return restore(y[part], kernel)

    return _joined(restore_part, y, kernels, centres, distance=distance)


def _joined(
    restore: Callable[[_Part, jax.Array], jax.Array | np.ndarray],
    y: np.ndarray,
    kernels: jax.Array | np.ndarray,
    centres: Centres,
    *,
    distance: int,
) -> np.ndarray:
    """Joins restorations of parts of an image; see `restore_varying`."""
    rows, columns = _weights(kernels, centres, y.shape[:2])
    total = np.zeros(y.shape, np.float32)
    for i, j in product(range(len(rows)), range(len(columns))):
        weight = np.outer(rows[i], columns[j])
        if not weight.any():
            continue
        places, parts, insides = [], [], []
        for weights in (rows[i], columns[j]):
            used = np.flatnonzero(weights)
            first, last = int(used[0]), int(used[-1]) + 1
            start, stop = max(first - distance, 0), min(last + distance, len(weights))
            places.append(slice(first, last))
            parts.append(slice(start, stop))
            insides.append(slice(first - start, last - start))
        restored = np.asarray(restore((parts[0], parts[1]), jnp.asarray(kernels[i, j])))
        weight = weight[tuple(places)]
        weight = weight if y.ndim == 2 else weight[..., None]
        total[tuple(places)] += weight * restored[tuple(insides)]
    return total.astype(y.dtype)


def _check_rank(x: jax.Array | np.ndarray, name: str) -> None:
    if x.ndim not in (2, 3):
        raise ValueError(f"{name} must be (H, W) or (H, W, C), got shape {x.shape}")


def _weights(
    kernels: jax.Array | np.ndarray, centres: Centres, shape: tuple[int, ...]
) -> list[np.ndarray]:
    """Weights of the rows of kernels for the rows of an image, `(R, H)`, and of the columns."""
    if np.ndim(kernels) != 4:
        raise ValueError(f"kernels must be (rows, columns, h, w), got shape {np.shape(kernels)}")
    for row in kernels:
        for kernel in row:
            validation.check_kernel(kernel)
    found = []
    for name, count, size, where in zip(
        ("rows", "columns"), kernels.shape, shape, centres, strict=False
    ):
        places = np.asarray(where, np.float64)
        if places.shape != (count,):
            raise ValueError(
                f"centres has {name} of shape {places.shape}, and kernels has {count} {name}; give "
                f"one number for each"
            )
        if not (np.isfinite(places).all() and (np.diff(places) > 0).all()):
            raise ValueError(f"centres must have increasing {name}, got {places.tolist()}")
        one_of_each = np.eye(count)
        found.append(
            np.stack([np.interp(np.arange(size), places, hat) for hat in one_of_each]).astype(
                np.float32
            )
        )
    return found
