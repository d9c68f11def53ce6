"""Checks of what users hand in; each error quotes the value and says the fix.

Shapes and dtypes are checked always, also while tracing. Values (NaN, sums) are checked only
where they are known, that is outside `jax.jit`, `jax.grad` and `jax.vmap`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_known(x: Any) -> bool:
    """Returns True where the values of `x` can be looked at (it is not being traced)."""
    return not isinstance(x, jax.core.Tracer)


def on_host(x: Any) -> bool:
    """Tells whether NumPy can look at a known array where it lies.

    It then does: JAX would compile a program for every shape, and keep it.
    """
    if not isinstance(x, jax.Array):
        return True
    return x.is_fully_addressable and all(device.platform == "cpu" for device in x.devices())


def count_not_finite(x: Any) -> int:
    """Number of NaN and infinite values of a known array, also while others are traced."""
    if on_host(x):
        return int(np.size(x) - np.count_nonzero(np.isfinite(np.asarray(x))))
    with jax.ensure_compile_time_eval():
        return int(jnp.size(x) - jnp.isfinite(x).sum())


def extremes(x: Any) -> tuple[float, float]:
    """Least and greatest value of a known array, also while others are traced."""
    if on_host(x):
        x = np.asarray(x)
        return float(x.min()), float(x.max())
    with jax.ensure_compile_time_eval():
        return float(jnp.min(x)), float(jnp.max(x))


def check_size(size: int, name: str = "size", *, minimum: int = 1) -> None:
    """Raises unless `size` is an integer of at least `minimum`."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise TypeError(f"{name} must be an int known before tracing, got {size!r}")
    if size < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {size}")


def check_seed(seed: int) -> None:
    """Raises ValueError unless `seed` is one that PRNG keys tell from all others."""
    if not 0 <= seed < 2**31:
        raise ValueError(f"seed must be from 0 to 2^31 - 1, got {seed}")


def check_scalar(value: Any, name: str) -> None:
    """Raises unless `value` is a scalar."""
    if np.ndim(value) != 0:
        raise ValueError(f"{name} must be a scalar, got shape {np.shape(value)}; use jax.vmap")


def check_positive(value: Any, name: str) -> None:
    """Raises unless `value` is a finite scalar above zero (looked at only where known)."""
    check_scalar(value, name)
    if is_known(value) and not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be finite and above 0, got {value}")


def check_non_negative(value: Any, name: str) -> None:
    """Raises unless `value` is finite and not below zero (looked at only where known)."""
    if is_known(value) and not np.all(np.isfinite(value) & (np.asarray(value) >= 0)):
        raise ValueError(f"{name} must be finite and at least 0, got {value}")


def check_choice(value: str, name: str, choices: tuple[str, ...]) -> None:
    """Raises unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def dtype_of(x: Any, name: str) -> np.dtype:
    """Dtype of an array, as JAX has it.

    Raises:
      TypeError: one that JAX does not take, such as the other byte order.
    """
    if x is None or isinstance(x, str | bytes):
        raise TypeError(f"{name} must be an array, got {type(x).__name__}")
    if isinstance(x, list | tuple):
        x = np.asarray(x)
    dtype = np.dtype(getattr(x, "dtype", None) or jnp.result_type(x))
    if not dtype.isnative:
        fit = dtype.newbyteorder("=").name
        raise TypeError(
            f"{name} is of the other byte order, {dtype.str}; pass {name}.astype({fit!r})"
        )
    return dtype


def check_float(x: Any, name: str, *, fix: str | None = None) -> None:
    """Raises unless `x` has a floating dtype.

    Args:
      x: the array to look at.
      name: what the error calls it.
      fix: what the error says to do; the division by what white is in its integers, if not given.
    """
    dtype = dtype_of(x, name)
    if jnp.issubdtype(dtype, jnp.floating):
        return
    if fix is None:
        white = np.iinfo(dtype).max if dtype.kind == "u" else 255
        fix = f"for {8 if white == 255 else 8 * dtype.itemsize}-bit data pass {name} / {white}.0"
    raise TypeError(f"{name} must be floating, got dtype {dtype}; {fix}")


def check_real(x: Any, name: str) -> None:
    """Raises TypeError unless `x` has real numbers: integers, Booleans or floats."""
    dtype = dtype_of(x, name)
    if dtype.kind not in "iub" and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name} must hold real numbers, got dtype {dtype}")


def check_numbers(x: Any, name: str) -> None:
    """Raises TypeError unless `x` has numbers, complex ones among them."""
    dtype = dtype_of(x, name)
    if dtype.kind != "b" and not jnp.issubdtype(dtype, jnp.number):
        raise TypeError(f"{name} must hold numbers, got dtype {dtype}")


def check_array(x: Any, name: str) -> None:
    """Raises unless `x` is an array rather than a list of numbers, or something else."""
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise TypeError(f"{name} must be an array, got {type(x).__name__}; pass jnp.asarray of it")


def check_image(
    x: Any, name: str = "image", *, finite: bool = True, fix: str = "replace them"
) -> None:
    """Raises unless `x` is `(H, W)`, `(H, W, C)` or `(N, H, W, C)`, floating and finite.

    Args:
      x: the array to look at.
      name: what the error calls it.
      finite: whether NaN and infinite values are looked for.
      fix: what the error says to do about them.

    Raises:
      TypeError: integer or complex dtype.
      ValueError: another rank, an empty axis, or NaN and infinite values.
    """
    check_array(x, name)
    shape = np.shape(x)
    if len(shape) not in (2, 3, 4):
        raise ValueError(
            f"{name} must be (H, W), (H, W, C) or (N, H, W, C), got rank {len(shape)}, "
            f"shape {shape}"
        )
    if 0 in shape:
        raise ValueError(f"{name} has an empty axis: shape {shape}")
    check_float(x, name)
    if finite and is_known(x) and (bad := count_not_finite(x)):
        raise ValueError(f"{name} holds {bad} NaN or infinite values of {x.size}; {fix}")


def check_range(x: Any, name: str = "image", *, unit: Any = 1.0) -> None:
    """Raises where a floating image is plainly not one in [0, unit] (looked at only where known).

    Noise and ringing may leave the range, but not by its own width.
    """
    if not (is_known(x) and is_known(unit)):
        return
    low, high = (value / float(unit) for value in extremes(x))
    if low < -1.0 or high > 2.0:
        raise ValueError(
            f"{name} reaches from {low:.4g} to {high:.4g} times white; floating images are in "
            f"[0, 1]: divide 8-bit values by 255, or give deconvolve the value of white, scale="
        )


def check_kernel(kernel: Any, *, support: int | None = None, name: str = "kernel") -> None:
    """Raises unless `kernel` is a blur kernel: 2-D, floating, finite, sum 1, within `support`.

    Args:
      kernel: the array to look at.
      support: the largest size allowed on either axis; None allows any.
      name: what the error calls it.

    Raises:
      TypeError: integer or complex dtype.
      ValueError: not 2-D, empty, larger than the support, NaN, all zero, negative sum, or a sum
        that is not 1 to a part in a thousand.
    """
    check_array(kernel, name)
    shape = np.shape(kernel)
    if len(shape) != 2:
        raise ValueError(f"{name} must be 2-D, got rank {len(shape)}, shape {shape}; use jax.vmap")
    if 0 in shape:
        raise ValueError(f"{name} is empty: shape {shape}")
    if support is not None and max(shape) > support:
        raise ValueError(
            f"{name} of shape {shape} is larger than the support {support}; "
            f"crop it to its non-zero part, or use a model of larger support"
        )
    check_float(kernel, name, fix=f"pass glra_jax.normalize_kernel({name}), of sum 1")
    if not is_known(kernel):
        return
    values = np.asarray(kernel, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds {int((~np.isfinite(values)).sum())} NaN or infinite values")
    if not values.any():
        raise ValueError(f"{name} is all zero; a blur kernel must have sum 1")
    total = float(values.sum())
    if total <= 0:
        raise ValueError(f"{name} has the sum {total:.6g}; a blur kernel must have a positive sum")
    if abs(total - 1) > max(1e-3, float(jnp.finfo(kernel.dtype).eps)):  # bfloat16: 0.8 %
        raise ValueError(
            f"{name} has the sum {total:.6g} and must have 1; divide it by its sum "
            f"(glra_jax.normalize_kernel)"
        )
