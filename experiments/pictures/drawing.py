"""Helpers of all figures: colours, sizes, and writing a picture with its numbers beside it."""

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from glra_jax.atomic_files import write_atomically
from glra_jax.kernel_families import FAMILIES

T = TypeVar("T")
# Yields the items that a figure is computed from, and may show progress.
Track = Callable[[Sequence[T]], Iterable[T]]

# Okabe and Ito's colours, which the colour-blind tell apart; markers say the same again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#F0E442")
MARKERS = "os^vPX"
FAMILY_COLOURS = dict(zip(FAMILIES, itertools.cycle(COLOURS), strict=False))
FAMILY_MARKERS = dict(zip(FAMILIES, itertools.cycle(MARKERS), strict=False))
FAMILY_NAMES = {name: name for name in FAMILIES} | {"gaussian": "Gaussian"}

_DPI = 140


def silent(items: Sequence[T]) -> Iterable[T]:
    """A `Track` that shows nothing."""
    return items


def new_figure(
    width: float, height: float, *, layout: Literal["constrained", "compressed"] = "constrained"
) -> Any:
    """An empty figure of a size in inches; the layout "compressed" suits grids of pictures.

    Matplotlib's object-oriented interface leaves its global state alone.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def show_image(axis: Any, image: np.ndarray, title: str) -> None:
    """Draws a photograph in [0, 1], `(H, W)` or `(H, W, 3)`, without ticks."""
    axis.imshow(image, cmap="gray", vmin=0.0, vmax=1.0)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def show_kernel(axis: Any, kernel: np.ndarray) -> None:
    """Draws a blur kernel, white where it is strongest, without ticks."""
    axis.imshow(kernel, cmap="gray", vmin=0.0, vmax=kernel.max(), interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])


def label_curves(axis: Any, label: str) -> None:
    """Labels the axis of a curve and gives it a light grid."""
    axis.set_xlabel(label)
    axis.grid(True, which="major", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)


def csv_bytes(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Rows of equal keys as a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name as a compressed NumPy archive."""
    buffer = io.BytesIO()
    by_name: dict[str, Any] = dict(arrays)
    np.savez_compressed(buffer, **by_name)
    return buffer.getvalue()


def png_bytes(figure: Any) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def save(files: Mapping[Path, bytes], *, overwrite: bool) -> None:
    """Writes files, each whole or not at all.

    Raises:
      FileExistsError: one exists and `overwrite` is False.
    """
    for path, data in files.items():
        write_atomically(path, data, overwrite=overwrite)
