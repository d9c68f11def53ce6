"""How far a restored photograph is likely to be from the sharp one, pixel by pixel.

The logarithm of the expected squared error is a linear function of what can be seen: how much
detail there is around a pixel, how much restoring changed it, how well the restored image, blurred
again, agrees with the data, what the kernel has lost of a scene and what it has made of the noise,
and clipping. The coefficients are fitted once for a model, on photographs of which the truth is
known (`python -m experiments.calibrate_error`).
"""

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import spectra, validation
from glra_jax.blurring import blur
from glra_jax.host_arrays import native_arrays
from glra_jax.networks.architecture import WHITE
from glra_jax.noise import NoiseModel, mean_level
from glra_jax.noise_behind_blur import estimate_noise_behind_blur, middle
from glra_jax.units import in_unit, noise_in_unit, out_of_unit, unit_of

# Pixels, standard deviation of the window around each in which things are seen.
_AROUND = 2.5
# Side of the grid on which a kernel's loss is computed, and its weight of smoothness.
_GRID, _SMOOTHNESS = 128, 20.0
# Squared errors below are those of 8-bit rounding at the least.
_LEAST = (0.2 / 255.0) ** 2
# What counts as dark, of clipping.
_BLACK = 0.0025
FEATURES = (
    "one",
    "detail",
    "change",
    "misfit",
    "lost",
    "amplified",
    "clipped",
    "outside",
    "detail²",
    "detail × lost",
    "detail × amplified",
    "change × lost",
)


class ErrorCalibration(NamedTuple):
    """Coefficients of the expected error of a model.

    Attributes:
      coefficients: `(len(FEATURES),)`, of the logarithm of the squared error.
    """

    coefficients: np.ndarray


@native_arrays
def expected_error(
    restored: jax.Array,
    y: jax.Array,
    kernel: jax.Array,
    *,
    noise: jax.typing.ArrayLike | NoiseModel | None = None,
    scale: jax.typing.ArrayLike | None = None,
    calibration: ErrorCalibration | None = None,
) -> jax.Array:
    """Estimates the root mean square error of a restored photograph at each pixel.

    Works under `jit`, `vmap` and `grad`.

    Args:
      restored: `(H, W)` or `(H, W, C)`, the result of `glra_jax.deconvolve` for `y`.
      y: the blurred image, of the same shape.
      kernel: `(h, w)`, sum 1, as it was told.
      noise: standard deviation of the noise in `y`, or one for each channel, or a `NoiseModel`;
        None estimates it.
      scale: value of white in `y`, as for `deconvolve`.
      calibration: of the model; None takes that of the package's default model.

    Returns:
      Array of the shape and dtype of `restored`, above 0, in its unit. The truth is that far from
      it in the root mean square over many photographs, with a kernel that is right.

    Raises:
      TypeError: integer images.
      ValueError: shapes that differ, images of another rank, or what `deconvolve` refuses of the
        kernel and the noise.
    """
    validation.check_float(restored, "restored")
    validation.check_float(y, "y")
    if np.shape(restored) != np.shape(y):
        raise ValueError(
            f"restored of shape {np.shape(restored)} is not the restoration of y of shape "
            f"{np.shape(y)}"
        )
    unit = unit_of(y, scale)
    if np.ndim(y) not in (2, 3):
        raise ValueError(f"y must be (H, W) or (H, W, C), got shape {np.shape(y)}; use vmap")
    validation.check_kernel(kernel)
    if noise is not None and not isinstance(noise, NoiseModel):
        validation.check_non_negative(noise, "noise")
    calibration = default_calibration() if calibration is None else calibration
    told = noise_in_unit(noise, unit)
    images = (jnp.asarray(in_unit(image, unit), jnp.float32) for image in (restored, y))
    error = _expected_error(
        *(image[..., None] if image.ndim == 2 else image for image in images),
        jnp.asarray(kernel, jnp.float32),
        told,
        jnp.asarray(calibration.coefficients, jnp.float32),
    )
    return out_of_unit(error.reshape(np.shape(restored)).astype(jnp.asarray(restored).dtype), unit)


@jax.jit
def _expected_error(
    restored: jax.Array, y: jax.Array, kernel: jax.Array, noise: Any, coefficients: jax.Array
) -> jax.Array:
    return jnp.exp(0.5 * (error_features(restored, y, kernel, noise=noise) @ coefficients))


def error_features(
    restored: jax.Array, y: jax.Array, kernel: jax.Array, *, noise: Any = None
) -> jax.Array:
    """Computes what the expected error depends on.

    Args:
      restored: `(H, W, C)` float32, white at 1.
      y: `(H, W, C)`.
      kernel: `(h, w)`.
      noise: see `expected_error`.

    Returns:
      `(H, W, C, len(FEATURES))`.
    """
    if noise is None:
        looked_at, _ = middle(y[None])
        noise = estimate_noise_behind_blur(looked_at[0], kernel)
    level = jnp.asarray(mean_level(noise), jnp.float32)
    variance = jnp.broadcast_to(level**2, y.shape[-1:])

    def logarithm(power: jax.Array) -> jax.Array:
        return jnp.log10(power + _LEAST)

    down, right = (jnp.diff(restored, axis=axis, append=_last(restored, axis)) for axis in (0, 1))
    detail = logarithm(_around(down**2 + right**2))
    change = logarithm(_around((restored - y) ** 2))
    again = blur(restored, kernel, boundary="edge")
    misfit = logarithm(_around((again - y) ** 2) + variance)
    clipped = _around(((y >= WHITE) | (y <= _BLACK)).astype(jnp.float32))
    inside = blur(jnp.pad(jnp.ones(y.shape[:2]), _half(kernel)), kernel, boundary="valid")
    outside = jnp.broadcast_to(1.0 - inside[..., None], y.shape)
    lost, amplified = _of_kernel(kernel, variance)
    lost, amplified = (jnp.broadcast_to(part, y.shape) for part in (lost, amplified))
    return jnp.stack(
        [
            jnp.ones_like(detail),
            detail,
            change,
            misfit,
            lost,
            amplified,
            clipped,
            outside,
            detail**2,
            detail * lost,
            detail * amplified,
            change * lost,
        ],
        axis=-1,
    )


def _half(kernel: jax.Array) -> list[tuple[int, int]]:
    return [(size // 2, size - 1 - size // 2) for size in kernel.shape]


def _last(x: jax.Array, axis: int) -> jax.Array:
    return jax.lax.slice_in_dim(x, x.shape[axis] - 1, x.shape[axis], axis=axis)


def _of_kernel(kernel: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What a linear restoration loses of a scene of power 1/f², and makes of the noise; logs.

    Args:
      kernel: `(h, w)`.
      variance: `(C,)`, of the noise.

    Returns:
      Two of `(C,)`.
    """
    side = max(_GRID, *kernel.shape)
    transfer = spectra.transfer_function(kernel, (side, side))
    power = transfer.real**2 + transfer.imag**2
    gradient = spectra.gradient_power((side, side))
    penalty = _SMOOTHNESS * (variance[:, None, None] + 1e-6) * gradient
    kept = power / (power + penalty)
    scene = 1.0 / (gradient + 1e-3)
    lost = jnp.sum(scene * (1.0 - kept) ** 2, axis=(1, 2)) / jnp.sum(scene)
    gain = jnp.mean(power / (power + penalty) ** 2, axis=(1, 2))
    return jnp.log10(lost + 1e-4), jnp.log10(gain * variance + _LEAST)


def _around(x: jax.Array) -> jax.Array:
    """Means over a Gaussian window, `(H, W, C)`; beyond the edge images go on as there."""
    reach = int(np.ceil(3 * _AROUND))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _AROUND) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        size = x.shape[axis]
        padded = jnp.pad(x, [(reach, reach) if a == axis else (0, 0) for a in range(3)], "edge")
        shifted = (
            jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
            for start in range(2 * reach + 1)
        )
        x = sum(
            (weight * part for weight, part in zip(weights, shifted, strict=True)),
            jnp.zeros_like(x),
        )
    return x


@cache
def default_calibration() -> ErrorCalibration:
    """That of the package's default model, read once."""
    return load_calibration(Path(str(resources.files("glra_jax") / "weights/unrolled-error.json")))


def load_calibration(path: str | Path) -> ErrorCalibration:
    """Reads coefficients from a file that `experiments.calibrate_error` wrote.

    Args:
      path: the file.

    Returns:
      The calibration.

    Raises:
      ValueError: a file of another kind.
      OSError: it cannot be read.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))["coefficients"]
        coefficients = np.asarray([values[name] for name in FEATURES], np.float32)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} holds no coefficients of an expected error ({type(error).__name__}: {error}); "
            f"make one with python -m experiments.calibrate_error"
        ) from None
    if coefficients.shape != (len(FEATURES),) or not np.isfinite(coefficients).all():
        raise ValueError(f"{path} holds coefficients that are no finite numbers")
    return ErrorCalibration(coefficients)
