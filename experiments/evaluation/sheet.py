"""A sheet of restored photographs, each with a part enlarged."""

import io
import textwrap
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.pictures.drawing import new_figure

ZOOM = 3
_GAP = 6  # pixels between the whole and the enlarged part


@dataclass
class Example:
    """One photograph, restored by all methods; images are NumPy, the part that is scored.

    Attributes:
      name: of the case.
      kernel: `(h, w)`.
      sharp: the truth.
      images: by method, in [0, 1].
      scores: PSNR in dB by method.
    """

    name: str
    kernel: np.ndarray
    sharp: np.ndarray
    images: dict[str, np.ndarray] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


def choose_examples(count: int, wanted: int) -> list[int]:
    """Indices of `wanted` of `count` images, equally spaced."""
    wanted = min(wanted, count)
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def busiest_part(image: np.ndarray, height: int, width: int) -> tuple[int, int]:
    """Top and left of the window with most detail: the largest sum of squared differences."""
    grey = image.mean(axis=2) if image.ndim == 3 else image
    detail = np.zeros(grey.shape)
    detail[:-1] += np.diff(grey, axis=0) ** 2
    detail[:, :-1] += np.diff(grey, axis=1) ** 2
    sums = np.pad(detail.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    windows = (
        sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
        + sums[:-height, :-width]
    )  # fmt: skip
    top, left = np.unravel_index(np.argmax(windows), windows.shape)
    return int(top), int(left)


def draw_sheet(examples: list[Example]) -> bytes:
    """PNG file: a row for each photograph, a column for each method, the truth last.

    The photographs may have different methods, but equally many.
    """
    rows = [make_panels(example) for example in examples]
    shapes = [row["sharp"][0].shape for row in rows]
    heights = [shape[0] / shape[1] for shape in shapes]
    width = 3.6  # inches; with the resolution below, no panel is smaller than its pixels
    size = (width * len(rows[0]), sum(width * height + 0.3 for height in heights))
    figure = new_figure(*size)
    axes = figure.subplots(
        len(rows), len(rows[0]), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for example, row, row_axes in zip(examples, rows, axes, strict=True):
        for axis, (column, (panel, box)) in zip(row_axes, row.items(), strict=True):
            score = example.scores.get(column)
            title = (
                f"{column}, {score:.2f} dB" if score is not None else f"{column}: {example.name}"
            )
            draw_panel(axis, panel, box, title)
        add_kernel(row_axes[0], example.kernel)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def draw_panel(axis: Any, panel: np.ndarray, box: tuple[int, int, int, int], title: str) -> None:
    """Draws a panel with a frame around the part that is enlarged: left, top, width, height."""
    axis.imshow(panel, cmap="gray", vmin=0.0, vmax=1.0)
    axis.add_patch(_rectangle(box))
    axis.set_title(textwrap.fill(title, 44), fontsize=9)
    axis.set_axis_off()


def make_panels(example: Example) -> dict[str, tuple[np.ndarray, tuple[int, int, int, int]]]:
    """Whole image and enlarged part in one array by column; with the part's box."""
    height, width = (max(side // ZOOM, 1) for side in example.sharp.shape[:2])
    top, left = busiest_part(example.sharp, height, width)
    panels = {}
    for column, image in {**example.images, "sharp": example.sharp}.items():
        whole = image[: height * ZOOM, : width * ZOOM]
        part = image[top : top + height, left : left + width]
        part = part.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
        across = int(height > width)  # side by side if upright, else one below the other
        gap_shape = list(whole.shape)
        gap_shape[across] = _GAP
        panel = np.concatenate([whole, np.ones(gap_shape), part], axis=across)
        panels[column] = panel, (left, top, width, height)
    return panels


def _rectangle(box: tuple[int, int, int, int]) -> Any:
    from matplotlib.patches import Rectangle

    left, top, width, height = box
    corner = (left - 0.5, top - 0.5)
    return Rectangle(corner, width, height, fill=False, edgecolor="yellow", linewidth=0.8)


def add_kernel(axis: Any, kernel: np.ndarray) -> None:
    """Draws a blur kernel into the upper left corner of a panel."""
    inset = axis.inset_axes([0.01, 0.82, 0.17, 0.17])
    inset.imshow(kernel, cmap="gray", vmin=0.0, interpolation="nearest")
    inset.set_xticks([])
    inset.set_yticks([])
    for side in inset.spines.values():
        side.set_color("white")
