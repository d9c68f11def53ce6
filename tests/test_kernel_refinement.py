"""Slightly wrong kernels become right ones by what the photograph shows."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

import glra_jax as gx
from glra_jax.kernel_evidence import _smeared
from glra_jax.kernel_resampling import cut_out, embedded, extent, resampled_kernel

resampled = jax.jit(resampled_kernel)


def ellipse(long: float, short: float, degrees: float, size: int) -> jax.Array:
    """A tilted Gaussian; the angle is counter-clockwise from the rows."""
    rows, columns = np.mgrid[:size, :size] - size // 2
    angle = np.radians(degrees)
    along = np.cos(angle) * columns - np.sin(angle) * rows
    across = np.cos(angle) * rows + np.sin(angle) * columns
    values = np.exp(-0.5 * ((along / long) ** 2 + (across / short) ** 2))
    return jnp.asarray(values / values.sum(), jnp.float32)


# --- resampling ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "degrees"), [(1.2, 0.0), (0.85, 7.0), (1.0, -40.0)])
def test_a_gaussian_becomes_the_gaussian_of_that_size_and_angle(scale, degrees):
    found = resampled(ellipse(4.0, 2.5, 20.0, 33), scale=scale, angle=np.radians(degrees))
    expected = ellipse(4.0 * scale, 2.5 * scale, 20.0 + degrees, 33)
    assert float(jnp.abs(found - expected).sum()) < 0.02


def test_a_quarter_turn_moves_pixels_only():
    square = np.random.default_rng(0).random((9, 9)).astype(np.float32)
    square = np.pad((square + square[::-1, ::-1]) / 2, 4)  # its centroid is its centre
    found = resampled(square, scale=1.0, angle=np.pi / 2)
    np.testing.assert_allclose(found, np.rot90(square) / square.sum(), atol=1e-6)


@hypothesis.settings(max_examples=15)
@hypothesis.given(
    scale=st.floats(0.8, 1.25), degrees=st.floats(-45, 45), row=st.floats(-3, 3), seed=st.integers()
)
def test_moments_follow_scale_and_angle(scale, degrees, row, seed):
    """The centroid stays; the covariance is scaled and turned, but for a pixel's own."""
    rows, columns = np.mgrid[:33, :33] - 16.0
    values = np.random.default_rng(abs(seed)).random(3) + 0.5
    kernel = sum(
        v * np.exp(-0.5 * ((rows - row - r) ** 2 + (columns - c) ** 2) / 1.5**2)
        for v, r, c in zip(values, (0.0, 3.0, -2.0), (0.0, 4.0, -1.0), strict=True)
    )
    kernel = np.float32(kernel / kernel.sum())
    found = np.asarray(resampled(kernel, scale=scale, angle=np.radians(degrees)), np.float64)

    def moments(k):
        mean = np.array([(k * rows).sum(), (k * columns).sum()])
        r, c = rows - mean[0], columns - mean[1]
        cross = (k * r * c).sum()
        return mean, np.array([[(k * r * r).sum(), cross], [cross, (k * c * c).sum()]])

    before, after = moments(np.float64(kernel)), moments(found)
    np.testing.assert_allclose(after[0], before[0], atol=0.02)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cos, -sin], [sin, cos]])  # of rows and columns
    np.testing.assert_allclose(after[1], scale**2 * turn @ before[1] @ turn.T, atol=0.2)


def test_the_slopes_are_those_of_differences():
    kernel, weights = ellipse(3.0, 1.5, 20.0, 33), np.float32(np.hypot(*np.mgrid[:33, :33]) / 16)

    def value(change):
        return jnp.sum(weights * resampled(kernel, scale=change[0], angle=change[1]))

    at, step = jnp.array([1.03, 0.07]), 4e-3
    steps = step * jnp.eye(2)
    expected = [(value(at + one) - value(at - one)) / (2 * step) for one in steps]
    np.testing.assert_allclose(jax.grad(value)(at), jnp.array(expected), rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (6, 2), (1, 9)])
def test_a_kernel_is_in_the_middle_of_its_square_and_comes_out_again(shape):
    kernel = np.random.default_rng(0).random(shape).astype(np.float32) + 0.1
    square = embedded(kernel, 1.25)
    half = square.shape[0] // 2
    assert square.shape == (2 * half + 1, 2 * half + 1)
    assert half % 8 == 0
    assert square[half, half] == kernel[shape[0] // 2, shape[1] // 2]  # both are centres
    np.testing.assert_array_equal(cut_out(square, shape), kernel)
    grown = square.copy()
    grown[half - shape[0] // 2 - 1, half] = 0.1
    assert cut_out(grown, shape).shape == (shape[0] + 2, shape[1])
    assert extent(kernel) <= np.hypot(*shape) / 2 + 1


def test_a_spectrum_is_smeared_as_by_a_window():
    """Against the mean of windowed periodograms, in closed form by autocorrelations."""
    size = 24
    rng = np.random.default_rng(0)
    spectrum = np.abs(np.fft.rfft2(rng.normal(size=(7, 7)), (2 * size, 2 * size))) ** 2
    window = np.hanning(size + 1)[:size]
    own = np.abs(np.fft.rfft2(np.outer(window, window), (2 * size, 2 * size))) ** 2
    correlation = np.fft.irfft2(spectrum) * np.fft.irfft2(own / own.sum())
    expected = np.fft.rfft2(correlation).real[::2, ::2]
    found = np.asarray(_smeared(jnp.asarray(spectrum, jnp.float32)[None])[0])
    scale = (found * expected).sum() / (found**2).sum()
    np.testing.assert_allclose(scale * found, expected, rtol=0.02)


# --- refining ------------------------------------------------------------------------------------

KERNELS = {
    "disk": gx.disk_kernel(radius=4.0, size=21),
    "motion": gx.motion_kernel(jax.random.key(4), size=21, extent=7.0),
    "ellipse": ellipse(2.0, 1.0, 30.0, 21),
}
# Pixels across, and tolerances for them and for the angle in degrees. The angle of a disk is none,
# and that of a tilted Gaussian is hardly seen in this photograph, so that it stays as it is.
WIDTHS = {"disk": 8.0, "motion": 12.0, "ellipse": 8.0}
TOLERANCES = {"disk": (0.1, 180.0), "motion": (0.2, 1.0), "ellipse": (0.7, 5.1)}
# What is gained of the difference between wrong and right kernels in PSNR, and what a right
# one may lose in dB: the fall of a spectrum, all that a Gaussian shows, differs among photographs.
GAINED = {"disk": 0.9, "motion": 0.9, "ellipse": 0.5}
LOST = {"disk": 0.02, "motion": 0.02, "ellipse": 0.25}


@pytest.fixture(scope="module")
def sharp() -> np.ndarray:
    return np.float32(skimage.data.coffee()[60:320, 120:420].mean(axis=2) / 255.0)


def blurred(sharp: np.ndarray, kernel: jax.Array, level: float = 0.01) -> np.ndarray:
    """With noise, and rounded to 8 bits."""
    clean = np.asarray(gx.blur(jnp.asarray(sharp), kernel, boundary="edge"))
    noisy = clean + level * np.random.default_rng(1).standard_normal(clean.shape)
    return np.float32(np.rint(255 * np.clip(noisy, 0, 1)) / 255)


def wiener(y: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A linear restoration, in float64."""
    y = np.pad(np.float64(y), 32, mode="reflect")
    centred = np.zeros(y.shape)
    centred[: kernel.shape[0], : kernel.shape[1]] = kernel
    centred = np.roll(centred, [-(size // 2) for size in kernel.shape], (0, 1))
    transfer = np.fft.rfft2(centred)
    rows, columns = np.fft.fftfreq(y.shape[0])[:, None], np.fft.rfftfreq(y.shape[1])
    rough = 4 * np.sin(np.pi * rows) ** 2 + 4 * np.sin(np.pi * columns) ** 2
    inverse = transfer.conj() / (np.abs(transfer) ** 2 + 60 * 0.01**2 * rough)
    return np.fft.irfft2(np.fft.rfft2(y) * inverse, s=y.shape)[32:-32, 32:-32]


def score(y: np.ndarray, kernel: jax.Array, sharp: np.ndarray) -> float:
    restored = wiener(y, np.asarray(kernel, np.float64)).clip(0, 1)
    return -10 * np.log10(np.mean((restored - sharp)[16:-16, 16:-16] ** 2))


@pytest.mark.parametrize("family", KERNELS)
@pytest.mark.parametrize("error", [-1, 1])
def test_a_kernel_off_by_a_pixel_and_five_degrees_is_found(sharp, family, error):
    true, width = KERNELS[family], WIDTHS[family]
    scale = (width + error) / width
    square = resampled(embedded(np.asarray(true), 1.2), scale=scale, angle=np.radians(5 * error))
    wrong = cut_out(np.asarray(square), true.shape)
    y = blurred(sharp, true)
    found = gx.refine_kernel(y, wrong)
    pixels, degrees = TOLERANCES[family]
    assert abs(found.scale * scale - 1) * width < pixels
    assert abs(found.angle + 5 * error) < degrees
    assert found.objective < found.objective_before - 50
    assert float(found.kernel.sum()) == pytest.approx(1, abs=1e-5)
    assert (found.kernel >= 0).all()
    best, before, after = (score(y, k, sharp) for k in (true, wrong, found.kernel))
    assert after > before + GAINED[family] * (best - before)


@pytest.mark.parametrize("family", KERNELS)
def test_a_right_kernel_stays_nearly(sharp, family):
    true, width = KERNELS[family], WIDTHS[family]
    y = blurred(sharp, true)
    found = gx.refine_kernel(y, true)
    pixels, degrees = TOLERANCES[family]
    assert abs(found.scale - 1) * width < pixels
    assert abs(found.angle) < degrees
    assert score(y, found.kernel, sharp) > score(y, true, sharp) - LOST[family]


def test_what_is_changed_stays_within_the_bounds(sharp):
    true = KERNELS["motion"]
    wrong = cut_out(
        np.asarray(resampled(embedded(np.asarray(true), 1.2), scale=1.12, angle=0.15)), (21, 21)
    )
    y = blurred(sharp, true)
    found = gx.refine_kernel(y, wrong, largest_scale=1.05, largest_angle=3.0)
    assert 1 / 1.05 - 1e-6 <= found.scale < 1
    assert abs(found.angle) <= 3.0 + 1e-5
    kept = gx.refine_kernel(y, wrong, largest_scale=1, largest_angle=0)
    assert kept.kernel is not wrong
    np.testing.assert_array_equal(kept.kernel, wrong)
    assert kept[1:3] == (1.0, 0.0)
    assert kept.objective == kept.objective_before


@pytest.mark.slow
def test_masked_and_clipped_parts_do_not_count(sharp):
    """Half of the image is another's, or is clipped."""
    true = KERNELS["motion"]
    wrong = cut_out(
        np.asarray(resampled(embedded(np.asarray(true), 1.2), scale=1.1, angle=0.0)), (21, 21)
    )
    y = blurred(np.concatenate([sharp, sharp[::-1]], axis=1), true)
    mask = np.ones(y.shape, bool)
    mask[:, 300:] = False
    alone = gx.refine_kernel(np.where(mask, y, np.nan), wrong, mask=mask)
    other = gx.refine_kernel(np.where(mask, y, 1.0), wrong)
    assert abs(alone.scale * 1.1 - 1) < 0.03
    assert abs(other.scale * 1.1 - 1) < 0.03


def test_a_constant_image_shows_nothing():
    kernel = np.asarray(KERNELS["disk"])
    found = gx.refine_kernel(np.full((60, 70, 3), 0.3, np.float32), kernel)
    np.testing.assert_array_equal(found.kernel, kernel)
    assert found[1:] == (1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("y", "options", "error", "message"),
    [
        (np.zeros((40, 80)), {}, ValueError, "40×80 pixels shows too little of a kernel of 21×21"),
        (np.zeros((1, 80, 80, 3)), {}, ValueError, r"\(H, W\) or \(H, W, C\), got shape \(1,"),
        (np.zeros((80, 80), int), {}, TypeError, "y must be floating"),
        (np.full((80, 80), np.nan), {}, ValueError, "6400 NaN"),
        (np.zeros((80, 80)), {"largest_scale": 0.9}, ValueError, "from 1 to 2, got 0.9"),
        (np.zeros((80, 80)), {"largest_angle": 90}, ValueError, "from 0 to 45, got 90"),
    ],
)
def test_bad_input_is_refused(y, options, error, message):
    with pytest.raises(error, match=message):
        gx.refine_kernel(y, KERNELS["disk"], **options)


def test_traced_arrays_are_refused(sharp):
    with pytest.raises(TypeError, match="y is traced"):
        jax.jit(lambda y: gx.refine_kernel(y, KERNELS["disk"]).kernel)(sharp)
