"""Training steps on a GPU or TPU: methods of correlating, precisions, and the share of the peak."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.benchmarks.network import (
    FORWARD_MULTIPLY_ADDS,
    example_model,
    jax_step,
    library_forward,
)
from experiments.benchmarks.timing import Comparison, compare

PRECISIONS = ("float32", "tensorfloat32")

_REPEATS = 10  # products of which the fastest counts


def at_precision(precision: str, run: Callable[[], object]) -> Callable[[], object]:
    """A function that calls another with JAX's default precision of products set."""

    def call() -> object:
        with jax.default_matmul_precision(precision):
            return run()

    return call


def peak_rate(precision: str, *, size: int) -> float:
    """Operations a second of one large square matrix product, an upper bound.

    Args:
      precision: of the product.
      size: side of the matrices.

    Returns:
      Additions and multiplications a second.
    """
    square = jnp.ones((size, size), jnp.float32)
    product = at_precision(precision, lambda: jax.block_until_ready(jnp.matmul(square, square)))
    product()
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def compare_precisions(*, rounds: int, batch: int = 16, size: int = 8192) -> Comparison:
    """Training steps, direct and spectral, in float32 and TF32.

    The operations are those of the layers' definition; the spectral method needs fewer, so
    that its share can be above 1.

    Args:
      rounds: how often each method runs.
      batch: patches a step.
      size: side of the matrices whose product stands for the peak.
    """
    model = example_model()
    runs = {
        f"{method}, {precision}": at_precision(
            precision, jax_step(model, library_forward(model, method), batch)
        )
        for precision in PRECISIONS
        for method in ("direct", "spectral")
    }
    comparison = compare(f"training step, batch {batch}", runs, rounds=rounds)
    peaks = {precision: peak_rate(precision, size=size) for precision in PRECISIONS}
    operations = 6 * FORWARD_MULTIPLY_ADDS * batch
    for name in runs:
        peak = peaks[name.split(", ")[1]]
        seconds = comparison.median(name)
        comparison.notes[f"{name}: steps/s, TFLOP/s as defined, share of peak"] = (
            f"{1 / seconds:.3g}, {operations / seconds / 1e12:.3g}, "
            f"{operations / seconds / peak:.3g}"
        )
    return comparison
