"""A step back to the data after a network: `r + D (y - k * r)`.

`r` is what the network restores of the blurred image `y`. Blurred again by the kernel `k` it leaves
something of `y` unexplained; the linear restoration `D` of that is added. `D` keeps the mean
brightness, so that the sum has the mean of `y` where the blur wraps around, whatever the network
does with it. Every channel is restored independently.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glra_jax import validation
from glra_jax.blurring import convolution_padding
from glra_jax.networks.architecture import Margins, without_margins
from glra_jax.spectra import convolve_valid

# Weight of a pixel: this power of the share of its light that comes from the frame.
_SHARE_POWER = 4
# From here on that is all of it, but for rounding.
_WHOLE = 0.999


@dataclass(frozen=True)
class DataStep:
    """Strength of the step: `λ + w σ² |∇|²` beside `|K|²` in the inverse `D`, as `Inverse` has it.

    Attributes:
      regularization: λ, which alone counts without noise; 0 for no step.
      noise_weight: w, larger than that of a whole restoration, since fine detail of what is left is
        mostly noise.
    """

    regularization: float = 0.0
    noise_weight: float = 0.0

    def __post_init__(self) -> None:
        for name in ("regularization", "noise_weight"):
            value = getattr(self, name)
            if not isinstance(value, int | float):  # it is static, and goes into files
                raise TypeError(f"{name} of a data step must be a float, got {value!r}")
            validation.check_non_negative(value, f"{name} of a data step")
        if self.noise_weight and not self.regularization:
            raise ValueError(
                f"a data step of noise_weight {self.noise_weight} needs a regularization above 0"
            )

    def __bool__(self) -> bool:
        return self.regularization > 0


class StepFilters(NamedTuple):
    """What a step is taken with.

    Attributes:
      kernel: `(..., h, w)`, the blur kernel.
      inverse: `(..., d, d)`, the linear restoration `D`, of sum 1.
    """

    kernel: jax.Array
    inverse: jax.Array

    @property
    def reach(self) -> Margins:
        """Pixels around a restored one that count in the blurred image."""
        return _paddings(self.inverse)

    @property
    def reach_restored(self) -> Margins:
        """Pixels around a restored one that count in what the network restores."""
        rows, columns = (
            (inverse[0] + kernel[0], inverse[1] + kernel[1])
            for inverse, kernel in zip(self.reach, _paddings(self.kernel), strict=True)
        )
        return rows, columns


def _paddings(filters: jax.Array) -> Margins:
    height, width = filters.shape[-2:]
    return convolution_padding(height), convolution_padding(width)


def take_step_in_frame(
    restored: jax.Array,
    blurred: jax.Array,
    filters: StepFilters,
    boundary: str,
    *,
    known: jax.Array | None = None,
) -> jax.Array:
    """Takes the step back to the data on whole images.

    Args:
      restored: `(N, H, W, C)`, by the network.
      blurred: shaped alike.
      filters: see `take_step`.
      boundary: see `glra_jax.deconvolve`; with `"valid"` images do not go on.
      known: `(N, H, W, 1)` or of a leading axis of 1, 0 where pixels are no data; None if all are.

    Returns:
      `(N, H, W, C)` in [0, 1].
    """
    valid = boundary == "valid"
    mode = "constant" if valid else boundary

    def extend(x: jax.Array, margins: Margins, mode: Any) -> jax.Array:
        return jnp.pad(x, [(0, 0), *margins, (0, 0)], mode=mode)

    inside = jnp.ones((1, *restored.shape[1:3], 1), jnp.float32)
    outside = "wrap" if boundary == "wrap" else "constant"
    return take_step(
        extend(restored, filters.reach_restored, mode),
        extend(blurred, filters.reach, mode),
        extend(inside, filters.reach_restored, outside),
        filters,
        known=None if known is None else extend(known, filters.reach, outside),
        strict=valid,
    )


def take_step(
    restored: jax.Array,
    blurred: jax.Array,
    inside: jax.Array,
    filters: StepFilters,
    *,
    known: jax.Array | None = None,
    strict: bool = False,
) -> jax.Array:
    """Takes the step back to the data on images, or tiles, that go on outside.

    Pixels outside of the frame do not count, and those near it the less, the more of their light
    comes from outside, where the restored image is made up.

    Args:
      restored: by the network, `(N, H + ..., W + ..., C)`, larger than the result by
        `reach_restored` of the filters.
      blurred: `(N, H + d - 1, W + d - 1, C)`, larger by their `reach`.
      inside: 1 in the frame and 0 outside, `(1, H + ..., W + ..., 1)`, as large as `restored`.
      filters: leaves with a leading axis of N, or of 1 for all images alike.
      known: 1 where `blurred` is data and 0 where it is not, as large as that; None for all of it
        in the frame.
      strict: whether only pixels count whose light all comes from the frame.

    Returns:
      `(N, H, W, C)` in [0, 1].
    """
    share = convolve_valid(inside, filters.kernel)
    counted = share > _WHOLE if strict else share**_SHARE_POWER
    counted = counted * without_margins(inside, _paddings(filters.kernel))
    counted = counted if known is None else counted * known
    left = counted * (blurred - convolve_valid(restored, filters.kernel))
    step = convolve_valid(left, filters.inverse)
    return jnp.clip(without_margins(restored, filters.reach_restored) + step, 0.0, 1.0)
