"""Restoring blurred images of any size and number of channels with a model.

Images are floats in [0, 1], `(H, W)`, `(H, W, C)` or `(N, H, W, C)`. Channels go through a network
together or as a batch, as its architecture says.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.blurring import BOUNDARIES, batched, pad_for_kernel, unbatched
from glra_jax.conditions import Told, condition_for, told_for
from glra_jax.deprecated.model_keywords import inverse_keywords, linear_keywords
from glra_jax.file_noise import noise_with_jpeg
from glra_jax.geometry import as_batch, extend, goes_together, mask_as_batch, shape_of
from glra_jax.host_arrays import native_arrays
from glra_jax.inverses import Inverse
from glra_jax.lowrank import Basis
from glra_jax.masks import as_masks, fill_masked
from glra_jax.model import Model
from glra_jax.model_files import default_model, linear_model
from glra_jax.networks.architecture import Architecture, without_margins
from glra_jax.networks.data_step import take_step_in_frame
from glra_jax.networks.refinement import Refinement, low_rank_restoration
from glra_jax.noise import NoiseModel
from glra_jax.units import in_unit, noise_in_unit, out_of_unit, unit_of


@native_arrays
@inverse_keywords(default_model, where=2)
def deconvolve(
    y: jax.Array,
    kernel: jax.Array,
    model: Model | None = None,
    *,
    boundary: str = "edge",
    noise: jax.typing.ArrayLike | NoiseModel | None = None,
    inverse: Inverse | None = None,
    mask: jax.Array | None = None,
    scale: jax.typing.ArrayLike | None = None,
    method: str = "auto",
) -> jax.Array:
    """Restores a blurred image whose blur kernel is known.

    Works under `jit` (`boundary` and `method` are static), `vmap`, and `grad` with respect to the
    image, the kernel and the weights. The network's arithmetic is float32.

    JAX compiles a program for every new size of image, takes seconds for it, and keeps it, some
    10 MB a size. For images of many sizes use `prepare`, which compiles for its tile alone;
    `jax.clear_caches()` lets go of what was compiled.

    Args:
      y: `(H, W)`, `(H, W, C)` or `(N, H, W, C)` float in [0, 1], linear in the light or as a file
        holds it.
      kernel: blur kernel, `(h, w)`, sum 1, odd or even, each side at most what the model's
        architecture takes (`largest_kernel`).
      model: from `load_model` or a training run; None takes the default one of the package.
      boundary: how the image goes on outside: `"edge"`, which rings less than `"reflect"`;
        `"wrap"`, for circular blur; or `"valid"`, where nothing is made up and the result is
        smaller by the margins of the model's architecture (the faithful network: `support - 1`).
      noise: standard deviation of the noise in `y`; for models that look at channels together also
        one for each channel, or a `glra_jax.NoiseModel`. None estimates it where the model
        depends on it: for each image and channel, or, by the low-rank networks, from all of `y`. Of
        one image that went through JPEG, it is not less than what the encoder's steps stand for.
      inverse: how the model's network inverts the blur kernel; None takes what it was trained with.
        Only for the low-rank networks; their step back to the data has its own strength.
      mask: Boolean, `(H, W)`, or `(N, H, W)` for a batch: True where pixels count, and False where
        they are no data, as dead ones, cosmic rays or NaN. The unrolled network treats these as it
        does what is outside the frame, and restores them from what is around; for the others
        they are filled in smoothly first, and do not count in a step back to the data. Nothing
        depends on the values there. None takes all.
      scale: value of white in `y`, where that is not 1; noise and result are of the same unit as
        `y`. None takes 1; but where the mean of 3×3 pixels exceeds 1.1, which noise on white does
        not reach, `y` is taken to have no white, and nothing is cut off.
      method: of computing, see `glra_jax.correlate`.

    Returns:
      The restored image, of the shape (but for `"valid"`) and dtype of `y`. The low-rank networks
      give values in [0, 1]; the unrolled one none below 0, and none above 1 if `y` has white
      pixels. An image without any may come out brighter than 1.

    Raises:
      TypeError: integer image or kernel, or a mask that is not Boolean.
      ValueError: image of another rank, NaN that is not masked; a mask of another shape, or one
        that is False everywhere; a kernel that is not 2-D, empty, NaN, of a sum other
        than 1, larger than the support, or not held by the model's basis; with `"valid"`, an image
        too small; negative noise, or an image of less than 3×3 pixels to estimate it from.
    """
    model = default_model() if model is None else model
    check_model(model)
    architecture = model.architecture
    y = fill_masked(y, mask)
    unit = unit_of(y, scale)
    check_photograph(y, boundary, architecture, kernel, unit=unit)
    check_settings(kernel, architecture, noise, inverse)
    y, noise = in_unit(y, unit), noise_in_unit(noise, unit)
    told = told_for(
        architecture, model.constants, kernel, y, noise=noise, inverse=inverse, mask=mask
    )
    restored = restore_whole(
        y, model, told, mask, kernel_shape=shape_of(kernel), boundary=boundary, method=method
    )
    return out_of_unit(restored, unit)


@native_arrays
@linear_keywords(linear_model, lambda thing: isinstance(thing, Model))
def deconvolve_linear(
    y: jax.Array,
    kernel: jax.Array,
    basis: Basis | None = None,
    *,
    inverse: Inverse | None = None,
    boundary: str = "edge",
    noise: jax.typing.ArrayLike | None = None,
    scale: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """Restores by convolution with the low-rank pseudo-inverse alone (Ren et al. 2018, eq. 8).

    Args:
      y: see `deconvolve`.
      kernel: see `deconvolve`.
      basis: low-rank basis, from `fit_glra` or a model (`model.constants`); None takes that of the
        model `glra`.
      inverse: how the kernel is inverted; another strength compiles nothing again. None takes that
        of the model `glra`, which is chosen for what its network takes off afterwards; alone, the
        linear restoration does best for photographs with a noise weight of about 60.
      boundary: see `deconvolve`.
      noise: see `deconvolve`.
      scale: see `deconvolve`.

    Returns:
      The restored image, of the shape (but for `"valid"`) and dtype of `y`; not clipped.

    Raises:
      TypeError: as `deconvolve`.
      ValueError: as `deconvolve`.
    """
    basis = linear_model().constants if basis is None else basis
    if not isinstance(basis, Basis):
        raise TypeError(f"basis must be a glra_jax.Basis, got {type(basis).__name__}")
    inverse = linear_model().architecture.default_inverse if inverse is None else inverse
    support, rank = basis.left.shape
    architecture = Refinement(support, rank)
    unit = unit_of(y, scale)
    check_photograph(y, boundary, architecture, kernel, unit=unit)
    check_settings(kernel, architecture, noise, inverse)
    y, level = in_unit(y, unit), noise_in_unit(noise, unit)
    level = noise_with_jpeg(y, kernel, level, architecture, inverse)
    condition = condition_for(architecture, basis, kernel, y, noise=level, inverse=inverse)
    return out_of_unit(_restore_linearly(y, basis, condition.core, boundary=boundary), unit)


def check_photograph(
    y: jax.Array | np.ndarray,
    boundary: str,
    architecture: Architecture,
    kernel: jax.Array,
    *,
    unit: jax.typing.ArrayLike = 1.0,
) -> None:
    """Raises what `deconvolve` says of an image, of a unit, and its boundary."""
    validation.check_choice(boundary, "boundary", BOUNDARIES)
    validation.check_image(y, "y")
    validation.check_range(y, "y", unit=unit)
    goes_together(y, architecture)
    if boundary != "valid":
        return
    rows = 1 if y.ndim == 4 else 0
    height, width = y.shape[rows : rows + 2]
    needed = [sum(margin) + 1 for margin in architecture.margins(shape_of(kernel))]
    if height < needed[0] or width < needed[1]:
        raise ValueError(
            f"y of shape {y.shape} is smaller than the {needed[0]}×{needed[1]} pixels that this "
            f'model needs with boundary="valid", so that no pixel is left; take another boundary'
        )
    multiple = architecture.tile_multiple
    if height % multiple or width % multiple:
        raise ValueError(
            f"y of shape {y.shape} must have sides that are multiples of {multiple} with boundary="
            f'"valid" for this model; crop it, or take another boundary'
        )


def check_settings(
    kernel: jax.Array,
    architecture: Architecture,
    noise: jax.typing.ArrayLike | NoiseModel | None,
    inverse: Inverse | None,
) -> None:
    """Raises what `deconvolve` says of all that a condition is computed from."""
    validation.check_kernel(kernel, support=architecture.largest_kernel)
    if inverse is not None:
        if not isinstance(inverse, Inverse):
            raise TypeError(f"inverse must be a glra_jax.Inverse, got {type(inverse).__name__}")
        if architecture.default_inverse is None:
            raise ValueError(
                f"a model of {architecture.name} takes no inverse, got {inverse}; name a low-rank "
                f"model, such as load_model('glra')"
            )
        inverse.check_values()
    check_noise(noise, architecture)


def check_noise(
    noise: jax.typing.ArrayLike | NoiseModel | None, architecture: Architecture
) -> None:
    """Raises what `deconvolve` says of a noise level."""
    parts = noise._asdict() if isinstance(noise, NoiseModel) else {"": noise}
    channels = max(architecture.joint_channels)
    for name, value in parts.items():
        if value is None:
            continue
        called = f"noise.{name}" if name else "noise"
        if np.shape(value) != (channels,) or channels == 1:
            validation.check_scalar(value, called)
        validation.check_non_negative(value, called)


def check_model(model: Model) -> None:
    """Raises TypeError unless `model` is one."""
    if not isinstance(model, Model):
        raise TypeError(
            f"model must be a glra_jax Model (see load_model), got {type(model).__name__}"
        )


@partial(jax.jit, static_argnames=("kernel_shape", "boundary", "method"))
def restore_whole(
    y: jax.Array,
    model: Model,
    told: Told,
    mask: jax.Array | None = None,
    *,
    kernel_shape: tuple[int, int],
    boundary: str,
    method: str,
) -> jax.Array:
    """Restores an image, filled in where it is masked, in one piece; see `deconvolve`."""
    architecture = model.architecture
    x = batched(y).astype(jnp.float32)
    batch, height, width, channels = x.shape
    together = goes_together(y, architecture)
    masks = None if mask is None else as_masks(mask)
    inside, data = None, mask_as_batch(masks, channels, together=together)
    known = data
    if boundary != "valid":
        x, inside, known = extend(x, architecture, kernel_shape, boundary, known=data)
    x = as_batch(x, together=together)
    x = restore_extended(model, told, x, inside, known, method=method)
    if boundary != "valid":
        halo = architecture.halo
        x = x[:, halo : halo + height, halo : halo + width]
    filters = architecture.step_filters(told.condition)
    if filters is not None:
        blurred = as_batch(batched(y).astype(jnp.float32), together=together)
        if boundary == "valid":
            margins = architecture.margins(kernel_shape)
            blurred = without_margins(blurred, margins)
            data = None if data is None else without_margins(data, margins)
        x = take_step_in_frame(x, blurred, filters, boundary, known=data)
    if not together:
        x = x.reshape(batch, channels, *x.shape[1:3]).transpose(0, 2, 3, 1)
    return unbatched(x, y.ndim).astype(y.dtype)


def restore_extended(
    model: Model,
    told: Told,
    x: jax.Array,
    inside: jax.Array | None,
    known: jax.Array | None = None,
    *,
    prepared: Any = None,
    method: str,
) -> jax.Array:
    """Restores a batch that goes on outside its frame, smaller by the network's margins."""
    architecture = model.architecture
    frame: Any = {"inside": inside} if architecture.sees_frame else {}
    if architecture.sees_frame and known is not None:
        frame["known"] = known
    out = architecture.apply(
        model.params,
        model.constants,
        x / told.scale if architecture.scale_free else x,
        told.condition,
        prepared=prepared,
        method=method,
        **frame,
    )
    return jnp.clip(out * told.scale, 0.0, told.white) if architecture.scale_free else out


@partial(jax.jit, static_argnames="boundary")
def _restore_linearly(y: jax.Array, basis: Basis, core: jax.Array, *, boundary: str) -> jax.Array:
    support = (basis.left.shape[0],) * 2
    x = pad_for_kernel(batched(y).astype(jnp.float32), support, boundary)
    x = low_rank_restoration(x, core[None], basis)
    return unbatched(x, y.ndim).astype(y.dtype)
