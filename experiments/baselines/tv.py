"""Total variation by ADMM, with unknown pixels outside the frame and one-sided saturated ones.

    min  Σ f(Kx) + w Σ |Dx|   over x,

isotropic total variation (Rudin, Osher, Fatemi, 1992). At an observed pixel `f(u) = (u - y)² / 2`;
outside the frame `f = 0`, as in Almeida, Figueiredo, "Deconvolving images with unknown boundaries
using the alternating direction method of multipliers", IEEE TIP 22, 2013. Where a pixel is at the
sensor's ceiling and `saturated` is asked for, only a prediction below it costs:
`f(u) = min(u - y, 0)² / 2`. ADMM splits `u = Kx` and `z = Dx`.
"""

from functools import partial

import jax
import jax.numpy as jnp

from experiments.baselines import boundaries, contract
from experiments.baselines.tuned import ANY_FAMILY, tuned_parameter
from glra_jax import spectra, validation

# Penalties of the two splittings: the first against the curvature of `f`, which is 1; the second
# so that gradients of a twentieth are shrunk away at once. They set the speed, not the result.
_DATA_PENALTY = 0.2
_GRADIENT_STEP = 0.05

CEILING_SLACK = 0.5 / 255.0  # pixels that an 8-bit file would store at the ceiling


def data_cost(
    blurred: jax.Array, y: jax.Array, *, saturated: bool, ceiling: jax.typing.ArrayLike = 1.0
) -> jax.Array:
    """`f` of the module's formula, for every pixel.

    Args:
      blurred: predicted image `Kx`.
      y: observed image of the same shape.
      saturated: take pixels at the ceiling as one-sided constraints.
      ceiling: the sensor's largest value.

    Returns:
      Array of the shape of `y`.
    """
    excess = blurred - y
    if saturated:
        free = (y >= ceiling - CEILING_SLACK) & (excess > 0)
        excess = jnp.where(free, 0.0, excess)
    return 0.5 * excess**2


def objective(
    x: jax.Array,
    y: jax.Array,
    kernel: jax.Array,
    *,
    weight: jax.typing.ArrayLike,
    saturated: bool = False,
    ceiling: jax.typing.ArrayLike = 1.0,
) -> jax.Array:
    """What is minimised, for circular blur.

    Args:
      x: `(H, W)`.
      y: blurred `(H, W)`.
      kernel: blur kernel.
      weight: w, of the total variation.
      saturated: see `data_cost`.
      ceiling: see `data_cost`.

    Returns:
      Scalar, the sum over pixels.
    """
    blurred = boundaries.convolve(x, spectra.transfer_function(kernel, x.shape))
    variation = jnp.sqrt(jnp.sum(boundaries.gradient(x) ** 2, axis=0))
    cost = data_cost(blurred, y, saturated=saturated, ceiling=ceiling)
    return jnp.sum(cost) + weight * jnp.sum(variation)


def tv(
    y: jax.Array,
    kernel: jax.Array,
    *,
    noise: jax.typing.ArrayLike = 0.01,
    family: str = ANY_FAMILY,
    saturated: bool = False,
    weight: jax.typing.ArrayLike | None = None,
    ceiling: jax.typing.ArrayLike = 1.0,
    num_iterations: int = 100,
    boundary: str = "unknown",
) -> jax.Array:
    """Restores with a total-variation prior; see `contract` for the images.

    Args:
      y: blurred image.
      kernel: blur kernel.
      noise: standard deviation of the noise.
      family: kernel family that the weight was tuned for.
      saturated: take pixels at the ceiling as one-sided constraints; the result may then exceed it.
      weight: w, above 0; None takes the tuned one (beyond the tuned noise levels it goes with the
        square of the noise).
      ceiling: the sensor's largest value.
      num_iterations: of ADMM.
      boundary: `"unknown"`: pixels outside the frame are estimated and not compared with anything
        (Almeida and Figueiredo 2013); or `"wrap"` for circular blur.

    Returns:
      The restored image, float32, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses; weight or ceiling not above 0; fewer
        iterations than 1.
    """
    contract.check_inputs(y, kernel, noise, boundary, ("unknown", "wrap"))
    validation.check_size(num_iterations, "num_iterations")
    validation.check_positive(ceiling, "ceiling")
    if weight is None:
        method = "tv_saturated" if saturated else "tv"
        weight = tuned_parameter(method, noise, family=family, power=2.0)
    validation.check_positive(weight, "weight")
    return _tv(
        y,
        kernel,
        weight,
        ceiling,
        saturated=saturated,
        num_iterations=num_iterations,
        boundary=boundary,
    )


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
    """`tv` with `saturated=True`; arguments, result and errors as there."""
    return tv(
        y,
        kernel,
        noise=noise,
        family=family,
        saturated=True,
        weight=weight,
        ceiling=ceiling,
        num_iterations=num_iterations,
        boundary=boundary,
    )


@partial(jax.jit, static_argnames=("saturated", "boundary"))
def _tv(
    y: jax.Array,
    kernel: jax.Array,
    weight: jax.typing.ArrayLike,
    ceiling: jax.typing.ArrayLike,
    *,
    saturated: bool,
    num_iterations: int,
    boundary: str,
) -> jax.Array:
    kernel = jnp.asarray(kernel, jnp.float32)
    data_penalty = _DATA_PENALTY
    gradient_penalty = weight / _GRADIENT_STEP

    def restore(plane: jax.Array, observed: jax.Array) -> jax.Array:
        transfer = spectra.transfer_function(kernel, plane.shape)
        power = transfer.real**2 + transfer.imag**2
        left = data_penalty * power + gradient_penalty * spectra.gradient_power(plane.shape)
        at_ceiling = plane >= ceiling - CEILING_SLACK

        def fit_data(v: jax.Array) -> jax.Array:
            """Proximal step of `f`."""
            pulled = (plane + data_penalty * v) / (1.0 + data_penalty)
            free = observed == 0
            if saturated:
                free = free | (at_ceiling & (v > plane))
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
            x = jnp.fft.irfft2(spectrum, s=plane.shape)
            blurred = jnp.fft.irfft2(spectrum * transfer, s=plane.shape)
            slope = boundaries.gradient(x)
            u, z = fit_data(blurred + u_dual), shrink(slope + z_dual)
            return x, u, z, u_dual + blurred - u, z_dual + slope - z

        slope = boundaries.gradient(plane)
        start = (plane, plane, slope, jnp.zeros_like(plane), jnp.zeros_like(slope))
        return jax.lax.fori_loop(0, num_iterations, step, start)[0]

    return contract.restore_extended(restore, y, kernel, boundary)
