"""USRNet-tiny: half-quadratic splitting in six steps with one network as denoiser.

K. Zhang, L. Van Gool, R. Timofte, "Deep Unfolding Network for Image Super-Resolution", CVPR 2020,
with the authors' weights, and scale factor 1, for which a step is

    z = F⁻¹( (K̄ F y + α F x) / (|K|² + α) ),    x = P(z, β)

(their eqs. 6 and 7). α and β follow from the noise by three small layers; P is a U-Net
of 16, 32, 64 and 64 features that sees RGB and a map of β.
"""

import itertools
import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.baselines import boundaries, contract
from experiments.baselines.authors_network import AuthorsNetwork, check_entries
from glra_jax import spectra
from glra_jax.interop import read_state_dict
from glra_jax.interop.entries import faults_of_entries, to_numpy

Weights = dict[str, jax.Array]

# The default first. The authors continue by some 20 pixels; here it is twice the kernel.
BOUNDARIES = ("harmonic", "taper", "symmetric", "wrap")

_WIDTHS = (16, 32, 64, 64)
_BLOCKS = 2  # at each size, down and up
_STEPS = 6
_HIDDEN = 32
_SCALE = 1.0  # the network is told it beside the noise
_SMALLEST = 1e-6  # of α and β
_FACTOR = 2 ** (len(_WIDTHS) - 1)  # sides of what the U-Net takes are multiples of it


def _layer_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes in the authors' state dict, by name."""

    def blocks(name: str, width: int, first: int) -> dict[str, tuple[int, ...]]:
        return {
            f"p.{name}.{first + block}.res.{layer}.weight": (width, width, 3, 3)
            for block in range(_BLOCKS)
            for layer in (0, 2)
        }

    shapes: dict[str, tuple[int, ...]] = {
        "p.m_head.weight": (_WIDTHS[0], 4, 3, 3),
        "p.m_tail.weight": (3, _WIDTHS[0], 3, 3),
    }
    shapes |= blocks("m_body", _WIDTHS[-1], 0)
    for level, (fine, coarse) in enumerate(itertools.pairwise(_WIDTHS), start=1):
        shapes |= blocks(f"m_down{level}", fine, 0) | blocks(f"m_up{level}", fine, 1)
        shapes[f"p.m_down{level}.{_BLOCKS}.weight"] = (coarse, fine, 2, 2)
        shapes[f"p.m_up{level}.0.weight"] = (coarse, fine, 2, 2)  # transposed
    widths = (2, _HIDDEN, _HIDDEN, 2 * _STEPS)
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        shapes[f"h.mlp.{2 * layer}.weight"] = (outputs, inputs, 1, 1)
        shapes[f"h.mlp.{2 * layer}.bias"] = (outputs,)
    return shapes


SHAPES = _layer_shapes()


def read_usrnet(path: Path) -> Weights:
    """Reads the authors' `usrnet_tiny.pth`, or the same state dict from a safetensors file.

    Args:
      path: `.pth`, `.pt` or `.safetensors`.

    Returns:
      float32 filters by the authors' names, HWIO, and biases.

    Raises:
      ImportError, OSError: see `glra_jax.interop.read_state_dict`.
      ValueError: what `read_state_dict` refuses, or weights of another network.
    """
    state = read_state_dict(path)
    check_entries(path, faults_of_entries(state, SHAPES))
    found = {}
    for name in SHAPES:
        array = to_numpy(state[name])
        if array.ndim == 4:
            upwards = name.startswith("p.m_up") and array.shape[-1] == 2
            array = array.transpose((2, 3, 0, 1) if upwards else (2, 3, 1, 0))
        found[name] = jnp.asarray(array)
    return found


def usrnet_tiny(
    y: jax.Array,
    kernel: jax.Array,
    *,
    weights: Weights,
    noise: jax.typing.ArrayLike = 0.01,
    boundary: str = "harmonic",
) -> jax.Array:
    """Restores RGB jointly; grey as RGB of three equal channels, of which the mean is taken.

    Where the noise of three channels is the same, that of their mean is √3 times what it is where
    they are independent, as in the authors' training. So the network is told √3 times the noise of
    a grey image; with circular blur by a camera's shake at 1 % noise this gave 31.8 dB in place of
    27.3.

    Args:
      y: blurred image, `(H, W)`, `(H, W, 1)` or `(H, W, 3)`, see `contract`.
      kernel: blur kernel.
      weights: see `read_usrnet`.
      noise: standard deviation of the noise; the authors trained for 0 to 25/255.
      boundary: `"harmonic"` as the authors do for photographs, or another of `boundaries`.

    Returns:
      The restored image, float32, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses, or other than one or three channels.
    """
    contract.check_inputs(y, kernel, noise, boundary, BOUNDARIES)
    if y.ndim == 3 and y.shape[2] not in (1, 3):
        raise ValueError(
            f"usrnet-tiny takes (H, W), (H, W, 1) or (H, W, 3), got y of shape {y.shape}"
        )
    if y.ndim == 2 or y.shape[2] == 1:
        noise = math.sqrt(3.0) * jnp.asarray(noise, jnp.float32)
    return _usrnet(y, kernel, weights, noise, boundary=boundary)


@partial(jax.jit, static_argnames="boundary")
def _usrnet(
    y: jax.Array,
    kernel: jax.Array,
    weights: Weights,
    noise: jax.typing.ArrayLike,
    *,
    boundary: str,
) -> jax.Array:
    kernel = jnp.asarray(kernel, jnp.float32)
    image = jnp.asarray(y, jnp.float32).reshape(*y.shape[:2], -1)
    extend = partial(boundaries.extend, kernel=kernel, boundary=boundary)
    extended = jnp.stack([extend(image[..., c]) for c in range(image.shape[2])])
    observed = jnp.broadcast_to(extended, (3, *extended.shape[1:]))
    transfer = spectra.transfer_function(kernel, observed.shape[1:])
    power = transfer.real**2 + transfer.imag**2
    matched = jnp.conj(transfer) * jnp.fft.rfft2(observed)

    def step(x: jax.Array, weight_and_level: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        weight, level = weight_and_level
        spectrum = (matched + weight * jnp.fft.rfft2(x)) / (power + weight)
        z = jnp.fft.irfft2(spectrum, s=x.shape[1:])
        return jnp.moveaxis(denoise(weights, jnp.moveaxis(z, 0, 2), level), 2, 0), None

    x, _ = jax.lax.scan(step, observed, step_parameters(weights, noise))
    pads = boundaries.margins(y.shape[:2], kernel.shape, boundary)
    restored = jnp.stack([boundaries.crop(channel, pads) for channel in x], axis=-1)
    if image.shape[2] == 3:
        return restored
    return restored.mean(axis=-1).reshape(y.shape)


def step_parameters(weights: Weights, noise: jax.typing.ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The α and the β of every step, from the noise.

    Args:
      weights: see `read_usrnet`.
      noise: standard deviation, of images in [0, 1].

    Returns:
      Two arrays `(6,)`, above 0.
    """
    x = jnp.stack([jnp.asarray(noise, jnp.float32), jnp.float32(_SCALE)])
    for layer in (0, 2, 4):
        x = x @ weights[f"h.mlp.{layer}.weight"][0, 0] + weights[f"h.mlp.{layer}.bias"]
        x = jax.nn.relu(x) if layer < 4 else jax.nn.softplus(x)
    return x[:_STEPS] + _SMALLEST, x[_STEPS:] + _SMALLEST


def denoise(weights: Weights, x: jax.Array, level: jax.Array) -> jax.Array:
    """The network P: a U-Net of residual blocks without biases, zeros around the image.

    Args:
      weights: see `read_usrnet`.
      x: `(H, W, 3)`.
      level: β, scalar.

    Returns:
      `(H, W, 3)`.
    """
    height, width = x.shape[:2]
    x = jnp.concatenate([x, jnp.full((height, width, 1), level)], axis=-1)
    x = jnp.pad(x, ((0, -height % _FACTOR), (0, -width % _FACTOR), (0, 0)), mode="edge")
    x = _convolve(x[None], weights["p.m_head.weight"])
    skipped = []
    for size in range(1, len(_WIDTHS)):
        skipped.append(x)
        x = _residual_blocks(weights, f"p.m_down{size}", x, first=0)
        x = _halve(x, weights[f"p.m_down{size}.{_BLOCKS}.weight"])
    x = x + _residual_blocks(weights, "p.m_body", x, first=0)
    for size in range(len(_WIDTHS) - 1, 0, -1):
        x = _double(x, weights[f"p.m_up{size}.0.weight"])
        x = _residual_blocks(weights, f"p.m_up{size}", x, first=1) + skipped.pop()
    return _convolve(x, weights["p.m_tail.weight"])[0, :height, :width]


def _residual_blocks(weights: Weights, name: str, x: jax.Array, *, first: int) -> jax.Array:
    for block in range(first, first + _BLOCKS):
        hidden = jax.nn.relu(_convolve(x, weights[f"{name}.{block}.res.0.weight"]))
        x = x + _convolve(hidden, weights[f"{name}.{block}.res.2.weight"])
    return x


def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _halve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of 2×2 pixels that do not overlap."""
    number, height, width, inputs = x.shape
    blocks = x.reshape(number, height // 2, 2, width // 2, 2, inputs)
    return jnp.einsum("nhawbi,abio->nhwo", blocks, kernel)


def _double(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Its transpose: every pixel becomes 2×2."""
    number, height, width, _ = x.shape
    blocks = jnp.einsum("nhwi,abio->nhawbo", x, kernel)
    return blocks.reshape(number, 2 * height, 2 * width, kernel.shape[-1])


USRNET_TINY = AuthorsNetwork(
    name="usrnet-tiny",
    restore=usrnet_tiny,
    read=read_usrnet,
    file="usrnet_tiny.pth",
    boundaries=BOUNDARIES,
    description="six FFT steps with one U-Net as denoiser",
    reference="Zhang, Van Gool and Timofte, Deep Unfolding Network for Image Super-Resolution, "
    "CVPR 2020",
    license="MIT",
)
