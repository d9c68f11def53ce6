"""Blur kernels against closed forms, and the pseudo-inverse against NumPy in float64."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

import glra_jax as gx

SIZES = (9, 24)  # odd and even


def offsets(size):
    return np.arange(size) - size // 2


def moments(kernel):
    """Mean and variance along both axes, counted from the centre, in float64."""
    kernel = np.asarray(kernel, np.float64)
    result = []
    for axis in (0, 1):
        profile, x = kernel.sum(axis=1 - axis), offsets(kernel.shape[axis])
        mean = (profile * x).sum()
        result.append((mean, (profile * (x - mean) ** 2).sum()))
    return np.array(result)


# --- normalize_kernel --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64, bool])
def test_normalize_divides_by_the_sum(dtype):
    kernel = np.array([[1, 2, 0], [0, 200, 53]]).astype(dtype)
    normal = gx.normalize_kernel(kernel)
    assert normal.dtype == jnp.float32
    np.testing.assert_allclose(normal, kernel / kernel.astype(float).sum(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_normalize_keeps_floating_dtypes(dtype):
    normal = gx.normalize_kernel(jnp.array([[1.0, 3.0]], dtype))
    assert normal.dtype == dtype
    np.testing.assert_array_equal(normal.astype(jnp.float32), [[0.25, 0.75]])


@pytest.mark.parametrize(
    ("kernel", "quoted"),
    [
        (np.ones(5), r"2-D.*\(5,\)"),
        (np.ones((0, 5)), r"empty.*\(0, 5\)"),
        (np.zeros((3, 3)), "sum 0"),
        (np.full((2, 2), -1.0), "sum -4"),
        (np.array([[1.0, np.nan]]), "nan"),
        (np.array([[1.0, np.inf]]), "inf"),
    ],
)
def test_normalize_refuses(kernel, quoted):
    with pytest.raises(ValueError, match=quoted):
        gx.normalize_kernel(kernel)


# --- Gaussian ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, *SIZES])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 40.0])
def test_gaussian_is_the_sampled_exponential(sigma, size):
    square = np.square(offsets(size))
    expected = np.exp(-(square[:, None] + square[None, :]) / (2 * sigma**2))
    kernel = gx.gaussian_kernel(sigma=sigma, size=size)
    assert kernel.dtype == jnp.float32
    np.testing.assert_allclose(kernel, expected / expected.sum(), rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("size", [41, 42])
@pytest.mark.parametrize("sigma", [1.0, 2.5, 4.0])
def test_gaussian_has_its_moments(sigma, size):
    # A sampled Gaussian has the variance sigma² up to terms of exp(-2 π² sigma²) and its tails.
    expected = [[0.0, sigma**2]] * 2
    np.testing.assert_allclose(
        moments(gx.gaussian_kernel(sigma=sigma, size=size)), expected, atol=2e-4 * sigma**2
    )


def test_gaussian_of_no_width_is_a_delta():
    delta = np.zeros((9, 9))
    delta[4, 4] = 1.0
    np.testing.assert_array_equal(gx.gaussian_kernel(sigma=1e-20, size=9), delta)


def test_gaussian_is_differentiable_in_a_traced_sigma():
    def reference(sigma):
        square = np.square(offsets(9))
        kernel = np.exp(-(square[:, None] + square[None, :]) / (2 * sigma**2))
        return kernel / kernel.sum()

    slope = jax.jit(jax.jacfwd(lambda s: gx.gaussian_kernel(sigma=s, size=9)))(1.7)
    expected = (reference(1.7 + 1e-5) - reference(1.7 - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, expected, atol=1e-6)


# --- disk --------------------------------------------------------------------------------------


def covered_areas(radius, size, samples=1000):
    """Area of every pixel that a disk covers: chords at `samples` places a pixel, in float64."""
    x = (np.arange(size * samples) + 0.5) / samples - 0.5 - size // 2
    chord = np.sqrt(np.maximum(radius**2 - x**2, 0.0))
    y = offsets(size)[:, None]
    height = np.minimum(y + 0.5, chord) - np.maximum(y - 0.5, -chord)
    return np.maximum(height, 0.0).reshape(size, size, samples).mean(axis=2)


def supersampled_areas(radius, size, samples=64):
    """The same by counting points, which knows nothing of chords."""
    x = (np.arange(size * samples) + 0.5) / samples - 0.5 - size // 2
    inside = x[:, None] ** 2 + x[None, :] ** 2 <= radius**2
    return inside.reshape(size, samples, size, samples).mean(axis=(1, 3))


@pytest.fixture(scope="module")
def disk():
    return jax.jit(lambda radius, size: gx.disk_kernel(radius=radius, size=size), static_argnums=1)


@pytest.mark.parametrize("size", SIZES)
@given(radius=st.floats(0.05, 20.0))
def test_disk_weights_are_covered_areas(disk, size, radius):
    areas = covered_areas(radius, size)
    kernel = disk(radius, size)
    assert kernel.dtype == jnp.float32
    # 2e-4: what a thousand chords a pixel leave out where the rim runs along them.
    np.testing.assert_allclose(kernel * areas.sum(), areas, atol=2e-4)
    assert kernel.min() >= 0.0
    assert float(kernel.sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("radius", [0.4, 0.5, 0.7, 1.5, 2.0, 3.3, 4.5, 7.0, 11.4])
def test_disk_agrees_with_supersampling(radius, size):
    areas = supersampled_areas(radius, size)
    kernel = gx.disk_kernel(radius=radius, size=size)
    np.testing.assert_allclose(kernel * areas.sum(), areas, atol=0.01)


@pytest.mark.parametrize("radius", [0.8, 2.0, 4.5, 7.3, 12.0])
def test_disk_has_its_area_radius_and_moments(radius):
    kernel = np.asarray(gx.disk_kernel(radius=radius, size=27), np.float64)
    assert 1.0 / kernel[13, 13] == pytest.approx(np.pi * radius**2, rel=1e-5)
    # The disk reaches into pixel n if radius > n - 1/2.
    assert offsets(27)[kernel[13] > 0].max() == np.ceil(radius - 0.5)
    # r²/4 an axis for the disk, 1/12 for the pixel's own width, and what sampling makes of both.
    mean, variance = moments(kernel).T
    np.testing.assert_allclose(mean, 0.0, atol=1e-5)
    np.testing.assert_allclose(variance, radius**2 / 4 + 1 / 12, atol=0.05)


def test_disk_inside_one_pixel_is_a_delta_and_a_huge_one_is_flat():
    delta = np.zeros((9, 9))
    delta[4, 4] = 1.0
    np.testing.assert_allclose(gx.disk_kernel(radius=0.3, size=9), delta, atol=1e-6)
    np.testing.assert_allclose(gx.disk_kernel(radius=1e3, size=9), np.full((9, 9), 1 / 81), 1e-5)


def test_disk_is_differentiable_in_a_traced_radius():
    gradient = jax.jit(jax.jacfwd(lambda r: gx.disk_kernel(radius=r, size=11)))
    slope = gradient(3.3)

    def reference(radius):
        areas = covered_areas(radius, 11, samples=4000)
        return areas / areas.sum()

    expected = (reference(3.31) - reference(3.29)) / 0.02
    np.testing.assert_allclose(slope, expected, atol=3e-4)
    for radius in (0.5, 1.0, 3.5):  # the rim touches pixels' edges there
        assert jnp.isfinite(gradient(radius)).all()


# --- motion ------------------------------------------------------------------------------------

MOTION_SIZES = (18, 27)


@partial(jax.jit, static_argnames="size")
@partial(jax.vmap, in_axes=(0, None, None))
def draw(key, size, extent):
    return gx.motion_kernel(key, size=size, extent=extent)


@cache
def motion_kernels(size):
    return draw(jax.random.split(jax.random.key(size), 64), size, None)


def reaches(kernels):
    """Largest distance along an axis from the centre to a pixel that is not zero."""
    distance = np.abs(offsets(kernels.shape[1]))
    far = np.maximum(distance[:, None], distance[None, :])
    return np.where(np.asarray(kernels) > 0, far, 0).max(axis=(1, 2))


@pytest.mark.parametrize("size", MOTION_SIZES)
def test_motion_kernels_are_kernels(size):
    kernels = motion_kernels(size)
    assert kernels.shape == (64, size, size)
    assert kernels.dtype == jnp.float32
    assert kernels.min() >= 0.0
    np.testing.assert_allclose(np.sum(kernels, axis=(1, 2)), 1.0, atol=1e-5)
    for kernel in np.asarray(kernels):
        np.testing.assert_allclose(moments(kernel)[:, 0], 0.0, atol=1e-4)


@pytest.mark.parametrize("size", MOTION_SIZES)
def test_motion_reaches_from_a_half_to_the_whole_of_the_window(size):
    whole = (size - 1) // 2
    found = reaches(motion_kernels(size))
    assert found.max() == whole
    assert found.min() >= np.ceil(whole / 2)
    assert len(set(found)) > 1


@pytest.mark.parametrize("extent", [0.4, 2.0, 3.5, 8.0])
def test_motion_reaches_its_extent(extent):
    kernels = np.asarray(draw(jax.random.split(jax.random.key(0), 64), 18, extent))
    # A point between two pixels lights both, so that the reach is rounded up. Where the extent is
    # a whole number, rounding may light the next pixel with a weight of 1e-7 or so.
    np.testing.assert_array_equal(reaches(np.where(kernels > 1e-6, kernels, 0)), np.ceil(extent))


def test_motion_is_one_path_and_no_two_are_alike():
    kernels = np.asarray(motion_kernels(27))
    for kernel in kernels:
        _, pieces = scipy.ndimage.label(kernel > 0, np.ones((3, 3)))
        assert pieces == 1
    assert (kernels > 0).mean() < 0.5  # lines, not blobs
    differences = np.abs(kernels[:, None] - kernels[None]).sum(axis=(2, 3))
    assert differences[np.triu_indices(len(kernels), 1)].min() > 0.1
    flipped = kernels[:, ::-1, ::-1]
    assert np.median(np.abs(kernels - flipped).sum(axis=(1, 2))) > 0.3  # nor symmetric


def test_motion_is_a_function_of_its_key_under_jit_and_vmap_too():
    keys = jax.random.split(jax.random.key(27), 64)
    eager = gx.motion_kernel(keys[3], size=27)
    np.testing.assert_array_equal(eager, gx.motion_kernel(keys[3], size=27))
    np.testing.assert_allclose(motion_kernels(27)[3], eager, atol=1e-5)


def test_motion_is_sub_pixel():
    """With the extent, weight moves smoothly and not by whole pixels."""
    keys = jax.random.split(jax.random.key(0), 64)
    first, second, third = (np.asarray(draw(keys, 18, e)) for e in (4.3, 4.31, 4.32))
    moved = np.abs(second - first).sum(axis=(1, 2))
    assert moved.min() > 1e-3
    assert moved.max() < 0.05
    bent = np.abs(third - 2 * second + first).sum(axis=(1, 2))
    assert np.median(bent / moved) < 0.2


# --- what all families refuse --------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0.0, -1.5, np.nan, np.inf])
def test_sizes_of_blur_must_be_positive(bad):
    with pytest.raises(ValueError, match=f"sigma.*{bad}"):
        gx.gaussian_kernel(sigma=bad, size=9)
    with pytest.raises(ValueError, match=f"radius.*{bad}"):
        gx.disk_kernel(radius=bad, size=9)
    with pytest.raises(ValueError, match=f"extent.*{bad}"):
        gx.motion_kernel(jax.random.key(0), size=9, extent=bad)


def test_parameters_must_be_scalars():
    with pytest.raises(ValueError, match=r"sigma.*scalar.*\(2,\)"):
        gx.gaussian_kernel(sigma=jnp.array([1.0, 2.0]), size=9)


@pytest.mark.parametrize(
    "make",
    [
        partial(gx.gaussian_kernel, sigma=1.0),
        partial(gx.disk_kernel, radius=1.0),
        partial(gx.motion_kernel, jax.random.key(0)),
    ],
)
def test_window_sizes_must_be_whole_and_positive(make):
    with pytest.raises(ValueError, match=r"size.*got 0"):
        make(size=0)
    with pytest.raises(TypeError, match=r"size.*got 9\.5"):
        make(size=9.5)


def test_motion_refuses_what_does_not_fit():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"size.*at least 3, got 2"):
        gx.motion_kernel(key, size=2)
    with pytest.raises(ValueError, match=r"extent.*= 4, got 4\.5"):
        gx.motion_kernel(key, size=10, extent=4.5)
    with pytest.raises(ValueError, match=r"num_points.*got 1"):
        gx.motion_kernel(key, size=9, num_points=1)


# --- Inverse -------------------------------------------------------------------------------------


def test_an_inverse_holds_plain_numbers():
    assert gx.Inverse() == gx.Inverse(0.01, 0.0, "projection")
    inverse = gx.Inverse(np.float32(0.5), 60, "least-squares")
    assert [type(value) for value in (inverse.regularization, inverse.noise_weight)] == [float] * 2
    assert inverse == gx.Inverse(regularization=0.5, noise_weight=60.0, core="least-squares")
    assert hash(inverse) == hash(gx.Inverse(0.5, 60.0, "least-squares"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        inverse.regularization = 0.1


def test_an_inverse_is_a_pytree_with_a_static_core():
    leaves, tree = jax.tree.flatten(gx.Inverse(0.02, 5.0, "least-squares"))
    assert leaves == [0.02, 5.0]
    assert jax.tree.unflatten(tree, [0.1, 0.0]) == gx.Inverse(0.1, 0.0, "least-squares")
    assert tree != jax.tree.structure(gx.Inverse(0.02, 5.0))
    tenfold = jax.jit(lambda inverse: jax.tree.map(lambda leaf: 10 * leaf, inverse))
    found = tenfold(gx.Inverse(0.02, 5.0))
    assert float(found.regularization) == pytest.approx(0.2)
    assert float(found.noise_weight) == 50.0
    assert found.core == "projection"
    # What stands in the place of the numbers need not be in their range.
    larger = jax.tree.map(lambda a, b: a > b, gx.Inverse(0.02, 5.0), gx.Inverse(0.1, 0.0))
    assert (larger.regularization, larger.noise_weight) == (False, True)
    slope = jax.grad(lambda inverse: -3.0 * inverse.regularization)(gx.Inverse(0.02))
    step = jax.tree.map(float, slope)
    assert (step.regularization, step.noise_weight, step.core) == (-3.0, 0.0, "projection")
    paths = jax.tree_util.tree_leaves_with_path(gx.Inverse())
    assert [jax.tree_util.keystr(path) for path, _ in paths] == [".regularization", ".noise_weight"]


@pytest.mark.parametrize(
    ("values", "error", "quoted"),
    [
        ({"regularization": 0.0}, ValueError, r"regularization must be .* above 0, got 0\.0"),
        ({"regularization": -1}, ValueError, r"regularization must be .*, got -1\.0"),
        ({"regularization": np.float32("nan")}, ValueError, "regularization must be .*, got nan"),
        ({"regularization": "0.1"}, TypeError, "regularization must be a number, got '0.1'"),
        ({"regularization": True}, TypeError, "regularization must be a number, got True"),
        ({"noise_weight": -1.0}, ValueError, r"noise_weight must be .* at least 0, got -1\.0"),
        ({"noise_weight": np.inf}, ValueError, "noise_weight must be .*, got inf"),
        ({"noise_weight": "60"}, TypeError, "noise_weight must be a number, got '60'"),
        ({"core": "wiener"}, ValueError, "core must be .*projection, least-squares, got 'wiener'"),
    ],
)
def test_an_inverse_refuses(values, error, quoted):
    with pytest.raises(error, match=quoted):
        gx.Inverse(**values)


# --- pseudo_inverse ------------------------------------------------------------------------------


def reference_inverse(kernel, support, regularization, smoothness=0.0):
    grid = np.zeros((support, support))
    top, left = (support // 2 - n // 2 for n in kernel.shape)
    grid[top : top + kernel.shape[0], left : left + kernel.shape[1]] = kernel
    spectrum = np.fft.fft2(np.fft.ifftshift(grid))
    # The power of a forward difference.
    along = np.abs(np.exp(2j * np.pi * np.fft.fftfreq(support)) - 1) ** 2
    damping = regularization + smoothness * np.add.outer(along, along)
    inverse = np.fft.ifft2(spectrum.conj() / (np.abs(spectrum) ** 2 + damping))
    return np.fft.fftshift(inverse).real


NAMES = ("disk", "motion", "even", "oblong", "whole")


def named_kernel(name):
    match name:
        case "disk":
            return gx.disk_kernel(radius=3.2, size=9)
        case "motion":
            return motion_kernels(27)[2]
        case "even":
            return motion_kernels(18)[4]
        case "oblong":
            return gx.normalize_kernel(jnp.arange(1.0, 29.0).reshape(4, 7))
        case "whole":
            return gx.gaussian_kernel(sigma=3.0, size=30)


@pytest.mark.parametrize(
    ("regularization", "smoothness"), [(0.01, 0.0), (0.1, 0.0), (1e-3, 0.01), (0.01, 0.2)]
)
@pytest.mark.parametrize("support", [30, 31])
@pytest.mark.parametrize("name", NAMES)
def test_pseudo_inverse_is_the_regularised_inverse(name, support, regularization, smoothness):
    kernel = named_kernel(name)
    inverse = gx.pseudo_inverse(
        kernel, support=support, regularization=regularization, smoothness=smoothness
    )
    assert inverse.dtype == jnp.float32
    expected = reference_inverse(
        np.asarray(kernel, np.float64), support, regularization, smoothness
    )
    np.testing.assert_allclose(inverse, expected, atol=1e-5 * np.abs(expected).max())


def circulant(taps, size):
    """The matrix of a circular convolution of `(size, size)` images, by offset of each tap."""
    images = np.eye(size**2).reshape(-1, size, size)
    columns = sum(value * np.roll(images, offset, (1, 2)) for offset, value in taps.items())
    return columns.reshape(size**2, size**2).T


@pytest.mark.parametrize("smoothness", [0.0, 0.05])
@pytest.mark.parametrize("support", [8, 9])
def test_pseudo_inverse_minimises_what_it_says(support, smoothness):
    """The normal equations of all pixels of a circular image, solved densely."""
    rng = np.random.default_rng(support)
    kernel = rng.random((3, 4))
    kernel /= kernel.sum()
    y = rng.random((support, support))
    blur = circulant({(i - 1, j - 2): kernel[i, j] for i in range(3) for j in range(4)}, support)
    normal = blur.T @ blur + 0.03 * np.eye(support**2)
    for offset in ((1, 0), (0, 1)):
        difference = circulant({(0, 0): -1.0, offset: 1.0}, support)
        normal += smoothness * difference.T @ difference
    expected = np.linalg.solve(normal, blur.T @ y.ravel()).reshape(y.shape)

    inverse = gx.pseudo_inverse(
        np.float32(kernel), support=support, regularization=0.03, smoothness=smoothness
    )
    spectrum = np.fft.fft2(np.fft.ifftshift(np.float64(inverse)))
    restored = np.fft.ifft2(spectrum * np.fft.fft2(y)).real
    np.testing.assert_allclose(restored, expected, atol=1e-4)
    assert np.abs(restored - y).max() > 0.1


@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-4, 1))
def test_smoothness_keeps_the_dc_gain(seed, exponent):
    kernel = np.random.default_rng(seed).random((7, 6)) ** 4
    kernel = np.float32(kernel / kernel.sum())
    for smoothness in (0.0, 10.0**exponent):
        inverse = gx.pseudo_inverse(kernel, support=15, regularization=0.01, smoothness=smoothness)
        assert np.float64(inverse).sum() == pytest.approx(1 / 1.01, abs=1e-4)


@pytest.mark.parametrize("bad", [-0.5, np.nan, np.inf])
def test_pseudo_inverse_refuses_a_smoothness(bad):
    with pytest.raises(ValueError, match=f"smoothness.*{bad}"):
        gx.pseudo_inverse(named_kernel("disk"), support=31, smoothness=bad)


def test_pseudo_inverse_at_the_released_size():
    kernel = gx.gaussian_kernel(sigma=2.5, size=23)
    inverse = gx.pseudo_inverse(kernel)
    expected = reference_inverse(np.asarray(kernel, np.float64), 151, 0.01)
    assert inverse.shape == (151, 151)
    np.testing.assert_allclose(inverse, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("support", [30, 31])
@pytest.mark.parametrize("size", [1, 4, 5])
def test_inverse_of_a_delta_is_a_delta(size, support):
    delta = jnp.zeros((size, size)).at[size // 2, size // 2].set(1.0)
    expected = np.zeros((support, support))
    expected[support // 2, support // 2] = 1 / 1.01
    np.testing.assert_allclose(gx.pseudo_inverse(delta, support=support), expected, atol=1e-6)


@pytest.mark.parametrize("support", [40, 41])
@pytest.mark.parametrize("kernel", [[0.1, 0.8, 0.1], [0.02, 0.1, 0.78, 0.1], [0.0, 0.9, 0.1]])
def test_kernel_and_inverse_make_a_delta(kernel, support):
    kernel = np.outer(kernel, kernel[::-1] if len(kernel) % 2 else kernel)
    inverse = gx.pseudo_inverse(kernel, support=support, regularization=1e-6)
    product = scipy.ndimage.convolve(np.asarray(inverse, np.float64), kernel, mode="wrap")
    delta = np.zeros((support, support))
    delta[support // 2, support // 2] = 1.0
    np.testing.assert_allclose(product, delta, atol=3e-4)


def test_a_shifted_kernel_has_the_inverse_shifted_back():
    kernel = motion_kernels(27)[1]
    grid = jnp.pad(kernel, 2)
    inverse = gx.pseudo_inverse(grid, support=31)
    shifted = gx.pseudo_inverse(jnp.roll(grid, (3, -5), (0, 1)), support=31)
    np.testing.assert_allclose(shifted, jnp.roll(inverse, (-3, 5), (0, 1)), atol=1e-5)


@pytest.mark.parametrize("smoothness", [0.0, 0.02])
def test_gradients_of_the_pseudo_inverse(smoothness):
    rng = np.random.default_rng(0)
    kernel, direction = rng.uniform(size=(6, 5)), rng.normal(size=(6, 5))
    kernel /= kernel.sum()
    weights = rng.normal(size=(15, 15))

    def loss(kernel, regularization, smoothness):
        inverse = gx.pseudo_inverse(
            kernel, support=15, regularization=regularization, smoothness=smoothness
        )
        return jnp.sum(weights * inverse)

    def reference(step, by_regularization, by_smoothness):
        strengths = 0.05 + by_regularization, smoothness + by_smoothness
        return (weights * reference_inverse(kernel + step * direction, 15, *strengths)).sum()

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    by_kernel, *by_strengths = gradient(kernel, 0.05, smoothness)
    slope = (reference(1e-5, 0, 0) - reference(-1e-5, 0, 0)) / 2e-5
    assert float(jnp.sum(by_kernel * direction)) == pytest.approx(slope, rel=1e-3)
    for found, step in zip(by_strengths, ((0, 1e-6, 0), (0, 0, 1e-6)), strict=True):
        slope = (reference(*step) - reference(*(-1 * np.array(step)))) / 2e-6
        assert float(found) == pytest.approx(slope, rel=1e-3)


def test_pseudo_inverse_under_vmap():
    kernels, smoothness = motion_kernels(27)[:3], jnp.float32([0.0, 0.01, 0.1])

    def inverse(kernel, smoothness):
        return gx.pseudo_inverse(kernel, support=31, smoothness=smoothness)

    stacked = jax.jit(jax.vmap(inverse))(kernels, smoothness)
    single = jnp.stack([inverse(*pair) for pair in zip(kernels, smoothness, strict=True)])
    np.testing.assert_allclose(stacked, single, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "error", "quoted"),
    [
        (np.full(9, 1 / 9), ValueError, r"2-D.*\(9,\)"),
        (np.full((1, 3, 3), 1 / 9), ValueError, r"2-D.*\(1, 3, 3\)"),
        (np.zeros((0, 3)), ValueError, r"empty.*\(0, 3\)"),
        (np.full((3, 3), np.nan), ValueError, "9 NaN"),
        (np.zeros((3, 3)), ValueError, "all zero"),
        (np.full((3, 3), -1.0), ValueError, "sum -9"),
        (np.ones((3, 3)), ValueError, "sum 9.*normalize_kernel"),
        (np.eye(3, dtype=np.uint8), TypeError, "uint8"),
        (np.full((3, 40), 1 / 120), ValueError, r"\(3, 40\).*support 31"),
    ],
)
def test_pseudo_inverse_refuses(kernel, error, quoted):
    with pytest.raises(error, match=quoted):
        gx.pseudo_inverse(kernel, support=31)


@pytest.mark.parametrize("bad", [0.0, -0.5, np.nan])
def test_pseudo_inverse_refuses_a_regularization(bad):
    with pytest.raises(ValueError, match=f"regularization.*{bad}"):
        gx.pseudo_inverse(named_kernel("disk"), support=31, regularization=bad)


def test_a_smoothness_must_be_a_scalar():
    with pytest.raises(ValueError, match=r"smoothness.*scalar.*\(16,\)"):
        gx.pseudo_inverse(named_kernel("disk"), support=31, smoothness=jnp.ones(16))


def test_shapes_are_checked_while_tracing_too():
    with pytest.raises(ValueError, match=r"\(40, 40\).*support 31"):
        jax.jit(partial(gx.pseudo_inverse, support=31))(jnp.zeros((40, 40)))


@pytest.mark.parametrize(("radius", "limit"), [(1e-30, 1e-3), (1e30, 1e3)])
def test_extreme_radii_have_the_limit(radius, limit):
    found = gx.disk_kernel(radius=radius, size=7)
    np.testing.assert_allclose(found, gx.disk_kernel(radius=limit, size=7), atol=1e-6)


def test_all_is_float32_where_float64_is_enabled():
    def results(key):
        families = gx.KernelFamilies(min_size=5, max_size=9)
        motion, drawn = gx.motion_kernel(key, size=9), gx.sample_kernel(key, families)
        smoothness = gx.Inverse(noise_weight=np.float64(60.0)).smoothness(0.01)
        inverse = gx.pseudo_inverse(drawn, support=31, smoothness=smoothness)
        basis, _ = gx.fit_glra(jnp.stack([inverse, inverse.T]), rank=2)
        model = gx.initial_model(key, gx.Glra(31, 2, 16), basis)
        restored = gx.deconvolve(jnp.full((33, 33), 0.5, jnp.float32), motion, model)
        return motion, drawn, smoothness, inverse, basis, model, restored

    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        key = jax.random.key(0)
        arrays = jax.eval_shape(results, key)
        assert {leaf.dtype for leaf in jax.tree.leaves(arrays)} == {jnp.dtype(jnp.float32)}
        motion = gx.motion_kernel(key, size=9)
    finally:
        jax.config.update("jax_enable_x64", before)
    np.testing.assert_array_equal(motion, gx.motion_kernel(key, size=9))  # the same kernel
