"""Initialisation of the faithful network's weights: from the paper's to one that restores at once.

Layers 1 and 3 start from a low-rank basis (but for `"random"`), so that the sum of the maps behind
them is the linear low-rank restoration, eq. 8 of the paper. What layers 4 to 6 start from makes the
difference:

* `"random"`: Xavier everywhere, the paper's comparison;
* `"glra"`: Xavier in layers 4 to 6, the paper's start;
* `"identity"`: they pass the sum of the maps on, so that the first output is the linear
  restoration;
* `"shrinkage"`: they pass it on less its small local cosine coefficients, which are mostly
  amplified noise: translation-invariant DCT denoising (Coifman & Donoho 1995) is a network of just
  these layers.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.deprecated.keywords import renamed_keywords
from glra_jax.lowrank import Basis
from glra_jax.networks.deconv_net import DeconvNet

INITIALIZATIONS = ("identity", "shrinkage", "glra", "random")
PASSING = ("identity", "shrinkage")  # those in which layers 4 to 6 pass the linear restoration on

# Breakpoints of the piecewise linear logit that stands before the sigmoid.
_TONES = (0.02, 0.04, 0.07, 0.12, 0.2, 0.35, 0.65, 0.8, 0.88, 0.93, 0.96, 0.98)
_LINE = len(_TONES)  # the channel of layer 4 behind those of the breakpoints
_LIFT = 4.0  # carries it over the bend of its leaky ReLU
_TOP = 8.0  # the same for the logit in layer 5
_COSINES = 7  # side of the local cosine transform: that of the filters of layer 6
_THRESHOLD = 0.03  # cosine coefficients below this are taken for noise
_MIDDLE_SLOPE = 5.0  # of the logit, in the middle tones
_NEGATIVE_SLOPE = 0.2  # of the leaky ReLU

Layer = dict[str, jax.Array]


def check_initialization(name: str, features: int) -> None:
    """Raises ValueError for an unknown initialisation, or too few features for it."""
    validation.check_choice(name, "initialization", INITIALIZATIONS)
    needed = {"identity": _LINE + 1, "shrinkage": _LINE + 1 + 2 * (_COSINES**2 - 1)}.get(name, 1)
    if features < needed:
        raise ValueError(
            f"the initialization {name!r} needs {needed} features or more, got {features}"
        )


@renamed_keywords(start="initialization")
def init_params(
    key: jax.Array, basis: Basis, *, initialization: str = "identity", features: int = 128
) -> dict[str, Layer]:
    """Initialises the weights of a `DeconvNet` for a basis.

    Args:
      key: PRNG key.
      basis: `left`, `right`, `(d, m)`.
      initialization: `"identity"`, `"shrinkage"`, `"glra"` or `"random"`, see the module.
      features: number of maps between layers 4 and 6.

    Returns:
      Params, float32.

    Raises:
      ValueError: unknown `initialization`, or too few features for it.
    """
    check_initialization(initialization, features)
    support, rank = basis.left.shape
    net = DeconvNet(support=support, rank=rank, features=features, method="direct")
    shapes = (
        jnp.zeros((1, support, support, 1), jnp.float32),
        jnp.zeros((rank, rank), jnp.float32),
    )
    params: dict[str, Any] = jax.tree.map(
        lambda weights: weights.astype(jnp.float32), jax.jit(net.init)(key, *shapes)["params"]
    )
    if initialization == "random":
        return params
    # Filters correlate, eq. 8 convolves: flip the basis vectors.
    params["vertical"]["kernel"] = basis.left[::-1, None, None, :]
    diagonal = jnp.einsum("dm,mn->dmn", basis.right[::-1], jnp.eye(rank, dtype=jnp.float32))
    params["horizontal"]["kernel"] = diagonal[None]
    if initialization == "glra":
        return params
    layers = _pass_on(*(params[f"refine_{i}"] for i in (1, 2, 3)))
    if initialization == "shrinkage":
        layers = _add_shrinkage(*layers)
    return params | {f"refine_{i}": layer for i, layer in enumerate(layers, start=1)}


def _pass_on(first: Layer, second: Layer, third: Layer) -> tuple[Layer, Layer, Layer]:
    """Layers 4 to 6 that pass on the sum of the maps, clipped to [0.02, 0.98].

    The sigmoid at the end must be undone before: some channels of layer 4 are hinges on the sum of
    the maps, and the first channel of layer 5 adds them up to a piecewise linear logit. The other
    channels keep their random weights but do not reach the output yet; their first gradient lets
    them in.
    """
    tones = jnp.array(_TONES, jnp.float32)
    logits = jnp.log(tones / (1.0 - tones))
    slopes = jnp.pad(jnp.diff(logits) / jnp.diff(tones), 1)
    bend = 1.0 - _NEGATIVE_SLOPE  # leaky(x) = (1 - bend) x + bend relu(x)

    # Layer 4: hinges leaky(x - tone), and a line that takes their leaking part back.
    row, column = (side // 2 for side in first["kernel"].shape[:2])
    kernel = first["kernel"].at[..., : _LINE + 1].set(0.0)
    kernel = kernel.at[row, column, :, : _LINE + 1].set(1.0)
    bias = first["bias"].at[:_LINE].set(-tones).at[_LINE].set(_LIFT)
    first = {"kernel": kernel, "bias": bias}

    # Layer 5: logit = logits[0] + Σ change_i relu(x - tone_i), lifted over its bend.
    change = jnp.diff(slopes)
    leak = _NEGATIVE_SLOPE / bend
    mixing = second["kernel"].at[..., 0].set(0.0)
    mixing = mixing.at[0, 0, :_LINE, 0].set(change / bend)
    mixing = mixing.at[0, 0, _LINE, 0].set(-leak * change.sum())
    constant = logits[0] + leak * jnp.sum(change * (tones + _LIFT))
    second = {"kernel": mixing, "bias": second["bias"].at[0].set(constant + _TOP)}

    # Layer 6: that channel alone.
    row, column = (side // 2 for side in third["kernel"].shape[:2])
    kernel = jnp.zeros_like(third["kernel"]).at[row, column, 0, 0].set(1.0)
    return first, second, {"kernel": kernel, "bias": third["bias"].at[0].set(-_TOP)}


def undo_brightness(params: dict[str, Layer], *, gain: float, offset: float) -> dict[str, Layer]:
    """Lets layers 4 to 6 see `(x - offset) / gain` in place of the image `x` behind layer 3.

    Args:
      params: of a `DeconvNet` in which the maps behind layer 3 add up to `x`.
      gain: above 0.
      offset: in the unit of `x`.

    Returns:
      Params with another layer 4.
    """
    first = params["refine_1"]
    kernel = first["kernel"] / gain
    constant = kernel.mean(axis=2).sum(axis=(0, 1))  # what a constant image gives
    layer = {"kernel": kernel, "bias": first["bias"] - offset * constant}
    return {**params, "refine_1": layer}


def _cosine_filters() -> np.ndarray:
    """Two-dimensional DCT-II basis without its constant, `(side, side, side² - 1)`."""
    index = np.arange(_COSINES)
    basis = np.cos(np.pi * np.outer(index, index + 0.5) / _COSINES) * np.sqrt(2.0 / _COSINES)
    basis[0] /= np.sqrt(2.0)
    filters = np.einsum("ai,bj->ijab", basis, basis).reshape(_COSINES, _COSINES, -1)
    return filters[..., 1:].astype(np.float32)


def _add_shrinkage(first: Layer, second: Layer, third: Layer) -> tuple[Layer, Layer, Layer]:
    """Takes what a threshold cuts from the local cosine coefficients off the output."""
    filters = jnp.asarray(_cosine_filters())
    count = filters.shape[-1]
    bend = 1.0 - _NEGATIVE_SLOPE
    above = slice(_LINE + 1, _LINE + 1 + count)
    below = slice(above.stop, above.stop + count)

    # Layer 4: leaky(a + threshold) and leaky(a - threshold) of every coefficient a.
    rows, columns = ((side - _COSINES) // 2 for side in first["kernel"].shape[:2])
    window = (slice(rows, rows + _COSINES), slice(columns, columns + _COSINES))
    kernel = first["kernel"].at[..., above.start : below.stop].set(0.0)
    kernel = kernel.at[*window, :, above].set(filters[:, :, None])
    kernel = kernel.at[*window, :, below].set(filters[:, :, None])
    bias = first["bias"].at[above].set(_THRESHOLD).at[below].set(-_THRESHOLD)
    first = {"kernel": kernel, "bias": bias}

    # Layer 5: their difference is clip(a, ±threshold) + threshold, never negative.
    outputs = 1 + jnp.arange(count)
    mixing = second["kernel"].at[..., 1 : 1 + count].set(0.0)
    mixing = mixing.at[0, 0, jnp.arange(above.start, above.stop), outputs].set(1.0 / bend)
    mixing = mixing.at[0, 0, jnp.arange(below.start, below.stop), outputs].set(-1.0 / bend)
    offset = -2.0 * _NEGATIVE_SLOPE * _THRESHOLD / bend
    second = {"kernel": mixing, "bias": second["bias"].at[1 : 1 + count].set(offset)}

    # Layer 6: each pixel is in so many windows; cosines have mean zero, so the offset is lost.
    synthesis = -_MIDDLE_SLOPE / _COSINES**2 * filters[::-1, ::-1]
    kernel = third["kernel"].at[:, :, 1 : 1 + count, 0].set(synthesis)
    return first, second, {"kernel": kernel, "bias": third["bias"]}
