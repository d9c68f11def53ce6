"""VEM: deconvolution that finds outliers and saturated pixels by expectation maximisation.

S. Cho, J. Wang, S. Lee, "Handling Outliers in Non-blind Image Deconvolution", ICCV 2011. A pixel is
an inlier, `y = Kx + Gaussian noise`, or an outlier, uniform over the sensor's range. Where
the prediction `Kx` leaves that range (saturation) it can only be an outlier.

* Expectation: the chance of being an inlier, `g = p N(y; Kx, σ) / (p N(y; Kx, σ) + (1 - p))` where
  `0 <= Kx <= 1`, else 0; p = 0.9.
* Maximisation: `min Σ g (Kx - y)² + weight · 0.1 · 2/0.8 · Σ c |d * x|^0.8` over first differences
  (c = 1) and second ones (c = 1/4), by one reweighted least-squares problem solved with conjugate
  gradients per expectation.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.baselines import boundaries, contract
from experiments.baselines.contract import Baseline
from experiments.baselines.tuned import ANY_FAMILY, Tuning, geometric_grid
from glra_jax import spectra, validation

TUNING = Tuning("vem", "weight", geometric_grid(2.5e-5, 2.0, 11), power=2.0)

INLIER_NOISE = 5.0 / 255.0  # "works well for most cases" (the authors)
_INLIER_CHANCE = 0.9
_EXPONENT = 0.8
_PRIOR_SCALE = 0.1  # so that weights are on the scale of the authors' 0.003 to 0.01
_SLOPE_FLOOR = 0.01  # below it |d|^0.8 continues as a parabola
_SECOND_ORDER = 0.25


class _Differences(NamedTuple):
    """First differences `(2, H, W)` and second ones `(3, H, W)`: along rows, columns, and both."""

    first: jax.Array
    second: jax.Array


def _differences(x: jax.Array) -> _Differences:
    first = boundaries.gradient(x)
    rows, columns = (first[axis] - jnp.roll(first[axis], 1, axis=axis) for axis in (0, 1))
    mixed = jnp.roll(first[0], -1, axis=1) - first[0]
    return _Differences(first, jnp.stack([rows, columns, mixed]))


def _differences_adjoint(d: _Differences) -> jax.Array:
    rows, columns, mixed = d.second
    first = [
        d.first[0] + rows - jnp.roll(rows, -1, axis=0) + jnp.roll(mixed, 1, axis=1) - mixed,
        d.first[1] + columns - jnp.roll(columns, -1, axis=1),
    ]
    return boundaries.gradient_adjoint(jnp.stack(first))


def inlier_chance(
    blurred: jax.Array, y: jax.Array, inlier_noise: jax.typing.ArrayLike
) -> jax.Array:
    """The expectation step: chance of every pixel to be an inlier.

    Args:
      blurred: predicted image `Kx`.
      y: observed image of the same shape.
      inlier_noise: σ, standard deviation of the inliers' noise.

    Returns:
      Array of the shape of `y`, in [0, 1].
    """
    inlier = _INLIER_CHANCE * _normal(blurred - y, inlier_noise)
    chance = inlier / (inlier + (1.0 - _INLIER_CHANCE))
    return jnp.where((blurred >= 0.0) & (blurred <= 1.0), chance, 0.0)


def _normal(residual: jax.Array, std: jax.typing.ArrayLike) -> jax.Array:
    return jnp.exp(-0.5 * (residual / std) ** 2) / (std * math.sqrt(2.0 * math.pi))


def vem(
    y: jax.Array,
    kernel: jax.Array,
    *,
    noise: jax.typing.ArrayLike = 0.01,
    family: str = ANY_FAMILY,
    weight: jax.typing.ArrayLike | None = None,
    inlier_noise: jax.typing.ArrayLike | None = None,
    num_iterations: int = 15,
    num_inner: int = 25,
    boundary: str = "unknown",
) -> jax.Array:
    """Restores with outliers weighted down; see `contract` for the images.

    Args:
      y: blurred image.
      kernel: blur kernel.
      noise: standard deviation of the noise.
      family: kernel family that the weight was tuned for.
      weight: of the prior, above 0; the authors take 0.003 to 0.01. None takes the tuned one.
      inlier_noise: σ, above 0; None takes `noise` or the authors' 5/255, whichever is larger.
      num_iterations: expectations, the authors' 15.
      num_inner: conjugate-gradient steps after each.
      boundary: `"unknown"` as the authors do: the image is continued smoothly (here by tapering,
        there by the method of Liu and Jia). This is a first estimate alone: pixels outside the
        frame have no weight; or `"wrap"` for circular blur.

    Returns:
      The restored image, float32, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses; weight or σ not above 0; fewer iterations
        than 1.
    """
    contract.check_inputs(y, kernel, noise, boundary, boundaries.MASKED)
    validation.check_size(num_iterations, "num_iterations")
    validation.check_size(num_inner, "num_inner")
    if weight is None:
        weight = TUNING.value(noise, family=family)
    validation.check_positive(weight, "weight")
    if inlier_noise is None:
        inlier_noise = jnp.maximum(noise, INLIER_NOISE)
    validation.check_positive(inlier_noise, "inlier_noise")
    return _vem(
        y,
        kernel,
        weight,
        inlier_noise,
        num_iterations=num_iterations,
        num_inner=num_inner,
        boundary=boundary,
    )


@partial(jax.jit, static_argnames="boundary")
def _vem(
    y: jax.Array,
    kernel: jax.Array,
    weight: jax.typing.ArrayLike,
    inlier_noise: jax.typing.ArrayLike,
    *,
    num_iterations: int,
    num_inner: int,
    boundary: str,
) -> jax.Array:
    kernel = jnp.asarray(kernel, jnp.float32)
    strength = jnp.asarray(weight, jnp.float32)

    def restore(channel: jax.Array, observed: jax.Array) -> jax.Array:
        transfer = spectra.transfer_function(kernel, channel.shape)

        def solve(x: jax.Array, chance: jax.Array, slope_weight: _Differences) -> jax.Array:
            """Solves weighted least squares from a first estimate; no step raises the cost."""

            def normal_matrix(v: jax.Array) -> jax.Array:
                data = spectra.convolve_adjoint(chance * spectra.convolve(v, transfer), transfer)
                slopes = jax.tree.map(jnp.multiply, slope_weight, _differences(v))
                return data + _differences_adjoint(slopes)

            right = spectra.convolve_adjoint(chance * channel, transfer)
            return jax.scipy.sparse.linalg.cg(normal_matrix, right, x0=x, maxiter=num_inner)[0]

        def step(_: int, x: jax.Array) -> jax.Array:
            chance = observed * inlier_chance(spectra.convolve(x, transfer), channel, inlier_noise)

            def reweight(d: jax.Array) -> jax.Array:
                size = jnp.maximum(jnp.abs(d), _SLOPE_FLOOR)
                return strength * _PRIOR_SCALE * size ** (_EXPONENT - 2.0)

            d = _differences(x)
            slope_weight = _Differences(reweight(d.first), _SECOND_ORDER * reweight(d.second))
            return solve(x, chance, slope_weight)

        # A quadratic prior first, every observed pixel an inlier, as the authors start.
        flat = jnp.full((1, *channel.shape), strength)
        x = solve(channel, observed, _Differences(flat, _SECOND_ORDER * flat))
        return jax.lax.fori_loop(0, num_iterations, step, x)

    return contract.restore_extended(restore, y, kernel, boundary)


VEM = Baseline(
    name="vem",
    restore=vem,
    boundaries=boundaries.MASKED,
    tuning=TUNING,
    description="outliers weighted down, hyper-Laplacian prior of exponent 0.8 on first and second "
    "differences",
    reference="Cho, Wang and Lee, Handling Outliers in Non-blind Image Deconvolution, ICCV 2011",
)
