"""Regularised inverses of blur kernels, and the one record that says how they are made.

Kernels as in `glra_jax.kernels`: 2-D float32, sum 1, centre at `size // 2`. Inverses are square, of
odd or even side, with the same centre.
"""

import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import spectra, validation
from glra_jax.host_arrays import native_arrays
from glra_jax.kernel_families import KernelFamilies, sample_kernel

Core = Literal["projection", "least-squares"]
CORES = get_args(Core)


_NUMBERS = ("regularization", "noise_weight")


@dataclass(frozen=True)
class Inverse:
    """How a blur kernel is inverted: with `λ + w σ² |∇|²` beside `|K|²`, σ being the noise level.

    A pytree whose two numbers may be traced: another strength does not compile anything again.

    Attributes:
      regularization: λ, above 0; larger values amplify noise less and restore less.
      noise_weight: w, at least 0: how much smoother the inverse is with noise. 0 gives the same
        inverse at all noise levels, as in the paper.
      core: how the core of a low-rank inverse is computed, see
        `glra_jax.cores.deconvolution_core`; static.
    """

    regularization: float = 0.01
    noise_weight: float = 0.0
    core: Core = "projection"

    def __post_init__(self) -> None:
        validation.check_choice(self.core, "core", CORES)
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is None or isinstance(value, str | bytes | bool | np.bool_ | list | tuple):
                raise TypeError(f"{name} must be a number, got {value!r}")
            if isinstance(value, numbers.Real):  # anything else may be traced; see check_values
                object.__setattr__(self, name, float(value))
                _check_value(name, float(value))

    def check_values(self) -> None:
        """Raises ValueError for a number out of its range (looked at only where it is known)."""
        for name in _NUMBERS:
            _check_value(name, getattr(self, name))

    def smoothness(self, noise: jax.typing.ArrayLike) -> jax.Array:
        """Smoothness of the pseudo-inverse for a noise level, `w σ²`.

        The Wiener filter adds the ratio of the powers of noise and signal to `|K|²`. It grows as
        `σ²`, and, since the power of photographs falls off as `1 / |ω|²`, with `|ω|²`: see `μ` of
        `pseudo_inverse`.

        Args:
          noise: standard deviation, at least 0.

        Returns:
          float32, of the shape of `noise`.

        Raises:
          ValueError: a value outside its range.
        """
        validation.check_non_negative(noise, "noise")
        validation.check_non_negative(self.noise_weight, "noise_weight")
        weight = jnp.asarray(self.noise_weight, jnp.float32)
        return weight * jnp.square(jnp.asarray(noise, jnp.float32))


def _flatten(inverse: Inverse) -> tuple[list[tuple[Any, Any]], Core]:
    keyed = [(jax.tree_util.GetAttrKey(name), getattr(inverse, name)) for name in _NUMBERS]
    return keyed, inverse.core


def _unflatten(core: Core, values: Iterable[Any]) -> Inverse:
    """Takes any values, for JAX and `jax.tree.map` put axes, truth values and gradients there too.

    Trees of axes or truth values are made by `jax.tree.map`, not by hand: `Inverse(...)` refuses
    them or takes them for numbers.
    """
    inverse = object.__new__(Inverse)
    for name, value in zip((*_NUMBERS, "core"), (*values, core), strict=True):
        object.__setattr__(inverse, name, value)
    return inverse


jax.tree_util.register_pytree_with_keys(Inverse, _flatten, _unflatten)


def _check_value(name: str, value: jax.typing.ArrayLike) -> None:
    if name == "regularization":
        validation.check_positive(value, name)
    else:
        validation.check_scalar(value, name)
        validation.check_non_negative(value, name)


def damping(
    size: int, *, regularization: jax.typing.ArrayLike, smoothness: jax.typing.ArrayLike
) -> jax.Array:
    """`λ + μ |∇|²` of `pseudo_inverse`: the power of noise over that of photographs.

    Args:
      size: side of the square grid.
      regularization: λ.
      smoothness: μ.

    Returns:
      float32 `(size, size // 2 + 1)`, as `jnp.fft.rfft2` lays frequencies out.
    """
    flat, smooth = (jnp.asarray(weight, jnp.float32) for weight in (regularization, smoothness))
    return flat + smooth * spectra.gradient_power((size, size))


def check_inverse(
    kernel: jax.Array,
    *,
    support: int,
    regularization: jax.typing.ArrayLike,
    smoothness: jax.typing.ArrayLike,
) -> None:
    """Raises what `pseudo_inverse` says."""
    validation.check_size(support, "support")
    validation.check_kernel(kernel, support=support)
    validation.check_positive(regularization, "regularization")
    validation.check_scalar(smoothness, "smoothness")
    validation.check_non_negative(smoothness, "smoothness")


@native_arrays
def pseudo_inverse(
    kernel: jax.Array,
    *,
    support: int = 151,
    regularization: jax.typing.ArrayLike = 0.01,
    smoothness: jax.typing.ArrayLike = 0.0,
) -> jax.Array:
    """Regularised inverse of a blur kernel: convolving with it undoes the blur.

    What minimises `‖k * x - y‖² + λ ‖x‖² + μ ‖∇x‖²`: `F⁻¹(conj(K) / (|K|² + λ + μ |∇|²))` on a
    square grid, where `|∇|²` is the power of the first differences, `4 sin²(ω/2)` along either
    axis. With `μ = 0` it is eq. 3 of Ren et al. 2018, with the regularisation of the authors'
    released code; `μ` weighs frequencies nearly as a Wiener filter does for photographs, whose
    power falls off as `1 / |ω|²`. Works under `jit`, `grad` and `vmap`.

    Args:
      kernel: `(h, w)`, sum 1, each side at most `support`.
      support: side of the inverse; the paper says 150, the released code 151.
      regularization: λ, above 0; larger values amplify noise less and restore less. May be traced.
      smoothness: μ, at least 0. May be traced.

    Returns:
      `(support, support)` float32, centre at `support // 2`.

    Raises:
      TypeError: integer kernel.
      ValueError: kernel not 2-D, empty, NaN, of a sum other than 1 or larger than the support;
        regularisation not positive, smoothness negative or not a scalar.
    """
    check_inverse(kernel, support=support, regularization=regularization, smoothness=smoothness)
    transfer = spectra.transfer_function(jnp.asarray(kernel, jnp.float32), (support, support))
    power = transfer.real**2 + transfer.imag**2
    weight = damping(support, regularization=regularization, smoothness=smoothness)
    inverse = jnp.fft.irfft2(jnp.conj(transfer) / (power + weight), s=(support, support))
    return jnp.roll(inverse, (support // 2,) * 2, axis=(0, 1))


def sample_inverses(
    key: jax.Array,
    families: KernelFamilies,
    *,
    count: int,
    support: int,
    inverse: Inverse,
    noise: tuple[float, float] = (0.0, 0.0),
    chunk: int = 100,
) -> jax.Array:
    """Draws pseudo-inverses to fit a basis on.

    Args:
      key: PRNG key.
      families: the distribution of blur kernels.
      count: how many.
      support: side of the inverses.
      inverse: how they are made; its `core` does not matter.
      noise: range of the noise levels that they are made for, standard deviations.
      chunk: how many are made at once, which bounds the memory that it takes.

    Returns:
      `(count, support, support)` float32; the same for the same arguments.
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
                regularization=inverse.regularization,
                smoothness=inverse.smoothness(level),
            )

        return jax.vmap(one)(keys)

    keys = jax.random.split(key, count)
    return jnp.concatenate([draw(keys[i : i + chunk]) for i in range(0, count, chunk)])
