"""Wiener filter with one noise-to-signal ratio for all frequencies.

`X = conj(K) Y / (|K|² + r)`: the linear estimate of least mean square error for white signal and
white noise whose powers have the ratio r (Wiener, 1949).
"""

from functools import partial

import jax
import jax.numpy as jnp

from experiments.baselines import boundaries, contract
from experiments.baselines.contract import Baseline
from experiments.baselines.tuned import ANY_FAMILY, Tuning, geometric_grid
from glra_jax import spectra, validation

TUNING = Tuning("wiener", "noise_to_signal", geometric_grid(1e-4, 10**0.25, 15), power=2.0)


def wiener(
    y: jax.Array,
    kernel: jax.Array,
    *,
    noise: jax.typing.ArrayLike = 0.01,
    family: str = ANY_FAMILY,
    noise_to_signal: jax.typing.ArrayLike | None = None,
    boundary: str = "taper",
) -> jax.Array:
    """Restores by a Wiener filter; see `contract` for the images.

    Args:
      y: blurred image.
      kernel: blur kernel.
      noise: standard deviation of the noise.
      family: kernel family that the ratio was tuned for.
      noise_to_signal: r, above 0; None takes the tuned one.
      boundary: `"taper"`, which rings least; `"symmetric"` or `"wrap"`, see `boundaries`.

    Returns:
      The restored image, float32, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses, or a ratio not above 0.
    """
    contract.check_inputs(y, kernel, noise, boundary, boundaries.PERIODIC)
    if noise_to_signal is None:
        noise_to_signal = TUNING.value(noise, family=family)
    validation.check_positive(noise_to_signal, "noise_to_signal")
    return _wiener(y, kernel, noise_to_signal, boundary=boundary)


@partial(jax.jit, static_argnames="boundary")
def _wiener(
    y: jax.Array, kernel: jax.Array, noise_to_signal: jax.typing.ArrayLike, *, boundary: str
) -> jax.Array:
    kernel = jnp.asarray(kernel, jnp.float32)

    def restore(channel: jax.Array, observed: jax.Array) -> jax.Array:
        del observed  # the continuation counts as data
        transfer = spectra.transfer_function(kernel, channel.shape)
        power = transfer.real**2 + transfer.imag**2
        return spectra.convolve_adjoint(channel, transfer / (power + noise_to_signal))

    return contract.restore_extended(restore, y, kernel, boundary)


WIENER = Baseline(
    name="wiener",
    restore=wiener,
    boundaries=boundaries.PERIODIC,
    tuning=TUNING,
    description="Wiener filter with one noise-to-signal ratio: signal and noise are white",
    reference="Wiener, Extrapolation, Interpolation, and Smoothing of Stationary Time Series, 1949",
)
