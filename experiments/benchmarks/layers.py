"""Each layer's correlation, direct against spectral: does the cost model choose the faster one?"""

from functools import partial

import jax
import jax.numpy as jnp

from experiments.benchmarks.timing import Comparison, compare
from glra_jax.correlation.correlate import choose_method, correlate

# Images (N, H, W, C), filters (h, w, C, O), padding.
SHAPES = {
    "layer 1, 151×1, 1→50": ((1, 256, 256, 1), (151, 1, 1, 50), 0),
    "layer 3, 1×151, 50→50": ((1, 106, 256, 50), (1, 151, 50, 50), 0),
    "layer 4, 15×15, 50→128": ((1, 106, 106, 50), (15, 15, 50, 128), 7),
    "layer 6, 7×7, 128→1": ((1, 106, 106, 128), (7, 7, 128, 1), 3),
    "a small layer, 3×3, 16→16": ((1, 64, 64, 16), (3, 3, 16, 16), 1),
}


def compare_layers(*, rounds: int) -> list[Comparison]:
    """Forward and backward pass of each layer's correlation, by both methods."""
    comparisons = []
    for name, (images, filters, padding) in SHAPES.items():
        keys = jax.random.split(jax.random.key(0), 2)
        x, w = jax.random.normal(keys[0], images), jax.random.normal(keys[1], filters)

        def both_passes(method: str, padding: int, x: jax.Array, w: jax.Array) -> object:
            def energy(x: jax.Array, w: jax.Array) -> jax.Array:
                return jnp.sum(correlate(x, w, padding=padding, method=method) ** 2)

            return jax.grad(energy, argnums=(0, 1))(x, w)

        padded = (images[0], images[1] + 2 * padding, images[2] + 2 * padding)
        chosen = choose_method(padded, filters, jax.default_backend())
        runs = {m: jax.jit(partial(both_passes, m, padding)) for m in ("direct", "spectral")}
        methods = {m: partial(lambda r, x, w: jax.block_until_ready(r(x, w)), r, x, w)
                for m, r in runs.items()}  # fmt: skip
        ordered = {chosen: methods.pop(chosen), **methods}
        comparisons.append(compare(name, ordered, rounds=rounds, notes={"auto takes": chosen}))
    return comparisons
