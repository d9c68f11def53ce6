"""FCNN: deconvolution by FFT towards gradients that a network has denoised, three times.

J. Zhang, J. Pan, W.-S. Lai, R. Lau, M.-H. Yang, "Learning Fully Convolutional Networks for
Iterative Non-blind Deconvolution", CVPR 2017, with the authors' weights. A step computes

    x_t = F⁻¹( (λ_t K̄ Y + Σ_i D̄_i F g_ti) / (λ_t |K|² + Σ_i |D_i|² + 10⁻⁴) ),

where `D_i` are the differences along both axes. The gradients `g_0` are 0; later ones are
`g_ti = N_t(D_i x_{t-1})`, where `N_t` is six layers. Differences down the rows are transposed for
it. There are weights for three levels of noise.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.baselines import boundaries, contract
from experiments.baselines.authors_network import (
    AuthorsNetwork,
    Layer,
    apply_layers,
    check_entries,
)
from experiments.baselines.mat_files import read_mat
from glra_jax import spectra
from glra_jax.interop.entries import faults_of_entries

BOUNDARIES = ("harmonic", "wrap")
LEVELS = (0.01, 0.03, 0.05)  # of noise, of images in [0, 1]

_STEPS = 3  # with a network
_SIDES = (5, 3, 3, 3, 3, 3)  # of the filters in each layer
_FEATURES = 64
_SMALLEST = 1e-4  # added to the denominator


class FcnnWeights(NamedTuple):
    """Weights of all levels of noise, along the first axis.

    Attributes:
      data: `(3, 4)`, the λ of each step.
      layers: six layers, of three steps each.
    """

    data: jax.Array
    layers: tuple[Layer, ...]


def _file(level: float, part: str) -> str:
    """Name of a file of weights for a level of noise."""
    return f"fcnn_noise{level}_{part}.mat"


_NETWORKS = tuple(f"iter{step}" for step in range(1, _STEPS + 1))
FILES = tuple(_file(level, part) for level in LEVELS for part in ("lambda", *_NETWORKS))


def read_fcnn(path: Path) -> FcnnWeights:
    """Reads the authors' weights, four MATLAB files for each level of noise.

    Args:
      path: the first of `FILES`; the others lie beside it.

    Returns:
      float32 weights.

    Raises:
      OSError: a file that does not exist, or that may not be read.
      ValueError: a damaged file, one of another kind, or weights of another network.
    """
    folder = path.parent
    data = [
        _entries(folder / _file(level, "lambda"), {"lambda": (1 + _STEPS,)}) for level in LEVELS
    ]
    networks = [
        [_entries(folder / _file(level, part), shapes_of_network()) for part in _NETWORKS]
        for level in LEVELS
    ]

    def stacked(name: str, *shape: int) -> jax.Array:
        arrays = [[entries[name].reshape(shape) for entries in steps] for steps in networks]
        return jnp.asarray(np.array(arrays))

    layers = []
    for number, side in enumerate(_SIDES, start=1):
        inputs, outputs = _widths(number)
        kernel = stacked(f"weights({number}).weights{{1}}", side, side, inputs, outputs)
        layers.append(Layer(kernel, stacked(f"weights({number}).weights{{2}}", outputs)))
    return FcnnWeights(jnp.asarray(np.stack([each["lambda"] for each in data])), tuple(layers))


def _entries(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Reads a file without the axes of length 1, which differ between the files."""
    found = {name: np.squeeze(array) for name, array in read_mat(path).items()}
    check_entries(path, faults_of_entries(found, shapes))
    return found


def _widths(number: int) -> tuple[int, int]:
    """Inputs and outputs of a layer, counted from 1."""
    return 1 if number == 1 else _FEATURES, 1 if number == len(_SIDES) else _FEATURES


def shapes_of_network() -> dict[str, tuple[int, ...]]:
    """Shapes in a file of one network, without axes of length 1, by name, see `read_mat`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, side in enumerate(_SIDES, start=1):
        widths = _widths(number)
        shapes[f"weights({number}).weights{{1}}"] = (side, side, *(w for w in widths if w > 1))
        shapes[f"weights({number}).weights{{2}}"] = tuple(w for w in widths[1:] if w > 1)
    return shapes


def fcnn(
    y: jax.Array,
    kernel: jax.Array,
    *,
    weights: FcnnWeights,
    noise: jax.typing.ArrayLike = 0.01,
    boundary: str = "harmonic",
) -> jax.Array:
    """Restores every channel independently; see `contract` for the images.

    Args:
      y: blurred image.
      kernel: blur kernel.
      weights: see `read_fcnn`.
      noise: standard deviation of the noise; the weights are those of the nearest of `LEVELS`.
      boundary: `"harmonic"` as the authors do (continued harmonically by half the kernel, and
        blended near the edges with its blur by a Gaussian), or `"wrap"` for circular blur.

    Returns:
      The restored image, float32, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses.
    """
    contract.check_inputs(y, kernel, noise, boundary, BOUNDARIES)
    return _fcnn(y, kernel, weights, noise, boundary=boundary)


@partial(jax.jit, static_argnames="boundary")
def _fcnn(
    y: jax.Array,
    kernel: jax.Array,
    weights: FcnnWeights,
    noise: jax.typing.ArrayLike,
    *,
    boundary: str,
) -> jax.Array:
    kernel = jnp.asarray(kernel, jnp.float32)
    nearest = jnp.argmin(jnp.abs(jnp.asarray(LEVELS) - jnp.asarray(noise, jnp.float32)))
    data, layers = jax.tree.map(lambda array: array[nearest], weights)
    pads = ((0, 0), (0, 0)) if boundary == "wrap" else margins(y.shape, kernel.shape)

    def restore_channel(channel: jax.Array) -> jax.Array:
        observed = channel if boundary == "wrap" else extend(channel, pads)
        grid = observed.shape
        transfer = spectra.transfer_function(kernel, grid)
        power = transfer.real**2 + transfer.imag**2
        matched = jnp.conj(transfer) * jnp.fft.rfft2(observed)
        smooth = spectra.gradient_power(grid) + _SMALLEST

        def deconvolve(weight: jax.Array, guide: jax.Array) -> jax.Array:
            numerator = weight * matched + jnp.fft.rfft2(guide)
            return jnp.fft.irfft2(numerator / (weight * power + smooth), s=grid)

        def step(x: jax.Array, now: tuple[jax.Array, tuple[Layer, ...]]) -> tuple[jax.Array, None]:
            weight, network = now
            across = denoise(network, x - jnp.roll(x, 1, axis=1))
            down = denoise(network, (x - jnp.roll(x, 1, axis=0)).T).T
            guide = across - jnp.roll(across, -1, axis=1) + down - jnp.roll(down, -1, axis=0)
            return deconvolve(weight, guide), None

        x = deconvolve(data[0], jnp.zeros(grid))
        x, _ = jax.lax.scan(step, x, (data[1:], layers))
        return boundaries.crop(x, pads)

    return contract.by_channel(restore_channel, y, at_once=False)


def margins(shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> boundaries.Margins:
    """Pixels to add before and after each axis: half the kernel, and one for an even size."""
    before = [max(size // 2, 1) for size in kernel_shape]
    rows, columns = ((n, n + size % 2) for n, size in zip(before, shape, strict=False))
    return rows, columns


def extend(y: jax.Array, pads: boundaries.Margins) -> jax.Array:
    """Continues a channel harmonically and blends it with its blur by a Gaussian near its edges.

    Outside the frame there is nothing but the blur. The Gaussian has as many pixels as the margins
    before and one, and a sixth of it as its standard deviation.

    Args:
      y: `(H, W)`.
      pads: see `margins`.

    Returns:
      `(H + top + bottom, W + left + right)`.
    """
    gaussians = []
    for before, _ in pads:
        size = 2 * before + 1
        values = np.exp(-0.5 * ((np.arange(size) - before) * 6.0 / size) ** 2)
        gaussians.append(values / values.sum())
    gaussian = jnp.asarray(np.outer(*gaussians), jnp.float32)
    inner = jnp.pad(boundaries.taper_weight(gaussian, y.shape), pads)
    y = boundaries.continue_harmonically(y, pads)
    blurred = spectra.convolve(y, spectra.transfer_function(gaussian, y.shape))
    return inner * y + (1.0 - inner) * blurred


def denoise(layers: tuple[Layer, ...], x: jax.Array) -> jax.Array:
    """The network N of one step: six layers, zeros around the differences.

    Args:
      layers: without the axes of levels and steps.
      x: `(H, W)`, differences along the columns' axis.

    Returns:
      `(H, W)`.
    """
    return apply_layers(layers, x[None, :, :, None], activation=jax.nn.relu)[0, :, :, 0]


FCNN = AuthorsNetwork(
    name="fcnn",
    restore=fcnn,
    read=read_fcnn,
    file=FILES[0],
    beside=FILES[1:],
    boundaries=BOUNDARIES,
    description="four FFT steps, three of them towards denoised gradients",
    reference="Zhang, Pan, Lai, Lau and Yang, Learning Fully Convolutional Networks for Iterative "
    "Non-blind Deconvolution, CVPR 2017",
    license="MIT",
)
