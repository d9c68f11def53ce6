"""JPEG's losses against Pillow, which writes and reads real files."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from glra_jax import jpeg

compress = jax.jit(jpeg.compress)


def through_a_file(pixels, quality):
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    image.save(file, format="JPEG", quality=quality, subsampling="4:2:0" if pixels.ndim == 3 else 0)
    return np.float64(Image.open(file)) / 255


@pytest.mark.parametrize("quality", [60, 90])
def test_grey_images_lose_what_a_file_loses(photograph, quality):
    pixels = np.uint8(np.round(255 * photograph))
    expected = through_a_file(pixels, quality)
    found = compress(pixels[..., None] / np.float32(255), quality=quality)[..., 0]
    # libjpeg computes in whole numbers: a coefficient that is nearly half a step goes elsewhere.
    assert np.mean(np.abs(found - expected) > 1.01 / 255) < 0.08
    assert np.abs(found - expected).mean() < 0.3 / 255
    assert np.abs(expected - pixels / 255).mean() > 1.0 / 255


@pytest.mark.parametrize("quality", [60, 90])
def test_colour_loses_as_much_as_in_a_file(colour_photograph, quality):
    pixels = np.uint8(np.round(255 * colour_photograph))
    expected = through_a_file(pixels, quality)
    found = compress(pixels / np.float32(255), quality=quality)
    # libjpeg interpolates the colour where this repeats it.
    lost = (np.sqrt(np.mean((image - pixels / 255.0) ** 2)) for image in (found, expected))
    assert next(lost) == pytest.approx(next(lost), rel=0.1)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.01


def test_sides_need_not_be_multiples_of_the_blocks(photograph):
    x = jnp.asarray(photograph[:41, :50, None])
    whole = compress(jnp.pad(x, ((0, 7), (0, 14), (0, 0)), mode="edge"), quality=75)
    np.testing.assert_allclose(compress(x, quality=75), whole[:41, :50], atol=1e-6)


def test_a_flat_image_stays_as_it_is():
    x = jnp.full((16, 16, 3), 100 / 255)
    np.testing.assert_allclose(compress(x, quality=50), x, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "quality", "message"),
    [
        ((8, 8), 90, r"got shape \(8, 8\)"),
        ((8, 8, 2), 90, r"got shape \(8, 8, 2\)"),
        ((8, 8, 3), 0, "from 1 to 100, got 0"),
        ((8, 8, 3), 101, "from 1 to 100, got 101"),
    ],
)
def test_impossible_values_are_refused_and_quoted(shape, quality, message):
    with pytest.raises(ValueError, match=message):
        jpeg.compress(jnp.zeros(shape), quality=quality)
