"""Cores of blur kernels in float64, by NumPy and SciPy alone, to compare float32 with."""

import numpy as np
from scipy import fft
from scipy.sparse import linalg

from experiments.evaluation.model_files import low_rank
from glra_jax.inverses import Inverse
from glra_jax.model import Model


def exact_core(model: Model, kernel: np.ndarray, noise: float) -> np.ndarray:
    """The core of a blur kernel for a model at a noise level, see `glra_jax.cores`.

    With `F` the Fourier transform, the pseudo-inverse is `F⁻¹(conj(K) / (|K|² + λ + w σ² |∇|²))`;
    it is projected, or the core nearest to it found by least squares, and divided by its sum.
    """
    left, right = (np.asarray(side, np.float64) for side in model.constants)
    support, rank = left.shape
    inverse = low_rank(model).inverse
    if inverse.core == "projection":
        spectrum, damping = _spectra(kernel, support, inverse, noise)
        core = _core_of(spectrum.conj() / (np.abs(spectrum) ** 2 + damping), left, right)
    else:
        size = fft.next_fast_len(support + max(kernel.shape) - 1, real=True)
        spectrum, damping = _spectra(kernel, size, inverse, noise)
        signal = inverse.regularization / damping
        normal = signal * np.abs(spectrum) ** 2 + inverse.regularization

        def filtered(weights: np.ndarray, core: np.ndarray) -> np.ndarray:
            spectrum = _spectrum(left @ core.reshape(rank, rank) @ right.T, size)
            return _core_of(weights * spectrum, left, right).ravel()

        equations, precondition = (
            linalg.LinearOperator((rank**2,) * 2, matvec=lambda core, w=weights: filtered(w, core))
            for weights in (normal, 1 / normal)
        )
        core, _ = linalg.cg(
            equations,
            _core_of(signal * spectrum.conj(), left, right).ravel(),
            rtol=1e-5,
            maxiter=500,
            M=precondition,
        )
        core = core.reshape(rank, rank)
    found = left @ core @ right.T
    return left.T @ (found / found.sum()) @ right


def _spectrum(kernel: np.ndarray, size: int) -> np.ndarray:
    """Spectrum of a kernel on a square grid, its centre at (0, 0)."""
    padded = np.zeros((size, size))
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.fft.fft2(np.roll(padded, [-(n // 2) for n in kernel.shape], axis=(0, 1)))


def _spectra(
    kernel: np.ndarray, size: int, inverse: Inverse, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Transfer function of a blur kernel, and the damping of its inverse."""
    step = np.abs(1 - np.exp(2j * np.pi * np.arange(size) / size)) ** 2  # of a difference
    smoothness = inverse.noise_weight * noise**2
    damping = inverse.regularization + smoothness * np.add.outer(step, step)
    return _spectrum(kernel, size), damping


def _core_of(spectrum: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Projection of the kernel of a spectrum, cut to the support."""
    support, centre = len(left), len(left) // 2
    kernel = np.roll(np.fft.ifft2(spectrum).real, (centre, centre), axis=(0, 1))
    return left.T @ kernel[:support, :support] @ right
