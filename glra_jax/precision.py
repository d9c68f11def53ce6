"""Precision of sums of products on accelerators, which cut float32 short unless told otherwise."""

from functools import partial

import jax
import jax.numpy as jnp

full_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def product_precision(dtype: jax.typing.DTypeLike = jnp.float32) -> jax.lax.Precision | None:
    """Precision that the network hands to products and convolutions.

    Args:
      dtype: of what is multiplied.

    Returns:
      Full precision; or None, if `jax.default_matmul_precision` or the option
      `jax_default_matmul_precision` asks for one, which JAX then follows. None also for bfloat16,
      which accelerators do not cut short.
    """
    if dtype == jnp.bfloat16:
        return None
    asked = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return None if asked else jax.lax.Precision.HIGHEST
