"""Restoring blurred images of any size and number of channels with a model.

Images are floats in [0, 1], `(H, W)`, `(H, W, C)` or `(N, H, W, C)`; the colour channels go through
the network as a batch.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from glra_jax import validation
from glra_jax.cores import deconvolution_core
from glra_jax.degradation import BOUNDARIES, batched, pad_for_kernel, unbatched
from glra_jax.lowrank import reconstruct
from glra_jax.model import Model, default_model
from glra_jax.networks.glra import restore
from glra_jax.noise import estimate_noise, smoothness_for

# Layers 4 and 6 pad their maps with zeros; an image continued so much further does not see them.
REFINEMENT_REACH = 10


def deconvolve(
    y: jax.Array,
    kernel: jax.Array,
    model: Model | None = None,
    *,
    boundary: str = "edge",
    noise: jax.typing.ArrayLike | None = None,
    regularization: jax.typing.ArrayLike | None = None,
    method: str = "auto",
) -> jax.Array:
    """Restores a blurred image whose blur kernel is known.

    Works under `jit` (`boundary` and `method` are static), `vmap`, and `grad` with respect to the
    image, the kernel and the weights. The network's arithmetic is float32.

    Args:
      y: `(H, W)`, `(H, W, C)` or `(N, H, W, C)` float in [0, 1].
      kernel: blur kernel, `(h, w)`, sum 1, odd or even, each side at most the model's support.
      model: from `load_model` or a training run; None takes the default one of the package.
      boundary: how the image goes on outside: `"edge"`, which rings less than `"reflect"`;
        `"wrap"`, for circular blur; or `"valid"`, where nothing is made up and the result is
        `support - 1` smaller.
      noise: standard deviation of the noise in `y`, for models whose pseudo-inverse depends on it
        (`model.config.noise_weight` is not 0); None estimates it, from all of `y` together.
      regularization: of the pseudo-inverse; None takes the one that the model was trained with.
      method: way of computing, see `glra_jax.correlation.correlate.correlate`.

    Returns:
      The restored image in (0, 1), of the shape (but for `"valid"`) and dtype of `y`.

    Raises:
      TypeError: integer image or kernel.
      ValueError: image of another rank, NaN; a kernel that is not 2-D, empty, NaN, of a sum other
        than 1, or larger than the support; with `"valid"`, an image smaller than the support;
        negative noise, or an image of less than 3×3 pixels to estimate it from.
    """
    model = default_model() if model is None else model
    _check(y, kernel, model, boundary, noise, regularization)
    return _deconvolve(y, kernel, model, noise, regularization, boundary=boundary, method=method)


def deconvolve_linear(
    y: jax.Array,
    kernel: jax.Array,
    model: Model | None = None,
    *,
    boundary: str = "edge",
    noise: jax.typing.ArrayLike | None = None,
    noise_weight: float | None = None,
    regularization: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """Restores by eq. 8 of the paper alone: convolution with the low-rank pseudo-inverse.

    The model's basis is used and its weights are not.

    Args:
      y: see `deconvolve`.
      kernel: see `deconvolve`.
      model: see `deconvolve`.
      boundary: see `deconvolve`.
      noise: see `deconvolve`.
      noise_weight: how strongly the pseudo-inverse depends on the noise, see `ModelConfig`; static
        under `jit`. None takes the model's, which is chosen for what layers 4 to 6 take off
        afterwards; eq. 8 alone restores photographs best with about 60.
      regularization: see `deconvolve`.

    Returns:
      The restored image, of the shape (but for `"valid"`) and dtype of `y`; not clipped.

    Raises:
      TypeError: as `deconvolve`, or a noise weight that is not a number.
      ValueError: as `deconvolve`, or a negative noise weight.
    """
    model = default_model() if model is None else model
    if noise_weight is not None:
        check_model(model)
        model = replace(model, config=replace(model.config, noise_weight=noise_weight))
    _check(y, kernel, model, boundary, noise, regularization)
    return _deconvolve_linear(y, kernel, model, noise, regularization, boundary=boundary)


def _check(
    y: jax.Array,
    kernel: jax.Array,
    model: Model,
    boundary: str,
    noise: jax.typing.ArrayLike | None,
    regularization: jax.typing.ArrayLike | None,
) -> None:
    validation.check_choice(boundary, "boundary", BOUNDARIES)
    check_model(model)
    validation.check_image(y, "y")
    validation.check_range(y, "y")
    check_settings(kernel, model, noise, regularization)
    support = model.config.support
    rows = 1 if y.ndim == 4 else 0
    if boundary == "valid" and min(y.shape[rows : rows + 2]) < support:
        raise ValueError(
            f"y of shape {y.shape} is smaller than the support {support}, so that no pixel is left "
            f'with boundary="valid"; take another boundary'
        )


def check_model(model: Model) -> None:
    """Raises TypeError unless `model` is one."""
    if not isinstance(model, Model):
        raise TypeError(
            f"model must be a glra_jax Model (see load_model), got {type(model).__name__}"
        )


def check_settings(
    kernel: jax.Array,
    model: Model,
    noise: jax.typing.ArrayLike | None,
    regularization: jax.typing.ArrayLike | None,
) -> None:
    """Raises what `deconvolve` says of all that a core is computed from."""
    validation.check_kernel(kernel, support=model.config.support)
    if regularization is not None:
        validation.check_positive(regularization, "regularization")
    if noise is not None:
        validation.check_scalar(noise, "noise")
        validation.check_non_negative(noise, "noise")


def core_for(
    model: Model,
    kernel: jax.Array,
    *,
    noise: jax.typing.ArrayLike,
    regularization: jax.typing.ArrayLike | None,
) -> jax.Array:
    """Core of a blur kernel for a model, as its configuration says unless told otherwise."""
    settings = core_settings(model, noise=noise, regularization=regularization)
    return deconvolution_core(model.basis, kernel, **settings)


def core_settings(
    model: Model,
    *,
    noise: jax.typing.ArrayLike,
    regularization: jax.typing.ArrayLike | None,
) -> dict[str, Any]:
    """How `deconvolution_core` computes a model's cores at a noise level."""
    config = model.config
    return {
        "core": config.core,
        "regularization": config.regularization if regularization is None else regularization,
        "smoothness": smoothness_for(noise, noise_weight=config.noise_weight),
    }


def _core(
    y: jax.Array,
    kernel: jax.Array,
    model: Model,
    noise: jax.typing.ArrayLike | None,
    regularization: jax.typing.ArrayLike | None,
) -> jax.Array:
    if noise is None:
        noise = estimate_noise(y) if model.config.noise_weight > 0 else 0.0
    return core_for(model, kernel, noise=noise, regularization=regularization)


@partial(jax.jit, static_argnames=("boundary", "method"))
def _deconvolve(
    y: jax.Array,
    kernel: jax.Array,
    model: Model,
    noise: jax.typing.ArrayLike | None,
    regularization: jax.typing.ArrayLike | None,
    *,
    boundary: str,
    method: str,
) -> jax.Array:
    core = _core(y, kernel, model, noise, regularization)
    x = batched(y).astype(jnp.float32)
    batch, height, width, channels = x.shape
    if boundary != "valid":
        # The support and the reach of layers 4 and 6 make one large kernel.
        wide = model.config.support + 2 * REFINEMENT_REACH
        x = pad_for_kernel(x, (wide, wide), boundary)
    x = x.transpose(0, 3, 1, 2).reshape(batch * channels, *x.shape[1:3], 1)
    x = restore(model.network(method=method), model.params, x, core)
    if boundary != "valid":
        reach = REFINEMENT_REACH
        x = x[:, reach : reach + height, reach : reach + width]
    x = x.reshape(batch, channels, *x.shape[1:3]).transpose(0, 2, 3, 1)
    return unbatched(x, y.ndim).astype(y.dtype)


@partial(jax.jit, static_argnames=("boundary",))
def _deconvolve_linear(
    y: jax.Array,
    kernel: jax.Array,
    model: Model,
    noise: jax.typing.ArrayLike | None,
    regularization: jax.typing.ArrayLike | None,
    *,
    boundary: str,
) -> jax.Array:
    inverse = reconstruct(model.basis, _core(y, kernel, model, noise, regularization))
    x = pad_for_kernel(batched(y).astype(jnp.float32), inverse.shape, boundary)
    grid = x.shape[1:3]
    spectrum = jnp.fft.rfft2(inverse, s=grid)[None, ..., None]
    x = jnp.fft.irfft2(jnp.fft.rfft2(x, axes=(1, 2)) * spectrum, s=grid, axes=(1, 2))
    x = x[:, inverse.shape[0] - 1 :, inverse.shape[1] - 1 :]
    return unbatched(x, y.ndim).astype(y.dtype)
