"""How well a blur kernel explains the spectrum of a photograph.

The gradients of a photograph blurred by a kernel of the spectrum `K` have about the power
`|K|² S + σ² |D|²`, where `S`, that of the sharp gradients, is smooth: without `K` it would be about
constant, since the power of photographs falls as `1 / f²`. What a kernel leaves in a spectrum are
zeros and valleys, which no smooth `S` explains. The likelihood of a spectrum that is measured is
Whittle's: each value is as exponentially distributed about its expectation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Blocks along an axis, for the most.
_BLOCKS = 24
# Cycles a block below which nothing is looked at.
_LOWEST = 2.5
# Cycles a pixel between which a block's strength is measured.
_MIDDLE = (0.03, 0.25)
# The most of a block that may be clipped or masked.
_CLIPPED = 0.02
# Power that is none, beside which even rounding is much.
_NONE = 1e-30
# Of a Hann window, the square of its spectrum at 0, 1/2, 1, 3/2 cycles; it is 0 at 2, 3, ...
_HANN = np.array([1.0, (8 / (3 * np.pi)) ** 2, 0.25, (8 / (15 * np.pi)) ** 2], np.float32)
_STENCIL = np.concatenate([_HANN[:0:-1], _HANN]) / (2 * _HANN.sum() - 1.0)
# Values of a windowed spectrum are not independent of their neighbours.
_INDEPENDENT = 1.0 / 1.5**2
# Terms of log S: strength, slope, curvature, and how it varies with the direction; the standard
# deviations of what they are in photographs, by and large.
_SPREADS = np.array([1e3, 0.6, 0.15, 0.4, 0.4, 0.2, 0.2], np.float32)
_TERMS = len(_SPREADS)
# Of the logarithm of the kernel's scale, and of its angle in radians: what is not to be seen, as
# the angle of a disk, stays.
_KERNEL_SPREADS = np.array([0.1, 0.1], np.float32)
# A power below all that float32 leaves of a spectrum of the unit 1.
_TINY = 1e-12
_EXACTLY = jax.lax.Precision.HIGHEST


class BlurredSpectrum(NamedTuple):
    """Mean power of the gradients in blocks of a photograph.

    Attributes:
      power: `(B, B // 2 + 1)` float32; its unit is the mean of middle frequencies.
      measurements: how many independent ones it is the mean of.
    """

    power: np.ndarray
    measurements: float


def blurred_spectrum(
    y: np.ndarray, *, block: int, known: np.ndarray | None = None
) -> BlurredSpectrum:
    """Measures the spectrum of a blurred photograph.

    Args:
      y: `(H, W)`, not smaller than a block and a pixel more.
      block: side of the blocks, even.
      known: `(H, W)`, where pixels count; None everywhere.

    Returns:
      The spectrum. Blocks that are clipped or masked by more than 2 % do not count, where there
      are others.
    """
    window = np.hanning(block + 1)[:block]
    window = np.outer(window, window)
    inside = slice(0, -1)
    gradients = np.stack([np.diff(y, axis=0)[:, inside], np.diff(y, axis=1)[inside]])
    bad = (y <= 0.0) | (y >= 1.0)
    bad = bad if known is None else bad | ~known
    places = [_starts(size, block) for size in gradients.shape[1:]]
    lost, powers = [], []
    for top in places[0]:
        for left in places[1]:
            part = (slice(top, top + block), slice(left, left + block))
            lost.append(bad[part].mean())
            spectra = np.fft.rfft2(gradients[:, *part] * window)
            powers.append((np.abs(spectra) ** 2).sum(axis=0))
    seen = np.array(lost) <= max(_CLIPPED, min(lost))
    power = np.array(powers)[seen]
    frequency = np.hypot(*_frequencies(block))
    middle = (frequency > _MIDDLE[0]) & (frequency < _MIDDLE[1])
    strengths = power[:, middle].mean(axis=1)
    # Strong blocks are no better measurements than weak ones, as far as these have no less noise.
    weights = 1.0 / (strengths + 0.1 * strengths.mean() + _NONE)
    weights /= weights.sum()
    power = np.tensordot(weights, power, 1)
    area = gradients[0].size / (block / 2) ** 2
    count = min(1.0 / (weights**2).sum(), area)
    unit = power[middle].mean()
    power = (power / unit if unit > 0 else power).astype(np.float32)
    return BlurredSpectrum(power, float(count))


class Explanation(NamedTuple):
    """What a spectrum is explained by.

    Attributes:
      scene: `(7,)`, terms of `log S`.
      noise: logarithm of `σ²`.
      change: `(2,)`: the logarithm of the kernel's scale, and the angle in radians.
    """

    scene: jax.Array
    noise: jax.Array
    change: jax.Array


def first_explanation(power: np.ndarray) -> Explanation:
    """Where the search for an explanation starts: photographs as they are, and little noise."""
    power = np.maximum(power, np.finfo(np.float32).tiny)
    noise = power / np.maximum(_differences(power.shape[0])[:, : power.shape[1]], 1.0)
    return Explanation(
        jnp.zeros(_TERMS, jnp.float32),
        jnp.asarray(np.log(np.quantile(noise, 0.05)), jnp.float32),
        jnp.zeros(2, jnp.float32),
    )


def best_explanation(
    spectrum: BlurredSpectrum,
    transfer_power: Callable[[jax.Array], jax.Array],
    start: Explanation,
    bounds: jax.Array,
    *,
    steps: jax.typing.ArrayLike,
) -> tuple[Explanation, jax.Array]:
    """Finds the scene, the noise, and the change of a kernel that explain a spectrum best.

    By Fisher's scoring, damped as by Levenberg and Marquardt. What is given back is never worse
    than `start`, and within the bounds if that is.

    Args:
      spectrum: that of a photograph, of blocks of `B` pixels.
      transfer_power: `transfer_power(change)` gives `|K|²` of a changed kernel, on the grid
        `(2 B, B + 1)` of `jnp.fft.rfft2`.
      start: where the search starts.
      bounds: `(2,)`, the most that the change may be, up or down; 0 keeps what is.
      steps: of the search; may be traced.

    Returns:
      The explanation, and minus the logarithm of its probability, but for a constant.
    """
    power, count = (jnp.asarray(part, jnp.float32) for part in spectrum)
    block = power.shape[0]
    terms, scene_mean = _scene_terms(2 * block)
    noise_shape = _smeared(jnp.asarray(_differences(2 * block), jnp.float32)[None])[0]
    weights = jnp.asarray(_INDEPENDENT * _looked_at(block), jnp.float32)
    spreads = np.concatenate([_SPREADS, [1e3], _KERNEL_SPREADS]).astype(np.float32)

    def unpacked(packed: jax.Array) -> Explanation:
        return Explanation(packed[:_TERMS], packed[_TERMS], packed[_TERMS + 1 :])

    def expected(packed: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The expected power, and its relative slopes."""
        scene, noise, change = unpacked(packed)
        slopes, transfer = jax.jacfwd(lambda c: 2 * (transfer_power(c),), has_aux=True)(change)
        slopes = jnp.moveaxis(slopes, -1, 0)
        smooth = scene_mean * jnp.exp(jnp.tensordot(scene, terms, 1))
        parts = jnp.concatenate([jnp.ones_like(terms[:1]), terms]) * transfer
        smeared = _smeared(smooth * jnp.concatenate([parts, slopes]))
        added = jnp.exp(noise) * noise_shape
        mean = smeared[0] + added + jnp.float32(_TINY)
        rows = [smeared[1 : _TERMS + 1], added[None], smeared[_TERMS + 1 :]]
        return mean, jnp.concatenate(rows) / mean

    def cost(packed: jax.Array, mean: jax.Array) -> jax.Array:
        unlikely = count * jnp.sum(weights * (jnp.log(mean) + power / mean - 1.0))
        return unlikely + 0.5 * jnp.sum((packed / spreads) ** 2)

    def step(_: jax.Array, state: _State) -> _State:
        mean, slopes = expected(state.tried)
        likely = cost(state.tried, mean)
        better = likely < state.cost
        new = state._replace(
            packed=state.tried, mean=mean, slopes=slopes, cost=likely, damping=state.damping / 4.0
        )
        old = state._replace(damping=6.0 * state.damping)
        state = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old)
        misfit = count * weights * (power / state.mean - 1.0)
        weighted = state.slopes * (count * weights)
        curvature = jnp.einsum("aij,bij->ab", weighted, state.slopes, precision=_EXACTLY)
        slope = jnp.einsum("aij,ij->a", state.slopes, misfit, precision=_EXACTLY)
        curvature += jnp.diag(spreads**-2.0 + _TINY)
        slope -= state.packed / spreads**2
        damped = curvature + state.damping * jnp.diag(jnp.diag(curvature))
        tried = state.packed + jnp.linalg.solve(damped, slope)
        held = jnp.clip(tried[_TERMS + 1 :], -bounds, bounds)
        return state._replace(tried=tried.at[_TERMS + 1 :].set(held))

    packed = jnp.concatenate([start.scene, start.noise[None], start.change])
    slopes = jnp.zeros((len(spreads), *power.shape), jnp.float32)
    first = _State(packed, packed, power, slopes, jnp.float32(jnp.inf), jnp.float32(0.04))
    last = jax.lax.fori_loop(0, steps, step, first)
    return unpacked(last.packed), last.cost


class _State(NamedTuple):
    """Of a search: what is tried next; the best so far, its expected power, slopes and cost."""

    tried: jax.Array
    packed: jax.Array
    mean: jax.Array
    slopes: jax.Array
    cost: jax.Array
    damping: jax.Array


def _starts(size: int, block: int) -> np.ndarray:
    """Places of blocks that overlap by half, or lie apart evenly."""
    count = min(_BLOCKS, max(1, -(-2 * size // block) - 1))
    return np.unique(np.linspace(0, size - block, count).astype(int))


def _frequencies(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cycles a pixel along both axes, of the grid of `rfft2`."""
    return np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]


def _differences(size: int) -> np.ndarray:
    """Power of both differences between neighbours."""
    rows, columns = _frequencies(size)
    return 4.0 * np.sin(np.pi * rows) ** 2 + 4.0 * np.sin(np.pi * columns) ** 2


def _scene_terms(size: int) -> tuple[jax.Array, jax.Array]:
    """Terms of the logarithm of a scene's power, and its mean, `4 sin²(πf) / f²`."""
    rows, columns = _frequencies(size)
    frequency = np.maximum(np.hypot(rows, columns), 1.0 / size)
    angle = np.arctan2(rows, columns)
    log = np.log(10.0 * frequency)
    directions = [np.cos(2 * angle), np.sin(2 * angle), np.cos(4 * angle), np.sin(4 * angle)]
    terms = np.stack([np.ones_like(log), -log, -(log**2), *directions])
    mean = _differences(size) / (2.0 * np.pi * frequency) ** 2
    return jnp.asarray(terms, jnp.float32), jnp.asarray(mean, jnp.float32)


def _looked_at(size: int) -> np.ndarray:
    """How often each value of half a spectrum counts: twice but for the first and last columns."""
    rows, columns = _frequencies(size)
    weights = np.where(np.hypot(rows, columns) > _LOWEST / size, 1.0, 0.0)
    weights[:, 0] *= 0.5
    weights[:, -1] *= 0.5
    return weights


def _smeared(power: jax.Array) -> jax.Array:
    """Spectra `(n, 2 B, B + 1)` as a window on B pixels mixes them, `(n, B, B // 2 + 1)`."""
    reach, size = len(_STENCIL) // 2, power.shape[1]
    flipped = jnp.roll(power[:, ::-1], 1, axis=1)  # of the other half of the spectrum
    before = flipped[:, :, 1 : reach + 1][:, :, ::-1]
    after = flipped[:, :, -1 - reach : -1][:, :, ::-1]
    power = jnp.concatenate([before, power, after], axis=2)
    power = jnp.concatenate([power[:, -reach:], power, power[:, :reach]], axis=1)
    columns = size // 4 + 1
    half = sum(
        weight * power[:, :, i : i + 2 * columns - 1 : 2] for i, weight in enumerate(_STENCIL)
    )
    return sum(weight * half[:, i : i + size - 1 : 2] for i, weight in enumerate(_STENCIL))
