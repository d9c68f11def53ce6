"""Random blur kernels for training and scoring: which families, which sizes, how strong.

All kernels drawn from one `KernelFamilies` have the same array shape, so that they can be drawn
inside `jit` and `vmap`; smaller ones stand in the middle of zeros.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from glra_jax import validation
from glra_jax.kernels import disk_kernel, gaussian_kernel, motion_kernel, pseudo_inverse
from glra_jax.noise import smoothness_for

FAMILIES: tuple[Literal["gaussian", "disk", "motion"], ...] = ("gaussian", "disk", "motion")


@dataclass(frozen=True)
class KernelFamilies:
    """A distribution of blur kernels; families are equally likely.

    Attributes:
      families: One or more of the kinds of blur.
      min_size: Smallest window in pixels, odd, at least 3.
      max_size: Largest window in pixels, odd, at least min_size.
      min_sigma: Smallest standard deviation of Gaussian blur in pixels, above 0.
      max_sigma: Largest standard deviation of Gaussian blur in pixels.
      min_radius: Smallest radius of disk blur in pixels, above 0, at most min_size / 2.
    """

    families: tuple[Literal["gaussian", "disk", "motion"], ...] = FAMILIES
    min_size: int = 9
    max_size: int = 27
    min_sigma: float = 1.0
    max_sigma: float = 5.3
    min_radius: float = 1.0

    def __post_init__(self) -> None:
        if not self.families:
            raise ValueError("families is empty; name at least one of " + ", ".join(FAMILIES))
        for family in self.families:
            validation.check_choice(family, "families", FAMILIES)
        for size in (self.min_size, self.max_size):
            validation.check_size(size, minimum=3)
            if size % 2 == 0:
                raise ValueError(f"kernel sizes must be odd, got {size}")
        if self.min_size > self.max_size:
            raise ValueError(f"min_size {self.min_size} is above max_size {self.max_size}")
        if not 0 < self.min_sigma <= self.max_sigma:
            raise ValueError(f"need 0 < min_sigma <= max_sigma: {self.min_sigma}, {self.max_sigma}")
        if not 0 < self.min_radius <= self.min_size / 2:
            raise ValueError(
                f"min_radius must be above 0 and at most min_size / 2, got {self.min_radius}"
            )


def sample_kernel(key: jax.Array, families: KernelFamilies) -> jax.Array:
    """Draws one blur kernel.

    The window is odd and even in `[min_size, max_size]`. Gaussian: σ even in its range, cut off at
    the window as in the released data. Disk: radius even up to the window's half. Motion: the path
    reaches from a half to the whole of the window.

    Args:
      key: PRNG key.
      families: the distribution.

    Returns:
      `(max_size, max_size)` float32 of sum 1.
    """
    uniform = partial(jax.random.uniform, dtype=jnp.float32)
    family_key, size_key, strength_key = jax.random.split(key, 3)
    size = families.max_size
    window = (
        2 * jax.random.randint(size_key, (), families.min_size // 2, families.max_size // 2 + 1) + 1
    )
    half = window // 2
    offsets = jnp.abs(jnp.arange(size) - size // 2)
    inside = (offsets <= half)[:, None] & (offsets <= half)[None, :]

    def gaussian(key: jax.Array) -> jax.Array:
        sigma = uniform(key, minval=families.min_sigma, maxval=families.max_sigma)
        return gaussian_kernel(sigma=sigma, size=size)

    def disk(key: jax.Array) -> jax.Array:
        radius = uniform(key, minval=families.min_radius, maxval=half + 0.5)
        return disk_kernel(radius=radius, size=size)

    def motion(key: jax.Array) -> jax.Array:
        path_key, extent_key = jax.random.split(key)
        extent = half * uniform(extent_key, minval=0.5, maxval=1.0)
        return motion_kernel(path_key, size=size, extent=extent)

    draws = {"gaussian": gaussian, "disk": disk, "motion": motion}
    family = jax.random.randint(family_key, (), 0, len(families.families))
    kernel = jax.lax.switch(family, [draws[name] for name in families.families], strength_key)
    kernel = jnp.where(inside, kernel, 0.0)
    return kernel / kernel.sum()


def sample_inverses(
    key: jax.Array,
    families: KernelFamilies,
    *,
    count: int,
    support: int,
    regularization: float,
    noise_weight: float = 0.0,
    noise: tuple[float, float] = (0.0, 0.0),
    chunk: int = 100,
) -> Iterator[jax.Array]:
    """Draws pseudo-inverses to fit a basis on, chunk by chunk.

    Args:
      key: PRNG key.
      families: the distribution of blur kernels.
      count: how many.
      support: side of the inverses.
      regularization: see `kernels.pseudo_inverse`.
      noise_weight: see `noise.smoothness_for`.
      noise: range of the noise levels that they are made for, standard deviations.
      chunk: how many at once.

    Yields:
      `(<= chunk, support, support)` float32; the same for the same arguments.
    """
    uniform = partial(jax.random.uniform, dtype=jnp.float32)

    @jax.jit
    def draw(keys: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            kernel = sample_kernel(key, families)
            level = uniform(jax.random.fold_in(key, 1), minval=noise[0], maxval=noise[1])
            return pseudo_inverse(
                kernel,
                support=support,
                regularization=regularization,
                smoothness=smoothness_for(level, noise_weight=noise_weight),
            )

        return jax.vmap(one)(keys)

    keys = jax.random.split(key, count)
    for start in range(0, count, chunk):
        yield draw(keys[start : start + chunk])
