"""Wiener filter with one noise-to-signal ratio for all frequencies.

`X = conj(K) Y / (|K|² + r)`: the linear estimate of least mean square error for white signal and
white noise whose powers have the ratio r (Wiener, 1949).
"""

from functools import partial

import jax
import jax.numpy as jnp

from experiments.baselines import boundaries, contract
from experiments.baselines.tuned import ANY_FAMILY, tuned_parameter
from glra_jax import spectra, validation


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
      noise_to_signal: r, above 0; None takes the tuned one (beyond the tuned noise levels it goes
        with the square of the noise).
      boundary: `"taper"`, which rings least; `"symmetric"` or `"wrap"`, see `boundaries`.

    Returns:
      The restored image, float32, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses, or a ratio not above 0.
    """
    contract.check_inputs(y, kernel, noise, boundary, ("taper", "symmetric", "wrap"))
    if noise_to_signal is None:
        noise_to_signal = tuned_parameter("wiener", noise, family=family, power=2.0)
    validation.check_positive(noise_to_signal, "noise_to_signal")
    return _wiener(y, kernel, noise_to_signal, boundary=boundary)


@partial(jax.jit, static_argnames="boundary")
def _wiener(
    y: jax.Array, kernel: jax.Array, noise_to_signal: jax.typing.ArrayLike, *, boundary: str
) -> jax.Array:
    kernel = jnp.asarray(kernel, jnp.float32)

    def restore(plane: jax.Array, observed: jax.Array) -> jax.Array:
        del observed  # the continuation is taken for data
        transfer = spectra.transfer_function(kernel, plane.shape)
        power = transfer.real**2 + transfer.imag**2
        return boundaries.correlate(plane, transfer / (power + noise_to_signal))

    return contract.restore_extended(restore, y, kernel, boundary)
