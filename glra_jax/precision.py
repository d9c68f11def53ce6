"""Precision of sums of products on accelerators, which cut float32 short unless told otherwise."""

from functools import partial

import jax
import jax.numpy as jnp

full_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def product_precision() -> jax.lax.Precision | None:
    """Precision that the network hands to products and convolutions.

    Returns:
      Full precision; or None, if `jax.default_matmul_precision` or the option
      `jax_default_matmul_precision` asks for one, which JAX then follows.
    """
    asked = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return None if asked else jax.lax.Precision.HIGHEST
