"""Strength of the noise in an image whose blur kernel is known.

A blur leaves next to nothing of the scene at some frequencies. What an image has there is noise.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal
import scipy.special

from glra_jax import validation
from glra_jax.masks import fill_masked
from glra_jax.noise import estimate_noise_by_channel, is_rounded, quantile, root
from glra_jax.spectra import folded

# Largest side of the blocks that are transformed, and most blocks along an axis.
_BLOCK = 64
_BLOCKS = 24
# Sides of what is looked at in an image: the largest that it has.
_LOOKED_AT = (*range(8, 64, 8), *range(64, 513, 64), 768, 1024)
# The most of the middle that may be clipped.
_MOST_CLIPPED = 0.9
# Share of the frequencies that is looked at: those with the least of the scene.
_FREQUENCIES = 0.25
# Share of the blocks that is taken for free of fine detail.
_SMOOTH = 0.2
# Classes of blocks by their brightness, and the least blocks of one.
_CLASSES = 4
_CLASS_SIZE = 10
# The most of a block that may be clipped or masked, or, where few are so good, masked; and what
# then counts of it behind the window, at the least.
_CLIPPED = 0.02
_MASKED = 0.5
_LEAST = 0.02


def estimate_noise_behind_blur(
    y: jax.Array, kernel: jax.Array, *, mask: jax.Array | None = None
) -> jax.Array:
    """Estimates the standard deviation of the noise in each channel of a blurred photograph.

    Blocks of 64×64 pixels are Fourier-transformed behind a window. A blurred scene is expected to
    have the power `|K|² / f²`. Of the quarter of the frequencies where that is least, the mean
    power that a fifth of the blocks stay below is that of the noise, corrected for being the lowest
    fifth. Blocks are compared with those of like brightness, as far as there are enough: the result
    is for the mean brightness of the image, where noise grows with it.

    That is right for white noise. A channel of whole levels of 8 bits comes from a file, and may
    have the noise of any colour that demosaicing and JPEG leave: there, the result is not less than
    that of `glra_jax.estimate_noise_by_channel`.

    Args:
      y: `(H, W, C)` float in [0, 1], 7 pixels or more a side. Clipped parts are left out, where
        there are others.
      kernel: `(h, w)`, sum 1.
      mask: `(H, W)`, where pixels count, see `glra_jax.deconvolve`; None everywhere.

    Returns:
      `(C,)` float32; 0 where a channel is constant.

    Raises:
      TypeError: integer image.
      ValueError: as `estimate_noise_by_channel`.
    """
    any_colour = estimate_noise_by_channel(y, mask=mask)  # refuses what is refused
    validation.check_float(kernel, "kernel")
    y = jnp.asarray(fill_masked(y, mask), jnp.float32)
    block = min(_BLOCK, *y.shape[:2])
    window = scipy.signal.windows.blackmanharris(block, sym=False)
    window = np.outer(window, window)
    scene = _expected_power(jnp.asarray(kernel, jnp.float32), block)
    looked_at = scene <= jnp.quantile(scene, _FREQUENCIES)
    # Neighbouring frequencies of windowed blocks are not independent.
    share = np.sum(window**2) ** 2 / (block**2 * np.sum(window**4))
    freedom = max(1.0, _FREQUENCIES * block**2 * share)
    expected = 2.0 * scipy.special.gammaincinv(freedom / 2, _SMOOTH) / freedom

    def level(channel: jax.Array) -> jax.Array:
        blocks = _blocks(channel, block)
        clipped = (blocks <= 0.0) | (blocks >= 1.0)
        if known is not None:
            clipped |= ~known
        clipped = jnp.mean(clipped, axis=(1, 2))
        seen = clipped <= jnp.maximum(_CLIPPED, jnp.quantile(clipped, 0.25))
        brightness = jnp.mean(blocks, axis=(1, 2))
        # Without a corner's value first, constant blocks are zero to the bit.
        blocks = blocks - blocks[:, :1, :1]
        blocks = blocks - blocks.mean(axis=(1, 2), keepdims=True)
        spectra = jnp.fft.fft2(blocks * jnp.asarray(window, jnp.float32))
        power = (spectra.real**2 + spectra.imag**2) / np.float32(np.sum(window**2))
        means = jnp.sum(looked_at * power, axis=(1, 2)) / jnp.sum(looked_at)
        if known is not None:  # what is filled in has next to no noise
            masked = jnp.mean(~known, axis=(1, 2))
            seen &= masked <= jnp.maximum(_MASKED, masked.min())
            count = jnp.sum(known * jnp.asarray(window, jnp.float32) ** 2, axis=(1, 2))
            means /= jnp.maximum(count / np.float32(np.sum(window**2)), _LEAST)
        return root(_lowest_at_mean_brightness(means, brightness, seen) / expected)

    known = None if mask is None else _blocks(jnp.asarray(mask), block)
    white = jax.vmap(level, in_axes=2)(y)
    from_file = jax.vmap(is_rounded, in_axes=(2, None))(y, mask)
    return jnp.where(from_file, jnp.maximum(white, any_colour), white)


def _lowest_at_mean_brightness(
    power: jax.Array, brightness: jax.Array, seen: jax.Array
) -> jax.Array:
    """The low quantile of the blocks' power, where their brightness is the mean.

    Photons are counted with more noise where there are more of them. The quantile of all blocks
    would be that of the dark ones. It is taken in classes of like brightness; of the straight
    lines between two of them, across the mean, the lowest counts: detail only adds to power.

    Args:
      power: `(n,)`.
      brightness: `(n,)`.
      seen: `(n,)`, True for those that count.

    Returns:
      Scalar.
    """
    overall = quantile(power, seen, _SMOOTH)
    classes = min(_CLASSES, power.size // _CLASS_SIZE)
    if classes < 2:
        return overall
    count = jnp.maximum(jnp.sum(seen), 1)
    ranks = jnp.argsort(jnp.argsort(jnp.where(seen, brightness, jnp.inf)))
    member = seen & (jnp.arange(classes)[:, None] == classes * ranks // count)
    mean = jnp.sum(jnp.where(seen, brightness, 0.0)) / count
    places = jnp.sum(jnp.where(member, brightness, 0.0), axis=1)
    places = places / jnp.maximum(jnp.sum(member, axis=1), 1)
    dark, bright = places[:, None], places[None, :]
    around = (dark <= mean) & (mean <= bright) & (dark < bright)
    share = (mean - dark) / jnp.where(around, bright - dark, 1.0)
    lowest = jax.vmap(lambda one: quantile(power, one, _SMOOTH))(member)
    lines = lowest[:, None] + share * (lowest[None, :] - lowest[:, None])
    found = jnp.min(jnp.where(around, lines, jnp.inf))
    few = count < classes * _CLASS_SIZE // 2
    return jnp.where(few | ~jnp.any(around), overall, found)


def middle(images: Any, known: Any = None) -> tuple[Any, Any]:
    """Cuts out of `(N, H, W, C)` what is enough to estimate the noise, of one of few sizes.

    Little has to be compiled for them. Where the middle is all but clipped or masked, another part
    of that size is taken, the one with the least of it, unless images are traced.

    Args:
      images: the images.
      known: `(N', H, W, 1)`, 1 where they count; None everywhere.

    Returns:
      Both, cut alike.
    """
    sizes = images.shape[1:3]
    sides = [max((side for side in _LOOKED_AT if side <= size), default=size) for size in sizes]

    def cut(top: int, left: int) -> tuple[Any, Any]:
        place = slice(None), slice(top, top + sides[0]), slice(left, left + sides[1])
        return images[place], None if known is None else known[place]

    def unusable(start: tuple[int, int]) -> float:
        part, seen = cut(*start)
        clipped = (part <= 0.0) | (part >= 1.0)
        return float((clipped if seen is None else clipped | (seen == 0)).mean())

    top, left = ((size - side) // 2 for size, side in zip(sizes, sides, strict=True))
    looked_into = validation.is_known(images) and validation.is_known(known)
    if looked_into and unusable((top, left)) > _MOST_CLIPPED:
        rows, columns = (
            np.linspace(0, size - side, -(-size // side)).astype(int).tolist()
            for size, side in zip(sizes, sides, strict=True)
        )
        top, left = min(itertools.product(rows, columns), key=unusable)
    return cut(top, left)


def _expected_power(kernel: jax.Array, block: int) -> jax.Array:
    """Power of a blurred scene up to a factor, `(block, block)`; infinite at the lowest ones."""
    spectrum = jnp.fft.fft2(folded(kernel, block))
    power = spectrum.real**2 + spectrum.imag**2
    # The window mixes neighbours.
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    power = sum((jnp.roll(power, shift, axis=(0, 1)) for shift in shifts), jnp.zeros_like(power))
    frequency = np.minimum(np.arange(block), block - np.arange(block))
    squared = np.add.outer(frequency**2, frequency**2).astype(np.float32)
    return jnp.where(squared < 4, jnp.inf, power / np.maximum(squared, 1))


def _blocks(y: jax.Array, block: int) -> jax.Array:
    """Blocks of `(H, W)`, which overlap by half or lie apart evenly, `(n, block, block)`."""
    places = []
    for size in y.shape:
        count = min(_BLOCKS, max(1, -(-2 * size // block) - 1))
        starts = np.unique(np.linspace(0, size - block, count).astype(int))
        places.append(starts[:, None] + np.arange(block))
    cut = y[places[0][:, None, :, None], places[1][None, :, None, :]]
    return cut.reshape(-1, block, block)
