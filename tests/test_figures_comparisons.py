"""Figures 4 to 6: every method on the same blurred photograph."""

import jax
import numpy as np
import pytest
from figure_helpers import numpy_convolve, numpy_psnr

import glra_jax as gx
from experiments.evaluation.methods import Method, collect
from experiments.paper_figures.comparisons import (
    compute_comparison,
    draw_comparison,
    tabulate_comparison,
)
from experiments.pictures.drawing import png_bytes


def test_scores_are_of_the_saturated_photograph(photograph):
    photograph = np.clip(photograph + np.float32(0.2), 0, 1)
    kernel = gx.disk_kernel(radius=3.0, size=9)
    half = Method("half", "model", lambda y, k: 0.5 * y, {})
    methods = [*collect(["blurred"], [], noise=0.01), half]
    example = compute_comparison(jax.random.key(0), photograph, kernel, methods, noise=0.0)
    sharp = np.clip(1.2 * photograph, 0, 1)
    blurred = np.clip(numpy_convolve(sharp, kernel), 0, 1)
    inside = (slice(9, -9),) * 2  # as many pixels as the kernel has
    np.testing.assert_allclose(example.sharp, sharp[inside], atol=1e-6)
    np.testing.assert_allclose(example.images["half"], 0.5 * blurred[inside], atol=1e-5)
    assert (example.sharp == 1.0).any()
    first, second = tabulate_comparison(example)
    assert first["psnr"] == pytest.approx(numpy_psnr(blurred[inside], sharp[inside]), abs=1e-3)
    assert second["psnr"] == pytest.approx(numpy_psnr(blurred[inside] / 2, sharp[inside]), abs=1e-3)
    assert first["ssim"] == pytest.approx(float(gx.ssim(blurred[inside], sharp[inside])), abs=1e-4)

    picture = draw_comparison(example)
    titles = [axis.get_title() for axis in picture.axes if axis.get_title()]
    assert titles == [
        f"blurred, {first['psnr']:.2f} dB", f"half, {second['psnr']:.2f} dB", "sharp"
    ]  # fmt: skip
    assert len(png_bytes(picture)) > 10_000
