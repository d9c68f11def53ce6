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
    height, width = kernel.shape
    grid = kernel.new_zeros(support, support)
    top, left = support // 2 - height // 2, support // 2 - width // 2
    grid[top : top + height, left : left + width] = kernel
    spectrum = torch.fft.fft2(torch.roll(grid, (-(support // 2),) * 2, dims=(0, 1)))
    frequencies = torch.fft.fftfreq(support, dtype=kernel.dtype, device=kernel.device)
    along = 4 * torch.sin(torch.pi * frequencies) ** 2
    damping = regularization + smoothness * (along[:, None] + along[None, :])
    inverse = torch.fft.ifft2(spectrum.conj() / (spectrum.abs() ** 2 + damping)).real
    return torch.roll(inverse, (support // 2,) * 2, dims=(0, 1))


class LowRankBasis(nn.Module):
    """The two fixed bases, in which the core of a blur kernel is computed."""

    left: torch.Tensor
    right: torch.Tensor

    def __init__(self, left: torch.Tensor, right: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("left", left)
        self.register_buffer("right", right)

    def forward(
        self, kernel: torch.Tensor, regularization: float, smoothness: float = 0.0
    ) -> torch.Tensor:
        """The core `M`, `(m, m)`, of a blur kernel: `Lᵀ k† R`, so that `L M Rᵀ` has sum 1."""
        inverse = pseudo_inverse(kernel, self.left.shape[0], regularization, smoothness)
        projected = self.left @ (self.left.T @ inverse @ self.right) @ self.right.T
        return self.left.T @ (projected / projected.sum()) @ self.right


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

    `regularization` and `noise_weight` say how cores are computed, as those of
    `glra_jax.ModelConfig` do.
    """

    def __init__(
        self,
        left: torch.Tensor,
        right: torch.Tensor,
        *,
        features: int = 128,
        regularization: float = 0.01,
        noise_weight: float = 0.0,
    ) -> None:
        super().__init__()
        support, rank = left.shape
        self.regularization = regularization
        self.noise_weight = noise_weight
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
        return self.basis(kernel, self.regularization, self.noise_weight * noise**2)

    def forward(self, y: torch.Tensor, M: torch.Tensor) -> torch.Tensor:
        """Restores `(N, 1, H, W)` to `(N, 1, H - d + 1, W - d + 1)`, given the core `M`."""
        x = self.horizontal(self.core(self.vertical(y), M))
        x = functional.leaky_relu(self.refine_1(x), 0.2)
        x = functional.leaky_relu(self.refine_2(x), 0.2)
        return torch.sigmoid(self.refine_3(x))
