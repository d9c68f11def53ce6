"""Blur kernels of files: one, or several that hold at places of the photograph."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax.commands.deblur_options import Deblur
from glra_jax.kernel_backgrounds import background_share, without_background
from glra_jax.kernels import normalize_kernel
from glra_jax.networks import Architecture
from glra_jax.numpy_files import read_archive
from glra_jax.photo_files import read_kernel
from glra_jax.validation import check_kernel

# Of files with several kernels.
SEVERAL = ".npz"
_NAMES = ("kernels", "centres")
_HOW = (
    "save it by numpy.savez(FILE, kernels=..., centres=...), of kernels (K, h, w) and their rows "
    "and columns in the photograph, (K, 2)"
)

Centres = tuple[np.ndarray, np.ndarray]


class KernelGrid(NamedTuple):
    """Kernels `(R, Q, h, w)` of a file, and the rows `(R,)` and columns `(Q,)` where they hold."""

    kernels: np.ndarray
    centres: Centres


@dataclass(frozen=True)
class FileKernel:
    """A blur kernel of a file, or a grid of them.

    Attributes:
      values: of sum 1, `(h, w)` or `(R, Q, h, w)`.
      described: what is to be said of it.
      centres: rows and columns where those of a grid hold, see `glra_jax.deconvolve_varying`; None
        for one kernel.
    """

    values: jax.Array
    described: tuple[str, ...]
    centres: Centres | None = None

    def nearest(self, shape: tuple[int, ...]) -> jax.Array:
        """The kernel, or that next to the middle of a photograph of a shape."""
        if self.centres is None:
            return self.values
        row, column = (
            int(np.abs(places - (size - 1) / 2).argmin())
            for places, size in zip(self.centres, shape, strict=False)
        )
        return self.values[row, column]


def read_kernels(options: Deblur, path: Path) -> np.ndarray | KernelGrid:
    """Reads what a file holds: a kernel `(h, w)`, or a grid of them from `.npz`.

    Raises:
      OSError: a file that may not be read.
      ValueError: another kind of file, arrays of other shapes, or centres that are no grid; options
        that are for one kernel.
    """
    if path.suffix.lower() != SEVERAL:
        return read_kernel(path)
    _check_options(options, path)
    kernels, centres = _arrays(path)
    place = {tuple(centre): index for index, centre in enumerate(centres.tolist())}
    if len(place) < len(centres):
        raise ValueError(f"{path}: several kernels have the same centre; keep one of them")
    rows, columns = (np.unique(places) for places in centres.T)
    for row in rows.tolist():
        for column in columns.tolist():
            if (row, column) not in place:
                raise ValueError(
                    f"{path}: the centres of {len(centres)} kernels must be a grid, in which all "
                    f"rows have the same columns; none is at row {row:g}, column {column:g}"
                )
    order = np.array([[place[r, c] for c in columns.tolist()] for r in rows.tolist()])
    return KernelGrid(kernels[order], (rows, columns))


def file_kernel(
    options: Deblur, path: Path, raw: np.ndarray | KernelGrid, architecture: Architecture
) -> FileKernel:
    """Makes a kernel of what a file holds; raises ValueError where the model cannot take it."""
    if isinstance(raw, KernelGrid):
        return _file_kernels(options, path, raw, architecture)
    share = background_share(raw)
    if options.kernel_background == "subtract":
        raw = without_background(raw)
    kernel = _checked_kernel(path, raw, architecture)
    rows, columns = kernel.shape
    described = [f"{path}: {rows}×{columns}, divided by its sum {raw.sum():g}"]
    if share > 0:
        done = "subtracted" if options.kernel_background == "subtract" else "kept as blur"
        described.append(
            f"{path}: a background of {100 * share:.0f} % of the sum is {done} "
            f"(--kernel-background keep or subtract)"
        )
    return FileKernel(kernel, tuple(described))


def _file_kernels(
    options: Deblur, path: Path, raw: KernelGrid, architecture: Architecture
) -> FileKernel:
    """Makes kernels of a grid that a file holds."""
    rows, columns, height, width = raw.kernels.shape
    made: list[jax.Array] = []
    notes: list[str] = []
    for index, one in enumerate(raw.kernels.reshape(-1, height, width)):
        where = f"{path}, kernel at row {raw.centres[0][index // columns]:g}, column "
        where += f"{raw.centres[1][index % columns]:g}"
        found = file_kernel(options, Path(where), one, architecture)
        made.append(found.values)
        notes += found.described[1:]  # of backgrounds
    places = [", ".join(f"{place:g}" for place in axis) for axis in raw.centres]
    described = (
        f"{path}: {rows}×{columns} kernels of {height}×{width}, each divided by its sum; rows "
        f"{places[0]}, columns {places[1]}"
    )
    values = jnp.stack(made).reshape(raw.kernels.shape)
    return FileKernel(values, (described, *notes), raw.centres)


def _checked_kernel(path: Path, raw: np.ndarray, architecture: Architecture) -> jax.Array:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the background, which is said
            kernel = normalize_kernel(raw).astype(np.float32)
        check_kernel(kernel, support=architecture.largest_kernel)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return kernel


def _check_options(options: Deblur, path: Path) -> None:
    what = f"{path} holds blur that varies over the photograph"
    if options.boundary == "wrap":
        raise ValueError(f"{what}, which does not wrap around; take --boundary edge or reflect")
    if options.refine_kernel:
        raise ValueError(f"{what}, and --refine-kernel is for one kernel; leave it out")
    if options.regularization is not None:
        raise ValueError(
            f"{what}, for which --regularization {options.regularization:g} cannot be told; leave "
            f"it out"
        )


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = read_archive(path)
    if lost := [name for name in _NAMES if name not in arrays]:
        there = ", ".join(arrays) or "nothing"
        raise ValueError(
            f"{path} is no file of kernels that vary: it has no array {lost[0]!r} but {there}; "
            f"{_HOW}"
        )
    kernels, centres = (arrays[name] for name in _NAMES)
    for name, values, rank in (("kernels", kernels, 3), ("centres", centres, 2)):
        if values.dtype.kind not in "fiub" or values.ndim != rank or values.size == 0:
            raise ValueError(f"{path}: {name} is {values.dtype}{values.shape}; {_HOW}")
    if centres.shape != (len(kernels), 2):
        raise ValueError(
            f"{path}: {len(kernels)} kernels need centres of shape ({len(kernels)}, 2), rows and "
            f"columns, got {centres.shape}"
        )
    if not np.isfinite(centres).all():
        raise ValueError(f"{path}: centres must be finite, got {centres.tolist()}")
    return kernels.astype(np.float64), centres.astype(np.float64)
