"""Fitting the basis: jitted sweeps against a loop over kernels in NumPy."""

import jax
import numpy as np

from experiments.benchmarks.timing import Comparison, compare
from glra_jax.glra import fit_glra
from glra_jax.inverses import Inverse, sample_inverses
from glra_jax.kernel_families import KernelFamilies


def numpy_glra(kernels: np.ndarray, rank: int, num_iters: int) -> tuple[np.ndarray, np.ndarray]:
    """The same sweeps as a loop over kernels, as one writes them down from the paper."""
    size = kernels.shape[1]
    gram = np.zeros((size, size), kernels.dtype)
    for k in kernels:
        gram += k @ k.T
    left = np.linalg.eigh(gram)[1][:, ::-1][:, :rank]
    for _ in range(num_iters):
        gram = np.zeros((size, size), kernels.dtype)
        for k in kernels:
            gram += k.T @ left @ left.T @ k
        right = np.linalg.eigh(gram)[1][:, ::-1][:, :rank]
        gram = np.zeros((size, size), kernels.dtype)
        for k in kernels:
            gram += k @ right @ right.T @ k.T
        left = np.linalg.eigh(gram)[1][:, ::-1][:, :rank]
    return left, right


def compare_glra(*, rounds: int) -> Comparison:
    """Up to eight sweeps over many 151×151 pseudo-inverses.

    The authors' programs are such a loop, in MATLAB and so in float64. `fit_glra` stops where half
    a sweep gains nothing, here in the second; the loop makes all.
    """
    count, rank = 1000, 50
    inverses = sample_inverses(
        jax.random.key(0), KernelFamilies(), count=count, support=151, inverse=Inverse()
    )
    host = np.asarray(inverses)
    device, exact = jax.device_put(host), host.astype(np.float64)
    methods = {
        "glra_jax.fit_glra": lambda: jax.block_until_ready(fit_glra(device, rank=rank)),
        "NumPy loop, float64, 8 sweeps": lambda: numpy_glra(exact, rank, 8),
        "NumPy loop, float32, 8 sweeps": lambda: numpy_glra(host, rank, 8),
        "NumPy loop, float32, 1 sweep": lambda: numpy_glra(host, rank, 1),
    }
    basis, _ = fit_glra(device, rank=rank)
    left, right = numpy_glra(exact, rank, 8)
    overlaps = [np.linalg.norm(a.T @ np.asarray(b)) ** 2 / rank
                for a, b in ((left, basis.left), (right, basis.right))]  # fmt: skip
    notes: dict[str, float | str] = {"overlap of the subspaces, at most 1": f"{min(overlaps):.6f}"}
    return compare(f"GLRA of {count} kernels, rank {rank}", methods, rounds=rounds, notes=notes)
