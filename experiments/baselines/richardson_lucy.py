"""Richardson–Lucy deconvolution: maximum likelihood under Poisson noise, stopped early.

W. H. Richardson, "Bayesian-based iterative method of image restoration", JOSA 62, 1972; L. B. Lucy,
"An iterative technique for the rectification of observed distributions", Astron. J. 79, 1974.
"""

import operator
from functools import partial

import jax
import jax.numpy as jnp

from experiments.baselines import boundaries, contract
from experiments.baselines.tuned import ANY_FAMILY, tuned_parameter
from glra_jax import spectra, validation

_MOST_ITERATIONS = 300
_FLOOR = 1e-6  # keeps ratios and logarithms finite where the prediction vanishes


def objective(x: jax.Array, y: jax.Array, kernel: jax.Array) -> jax.Array:
    """Negative Poisson log-likelihood of `x` for circular blur, up to a constant.

    `Σ Kx - y log Kx`; no iteration raises it.

    Args:
      x: `(H, W)`, non-negative.
      y: blurred `(H, W)`, non-negative.
      kernel: blur kernel, non-negative.

    Returns:
      Scalar, the mean over pixels.
    """
    blurred = boundaries.convolve(x, spectra.transfer_function(kernel, x.shape))
    blurred = jnp.maximum(blurred, _FLOOR)
    return jnp.mean(blurred - y * jnp.log(blurred))


def richardson_lucy(
    y: jax.Array,
    kernel: jax.Array,
    *,
    noise: jax.typing.ArrayLike = 0.01,
    family: str = ANY_FAMILY,
    num_iterations: int | jax.Array | None = None,
    boundary: str = "taper",
) -> jax.Array:
    """Restores by `x ← x · Kᵀ(y / Kx)`; see `contract` for the images.

    The start is flat, as the authors have it (any level gives the same). The original method says
    nothing of the frame; the edge tapering here is what is usually done before it.

    Args:
      y: blurred image; negative pixels count as 0.
      kernel: blur kernel.
      noise: standard deviation of the noise.
      family: kernel family that the number of iterations was tuned for.
      num_iterations: at least 1; may be traced. None takes the tuned number (beyond the tuned noise
        levels it goes with the inverse of the noise, up to 300).
      boundary: `"taper"`, `"symmetric"` or `"wrap"`, see `boundaries`.

    Returns:
      The restored image, float32, non-negative, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses, or fewer iterations than 1.
    """
    contract.check_inputs(y, kernel, noise, boundary, ("taper", "symmetric", "wrap"))
    if num_iterations is None:
        tuned = tuned_parameter("richardson_lucy", noise, family=family, power=-1.0)
        num_iterations = jnp.round(jnp.minimum(tuned, _MOST_ITERATIONS)).astype(jnp.int32)
    elif validation.is_known(num_iterations):
        validation.check_size(operator.index(num_iterations), "num_iterations")
    return _richardson_lucy(y, kernel, num_iterations, boundary=boundary)


@partial(jax.jit, static_argnames="boundary")
def _richardson_lucy(
    y: jax.Array, kernel: jax.Array, num_iterations: jax.typing.ArrayLike, *, boundary: str
) -> jax.Array:
    kernel = jnp.asarray(kernel, jnp.float32)

    def restore(plane: jax.Array, observed: jax.Array) -> jax.Array:
        del observed  # the continuation is taken for data
        transfer = spectra.transfer_function(kernel, plane.shape)
        plane = jnp.maximum(plane, 0.0)

        def step(_: int, x: jax.Array) -> jax.Array:
            blurred = jnp.maximum(boundaries.convolve(x, transfer), _FLOOR)
            # FFT rounding may leave a tiny negative correlation.
            return x * jnp.maximum(boundaries.correlate(plane / blurred, transfer), 0.0)

        return jax.lax.fori_loop(0, num_iterations, step, jnp.full_like(plane, 0.5))

    return contract.restore_extended(restore, y, kernel, boundary)
