"""Triplets of files as the authors of the paper released them.

`NAME_batch.png` is the blurred photograph, `NAME_gt.png` the sharp one and `NAME_kernel.png` the
kernel, to be divided by its sum. On their BSD100 set, `batch = clip(s · (k ⊛ gt) + u)`: `⊛`
circular, `s` drawn uniformly from [1, 1.2] for each image, and `u` noise, uniform in [0, 0.01].
"""

from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from experiments.evaluation.cases import Case, PendingCase, as_floats
from glra_jax.blurring import blur
from glra_jax.photo_files import read_kernel, read_photo

_ENDINGS = ("batch", "gt", "kernel")
_FEWEST_PIXELS = 100
_ALIKE = 0.98  # cosine; that of a disk with the nearest Gaussian is 0.90


def find_triplets(folder: Path) -> list[str]:
    """Names of the triplets in a folder, sorted.

    Raises:
      NotADirectoryError: not a folder.
      FileNotFoundError: no triplet, or files missing from some (all are listed).
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder of triplets (NAME_batch.png, ...)")
    found: dict[str, set[str]] = {}
    for path in folder.glob("*.png"):
        name, _, ending = path.stem.rpartition("_")
        if name and ending in _ENDINGS:
            found.setdefault(name, set()).add(ending)
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no triplets: files NAME_batch.png, NAME_gt.png and NAME_kernel.png"
        )
    missing = [
        f"{name}_{ending}.png"
        for name in sorted(found)
        for ending in _ENDINGS
        if ending not in found[name]
    ]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} file(s) of its {len(found)} triplets: "
            + ", ".join(missing)
        )
    return sorted(found)


def triplet_cases(folder: Path, *, limit: int | None = None) -> list[PendingCase]:
    """Reads triplets.

    Args:
      folder: with the files.
      limit: how many, the first by name; None takes all.

    Returns:
      A case for each, its factor fitted when it is made.

    Raises:
      NotADirectoryError: not a folder.
      FileNotFoundError: see `find_triplets`.
      ValueError: a file that cannot be read, images of two sizes, a blurred one that is saturated
        all over, or a kernel without a positive sum.
    """
    return [_read_triplet(folder, name) for name in find_triplets(folder)[:limit]]


def fit_gain(blurred: np.ndarray, sharp: np.ndarray, kernel: np.ndarray) -> tuple[float, float]:
    """Fits `blurred = s · (kernel ⊛ sharp) + u` where the sensor is not saturated.

    Least squares over all channels together; `⊛` is circular.

    Args:
      blurred: float in [0, 1]; pixels at 1 are left out.
      sharp: of the same shape.
      kernel: sum 1.

    Returns:
      The factor `s` and the offset `u`.

    Raises:
      ValueError: hardly a pixel is unsaturated.
    """
    prediction = np.asarray(blur(jnp.asarray(sharp), jnp.asarray(kernel)), np.float64)
    below = blurred < 1.0
    _check_unsaturated(below)
    terms = np.stack([prediction[below], np.ones(int(below.sum()))], axis=1)
    gain, offset = np.linalg.lstsq(terms, blurred[below].astype(np.float64), rcond=None)[0]
    return float(gain), float(offset)


def _check_unsaturated(below: np.ndarray) -> None:
    if below.sum() < _FEWEST_PIXELS:
        raise ValueError(
            f"only {below.sum()} of {below.size} values are below saturation: no factor can be "
            f"fitted"
        )


def recognize_family(kernel: np.ndarray) -> str | None:
    """Recognizes a Gaussian or a disk in the middle of its array.

    A disk of a radius below 0.8 pixels looks like a Gaussian.

    Args:
      kernel: `(h, w)`.

    Returns:
      `"gaussian"`, `"disk"`, or None for all others.
    """
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in kernel.shape)
    radius = np.hypot(rows[:, None], columns).ravel()
    sizes = np.geomspace(0.3, max(kernel.shape), 200)[:, None]
    candidates = {
        "gaussian": np.exp(-0.5 * (radius / sizes) ** 2),
        "disk": np.clip(sizes + 0.5 - radius, 0.0, 1.0),
    }
    unit = kernel.astype(np.float64).ravel() / np.linalg.norm(kernel)
    cosines = {
        name: float(np.max(shapes @ unit / np.linalg.norm(shapes, axis=1)))
        for name, shapes in candidates.items()
    }
    best = max(cosines, key=lambda name: cosines[name])
    return best if cosines[best] > _ALIKE else None


def _read_triplet(folder: Path, name: str) -> PendingCase:
    batch, gt = (read_photo(folder / f"{name}_{ending}.png").colour for ending in _ENDINGS[:2])
    if batch.shape != gt.shape:
        raise ValueError(
            f"{folder / name}: the blurred image is {batch.shape} and the sharp one {gt.shape}; "
            f"they must be of one size"
        )
    try:
        _check_unsaturated(batch < np.iinfo(batch.dtype).max)
    except ValueError as error:
        raise ValueError(f"{folder / name}_batch.png: {error}; leave it out") from error
    kernel = read_kernel(folder / f"{name}_kernel.png")
    if kernel.sum() <= 0:
        raise ValueError(f"{folder / name}_kernel.png is black; a kernel has a positive sum")
    kernel = (kernel / kernel.sum()).astype(np.float32)
    make = partial(_make, name, batch, gt, kernel)
    family = recognize_family(kernel)
    return PendingCase(name, batch.shape, kernel.shape, make, family=family)


def _make(name: str, batch: np.ndarray, gt: np.ndarray, kernel: np.ndarray) -> Case:
    blurred, sharp = as_floats(batch), as_floats(gt)
    gain, _ = fit_gain(blurred, sharp, kernel)
    return Case(name, blurred, sharp, kernel, gain)
