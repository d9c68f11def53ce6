"""The deconvolution network as a Flax module; the core `M` is an input, not a weight.

Images are `(N, H, W, 1)` float32 in [0, 1]: every colour channel goes through by itself. Params are
a plain dict, one entry a layer, each with `kernel` (HWIO; correlation, as everywhere in deep
learning, so that a basis vector stands in it turned round) and `bias`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from glra_jax import validation
from glra_jax.convolution import Padding, correlate
from glra_jax.lowrank import Basis

Params = Mapping[str, Mapping[str, jax.Array]]

STARTS = ("identity", "glra", "random")


class Correlate(nn.Module):
    """A layer of filters with a bias, computed by `glra_jax.convolution.correlate`.

    Attributes:
      features: number of outputs.
      window: height and width of the filters.
      padding: zeros around the image.
      method: way of computing; changes the time, not the result.
    """

    features: int
    window: tuple[int, int]
    padding: Padding = "valid"
    method: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `(N, H, W, C)` to `(N, H', W', features)`."""
        kernel = self.param(
            "kernel", nn.initializers.xavier_uniform(), (*self.window, x.shape[-1], self.features)
        )
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return correlate(x, kernel, padding=self.padding, method=self.method) + bias


class ApplyCore(nn.Module):
    """The second layer: a 1×1 layer whose weights are the core, given from outside, plus a bias."""

    @nn.compact
    def __call__(self, x: jax.Array, core: jax.Array) -> jax.Array:
        """Maps `(N, H, W, m)` with `(m, m)` or `(N, m, m)` to `(N, H, W, m)`."""
        bias = self.param("bias", nn.initializers.zeros_init(), (core.shape[-1],))
        core = jnp.broadcast_to(core, (x.shape[0], *core.shape[-2:]))
        return jnp.einsum("nhwi,nij->nhwj", x, core) + bias


class DeconvNet(nn.Module):
    """The network of Ren et al. 2018, fig. 3, in the sizes of the authors' released code.

    Three linear layers are the low-rank pseudo-inverse (eq. 8): vertical filters, the core, and
    horizontal filters. Three more remove ringing and saturation artefacts: 15×15 and 1×1, each with
    a leaky ReLU of slope 0.2, and 7×7 with a sigmoid. Without arguments it has 1.85 million
    weights, and `H × W` in gives `(H - 150) × (W - 150)` out.

    Attributes:
      support: length of the filters of layers 1 and 3.
      rank: number of vertical and of horizontal filters.
      features: number of maps between layers 4 and 6.
      method: way of computing the correlations, see `glra_jax.convolution.correlate`.
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
          M: `(m, m)`, the core of the blur kernel (see `lowrank.deconvolution_core`), or
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
        """Layers 1 to 3 alone: `(N, H', W', m)` maps, whose sum at the start is eq. 8."""
        self._check(y, M)
        return self.horizontal(self.core(self.vertical(y), M))

    def _check(self, y: jax.Array, M: jax.Array) -> None:
        if y.ndim != 4 or y.shape[3] != 1:
            raise ValueError(f"y must be (N, H, W, 1), each channel by itself, got {y.shape}")
        if min(y.shape[1:3]) < self.support:
            raise ValueError(f"y of shape {y.shape} is smaller than the support {self.support}")
        if M.shape not in ((self.rank,) * 2, (y.shape[0], self.rank, self.rank)):
            raise ValueError(
                f"M must be ({self.rank}, {self.rank}) or ({y.shape[0]}, {self.rank}, {self.rank}) "
                f"for this network and batch, got {M.shape}"
            )


def restore(network: DeconvNet, params: Params, y: jax.Array, core: jax.Array) -> jax.Array:
    """Applies a network: `network.apply({"params": params}, y, core)`, typed."""
    restored = network.apply({"params": params}, y, core)
    assert isinstance(restored, jax.Array)
    return restored


def init_params(
    key: jax.Array, basis: Basis, *, start: str = "identity", features: int = 128
) -> dict[str, dict[str, jax.Array]]:
    """Initial weights of a `DeconvNet` for a basis.

    Args:
      key: PRNG key.
      basis: `left`, `right`, `(d, m)`.
      start: `"glra"` as in the paper: layers 1 and 3 from the basis, the rest Xavier. `"identity"`:
        the same, and layers 4 to 6 pass the sum of the maps on, so that the first output is eq. 8
        (see `_identity_refinement`). `"random"`: all Xavier, the paper's comparison.
      features: number of maps between layers 4 and 6.

    Returns:
      Params, float32.

    Raises:
      ValueError: unknown `start`, or too few features for `"identity"`.
    """
    validation.check_choice(start, "start", STARTS)
    support, rank = basis.left.shape
    net = DeconvNet(support=support, rank=rank, features=features, method="direct")
    shapes = (jnp.zeros((1, support, support, 1)), jnp.zeros((rank, rank)))
    params: dict[str, Any] = jax.jit(net.init)(key, *shapes)["params"]
    if start == "random":
        return params
    # Filters correlate, eq. 8 convolves: turn the basis vectors round.
    params["vertical"]["kernel"] = basis.left[::-1, None, None, :]
    params["horizontal"]["kernel"] = jnp.einsum("dm,mn->dmn", basis.right[::-1], jnp.eye(rank))[
        None
    ]
    if start == "identity":
        params |= _identity_refinement(params)
    return params


# Breakpoints of the piecewise linear logit that the identity start puts before the sigmoid.
_TONES = (0.02, 0.04, 0.07, 0.12, 0.2, 0.35, 0.65, 0.8, 0.88, 0.93, 0.96, 0.98)


def _identity_refinement(params: dict[str, Any]) -> dict[str, dict[str, jax.Array]]:
    """Layers 4 to 6 that pass on the sum of the maps, clipped to [0.02, 0.98].

    The sigmoid at the end must be undone before: some channels of layer 4 are hinges on the sum of
    the maps, and the first channel of layer 5 adds them up to a piecewise linear logit. The other
    channels keep their random weights but do not reach the output yet; their first gradient lets
    them in.
    """
    first, second, third = (params[f"refine_{i}"] for i in (1, 2, 3))
    hinges = len(_TONES)
    if first["bias"].shape[0] <= hinges + 1:
        raise ValueError(
            f"the identity start needs more than {hinges + 1} features, "
            f"got {first['bias'].shape[0]}"
        )
    tones = jnp.array(_TONES)
    logits = jnp.log(tones / (1.0 - tones))
    slopes = jnp.concatenate([jnp.zeros(1), jnp.diff(logits) / jnp.diff(tones), jnp.zeros(1)])

    # Layer 4: channels 0 to 11 see leaky(x - tone) = 0.2 (x - tone) + 0.8 relu(x - tone).
    height, width = first["kernel"].shape[:2]
    kernel = first["kernel"].at[..., :hinges].set(0.0)
    kernel = kernel.at[height // 2, width // 2, :, :hinges].set(1.0)
    # Channel 12 is the line that takes their leaking part back: positive, so never bent.
    line, lift = hinges, 4.0
    kernel = kernel.at[..., line].set(0.0).at[height // 2, width // 2, :, line].set(1.0)
    bias = first["bias"].at[:hinges].set(-tones).at[line].set(lift)
    first = {"kernel": kernel, "bias": bias}

    # Layer 5: logit = logits[0] + Σ change_i relu(x - tone_i), lifted over the leaky ReLU's bend.
    change = jnp.diff(slopes)
    mixing = second["kernel"].at[..., 0].set(0.0)
    mixing = mixing.at[0, 0, :hinges, 0].set(change / 0.8)
    mixing = mixing.at[0, 0, line, 0].set(-0.25 * change.sum())
    constant = logits[0] + 0.25 * jnp.sum(change * (tones + lift))
    top = 8.0
    second = {"kernel": mixing, "bias": second["bias"].at[0].set(constant + top)}

    # Layer 6: that channel alone.
    height, width = third["kernel"].shape[:2]
    kernel = jnp.zeros_like(third["kernel"]).at[height // 2, width // 2, 0, 0].set(1.0)
    third = {"kernel": kernel, "bias": third["bias"].at[0].set(-top)}
    return {"refine_1": first, "refine_2": second, "refine_3": third}
