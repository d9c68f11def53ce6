"""Masked pixels: nothing depends on what they hold, and little is lost with them."""

import hypothesis
import hypothesis.extra.numpy as npst
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from glra_jax.jpeg_files import pixel_noise
from glra_jax.masks import fill_masked
from glra_jax.networks import Unrolled
from glra_jax.networks.data_step import StepFilters, take_step_in_frame
from glra_jax.noise_behind_blur import estimate_noise_behind_blur, middle

SMALL = Unrolled(stages=2, features=4, blocks=1)
KERNEL = gx.motion_kernel(jax.random.key(3), size=9)
HOLE = (slice(20, 26), slice(12, 18))
restored = jax.jit(lambda y, mask, model: gx.deconvolve(y, KERNEL, model, mask=mask))
behind_blur = jax.jit(lambda y, mask: estimate_noise_behind_blur(y, KERNEL, mask=mask))


@pytest.fixture(scope="module")
def fresh():
    return gx.initial_model(jax.random.key(0), SMALL, {})


@pytest.fixture(scope="module")
def blurred(colour_photograph):
    """48×56 pixels, 1 % noise."""
    sharp = 0.9 * jnp.asarray(colour_photograph)[16:64, 20:76]
    noise = 0.01 * np.random.default_rng(0).standard_normal(sharp.shape)
    return np.asarray(gx.blur(sharp, KERNEL, boundary="edge") + noise, np.float32)


@pytest.fixture(scope="module")
def mask():
    """Every 20th pixel, and a hole."""
    found = np.random.default_rng(1).random((48, 56)) > 0.05
    found[HOLE] = False
    return found


# --- filling in ----------------------------------------------------------------------------------


@hypothesis.given(
    y=npst.arrays(np.float32, (7, 10, 2), elements=st.floats(0, 1, width=32)),
    mask=npst.arrays(bool, (7, 10)),
    bad=st.sampled_from([np.nan, np.inf, -np.inf, 1e30]),
)
def test_what_is_filled_in_lies_between_what_counts_and_knows_nothing_else(y, mask, bad):
    hypothesis.assume(mask.any())
    filled = fill_masked(y, mask)
    np.testing.assert_array_equal(filled[mask], y[mask])
    for channel in range(2):
        known = y[mask][:, channel]
        assert filled[..., channel].min() >= known.min() - 1e-6
        assert filled[..., channel].max() <= known.max() + 1e-6
    other = y.copy()
    other[~mask] = bad
    np.testing.assert_array_equal(fill_masked(other, mask), filled)


def test_a_hole_is_filled_in_as_by_a_soap_film():
    """Against Laplace's equation, solved densely; a single pixel is the mean of its neighbours."""
    rows, columns = np.mgrid[:40, :50] / 50.0
    y = np.float32(0.5 + 0.3 * np.sin(5 * rows) * columns + 0.2 * rows)
    mask = np.ones(y.shape, bool)
    mask[5, 7] = mask[12:24, 20:32] = False
    filled = fill_masked(y, mask)
    assert filled[5, 7] == pytest.approx((y[4, 7] + y[6, 7] + y[5, 6] + y[5, 8]) / 4, abs=1e-6)
    inner = [(i, j) for i in range(12, 24) for j in range(20, 32)]
    number = {place: index for index, place in enumerate(inner)}
    matrix, known = 4 * np.eye(144), np.zeros(144)
    for (i, j), index in number.items():
        for near in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if near in number:
                matrix[index, number[near]] = -1
            else:
                known[index] += y[near]
    film = np.linalg.solve(matrix, known).reshape(12, 12)
    assert np.abs(filled[12:24, 20:32] - film).max() < 0.15 * np.ptp(film)


def test_it_is_the_same_in_every_shape_and_under_jit(blurred, mask):
    filled = fill_masked(blurred, mask)
    traced = jax.jit(fill_masked)(blurred, mask)
    np.testing.assert_allclose(traced, filled, atol=1e-6)
    np.testing.assert_array_equal(fill_masked(blurred[..., 1], mask), filled[..., 1])
    pair, masks = np.stack([blurred, blurred[::-1]]), np.stack([mask, mask[::-1]])
    both = fill_masked(pair, masks)
    np.testing.assert_array_equal(both[0], filled)
    np.testing.assert_array_equal(both[1], fill_masked(blurred[::-1], mask[::-1]))
    np.testing.assert_array_equal(fill_masked(pair, mask)[0], filled)
    assert fill_masked(np.float64(blurred), mask).dtype == np.float64
    assert fill_masked(blurred, None) is blurred


# --- restoring -----------------------------------------------------------------------------------


def test_little_is_lost_with_masked_pixels(fresh, blurred, mask, colour_photograph):
    """Nearly as good as undamaged; and better than with the same pixels filled in as if known."""
    sharp = 0.9 * colour_photograph[16:64, 20:76]
    everything = np.ones_like(mask)
    bad = np.where(mask[..., None], blurred, np.nan)
    scores = {
        name: float(gx.psnr(restored(y, seen, fresh), sharp))
        for name, y, seen in (
            ("undamaged", blurred, everything),
            ("masked", bad, mask),
            ("filled", fill_masked(bad, mask), everything),
            ("dead", np.where(mask[..., None], blurred, 0.0), everything),
        )
    }
    assert scores["masked"] == pytest.approx(scores["undamaged"], abs=0.5), scores
    assert scores["masked"] > scores["filled"] + 0.1, scores
    assert scores["masked"] > scores["dead"] + 3, scores
    # What is under the mask has no effect to the bit.
    found = restored(bad, mask, fresh)
    for other in (np.inf, 7.0):
        again = restored(np.where(mask[..., None], blurred, np.float32(other)), mask, fresh)
        np.testing.assert_array_equal(again, found)


def test_a_mask_of_nothing_changes_nothing(fresh, blurred, mask):
    masked = gx.deconvolve(blurred, KERNEL, fresh, mask=np.ones_like(mask))
    np.testing.assert_allclose(masked, gx.deconvolve(blurred, KERNEL, fresh), atol=1e-6)


@pytest.mark.parametrize(
    "boundary",
    ["edge", *(pytest.param(name, marks=pytest.mark.slow) for name in ("reflect", "wrap"))],
)
def test_tiles_give_the_whole(fresh, blurred, mask, boundary):
    bad = np.where(mask[..., None], blurred, np.nan)
    whole = gx.deconvolve(bad, KERNEL, fresh, mask=mask, boundary=boundary, noise=0.01)
    restorer = gx.prepare(fresh, KERNEL, tile=(24, 32), noise=0.01)
    tiles = restorer(bad, mask=mask, boundary=boundary)
    assert np.sqrt(np.mean((tiles - whole) ** 2)) < 0.5 / 255
    np.testing.assert_allclose(tiles, whole, atol=0.03)


@pytest.mark.parametrize("noise", [0.01, pytest.param(None, marks=pytest.mark.slow)])
def test_slopes_are_finite_and_zero_under_the_mask(blurred, mask, noise):
    model = gx.initial_model(jax.random.key(0), Unrolled(stages=1, features=2, blocks=1), {})
    seen = mask[6:30, 6:30]
    bad = np.where(seen[..., None], blurred[6:30, 6:30], np.nan)

    def total(y, kernel):
        return jnp.sum(gx.deconvolve(y, kernel, model, mask=seen, noise=noise) ** 2)

    with jax.debug_nans(True):
        slopes, of_kernel = jax.jit(jax.grad(total, argnums=(0, 1)))(bad, KERNEL)
    assert np.isfinite(slopes).all()
    assert np.isfinite(of_kernel).all()
    assert not np.any(slopes[~seen])
    assert np.abs(slopes[seen]).min() > 0


def test_each_image_of_a_batch_has_its_mask(fresh, blurred, mask):
    y = blurred[:40, :40]
    bad, masks = np.stack([y, y]), np.stack([mask[:40, :40], mask[8:, 16:]])
    bad[~masks] = np.nan
    found = gx.deconvolve(bad, KERNEL, fresh, mask=masks, noise=0.01)
    tiles = gx.prepare(fresh, KERNEL, tile=(40, 40), noise=0.01)
    for image, seen, result in zip(bad, masks, found, strict=True):
        np.testing.assert_allclose(result, tiles(image, mask=seen), atol=1e-4)
    np.testing.assert_allclose(tiles(bad, mask=masks), found, atol=1e-4)


def test_a_part_without_any_data_is_restored_to_something(fresh, blurred, mask):
    """Of blur that varies; with one kernel it is `deconvolve`."""
    seen = mask.copy()
    seen[:, 30:] = False
    bad = np.where(seen[..., None], blurred, np.nan)
    pair = np.stack([KERNEL, KERNEL])[None]
    found = gx.deconvolve_varying(bad, pair, ([0.0], [0.0, 5000.0]), fresh, mask=seen, noise=0.01)
    alone = gx.deconvolve(bad, KERNEL, fresh, mask=seen, noise=0.01)
    np.testing.assert_allclose(found, alone, atol=2e-3)


# --- networks that do not see the frame ----------------------------------------------------------


def test_others_get_masked_pixels_filled_in(blurred, mask):
    basis = gx.Basis(jnp.eye(13), jnp.eye(13))
    model = gx.initial_model(jax.random.key(0), gx.Glra(13, 13, 13), basis)
    bad = np.where(mask[..., None], blurred, np.nan)
    found = gx.deconvolve(bad, KERNEL, model, mask=mask)
    plain = gx.deconvolve(fill_masked(bad, mask), KERNEL, model)
    np.testing.assert_allclose(found, plain, atol=1e-5)


@pytest.mark.parametrize("boundary", ["edge", "wrap", "valid"])
def test_a_step_to_the_data_does_not_count_them(boundary):
    generator = np.random.default_rng(0)
    images = [jnp.float32(generator.uniform(0.3, 0.7, (1, 20, 20, 1))) for _ in range(2)]
    filters = StepFilters(KERNEL[None, 3:6, 3:6] / KERNEL[3:6, 3:6].sum(), jnp.ones((1, 1, 1)))
    known = np.ones((1, 20, 20, 1), np.float32)
    known[0, 6:9, 10] = 0.0
    restored, blurred = images
    with_all, found = (
        take_step_in_frame(restored, blurred, filters, boundary, known=mask)
        for mask in (None, known)
    )
    out = known == 0
    np.testing.assert_allclose(found[out], restored[out], atol=1e-6)
    np.testing.assert_allclose(found[~out], with_all[~out], atol=1e-6)
    assert jnp.abs(with_all - restored)[out].min() > 1e-3


# --- the noise -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy():
    """A blurred scene and 2 % noise; one pixel in twenty does not count, and a hole neither."""
    import skimage.data

    sharp = jnp.asarray(skimage.data.coffee()[100:292, 200:392], jnp.float32) / 255
    generator = np.random.default_rng(0)
    y = gx.blur(sharp, KERNEL) + 0.02 * generator.standard_normal(sharp.shape)
    mask = generator.random(y.shape[:2]) > 0.05
    mask[100:140, 60:130] = False
    return np.asarray(y, np.float32), mask


@pytest.mark.parametrize(
    "estimate",
    [
        jax.jit(lambda y, mask: gx.estimate_noise(y, mask=mask)),
        jax.jit(lambda y, mask: gx.estimate_noise_by_channel(y, mask=mask)),
        behind_blur,
    ],
    ids=["all", "by-channel", "behind-blur"],
)
def test_the_noise_is_estimated_from_what_counts(noisy, estimate):
    y, mask = noisy
    undamaged = np.asarray(estimate(y, np.ones_like(mask)))
    bad = np.where(mask[..., None], y, np.nan)
    found = np.asarray(estimate(bad, mask))
    np.testing.assert_allclose(found, undamaged, rtol=0.08)
    other = np.where(mask[..., None], y, np.float32(0.9))
    np.testing.assert_array_equal(estimate(other, mask), found)


def test_the_noise_is_sought_where_not_all_is_masked():
    """Of an image with a margin of data alone, whose middle has next to none."""
    y = np.float32(0.5 + 0.02 * np.random.default_rng(0).standard_normal((192, 192, 3)))
    mask = np.zeros((192, 192), bool)
    mask[:20] = True
    np.testing.assert_allclose(behind_blur(y, mask), 0.02, rtol=0.25)
    images, known = y[None, :190], mask[None, :190, :, None]
    cut, seen = middle(images, known)
    assert cut.shape[:3] == seen.shape[:3] == (1, 128, 192)  # at the top
    assert np.all(seen[:, :20] == 1)
    assert np.all(seen[:, 20:] == 0)
    cut, seen = middle(images, np.ones_like(known))
    assert cut.shape[:3] == seen.shape[:3] == (1, 128, 192)


def test_levels_of_a_file_are_seen_beside_masked_pixels(noisy):
    import io

    from PIL import Image

    y, mask = noisy
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(np.rint(255 * y.clip(0, 1)))).save(buffer, "JPEG", quality=60)
    pixels = np.asarray(Image.open(buffer), np.float32) / 255
    dead = np.random.default_rng(2).random(mask.shape) > 0.005
    bad = fill_masked(np.where(dead[..., None], pixels, np.nan), dead)
    assert pixel_noise(bad) == 0
    assert pixel_noise(bad, mask=dead) == pytest.approx(pixel_noise(pixels), rel=0.2)
    flat = np.full((21, 21, 1), 0.2, np.float32)
    flat[::2] = 0.4  # whole levels, 51 and 102
    broken = flat.copy()
    broken[3, 4] = np.nan
    known = np.isfinite(broken[..., 0])
    rounding = 1 / 255 / np.sqrt(12)
    level = jax.jit(gx.estimate_noise_by_channel)(broken, mask=known)
    assert float(level[0]) >= 0.99 * rounding


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "error", "quoted"),
    [
        (np.ones((16, 16), np.uint8), TypeError, "Boolean, True where pixels count, got uint8"),
        (np.ones((16, 15), bool), ValueError, r"mask must be \(16, 16\).*got \(16, 15\)"),
        (np.ones((16, 16, 3), bool), ValueError, r"mask must be \(16, 16\).*got \(16, 16, 3\)"),
        (np.zeros((16, 16), bool), ValueError, "mask is False everywhere"),
    ],
)
def test_masks_that_will_not_do(fresh, mask, error, quoted):
    y = np.full((16, 16, 3), 0.5, np.float32)
    ready = gx.prepare(fresh, KERNEL, noise=0.01)
    calls = (
        lambda: gx.deconvolve(y, KERNEL, fresh, mask=mask),
        lambda: ready(y, mask=mask),
        lambda: gx.deconvolve_varying(y, KERNEL[None, None], ([0], [0]), fresh, mask=mask),
    )
    for call in calls:
        with pytest.raises(error, match=quoted):
            call()


def test_values_that_are_not_finite_are_masked_or_refused(fresh):
    y = np.full((2, 16, 16, 3), 0.5, np.float32)
    y[0, 3, 4, 1] = np.nan
    with pytest.raises(ValueError, match=r"y holds 1 NaN .* or give deconvolve as mask= where"):
        gx.deconvolve(y, KERNEL, fresh)
    mask = np.ones((16, 16), bool)
    mask[5, 5] = False
    with pytest.raises(ValueError, match=r"y holds 1 NaN .* where mask is True; mask them too"):
        gx.deconvolve(y, KERNEL, fresh, mask=mask)
    masks = np.stack([mask, np.zeros_like(mask)])
    with pytest.raises(ValueError, match="mask is False everywhere in 1 of 2 images"):
        gx.deconvolve(y, KERNEL, fresh, mask=masks)
    masked = np.ma.masked_greater(y[1], 0.4)
    for call in (
        lambda: gx.deconvolve(masked, KERNEL, fresh, mask=mask),
        lambda: gx.deconvolve_varying(masked, KERNEL[None, None], ([0], [0]), fresh, mask=mask),
    ):
        with pytest.raises(ValueError, match=r"768 masked values.*as mask= where pixels count"):
            call()
