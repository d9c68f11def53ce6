"""FDN: ten steps back to the data by FFT, each with a small network of its own.

J. Kruse, C. Rother, U. Schmidt, "Learning to Push the Limits of Efficient FFT-based Image
Deconvolution", ICCV 2017, with the authors' weights. Stage t computes (their eq. 12)

    x_t = F⁻¹( (λ_t K̄ Y_t + F φ_t(x_{t-1})) / (λ_t |K|² + Σ_i |F_ti|²) ),

where `φ_t` is six 3×3 layers, `F_ti` the spectra of 24 filters of 5×5 pixels without DC, and `λ_t`
a function of the noise. `Y_t` is the observed image, continued by half the kernel: by its tapered
edges in the first stage, by `k ∗ x_{t-1}` in all others (the boundary adjustment, eq. 17).
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
    check_noise_range,
)
from experiments.baselines.hdf5_files import open_hdf5
from glra_jax import spectra
from glra_jax.interop.entries import faults_of_entries

BOUNDARIES = ("taper", "wrap")
ANY_LEVEL, LOW_LEVEL = (0.1, 12.75), (1.0, 3.0)  # of 255; what the two models were trained for

_SIDE = 5  # of the filters in the denominator
_REACH = 2 * _SIDE - 1  # side of their autocorrelation
_DENSE = ("dense1", "dense2", "dense3", "lambda")
_CONVOLUTIONS = tuple(f"conv{layer}" for layer in range(1, 7))
_FEATURES, _HIDDEN = 32, 16
_TAPER_PASSES = 3  # of the authors' program


class FdnWeights(NamedTuple):
    """Weights of all stages, along the first axis.

    Attributes:
      convolutions: six layers, 3×3.
      dense: four layers, from 1/σ² to λ.
      filters: `(stages, 24, 24)`; column i makes filter i of the 24 cosines.
    """

    convolutions: tuple[Layer, ...]
    dense: tuple[Layer, ...]
    filters: jax.Array


def read_fdn(path: Path) -> FdnWeights:
    """Reads the authors' weights, `stages_01-10_finetuned.hdf5` of one of their models.

    Args:
      path: HDF5 file as Keras writes it.

    Returns:
      float32 weights of as many stages as there are.

    Raises:
      ImportError: h5py is missing.
      OSError: no such file, or one that may not be read.
      ValueError: a damaged file, one of another kind, or weights of another network.
    """
    with open_hdf5(path) as entries:
        stages = max(1, sum(name.endswith("/filter_weights:0") for name in entries))
        shapes = {
            _entry(stage, *key): shape for stage in range(stages) for key, shape in _SHAPES.items()
        }
        check_entries(path, faults_of_entries(entries, shapes))

        def stacked(layer: str, part: str) -> jax.Array:
            return jnp.stack(
                [jnp.asarray(entries[_entry(stage, layer, part)][()]) for stage in range(stages)]
            )

        def layers(names: tuple[str, ...]) -> tuple[Layer, ...]:
            return tuple(Layer(stacked(name, "kernel"), stacked(name, "bias")) for name in names)

        filters = stacked("x_out", "filter_weights")
        return FdnWeights(layers(_CONVOLUTIONS), layers(_DENSE), filters)


def _entry(stage: int, layer: str, part: str) -> str:
    """What Keras calls an entry of a stage, counted from 0."""
    return f"model_{stage + 2}/{layer}_{stage + 1}/{part}:0"


def _layer_shapes() -> dict[tuple[str, str], tuple[int, ...]]:
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    widths = (1, *(_FEATURES for _ in _CONVOLUTIONS[1:]), 1)
    for name, inputs, outputs in zip(_CONVOLUTIONS, widths, widths[1:], strict=False):
        shapes |= {(name, "kernel"): (3, 3, inputs, outputs), (name, "bias"): (outputs,)}
    widths = (1, *(_HIDDEN for _ in _DENSE[1:]), 1)
    for name, inputs, outputs in zip(_DENSE, widths, widths[1:], strict=False):
        shapes |= {(name, "kernel"): (inputs, outputs), (name, "bias"): (outputs,)}
    count = _SIDE**2 - 1
    return shapes | {("x_out", "filter_weights"): (count, count)}


_SHAPES = _layer_shapes()


def fdn(
    y: jax.Array,
    kernel: jax.Array,
    *,
    weights: FdnWeights,
    noise: jax.typing.ArrayLike = 0.01,
    levels: tuple[float, float] = ANY_LEVEL,
    boundary: str = "taper",
) -> jax.Array:
    """Restores every channel independently; see `contract` for the images.

    Args:
      y: blurred image.
      kernel: blur kernel.
      weights: see `read_fdn`.
      noise: standard deviation of the noise.
      levels: of noise that the weights were trained for, of 255.
      boundary: `"taper"` as the authors do (edges repeated by half the kernel, tapered three times,
        and replaced by the blurred estimate after the first stage), or `"wrap"` for circular blur.

    Returns:
      The restored image, float32, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses, noise out of the range, or an image of less
        than 9 pixels on a side.
    """
    contract.check_inputs(y, kernel, noise, boundary, BOUNDARIES)
    check_noise_range(noise, "fdn", levels)
    if min(y.shape[:2]) < _REACH:
        raise ValueError(f"y of shape {y.shape} is too small for fdn: each side at least {_REACH}")
    return _fdn(y, kernel, weights, noise, boundary=boundary)


@partial(jax.jit, static_argnames="boundary")
def _fdn(
    y: jax.Array,
    kernel: jax.Array,
    weights: FdnWeights,
    noise: jax.typing.ArrayLike,
    *,
    boundary: str,
) -> jax.Array:
    kernel = boundaries.odd_kernel(kernel)
    pads = boundaries.half_margins(kernel.shape, boundary)
    channels = jnp.asarray(y, jnp.float32).reshape(*y.shape[:2], -1)
    observed = jnp.pad(jnp.moveaxis(channels, 2, 0), ((0, 0), *pads), mode="edge")
    transfer = spectra.transfer_function(kernel, observed.shape[1:])
    if boundary != "wrap":
        observed = jax.vmap(
            lambda channel: boundaries.taper_edges(channel, kernel, transfer, passes=_TAPER_PASSES)
        )(observed)
    inside = boundaries.observed_mask(y.shape[:2], pads)

    def stage(x: jax.Array, step: tuple[FdnWeights, jax.Array]) -> tuple[jax.Array, None]:
        stage_weights, first = step
        data = jnp.where(first, observed, spectra.convolve(x, transfer))
        data = jnp.where(inside > 0, observed, data)
        weight = data_weight(stage_weights.dense, noise)
        regularized = jax.lax.map(partial(correction, stage_weights.convolutions), x)
        numerator = weight * jnp.conj(transfer) * jnp.fft.rfft2(data) + jnp.fft.rfft2(regularized)
        power = filter_power(stage_weights.filters, x.shape[1:])
        denominator = weight * (transfer.real**2 + transfer.imag**2) + power
        return jnp.fft.irfft2(numerator / denominator, s=x.shape[1:]), None

    stages = weights.filters.shape[0]
    x, _ = jax.lax.scan(stage, observed, (weights, jnp.arange(stages) == 0))
    x = boundaries.crop(jnp.moveaxis(x, 0, 2), pads)
    return x.reshape(y.shape)


def data_weight(dense: tuple[Layer, ...], noise: jax.typing.ArrayLike) -> jax.Array:
    """Weight λ of the data in one stage: four layers on 1/σ², σ of 255.

    Args:
      dense: the layers, without the axis of stages.
      noise: standard deviation, of images in [0, 1].

    Returns:
      Scalar above 0.
    """
    x = jnp.reshape(1.0 / (255.0 * jnp.asarray(noise, jnp.float32)) ** 2, 1)
    for layer in dense[:-1]:
        x = jax.nn.elu(x @ layer.kernel + layer.bias)
    return jax.nn.softplus(x @ dense[-1].kernel + dense[-1].bias)[0]


def correction(convolutions: tuple[Layer, ...], x: jax.Array) -> jax.Array:
    """The regularisation of one stage, `φ`: six 3×3 layers on a channel continued by its edges.

    The authors continue by 20 pixels and cut them off again; six layers see six.
    Layers that pad with zeros do not touch what is left, and XLA has them faster on a CPU.

    Args:
      convolutions: the layers, without the axis of stages.
      x: `(H, W)`.

    Returns:
      `(H, W)`.
    """
    margin = len(convolutions)
    hidden = jnp.pad(x, margin, mode="edge")[None, :, :, None]
    hidden = apply_layers(convolutions, hidden, activation=jax.nn.elu)
    return hidden[0, margin:-margin, margin:-margin, 0]


def filter_power(weights: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Sum of the squared spectra of a stage's filters on a periodic grid.

    It is the spectrum of the sum of their autocorrelations, one transform in place of 24.

    Args:
      weights: `(24, 24)`, of which column i combines the cosines into filter i.
      shape: `(H, W)`, each side at least `2 · 5 - 1`.

    Returns:
      `(H, W // 2 + 1)`.
    """
    filters = (cosines(_SIDE) @ weights).T.reshape(-1, _SIDE, _SIDE)
    small = jnp.fft.rfft2(filters, s=(_REACH, _REACH))  # large enough that nothing wraps around
    autocorrelation = jnp.fft.irfft2(jnp.sum(jnp.abs(small) ** 2, axis=0), s=(_REACH, _REACH))
    centred = jnp.fft.fftshift(autocorrelation)
    return jnp.maximum(spectra.transfer_function(centred, shape).real, 0.0)


def cosines(side: int) -> np.ndarray:
    """Orthonormal two-dimensional cosines without the constant one, as the authors order them.

    Returns:
      float32 `(side², side² - 1)`, one in a column. The frequency along the first axis counts
      fastest, as their program transposes.
    """
    positions = (np.arange(side) + 0.5) * np.pi / side
    waves = np.cos(np.outer(np.arange(side), positions)) * np.sqrt(2.0 / side)
    waves[0] = np.sqrt(1.0 / side)
    both = np.einsum("ra,cb->rcba", waves, waves).reshape(side**2, side**2)
    return np.asarray(both[1:].T, np.float32)


def _record(name: str, levels: tuple[float, float], use: str) -> AuthorsNetwork:
    low, high = levels
    return AuthorsNetwork(
        name=name,
        restore=partial(fdn, levels=levels),
        read=read_fdn,
        file=f"fdn_sigma_{low}-{high}.hdf5",
        boundaries=BOUNDARIES,
        description=f"ten FFT steps with a network each, {use}",
        reference="Kruse, Rother and Schmidt, Learning to Push the Limits of Efficient FFT-based "
        "Image Deconvolution, ICCV 2017",
        license="BSD-2-Clause",
    )


FDN = _record("fdn", ANY_LEVEL, "for noise of 0.04 to 5 %")
FDN_LOW_NOISE = _record("fdn-low-noise", LOW_LEVEL, "for noise of 0.4 to 1.2 %")
