"""CSF: a cascade of shrinkage fields, with a pair of pixels in each filter.

U. Schmidt, S. Roth, "Shrinkage Fields for Effective Image Restoration", CVPR 2014, with the
authors' weights. Stage t computes (their eq. 10)

    x_t = F⁻¹( (λ_t K̄ Y + Σ_i F̄_ti F φ_ti(f_ti ∗ x_{t-1})) / (λ_t |K|² + Σ_i |F_ti|²) ),

where `f_ti` are the differences along both axes and `φ_ti` sums of Gaussians. `Y` is the observed
image, continued by half the kernel and tapered; so is the estimate after each stage.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.baselines import boundaries, contract
from experiments.baselines.authors_network import AuthorsNetwork, check_entries
from experiments.baselines.mat_files import read_mat
from glra_jax import spectra
from glra_jax.interop.entries import faults_of_entries

BOUNDARIES = ("taper", "wrap")

_WHITE = 255.0  # of the authors' images
_FILTERS = ((1, 3), (3, 1))  # shapes, in the order of the file
_REACH = 3
_GAUSSIANS = 53
_TAPER_PASSES = 3  # of the authors' program


class CsfWeights(NamedTuple):
    """Weights of all stages, along the first axis, for images in [0, 255].

    Attributes:
      data: `(stages,)`, the λ.
      filters: `(stages, 2, 3)`; the first lies along the columns' axis, the second along the rows'.
      means: `(stages, 2, 53)`, centres of the Gaussians.
      precisions: `(stages, 2)`, 1/σ² of the Gaussians.
      heights: `(stages, 2, 53)`, of the Gaussians.
    """

    data: jax.Array
    filters: jax.Array
    means: jax.Array
    precisions: jax.Array
    heights: jax.Array


def read_csf(path: Path) -> CsfWeights:
    """Reads the authors' weights, `models/table3/csf_pw.mat`.

    Args:
      path: MATLAB file.

    Returns:
      float32 weights of as many stages as there are.

    Raises:
      OSError: no such file, or one that may not be read.
      ValueError: a damaged file, one of another kind, or weights of another network.
    """
    entries = read_mat(path)
    stages = max(1, np.size(entries.get("model.lambda", 0.0)))
    check_entries(path, faults_of_entries(entries, shapes_of(stages)))
    if entries["model.is_deblurring"].item() != 1.0:
        raise ValueError(
            f"{path} is a model for denoising; that for deconvolution is models/table3/csf_pw.mat"
        )

    def stacked(name: str) -> jax.Array:
        number = range(1, len(_FILTERS) * stages + 1)
        arrays = np.stack([entries[f"model.{name.format(n)}"].ravel() for n in number])
        return jnp.asarray(arrays.reshape(stages, len(_FILTERS), -1))

    return CsfWeights(
        data=jnp.asarray(entries["model.lambda"].ravel()),
        filters=stacked("f{{{}}}"),
        means=stacked("shrink({}).means"),
        precisions=stacked("shrink({}).precision")[..., 0],
        heights=stacked("shrink({}).weights"),
    )


def shapes_of(stages: int) -> dict[str, tuple[int, ...]]:
    """Shapes of what the authors' file holds, by name, see `read_mat`."""
    single = ("nfilters", "sigma", "is_deblurring", "nstages")
    shapes: dict[str, tuple[int, ...]] = {f"model.{name}": (1, 1) for name in single}
    shapes["model.lambda"] = (1, stages)
    for number in range(1, len(_FILTERS) * stages + 1):
        shapes[f"model.f{{{number}}}"] = _FILTERS[(number - 1) % len(_FILTERS)]
        shapes[f"model.shrink({number}).precision"] = (1, 1)
        shapes[f"model.shrink({number}).means"] = (_GAUSSIANS, 1)
        shapes[f"model.shrink({number}).weights"] = (_GAUSSIANS, 1)
    return shapes


def csf(
    y: jax.Array,
    kernel: jax.Array,
    *,
    weights: CsfWeights,
    noise: jax.typing.ArrayLike = 0.01,
    boundary: str = "taper",
) -> jax.Array:
    """Restores every channel independently; see `contract` for the images.

    Args:
      y: blurred image.
      kernel: blur kernel.
      weights: see `read_csf`.
      noise: standard deviation of the noise; nothing depends on it, as in the authors' program.
      boundary: `"taper"` as the authors do (edges repeated by half the kernel and tapered three
        times, anew after each stage), or `"wrap"` for circular blur.

    Returns:
      The restored image, float32, not clipped.

    Raises:
      TypeError: integer image or kernel.
      ValueError: what `contract.check_inputs` refuses, or an image of less than 3 pixels on a side.
    """
    contract.check_inputs(y, kernel, noise, boundary, BOUNDARIES)
    if min(y.shape[:2]) < _REACH:
        raise ValueError(f"y of shape {y.shape} is too small for csf: each side at least {_REACH}")
    return _csf(y, kernel, weights, boundary=boundary)


@partial(jax.jit, static_argnames="boundary")
def _csf(y: jax.Array, kernel: jax.Array, weights: CsfWeights, *, boundary: str) -> jax.Array:
    kernel = boundaries.odd_kernel(kernel)
    pads = boundaries.half_margins(kernel.shape, boundary)
    grid = tuple(size + sum(pad) for size, pad in zip(y.shape[:2], pads, strict=True))
    transfer = spectra.transfer_function(kernel, grid)
    power = transfer.real**2 + transfer.imag**2

    def extend(x: jax.Array) -> jax.Array:
        if boundary == "wrap":
            return x
        x = jnp.pad(x, pads, mode="edge")
        return boundaries.taper_edges(x, kernel, transfer, passes=_TAPER_PASSES)

    def restore_channel(channel: jax.Array) -> jax.Array:
        observed = extend(_WHITE * channel)
        matched = jnp.conj(transfer) * jnp.fft.rfft2(observed)

        def stage(x: jax.Array, step: CsfWeights) -> tuple[jax.Array, None]:
            numerator, denominator = step.data * matched, step.data * power
            for index, shape in enumerate(_FILTERS):
                filter_ = spectra.transfer_function(step.filters[index].reshape(shape), grid)
                shrunk = shrink(
                    spectra.convolve(x, filter_),
                    step.means[index],
                    step.precisions[index],
                    step.heights[index],
                )
                numerator += jnp.conj(filter_) * jnp.fft.rfft2(shrunk)
                denominator += filter_.real**2 + filter_.imag**2
            x = jnp.fft.irfft2(numerator / denominator, s=grid)
            return extend(boundaries.crop(x, pads)), None

        x, _ = jax.lax.scan(stage, observed, weights)
        return boundaries.crop(x, pads) / _WHITE

    return contract.by_channel(restore_channel, y, at_once=False)


def shrink(x: jax.Array, means: jax.Array, precision: jax.Array, heights: jax.Array) -> jax.Array:
    """The shrinkage function `φ`: a sum of Gaussians.

    Args:
      x: any shape.
      means: `(n,)`, their centres.
      precision: 1/σ² of all of them.
      heights: `(n,)`.

    Returns:
      The shape of `x`.
    """
    distance = x[..., None] - means
    return jnp.sum(heights * jnp.exp(-0.5 * precision * distance**2), axis=-1)


CSF = AuthorsNetwork(
    name="csf",
    restore=csf,
    read=read_csf,
    file="csf_pw.mat",
    boundaries=BOUNDARIES,
    description="three FFT steps with learned shrinkage of differences",
    reference="Schmidt and Roth, Shrinkage Fields for Effective Image Restoration, CVPR 2014",
    license="BSD with a third clause: no commercial use",
)
