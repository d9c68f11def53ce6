"""Figures 4 to 6: one blurred photograph, restored by all methods side by side, each enlarged."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.evaluation.cases import scored_part
from experiments.evaluation.methods import Method
from experiments.evaluation.scores import score_image
from experiments.evaluation.sheet import Example, add_kernel, draw_panel, make_panels
from experiments.pictures.drawing import Track, new_figure, silent
from glra_jax.degradation import degraded_pair

_WIDTH = 3.4  # of a panel, inches
_MOST_IN_A_ROW = 5

_degrade = jax.jit(partial(degraded_pair, protocol="paper"))


def compute_comparison(
    key: jax.Array,
    photograph: np.ndarray,
    kernel: jax.Array,
    methods: Sequence[Method],
    *,
    noise: float,
    track: Track[Method] = silent,
) -> Example:
    """Blurs a photograph as the paper's text has it, and restores it by every method.

    The photograph is brightened by 1.2 and saturates, before it is blurred circularly. As many
    pixels as the kernel has are left out on each side, where methods continue it differently.

    Args:
      key: of the noise.
      photograph: `(H, W)` or `(H, W, 3)` in [0, 1].
      kernel: `(h, w)`.
      methods: that restore it.
      noise: standard deviation.
      track: shows progress over the methods.

    Returns:
      Images by title of the method, with their PSNR against the saturated photograph.
    """
    x = jnp.asarray(photograph)
    pair = _degrade(key, x, kernel, noise=noise)
    sharp, blurred = np.asarray(pair.sharp), np.asarray(pair.blurred)
    margin = max(kernel.shape)
    example = Example("sharp", np.asarray(kernel), scored_part(sharp, margin))
    for method in track(methods):
        restored = np.clip(method.restore(blurred, np.asarray(kernel)), 0.0, 1.0)
        image = scored_part(restored, margin)
        example.images[method.title] = image
        example.scores[method.title] = score_image(image, example.sharp)[0]
    return example


def tabulate_comparison(example: Example) -> list[dict[str, object]]:
    """A row for each method: PSNR and SSIM."""
    return [
        {"method": name, "psnr": example.scores[name], "ssim": score_image(image, example.sharp)[1]}
        for name, image in example.images.items()
    ]


def draw_comparison(example: Example) -> Any:
    """A panel for each method and the truth last: the photograph, and its busiest part enlarged."""
    panels = make_panels(example)
    rows = -(-len(panels) // _MOST_IN_A_ROW)
    columns = -(-len(panels) // rows)
    height, width = next(iter(panels.values()))[0].shape[:2]
    figure = new_figure(_WIDTH * columns, rows * (_WIDTH * height / width + 0.3))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (name, (panel, box)) in zip(axes, panels.items(), strict=False):
        score = example.scores.get(name)
        draw_panel(axis, panel, box, name if score is None else f"{name}, {score:.2f} dB")
    add_kernel(axes[0], example.kernel)
    return figure
