"""Richardson–Lucy deconvolution: maximum likelihood under Poisson noise, stopped early.

W. H. Richardson, "Bayesian-based iterative method of image restoration", JOSA 62, 1972; L. B. Lucy,
"An iterative technique for the rectification of observed distributions", Astron. J. 79, 1974.
"""

import operator
from functools import partial

import jax
import jax.numpy as jnp

from experiments.baselines import boundaries, contract
from experiments.baselines.contract import Baseline
from experiments.baselines.tuned import ANY_FAMILY, Tuning
from glra_jax import spectra, validation

TUNING = Tuning(
    "richardson_lucy",
    "num_iterations",
    (3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300),
    power=-1.0,
)
_FLOOR = 1e-6  # keeps ratios and logarithms finite where the prediction vanishes


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

    The first image is flat, as in the publications; any level gives the same result. They do not
    treat the frame; tapering its edges first is usual.

    Args:
      y: blurred image; negative pixels count as 0.
      kernel: blur kernel.
      noise: standard deviation of the noise.
      family: kernel family that the number of iterations was tuned for.
      num_iterations: at least 1; may be traced. None takes the tuned number, at most 300.
      boundary: `"taper"`, `"symmetric"` or `"wrap"`, see `boundaries`.

    Returns:
      The restored image, float32, non-negative, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses, or fewer iterations than 1.
    """
    contract.check_inputs(y, kernel, noise, boundary, boundaries.PERIODIC)
    if num_iterations is None:
        tuned = jnp.minimum(TUNING.value(noise, family=family), TUNING.candidates[-1])
        num_iterations = jnp.round(tuned).astype(jnp.int32)
    elif validation.is_known(num_iterations):
        validation.check_size(operator.index(num_iterations), "num_iterations")
    return _richardson_lucy(y, kernel, num_iterations, boundary=boundary)


@partial(jax.jit, static_argnames="boundary")
def _richardson_lucy(
    y: jax.Array, kernel: jax.Array, num_iterations: jax.typing.ArrayLike, *, boundary: str
) -> jax.Array:
    kernel = jnp.asarray(kernel, jnp.float32)

    def restore(channel: jax.Array, observed: jax.Array) -> jax.Array:
        del observed  # the continuation counts as data
        transfer = spectra.transfer_function(kernel, channel.shape)
        channel = jnp.maximum(channel, 0.0)

        def step(_: int, x: jax.Array) -> jax.Array:
            blurred = jnp.maximum(spectra.convolve(x, transfer), _FLOOR)
            # FFT rounding may leave a tiny negative correlation.
            return x * jnp.maximum(spectra.convolve_adjoint(channel / blurred, transfer), 0.0)

        return jax.lax.fori_loop(0, num_iterations, step, jnp.full_like(channel, 0.5))

    return contract.restore_extended(restore, y, kernel, boundary)


RICHARDSON_LUCY = Baseline(
    name="richardson_lucy",
    restore=richardson_lucy,
    boundaries=boundaries.PERIODIC,
    tuning=TUNING,
    description="Richardson-Lucy iterations, stopped early: Poisson noise, no prior",
    reference="Richardson, JOSA 62, 1972; Lucy, Astronomical Journal 79, 1974",
)
