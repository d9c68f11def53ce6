"""A small U-Net that works at half the size of an image and below, where convolutions are cheap.

Its products may be of bfloat16; weights, and what is between the layers, are float32 all the same.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax

from glra_jax.networks.convolution import Convolution
from glra_jax.precision import product_precision

# Of the sides of what the network is given.
MULTIPLE = 8


def space_to_depth(x: jax.Array) -> jax.Array:
    """Moves each square of 2×2 pixels into the channels: `(N, H, W, C)` to `(N, H/2, W/2, 4C)`."""
    count, height, width, channels = x.shape
    x = x.reshape(count, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(count, height // 2, width // 2, 4 * channels)


def depth_to_space(x: jax.Array) -> jax.Array:
    """Undoes `space_to_depth`."""
    count, height, width, channels = x.shape
    x = x.reshape(count, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(count, 2 * height, 2 * width, channels // 4)


class _ResidualBlock(nn.Module):
    """Two 3×3 layers whose result is added to what they are given.

    Attributes:
      gain: size of what is added at the start.
      dtype: see `UNet`.
    """

    gain: float = 0.1
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        inner = nn.relu(_convolution(width, self.dtype, name="first")(x))
        return x + _convolution(width, self.dtype, gain=self.gain, name="second")(inner)


class UNet(nn.Module):
    """Maps of an image to a correction of it; zero for the weights that it starts with.

    Attributes:
      features: maps at a half of the size; 1.5 times as many at a quarter, twice at an eighth.
      blocks: residual blocks at an eighth of the size.
      fine_blocks: residual blocks at a half of the size, which add nothing at the start.
      outputs: channels of the result.
      dtype: to which maps and weights are rounded for their products, and these, as
        `jnp.bfloat16`; None for no rounding.
    """

    features: int
    blocks: int
    fine_blocks: int = 0
    outputs: int = 3
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `(N, H, W, C)`, sides multiples of `MULTIPLE`, to `(N, H, W, outputs)`."""
        half, quarter, eighth = self.features, 3 * self.features // 2, 2 * self.features
        mixture = partial(_mixture, dtype=self.dtype)
        block = partial(_ResidualBlock, dtype=self.dtype)
        fine = nn.relu(mixture(half, name="enter")(space_to_depth(x)))
        middle = mixture(quarter, name="down_1")(space_to_depth(fine))
        middle = block(name="block_down")(middle)
        coarse = mixture(eighth, name="down_2")(space_to_depth(middle))
        for index in range(self.blocks):
            coarse = block(name=f"block_{index}")(coarse)
        middle += depth_to_space(mixture(4 * quarter, gain=0.5, name="up_2")(coarse))
        middle = block(name="block_up")(middle)
        fine += depth_to_space(mixture(4 * half, gain=0.5, name="up_1")(middle))
        fine = nn.relu(_convolution(half, self.dtype, name="mix")(nn.relu(fine)))
        for index in range(self.fine_blocks):
            fine = block(gain=0.0, name=f"block_fine_{index}")(fine)
        return depth_to_space(mixture(4 * self.outputs, gain=0.0, name="leave")(fine))


def _start(gain: float) -> nn.initializers.Initializer:
    """Weights of `gain` times the size that keeps the variance behind a ReLU (He et al. 2015)."""
    if gain == 0.0:
        return nn.initializers.zeros_init()
    return nn.initializers.variance_scaling(2.0 * gain**2, "fan_in", "normal")


def _convolution(features: int, dtype: Any, *, name: str, gain: float = 1.0) -> Convolution:
    """A layer of 3×3 filters."""
    return Convolution(features, _start(gain), dtype, name=name)


def _mixture(features: int, *, dtype: Any, name: str, gain: float = 1.0) -> nn.Dense:
    """A layer that works on every pixel alone."""

    def product(x: jax.Array, kernel: jax.Array, *contracted: Any, **_: Any) -> jax.Array:
        rounded = x.astype(dtype), kernel.astype(dtype)
        return jax.lax.dot_general(*rounded, *contracted).astype(x.dtype)

    return nn.Dense(
        features,
        kernel_init=_start(gain),
        precision=product_precision(),
        dot_general=None if dtype is None else product,
        name=name,
    )
