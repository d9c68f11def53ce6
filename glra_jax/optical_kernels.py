"""Blur kernels of telescopes and lenses: Moffat's profile of seeing, Airy's of diffraction.

Both are sampled at pixel centres, as `gaussian_kernel` is, and their tails go on without end: what
lies outside of the kernel is cut off, and the rest has sum 1.
"""

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.kernels import pixel_offsets

_FIRST_ZERO = 3.8317059702075125  # of the Bessel function J1
_NARROWEST = 1e-6  # pixels; narrower kernels are a delta, too, but leave float32's range


def moffat_kernel(
    *,
    beta: jax.typing.ArrayLike,
    size: int,
    alpha: jax.typing.ArrayLike | None = None,
    fwhm: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """Star as the atmosphere blurs it, (1 + (r / alpha)²)^-beta, sampled at pixel centres.

    After Moffat, "A Theoretical Investigation of Focal Stellar Images in the Photographic Emulsion
    and Application to Photographic Photometry" (1969).

    Args:
      beta: how fast the wings fall off, above 1; 2.5 to 4.8 is common. May be traced.
      size: side of the kernel in pixels; what reaches outside is cut off.
      alpha: width in pixels, above 0; may be traced. Either this or `fwhm`.
      fwhm: full width at half maximum in pixels, 2 alpha sqrt(2^(1 / beta) - 1); may be traced.

    Returns:
      `(size, size)` float32 of sum 1.

    Raises:
      TypeError: both of `alpha` and `fwhm`, or neither.
      ValueError: `beta` not above 1, a width that is not positive, or `size` below 1.
    """
    validation.check_size(size)
    validation.check_positive(beta, "beta")
    if validation.is_known(beta) and not float(beta) > 1:  # type: ignore[arg-type]
        raise ValueError(
            f"beta must be above 1, got {beta}: the sum of such a kernel grows without end with "
            f"its size; take 2.5, say"
        )
    beta = jnp.asarray(beta, jnp.float32)
    if alpha is not None and fwhm is None:
        validation.check_positive(alpha, "alpha")
        width = jnp.asarray(alpha, jnp.float32)
    elif fwhm is not None and alpha is None:
        validation.check_positive(fwhm, "fwhm")
        width = 0.5 * jnp.asarray(fwhm, jnp.float32) / jnp.sqrt(jnp.expm1(jnp.log(2.0) / beta))
    else:
        raise TypeError(
            f"give one of alpha and fwhm, each a width in pixels; got alpha={alpha}, fwhm={fwhm}"
        )
    squares = _squared_distances(size) / jnp.maximum(width, _NARROWEST) ** 2
    weights = jnp.exp(-beta * jnp.log1p(squares))
    return weights / weights.sum()


def airy_kernel(*, radius: jax.typing.ArrayLike, size: int) -> jax.Array:
    """Diffraction by a round aperture, (2 J1(x) / x)², sampled at pixel centres.

    Args:
      radius: that of the first dark ring in pixels, above 0; 1.22 wavelengths times the f-number,
        divided by the pixels' pitch. May be traced.
      size: side of the kernel in pixels; what reaches outside is cut off.

    Returns:
      `(size, size)` float32 of sum 1.

    Raises:
      ValueError: `radius` not positive or `size` below 1.
    """
    validation.check_size(size)
    validation.check_positive(radius, "radius")
    r = jnp.maximum(jnp.asarray(radius, jnp.float32), _NARROWEST)
    squares = _squared_distances(size)
    # The slope of the root has no end at 0, where the kernel's own is 0.
    distance = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    weights = (2.0 * _bessel_ratio(_FIRST_ZERO * distance / r)) ** 2
    return weights / weights.sum()


def moffat_share(distance: float, *, alpha: float, beta: float) -> float:
    """Share of Moffat's profile within a distance r: 1 - (1 + (r / alpha)²)^(1 - beta).

    Args:
      distance: in pixels.
      alpha: width in pixels.
      beta: how fast the wings fall off, above 1.

    Returns:
      From 0 to 1.
    """
    return float(1.0 - (1.0 + (distance / alpha) ** 2) ** (1.0 - beta))


def airy_share(distance: float, *, radius: float) -> float:
    """Share of an Airy pattern within a distance from the centre: 1 - J0(x)² - J1(x)².

    Args:
      distance: in pixels.
      radius: that of the first dark ring in pixels.

    Returns:
      From 0 to 1.
    """
    import scipy.special

    x = _FIRST_ZERO * distance / radius
    return float(1.0 - scipy.special.j0(x) ** 2 - scipy.special.j1(x) ** 2)


def _squared_distances(size: int) -> jax.Array:
    squares = jnp.square(pixel_offsets(size))
    return squares[:, None] + squares[None, :]


def _bessel_ratio(x: jax.Array) -> jax.Array:
    """J1(x) / x for x >= 0, by Abramowitz and Stegun's 9.4.4 and 9.4.6: to 1e-7."""
    near = jnp.minimum(x, 3.0) / 3.0
    series = [0.5, -0.56249985, 0.21093573, -0.03954289, 0.00443319, -0.00031761, 0.00001109]
    inner = _polynomial(series, near**2)
    far = jnp.maximum(x, 3.0)
    t = 3.0 / far
    size = _polynomial(
        [0.79788456, 0.00000156, 0.01659667, 0.00017105, -0.00249511, 0.00113653, -0.00020033], t
    )
    lag = _polynomial(
        [-2.35619449, 0.12499612, 0.0000565, -0.00637879, 0.00074348, 0.00079824, -0.00029166], t
    )
    outer = size * jnp.cos(far + lag) / (far * jnp.sqrt(far))
    return jnp.where(x < 3.0, inner, outer)


def _polynomial(coefficients: list[float], x: jax.Array) -> jax.Array:
    """Value of a polynomial, the constant first."""
    return jnp.polyval(jnp.asarray(np.array(coefficients[::-1], np.float32)), x)
