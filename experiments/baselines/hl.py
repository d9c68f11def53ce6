"""HL: deconvolution with a hyper-Laplacian prior of exponent 2/3 on the gradients.

D. Krishnan, R. Fergus, "Fast Image Deconvolution using Hyper-Laplacian Priors", NIPS 2009. Their
eq. 2 is minimised by half-quadratic splitting (eq. 3),

    min  λ/2 ‖Kx - y‖² + Σ |w|^(2/3) + β/2 ‖w - Dx‖²   over x and w,

with β from 1 up by factors of 2√2 while it is below 256, one pass over x and w for each. The step
in w has a closed form, written here as in Cao, Sun, Xu, "Fast image deconvolution using closed-form
thresholding formulas of Lq (q = 1/2, 2/3) regularization", 2013, which stays accurate in float32.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp

from experiments.baselines import boundaries, contract
from experiments.baselines.contract import Baseline
from experiments.baselines.tuned import ANY_FAMILY, Tuning, geometric_grid
from glra_jax import spectra, validation

TUNING = Tuning("hl", "weight", geometric_grid(50.0, 2.0, 13), power=-2.0)

_BETAS = tuple((2 * math.sqrt(2)) ** step for step in range(6))


def shrink(v: jax.Array, beta: jax.typing.ArrayLike) -> jax.Array:
    """Minimises `|w|^(2/3) + β/2 (w - v)²` over `w`, for every element.

    With `w = u³` the stationary points solve `u⁴ - |v| u + c/3 = 0`, `c = 2/β`. Factored into
    `(u² + a u + p)(u² - a u + q)`, a quartic without cubic and square terms has `a² = z` with
    `z³ - (4c/3) z - v² = 0`, solved by a hyperbolic cosine; the largest root is the minimum where
    `|v|` is above a threshold, and 0 is below it.

    Args:
      v: float array of any shape.
      beta: above 0.

    Returns:
      Array of the shape of `v`.
    """
    c = 2.0 / jnp.asarray(beta, v.dtype)
    size = jnp.abs(v)
    threshold = (2.0 / 3.0) * (3.0 * c**3) ** 0.25
    above = size > threshold
    safe = jnp.where(above, size, threshold + 1.0)
    angle = jnp.arccosh(27.0 / 16.0 * safe**2 * c**-1.5)
    a = jnp.sqrt((4.0 / 3.0) * jnp.sqrt(c) * jnp.cosh(angle / 3.0))
    u = 0.5 * (a + jnp.sqrt(jnp.maximum(2.0 * safe / a - a**2, 0.0)))
    return jnp.where(above, jnp.sign(v) * u**3, 0.0)


def solve_for_image(
    w: jax.Array,
    y: jax.Array,
    transfer: jax.Array,
    *,
    weight: jax.typing.ArrayLike,
    beta: jax.typing.ArrayLike,
) -> jax.Array:
    """Minimises eq. 3 over `x`: eq. 4 of the paper, by FFT.

    Args:
      w: `(2, H, W)`.
      y: blurred `(H, W)`.
      transfer: see `spectra.transfer_function`.
      weight: λ.
      beta: β.

    Returns:
      `(H, W)`.
    """
    ratio = beta / weight
    right = jnp.fft.rfft2(y) * jnp.conj(transfer)
    right = right + ratio * jnp.fft.rfft2(boundaries.gradient_adjoint(w))
    power = transfer.real**2 + transfer.imag**2
    left = power + ratio * spectra.gradient_power(y.shape)
    return jnp.fft.irfft2(right / left, s=y.shape)


def hl(
    y: jax.Array,
    kernel: jax.Array,
    *,
    noise: jax.typing.ArrayLike = 0.01,
    family: str = ANY_FAMILY,
    weight: jax.typing.ArrayLike | None = None,
    boundary: str = "taper",
) -> jax.Array:
    """Restores with a hyper-Laplacian prior; see `contract` for the images.

    Args:
      y: blurred image.
      kernel: blur kernel.
      noise: standard deviation of the noise.
      family: kernel family that the weight was tuned for.
      weight: λ, above 0, of the data against the prior; the authors' program takes 2000. None takes
        the tuned one.
      boundary: `"taper"` as the authors do (edges repeated, then tapered four times),
        `"symmetric"` or `"wrap"`.

    Returns:
      The restored image, float32, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses, or a weight not above 0.
    """
    contract.check_inputs(y, kernel, noise, boundary, boundaries.PERIODIC)
    if weight is None:
        weight = TUNING.value(noise, family=family)
    validation.check_positive(weight, "weight")
    return _hl(y, kernel, weight, boundary=boundary)


@partial(jax.jit, static_argnames="boundary")
def _hl(
    y: jax.Array, kernel: jax.Array, weight: jax.typing.ArrayLike, *, boundary: str
) -> jax.Array:
    kernel = jnp.asarray(kernel, jnp.float32)

    def restore(channel: jax.Array, observed: jax.Array) -> jax.Array:
        del observed  # the continuation counts as data
        transfer = spectra.transfer_function(kernel, channel.shape)

        def step(x: jax.Array, beta: jax.Array) -> tuple[jax.Array, None]:
            w = shrink(boundaries.gradient(x), beta)
            return solve_for_image(w, channel, transfer, weight=weight, beta=beta), None

        return jax.lax.scan(step, channel, jnp.asarray(_BETAS, jnp.float32))[0]

    return contract.restore_extended(restore, y, kernel, boundary)


HL = Baseline(
    name="hl",
    restore=hl,
    boundaries=boundaries.PERIODIC,
    tuning=TUNING,
    description="hyper-Laplacian prior of exponent 2/3 on the gradients",
    reference="Krishnan and Fergus, Fast Image Deconvolution using Hyper-Laplacian Priors, "
    "NIPS 2009",
)
