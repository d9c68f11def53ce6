"""The network in PyTorch, as a PyTorch user would write it: what `compare_torch` compares with.

Images are `(N, 1, H, W)`. The state dict has the entries

    basis.left, basis.right           (d, m)        buffers
    vertical.weight, vertical.bias    (m, 1, d, 1), (m,)
    core.bias                         (m,)
    horizontal.weight, .bias          (m, m, 1, d), (m,)
    refine_1.weight, .bias            (f, m, 15, 15), (f,)
    refine_2.weight, .bias            (f, f, 1, 1), (f,)
    refine_3.weight, .bias            (1, f, 7, 7), (1,)

with support `d`, rank `m` and `f` features. This module needs PyTorch (extra `torch`).
"""

import torch
from scipy import fft
from torch import nn
from torch.nn import functional


def pseudo_inverse(
    kernel: torch.Tensor, support: int, regularization: float, smoothness: float = 0.0
) -> torch.Tensor:
    """Regularised inverse of a blur kernel (Ren et al. 2018, eq. 3).

    Args:
      kernel: `(h, w)`, sum 1, centre at `size // 2`.
      support: side of the inverse.
      regularization: λ in `conj(K) / (|K|² + λ + μ |∇|²)`.
      smoothness: μ, of the power of the image's differences, `|∇|²`.

    Returns:
      `(support, support)`, centre at `support // 2`.
    """
    spectrum = centred_spectrum(kernel, support)
    damping = regularization + smoothness * difference_power(support, kernel)
    inverse = torch.fft.ifft2(spectrum.conj() / (spectrum.abs() ** 2 + damping)).real
    return torch.roll(inverse, (support // 2,) * 2, dims=(0, 1))


def centred_spectrum(kernel: torch.Tensor, size: int) -> torch.Tensor:
    """Spectrum of a kernel on a square grid, its centre (`size // 2`) at the origin."""
    height, width = kernel.shape
    grid = kernel.new_zeros(size, size)
    grid[:height, :width] = kernel
    return torch.fft.fft2(torch.roll(grid, (-(height // 2), -(width // 2)), dims=(0, 1)))


def difference_power(size: int, like: torch.Tensor) -> torch.Tensor:
    """`|∇|²`, the power of the differences along both axes of a square grid."""
    frequencies = torch.fft.fftfreq(size, dtype=like.dtype, device=like.device)
    along = 4 * torch.sin(torch.pi * frequencies) ** 2
    return along[:, None] + along[None, :]


class LowRankBasis(nn.Module):
    """The two fixed bases, in which the core of a blur kernel is computed."""

    left: torch.Tensor
    right: torch.Tensor

    def __init__(self, left: torch.Tensor, right: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("left", left)
        self.register_buffer("right", right)

    def forward(
        self,
        kernel: torch.Tensor,
        regularization: float,
        smoothness: float = 0.0,
        core: str = "projection",
    ) -> torch.Tensor:
        """The core `M`, `(m, m)`, of a blur kernel, so that `L M Rᵀ` has sum 1.

        It is `Lᵀ k† R`; or, with `core="least-squares"`, the solution of `LeastSquares`.
        """
        if core == "least-squares":
            found = conjugate_gradients(LeastSquares(self, kernel, regularization, smoothness))
        else:
            inverse = pseudo_inverse(kernel, self.left.shape[0], regularization, smoothness)
            found = self.left.T @ inverse @ self.right
        projected = self.left @ found @ self.right.T
        return self.left.T @ (projected / projected.sum()) @ self.right


class LeastSquares:
    """Minimises `Σ |1 - K G|² / (λ + μ |∇|²) + |G|²` over cores; `G` is the spectrum of `L M Rᵀ`.

    The grid is so large that the inverse does not wrap around. The normal equations are multiplied
    by λ.
    """

    def __init__(
        self, basis: LowRankBasis, kernel: torch.Tensor, regularization: float, smoothness: float
    ) -> None:
        self.left, self.right = basis.left, basis.right
        size = fft.next_fast_len(len(self.left) + max(kernel.shape) - 1, real=True)
        power = difference_power(size, kernel)
        signal = regularization / (regularization + smoothness * power)
        transfer = centred_spectrum(kernel, size)
        self.normal = signal * transfer.abs() ** 2 + regularization
        self.target = self._gather(signal * transfer.conj())

    def _gather(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Core of the kernel of a spectrum, centred in the support."""
        support, centre = len(self.left), len(self.left) // 2
        kernel = torch.roll(torch.fft.ifft2(spectrum).real, (centre, centre), dims=(0, 1))
        return self.left.T @ kernel[:support, :support] @ self.right

    def filtered(self, weights: torch.Tensor, core: torch.Tensor) -> torch.Tensor:
        """Applies weights on the spectrum to a core."""
        spectrum = centred_spectrum(self.left @ core @ self.right.T, len(weights))
        return self._gather(weights * spectrum)


def conjugate_gradients(problem: LeastSquares) -> torch.Tensor:
    """Solves for the core in 500 steps at most, from 0; the inverse filter preconditions."""
    core, residual = torch.zeros_like(problem.target), problem.target
    goal = 1e-5 * residual.norm()
    direction, before = torch.zeros_like(core), core.new_ones(())
    for step in range(500):
        if residual.norm() <= goal:
            break
        near = problem.filtered(1 / problem.normal, residual)
        agreement = (residual * near).sum()
        direction = near if step == 0 else near + agreement / before * direction
        image = problem.filtered(problem.normal, direction)
        length = agreement / (direction * image).sum()
        core, residual, before = core + length * direction, residual - length * image, agreement
    return core


class Core(nn.Module):
    """A 1×1 layer whose weights, the core, are given for each image; its bias is trained."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(rank))

    def forward(self, x: torch.Tensor, M: torch.Tensor) -> torch.Tensor:
        """Maps `(N, m, H, W)` with `(m, m)` or `(N, m, m)` to `(N, m, H, W)`."""
        batch, rank, height, width = x.shape
        mixed = M.transpose(-1, -2) @ x.reshape(batch, rank, height * width)
        return mixed.reshape(x.shape) + self.bias[:, None, None]


class DeconvNet(nn.Module):
    """The deconvolution network of Ren et al. 2018, fig. 3, in the authors' released sizes.

    `regularization`, `noise_weight` and `kind_of_core` say how cores are computed, as those of
    `glra_jax.ModelConfig` (there `core`) do.
    """

    def __init__(
        self,
        left: torch.Tensor,
        right: torch.Tensor,
        *,
        features: int = 128,
        regularization: float = 0.01,
        noise_weight: float = 0.0,
        kind_of_core: str = "projection",
    ) -> None:
        super().__init__()
        support, rank = left.shape
        self.regularization = regularization
        self.noise_weight = noise_weight
        self.kind_of_core = kind_of_core
        self.basis = LowRankBasis(left, right)
        self.vertical = nn.Conv2d(1, rank, (support, 1))
        self.core = Core(rank)
        self.horizontal = nn.Conv2d(rank, rank, (1, support))
        self.refine_1 = nn.Conv2d(rank, features, 15, padding=7)
        self.refine_2 = nn.Conv2d(features, features, 1)
        self.refine_3 = nn.Conv2d(features, 1, 7, padding=3)

    def core_of(self, kernel: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
        """The core, `(m, m)`, which `forward` takes.

        Args:
          kernel: blur kernel, see `pseudo_inverse`.
          noise: standard deviation of the image's noise; counts with a noise weight.
        """
        smoothness = self.noise_weight * noise**2
        return self.basis(kernel, self.regularization, smoothness, self.kind_of_core)

    def forward(self, y: torch.Tensor, M: torch.Tensor) -> torch.Tensor:
        """Restores `(N, 1, H, W)` to `(N, 1, H - d + 1, W - d + 1)`, given the core `M`."""
        x = self.horizontal(self.core(self.vertical(y), M))
        x = functional.leaky_relu(self.refine_1(x), 0.2)
        x = functional.leaky_relu(self.refine_2(x), 0.2)
        return torch.sigmoid(self.refine_3(x))
