"""Total variation by ADMM, with unknown pixels outside the frame and one-sided saturated ones.

    min  Σ f(Kx) + w Σ |Dx|   over x,

isotropic total variation (Rudin, Osher, Fatemi, 1992). At an observed pixel `f(u) = (u - y)² / 2`;
outside the frame `f = 0`, as in Almeida, Figueiredo, "Deconvolving images with unknown boundaries
using the alternating direction method of multipliers", IEEE TIP 22, 2013. `tv_saturated`
differs where a pixel is at the sensor's ceiling: there only a prediction below it costs,
`f(u) = min(u - y, 0)² / 2`. ADMM splits `u = Kx` and `z = Dx`.
"""

from functools import partial

import jax
import jax.numpy as jnp

from experiments.baselines import boundaries, contract
from experiments.baselines.contract import Baseline
from experiments.baselines.tuned import ANY_FAMILY, Tuning, geometric_grid
from glra_jax import spectra, validation

_CANDIDATES = geometric_grid(1e-5, 10**0.25, 14)
TUNING = Tuning("tv", "weight", _CANDIDATES, power=2.0)
SATURATED_TUNING = Tuning("tv_saturated", "weight", _CANDIDATES, power=2.0)

# Penalties of the two splittings: the first against the curvature of `f`, which is 1; the second
# so that gradients of a twentieth are shrunk away at once. They set the speed, not the result.
_DATA_PENALTY = 0.2
_GRADIENT_STEP = 0.05

CEILING_SLACK = 0.5 / 255.0  # pixels that an 8-bit file would store at the ceiling


def tv(
    y: jax.Array,
    kernel: jax.Array,
    *,
    noise: jax.typing.ArrayLike = 0.01,
    family: str = ANY_FAMILY,
    weight: jax.typing.ArrayLike | None = None,
    num_iterations: int = 100,
    boundary: str = "unknown",
) -> jax.Array:
    """Restores with a total-variation prior; see `contract` for the images.

    Args:
      y: blurred image.
      kernel: blur kernel.
      noise: standard deviation of the noise.
      family: kernel family that the weight was tuned for.
      weight: w, above 0; None takes the tuned one.
      num_iterations: of ADMM.
      boundary: `"unknown"`: pixels outside the frame are estimated and not compared with anything
        (Almeida and Figueiredo 2013); or `"wrap"` for circular blur.

    Returns:
      The restored image, float32, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses; a weight not above 0; fewer iterations
        than 1.
    """
    contract.check_inputs(y, kernel, noise, boundary, boundaries.MASKED)
    validation.check_size(num_iterations, "num_iterations")
    if weight is None:
        weight = TUNING.value(noise, family=family)
    validation.check_positive(weight, "weight")
    return _tv(y, kernel, weight, None, num_iterations=num_iterations, boundary=boundary)


def tv_saturated(
    y: jax.Array,
    kernel: jax.Array,
    *,
    noise: jax.typing.ArrayLike = 0.01,
    family: str = ANY_FAMILY,
    weight: jax.typing.ArrayLike | None = None,
    ceiling: jax.typing.ArrayLike = 1.0,
    num_iterations: int = 100,
    boundary: str = "unknown",
) -> jax.Array:
    """`tv` with pixels at the sensor's ceiling as one-sided constraints, which it may exceed.

    Args:
      y: see `tv`.
      kernel: see `tv`.
      noise: see `tv`.
      family: see `tv`.
      weight: see `tv`; tuned separately.
      ceiling: the sensor's largest value, above 0.
      num_iterations: see `tv`.
      boundary: see `tv`.

    Returns:
      The restored image, float32, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: as `tv`, or a ceiling not above 0.
    """
    contract.check_inputs(y, kernel, noise, boundary, boundaries.MASKED)
    validation.check_size(num_iterations, "num_iterations")
    validation.check_positive(ceiling, "ceiling")
    if weight is None:
        weight = SATURATED_TUNING.value(noise, family=family)
    validation.check_positive(weight, "weight")
    return _tv(y, kernel, weight, ceiling, num_iterations=num_iterations, boundary=boundary)


@partial(jax.jit, static_argnames="boundary")
def _tv(
    y: jax.Array,
    kernel: jax.Array,
    weight: jax.typing.ArrayLike,
    ceiling: jax.typing.ArrayLike | None,
    *,
    num_iterations: int,
    boundary: str,
) -> jax.Array:
    kernel = jnp.asarray(kernel, jnp.float32)
    data_penalty = _DATA_PENALTY
    gradient_penalty = weight / _GRADIENT_STEP

    def restore(channel: jax.Array, observed: jax.Array) -> jax.Array:
        transfer = spectra.transfer_function(kernel, channel.shape)
        power = transfer.real**2 + transfer.imag**2
        left = data_penalty * power + gradient_penalty * spectra.gradient_power(channel.shape)

        def fit_data(v: jax.Array) -> jax.Array:
            """Proximal step of `f`."""
            pulled = (channel + data_penalty * v) / (1.0 + data_penalty)
            free = observed == 0
            if ceiling is not None:
                free = free | ((channel >= ceiling - CEILING_SLACK) & (v > channel))
            return jnp.where(free, v, pulled)

        def shrink(v: jax.Array) -> jax.Array:
            """Proximal step of the isotropic total variation."""
            length = jnp.sqrt(jnp.sum(v**2, axis=0))
            return v * (1.0 - _GRADIENT_STEP / jnp.maximum(length, _GRADIENT_STEP))

        State = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]

        def step(_: int, state: State) -> State:
            u, z, u_dual, z_dual = state[1:]
            right = data_penalty * jnp.conj(transfer) * jnp.fft.rfft2(u - u_dual)
            divergence = boundaries.gradient_adjoint(z - z_dual)
            right = right + gradient_penalty * jnp.fft.rfft2(divergence)
            spectrum = right / left
            x = jnp.fft.irfft2(spectrum, s=channel.shape)
            blurred = jnp.fft.irfft2(spectrum * transfer, s=channel.shape)
            slope = boundaries.gradient(x)
            u, z = fit_data(blurred + u_dual), shrink(slope + z_dual)
            return x, u, z, u_dual + blurred - u, z_dual + slope - z

        slope = boundaries.gradient(channel)
        start = (channel, channel, slope, jnp.zeros_like(channel), jnp.zeros_like(slope))
        return jax.lax.fori_loop(0, num_iterations, step, start)[0]

    return contract.restore_extended(restore, y, kernel, boundary)


TV = Baseline(
    name="tv",
    restore=tv,
    boundaries=boundaries.MASKED,
    tuning=TUNING,
    description="isotropic total variation by ADMM",
    reference="Rudin, Osher and Fatemi, Physica D 60, 1992; Almeida and Figueiredo, IEEE TIP 22, "
    "2013",
)
TV_SATURATED = Baseline(
    name="tv_saturated",
    restore=tv_saturated,
    boundaries=boundaries.MASKED,
    tuning=SATURATED_TUNING,
    description="tv, with pixels at the sensor's ceiling as one-sided constraints",
    reference="as tv",
)
