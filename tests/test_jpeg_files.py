"""The noise that JPEG's steps stand for, known from files and seen in pixels."""

import io

import numpy as np
import pytest
import scipy.ndimage
import skimage.data
from PIL import Image

from glra_jax.jpeg_files import file_noise, pixel_noise

BLURRED = np.rint(scipy.ndimage.gaussian_filter(skimage.data.camera().astype(float), 1.6))
BLURRED = BLURRED.astype(np.uint8)[100:360, 150:410]


def jpeg(pixels: np.ndarray, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


@pytest.mark.parametrize("quality", [85, 75, 50])
@pytest.mark.parametrize("colour", [False, True])
def test_pixels_show_what_the_file_says(quality, colour):
    """Wherever the blocks begin. The level is 1.3 steps/√12 of what is coded."""
    pixels = np.stack([BLURRED, BLURRED, 255 - BLURRED], 2) if colour else BLURRED
    image = jpeg(pixels, quality)
    known = file_noise(image)
    steps = np.asarray(image.quantization[0], np.float64)
    least, middle = (1.3 * value / np.sqrt(12) / 255 for value in (steps.min(), np.median(steps)))
    assert least < known < middle
    cropped = np.asarray(image)[3:, 5:].astype(np.float32) / 255
    assert pixel_noise(cropped) == pytest.approx(known, rel=0.35)


def test_the_level_grows_as_the_quality_falls():
    levels = [file_noise(jpeg(BLURRED, quality)) for quality in (95, 85, 75, 50, 30)]
    assert levels == sorted(levels)
    assert levels[0] < 0.004
    assert levels[-1] > 0.02


def test_no_jpeg_is_seen_where_there_was_none():
    noisy = BLURRED + np.random.default_rng(0).normal(0, 5, BLURRED.shape)
    for pixels in (BLURRED, noisy, skimage.data.text(), np.full((64, 64), 7)):
        levels = np.rint(np.clip(pixels, 0, 255)).astype(np.float32)
        assert pixel_noise(levels / 255) == 0
    assert pixel_noise(np.asarray(jpeg(BLURRED, 50), np.float32) / 255 + 1e-4) == 0  # no levels
    assert pixel_noise(np.zeros((5, 5), np.float32)) == 0
    assert file_noise(Image.fromarray(BLURRED)) is None
