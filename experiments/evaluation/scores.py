"""Scores of restored images, their means, intervals and comparisons.

Every output is clipped to [0, 1] before it is scored, all three channels together. Where the
blurred image is brighter than the truth by a factor that methods do not know (protocol
"release"), an output is scored three times: as it is, divided by the mean of that factor, and
divided by the image's own.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from glra_jax.metrics import psnr, ssim, ssim_volume

MEAN_GAIN = 1.1

AS_IT_IS, MEAN_FACTOR, TOLD_FACTOR = "as it is", "÷ 1.1", "÷ own factor"
CORRECTIONS = (AS_IT_IS, MEAN_FACTOR, TOLD_FACTOR)

LEVEL = 0.95
RESAMPLES = 10_000
FEWEST_PHOTOGRAPHS = 6  # of fewer, no interval of resampled means covers what it says it does


@dataclass(frozen=True)
class Record:
    """Scores of one image restored by one method.

    Attributes:
      image: name of the case.
      method: label of the method.
      correction: one of `CORRECTIONS`.
      psnr: dB.
      ssim: mean over channels.
      ssim_volume: with the channels as a third axis.
      seconds: of the restoration.
    """

    image: str
    method: str
    correction: str
    psnr: float
    ssim: float
    ssim_volume: float
    seconds: float


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval.

    Attributes:
      mean: over images.
      low: lower end; NaN where there are too few photographs for an interval.
      high: upper end.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Means over images of one method under one correction.

    Attributes:
      method: label.
      correction: one of `CORRECTIONS`.
      images: how many.
      psnr: dB.
      ssim: mean over channels.
      ssim_volume: with the channels as a third axis.
      seconds: mean time of an image.
    """

    method: str
    correction: str
    images: int
    psnr: Interval
    ssim: Interval
    ssim_volume: Interval
    seconds: float


@jax.jit
def _score(
    restored: jax.Array, truth: jax.Array, divisor: jax.Array, subtract: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    image = jnp.clip((restored - subtract) / divisor, 0.0, 1.0)
    return psnr(image, truth), ssim(image, truth), ssim_volume(image, truth)


def score_image(
    restored: np.ndarray, truth: np.ndarray, *, divisor: float = 1.0, subtract: float = 0.0
) -> tuple[float, float, float]:
    """PSNR, SSIM and volume SSIM of `(restored - subtract) / divisor`, clipped to [0, 1].

    Args:
      restored: float, the part that counts.
      truth: of the same shape, in [0, 1].
      divisor: above 0.
      subtract: level.

    Returns:
      dB, and two numbers of at most 1.
    """
    scores = _score(restored, truth, np.float32(divisor), np.float32(subtract))
    first, second, third = (float(value) for value in jax.device_get(scores))
    return first, second, third


def corrections(gain: float | None, subtract: float) -> dict[str, tuple[float, float]]:
    """Divisor of an output, and level subtracted before, by correction.

    Args:
      gain: of the blurred image; None where there is no such factor.
      subtract: mean of the noise, where it is taken off.
    """
    found = {AS_IT_IS: (1.0, 0.0)}
    if gain is not None:
        found |= {MEAN_FACTOR: (MEAN_GAIN, subtract), TOLD_FACTOR: (gain, subtract)}
    return found


def bootstrap(
    values: Sequence[float] | np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
) -> Interval:
    """Mean with its 95 % bootstrap interval, resampled over photographs.

    Percentiles of `RESAMPLES` means, so far out that the interval is as wide as Student's for few
    photographs (Hesterberg, "What Teachers Should Know About the Bootstrap", The American
    Statistician 69(4), 2015, section 4.3.2: the expanded percentile interval). Images of one
    photograph are alike and are drawn together (Davison & Hinkley, "Bootstrap Methods and their
    Application", 1997, section 3.8). The same photographs are drawn for every method.

    Args:
      values: one for each image.
      clusters: the photograph of each; every image is one of its own if not given.
      seed: of the resampling.

    Returns:
      Mean and interval; NaN for the interval of fewer than `FEWEST_PHOTOGRAPHS`.
    """
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    names = range(values.size) if clusters is None else clusters
    members: dict[Hashable, list[float]] = {}
    for name, value in zip(names, values.tolist(), strict=True):
        members.setdefault(name, []).append(value)
    count = len(members)
    if count < FEWEST_PHOTOGRAPHS:
        return Interval(mean, float("nan"), float("nan"))
    sums, sizes = np.array([[np.sum(m), len(m)] for m in members.values()]).T
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    reach = np.sqrt(count / (count - 1)) * stats.t.ppf((1 + LEVEL) / 2, count - 1)
    ends = np.quantile(means, stats.norm.cdf([-reach, reach]))
    return Interval(mean, float(ends[0]), float(ends[1]))


def summarize(
    records: Iterable[Record], photographs: Mapping[str, str] | None = None
) -> list[Summary]:
    """Means by method and correction, in the order of first appearance of the methods.

    Args:
      records: of the same images for every method.
      photographs: by image, where a photograph has several; the image itself for all others.
    """
    known = photographs or {}

    def interval(rows: list[Record], name: str) -> Interval:
        clusters = [known.get(row.image, row.image) for row in rows]
        return bootstrap([getattr(row, name) for row in rows], clusters)

    groups: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        groups.setdefault(record.method, {}).setdefault(record.correction, []).append(record)
    return [
        Summary(
            method,
            correction,
            len(rows),
            interval(rows, "psnr"),
            interval(rows, "ssim"),
            interval(rows, "ssim_volume"),
            float(np.mean([row.seconds for row in rows])),
        )
        for method, by_correction in groups.items()
        for correction, rows in by_correction.items()
    ]


def count_wins(
    records: Iterable[Record], correction: str, photographs: Mapping[str, str] | None = None
) -> tuple[list[str], np.ndarray]:
    """Counts the photographs on which each method has a higher PSNR than each other.

    Args:
      records: of the same images for every method.
      correction: whose records are compared.
      photographs: see `summarize`; what counts is the mean PSNR over the images of one.

    Returns:
      The methods, and `(n, n)` counts: row beats column. Ties count for neither.
    """
    known = photographs or {}
    values: dict[str, dict[str, list[float]]] = {}
    for record in records:
        if record.correction == correction:
            of_method = values.setdefault(record.method, {})
            of_method.setdefault(known.get(record.image, record.image), []).append(record.psnr)
    scores = {
        method: {name: float(np.mean(psnr)) for name, psnr in by_photograph.items()}
        for method, by_photograph in values.items()
    }
    methods = list(scores)
    wins = [[sum(scores[a][i] > scores[b][i] for i in scores[a]) for b in methods] for a in methods]
    return methods, np.asarray(wins, int).reshape(len(methods), len(methods))
