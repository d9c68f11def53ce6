"""The network of Ren et al. 2018 as a Flax module; the core `M` is an input, not a weight.

Images are `(N, H, W, 1)` float32 in [0, 1]: every colour channel goes through independently. Params
are a plain dict, one entry a layer, each with `kernel` (HWIO; correlation, as everywhere in deep
learning, so that it holds a basis vector flipped) and `bias`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from glra_jax.networks.layers import Correlate
from glra_jax.precision import product_precision


class ApplyCore(nn.Module):
    """The second layer: a 1×1 layer whose weights are the core, given from outside, plus a bias."""

    @nn.compact
    def __call__(self, x: jax.Array, core: jax.Array) -> jax.Array:
        """Maps `(N, H, W, m)` with `(m, m)` or `(N, m, m)` to `(N, H, W, m)`."""
        bias = self.param("bias", nn.initializers.zeros_init(), (core.shape[-1],))
        core = jnp.broadcast_to(core, (x.shape[0], *core.shape[-2:]))
        return jnp.einsum("nhwi,nij->nhwj", x, core, precision=product_precision()) + bias


class DeconvNet(nn.Module):
    """The network of Ren et al. 2018, fig. 3, in the sizes of the authors' released code.

    Three linear layers are the low-rank pseudo-inverse (the paper's eq. 8): vertical filters, the
    core, and horizontal filters. Three more remove ringing and saturation artefacts: 15×15 and
    1×1, each with a leaky ReLU of slope 0.2, and 7×7 with a sigmoid. Without arguments it has 1.85
    million weights, and `H × W` in gives `(H - 150) × (W - 150)` out.

    Attributes:
      support: length of the filters of layers 1 and 3.
      rank: number of vertical and of horizontal filters.
      features: number of maps between layers 4 and 6.
      method: of computing the correlations, see `glra_jax.correlate`.
    """

    support: int = 151
    rank: int = 50
    features: int = 128
    method: str = "auto"

    def setup(self) -> None:
        """Names the layers."""
        self.vertical = Correlate(self.rank, (self.support, 1), method=self.method)
        self.core = ApplyCore()
        self.horizontal = Correlate(self.rank, (1, self.support), method=self.method)
        self.refine_1 = Correlate(self.features, (15, 15), 7, method=self.method)
        self.refine_2 = Correlate(self.features, (1, 1), method=self.method)
        self.refine_3 = Correlate(1, (7, 7), 3, method=self.method)

    def __call__(self, y: jax.Array, M: jax.Array) -> jax.Array:
        """Restores blurred images.

        Args:
          y: `(N, H, W, 1)` float in [0, 1], blurred; each side at least `support`.
          M: `(m, m)`, the core of the blur kernel (see `cores.deconvolution_core`), or
            `(N, m, m)`, one an image.

        Returns:
          `(N, H - support + 1, W - support + 1, 1)` in (0, 1).

        Raises:
          ValueError: shapes that do not fit.
        """
        x = nn.leaky_relu(self.refine_1(self.low_rank(y, M)), 0.2)
        x = nn.leaky_relu(self.refine_2(x), 0.2)
        return nn.sigmoid(self.refine_3(x))

    def low_rank(self, y: jax.Array, M: jax.Array) -> jax.Array:
        """Layers 1 to 3 alone: `(N, H', W', m)` maps, whose sum starts as the linear one."""
        self._check(y, M)
        return self.horizontal(self.core(self.vertical(y), M))

    def _check(self, y: jax.Array, M: jax.Array) -> None:
        if y.ndim != 4 or y.shape[3] != 1:
            raise ValueError(f"y must be (N, H, W, 1), channels in the batch, got {y.shape}")
        if min(y.shape[1:3]) < self.support:
            raise ValueError(f"y of shape {y.shape} is smaller than the support {self.support}")
        if M.shape not in ((self.rank,) * 2, (y.shape[0], self.rank, self.rank)):
            raise ValueError(
                f"M must be ({self.rank}, {self.rank}) or ({y.shape[0]}, {self.rank}, {self.rank}) "
                f"for this network and batch, got {M.shape}"
            )
