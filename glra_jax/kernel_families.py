"""Random blur kernels for training and scoring: which families, which sizes, how strong.

All kernels drawn from one `KernelFamilies` have the same array shape, so that they can be drawn
inside `jit` and `vmap`; smaller ones stand in the middle of zeros.

`FAMILIES` lists the families of blur. A new one is a function that draws a kernel, another that
gives an example, and a record in that list; every program then knows it by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from glra_jax import validation
from glra_jax.kernels import disk_kernel, gaussian_kernel, motion_kernel


@dataclass(frozen=True)
class KernelFamilies:
    """A distribution of blur kernels; families are equally likely.

    Attributes:
      families: One or more families of blur, by their names in glra_jax.kernel_families.FAMILIES.
      min_size: Smallest window in pixels, odd, at least 3.
      max_size: Largest window in pixels, odd, at least min_size.
      min_sigma: Smallest standard deviation of Gaussian blur in pixels, above 0.
      max_sigma: Largest standard deviation of Gaussian blur in pixels.
      min_radius: Smallest radius of disk blur in pixels, above 0, at most min_size / 2.
    """

    families: tuple[str, ...] = ("gaussian", "disk", "motion")
    min_size: int = 9
    max_size: int = 27
    min_sigma: float = 1.0
    max_sigma: float = 5.3
    min_radius: float = 1.0

    def __post_init__(self) -> None:
        if not self.families:
            raise ValueError("families is empty; name at least one of " + ", ".join(FAMILIES))
        for family in self.families:
            validation.check_choice(family, "families", tuple(FAMILIES))
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


@dataclass(frozen=True)
class BlurFamily:
    """A family of blur kernels.

    Attributes:
      name: By which programs and `KernelFamilies` know it.
      draw: `draw(key, families, half)` draws a random kernel, `(max_size, max_size)`, within the
        ranges of a `KernelFamilies`; what lies more than `half` pixels from the centre is cut off
        afterwards. `half` is traced.
      example: `example(size)` gives a kernel of middling strength, `(size, size)`, always the same.
    """

    name: str
    draw: Callable[[jax.Array, KernelFamilies, jax.Array], jax.Array]
    example: Callable[[int], jax.Array]


def blur_family(name: str) -> BlurFamily:
    """Looks up a family of blur kernels.

    Args:
      name: one in `FAMILIES`.

    Returns:
      Its record.

    Raises:
      ValueError: unknown name.
    """
    validation.check_choice(name, "blur family", tuple(FAMILIES))
    return FAMILIES[name]


def sample_kernel(key: jax.Array, families: KernelFamilies) -> jax.Array:
    """Draws one blur kernel.

    The window is odd and uniform in `[min_size, max_size]`, and the families are equally likely.
    Gaussian: σ uniform in its range, cut off at the window as in the released data. Disk: radius
    uniform up to the window's half. Motion: the path reaches from a half to the whole of the
    window.

    Args:
      key: PRNG key.
      families: the distribution.

    Returns:
      `(max_size, max_size)` float32 of sum 1.
    """
    family_key, size_key, strength_key = jax.random.split(key, 3)
    size = families.max_size
    window = (
        2 * jax.random.randint(size_key, (), families.min_size // 2, families.max_size // 2 + 1) + 1
    )
    half = window // 2
    offsets = jnp.abs(jnp.arange(size) - size // 2)
    inside = (offsets <= half)[:, None] & (offsets <= half)[None, :]

    def branch(name: str) -> Callable[[jax.Array], jax.Array]:
        draw = FAMILIES[name].draw
        return lambda key: draw(key, families, half)

    family = jax.random.randint(family_key, (), 0, len(families.families))
    kernel = jax.lax.switch(family, [branch(name) for name in families.families], strength_key)
    kernel = jnp.where(inside, kernel, 0.0)
    return kernel / kernel.sum()


_uniform = partial(jax.random.uniform, dtype=jnp.float32)


def _draw_gaussian(key: jax.Array, families: KernelFamilies, half: jax.Array) -> jax.Array:
    del half
    sigma = _uniform(key, minval=families.min_sigma, maxval=families.max_sigma)
    return gaussian_kernel(sigma=sigma, size=families.max_size)


def _draw_disk(key: jax.Array, families: KernelFamilies, half: jax.Array) -> jax.Array:
    radius = _uniform(key, minval=families.min_radius, maxval=half + 0.5)
    return disk_kernel(radius=radius, size=families.max_size)


def _draw_motion(key: jax.Array, families: KernelFamilies, half: jax.Array) -> jax.Array:
    path_key, extent_key = jax.random.split(key)
    extent = half * _uniform(extent_key, minval=0.5, maxval=1.0)
    return motion_kernel(path_key, size=families.max_size, extent=extent)


def _example_gaussian(size: int) -> jax.Array:
    return gaussian_kernel(sigma=size / 10, size=size)


def _example_disk(size: int) -> jax.Array:
    return disk_kernel(radius=size / 6, size=size)


def _example_motion(size: int) -> jax.Array:
    return motion_kernel(jax.random.key(4), size=size, extent=0.7 * (size // 2))


def _draw_ellipse(key: jax.Array, families: KernelFamilies, half: jax.Array) -> jax.Array:
    """A tilted Gaussian, off its centre by up to a pixel."""
    sigma_key, ratio_key, angle_key, centre_key = jax.random.split(key, 4)
    largest = jnp.minimum(families.max_sigma, 0.5 * (half + 1.0))
    least = jnp.minimum(families.min_sigma, largest)
    long = _uniform(sigma_key, minval=least, maxval=largest)
    short = long * _uniform(ratio_key, minval=0.3, maxval=1.0)
    return _tilted_gaussian(
        long,
        short,
        _uniform(angle_key, maxval=jnp.pi),
        _uniform(centre_key, (2,), minval=-1.0, maxval=1.0),
        families.max_size,
    )


def _tilted_gaussian(
    long: jax.typing.ArrayLike,
    short: jax.typing.ArrayLike,
    angle: jax.typing.ArrayLike,
    centre: jax.Array,
    size: int,
) -> jax.Array:
    offsets = jnp.arange(size, dtype=jnp.float32) - size // 2
    rows, columns = (offsets - centre[0])[:, None], (offsets - centre[1])[None, :]
    along = jnp.cos(angle) * columns + jnp.sin(angle) * rows
    across = jnp.cos(angle) * rows - jnp.sin(angle) * columns
    exponents = -0.5 * ((along / long) ** 2 + (across / short) ** 2)
    return jax.nn.softmax(exponents.ravel()).reshape(size, size)


def _draw_mixture(key: jax.Array, families: KernelFamilies, half: jax.Array) -> jax.Array:
    """A sharp core and a wide blur: motion that starts late, glare, next to nothing."""
    share_key, core_key, wide_key, which_key = jax.random.split(key, 4)
    size = families.max_size
    still = _tilted_gaussian(
        sigma := _uniform(core_key, minval=0.1, maxval=1.5), sigma, 0.0, jnp.zeros(2), size
    )
    wide = jax.lax.cond(
        jax.random.bernoulli(which_key),
        lambda: _draw_motion(wide_key, families, half),
        lambda: _draw_disk(wide_key, families, half),
    )
    share = _uniform(share_key)
    return share * wide + (1.0 - share) * still


def _example_ellipse(size: int) -> jax.Array:
    return _tilted_gaussian(size / 8, size / 20, 0.6, jnp.zeros(2), size)


def _example_mixture(size: int) -> jax.Array:
    still = _tilted_gaussian(0.5, 0.5, 0.0, jnp.zeros(2), size)
    return 0.5 * _example_disk(size) + 0.5 * still


_RECORDS = (
    BlurFamily("gaussian", _draw_gaussian, _example_gaussian),
    BlurFamily("disk", _draw_disk, _example_disk),
    BlurFamily("motion", _draw_motion, _example_motion),
    BlurFamily("ellipse", _draw_ellipse, _example_ellipse),
    BlurFamily("mixture", _draw_mixture, _example_mixture),
)
# New ones at the end: figures draw their random kernels by a family's place.
FAMILIES: dict[str, BlurFamily] = {family.name: family for family in _RECORDS}
