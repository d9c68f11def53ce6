"""The degradation model against NumPy and SciPy in float64, and the statistics of its draws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import scipy.stats

import glra_jax as gx
from glra_jax.degradation import (
    DEGRADATIONS,
    Degradation,
    degradation_named,
    degraded_pair,
    noise_deviation,
    release_gain,
)
from glra_jax.noise_behind_blur import estimate_noise_behind_blur

SHAPES = ((3, 3), (4, 4), (5, 2), (1, 6), (7, 9))
NUMPY_MODES = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
SCIPY_MODES = {"reflect": "mirror", "edge": "nearest", "wrap": "wrap"}


def asymmetric_kernel(shape):
    kernel = np.random.default_rng(shape[0] * 10 + shape[1]).uniform(size=shape) ** 4
    return np.float32(kernel / kernel.sum())


def reference_blur(x, kernel, boundary):
    """True convolution with the kernel's centre at `size // 2`, in float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    if boundary != "valid":
        pads = [(n - 1 - n // 2, n // 2) for n in kernel.shape]
        x = np.pad(x, pads, mode=NUMPY_MODES[boundary])
    return scipy.signal.convolve2d(x, kernel, mode="valid")


# --- blur ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", ["reflect", "edge", "wrap", "valid"])
@pytest.mark.parametrize("shape", SHAPES)
def test_blur_is_true_convolution(photograph, shape, boundary):
    x, kernel = photograph[:25, :32], asymmetric_kernel(shape)
    y = gx.blur(x, kernel, boundary=boundary)
    assert y.dtype == jnp.float32
    expected = reference_blur(x, kernel, boundary)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, atol=2e-6)
    if boundary == "valid":
        return
    # scipy.ndimage has a centre of its own, at size // 2 too.
    other = scipy.ndimage.convolve(np.float64(x), np.float64(kernel), mode=SCIPY_MODES[boundary])
    np.testing.assert_allclose(y, other, atol=2e-6)


@pytest.mark.parametrize("size", [5, 6])
def test_a_delta_shifts_as_convolution_does(photograph, size):
    centre = size // 2
    still = jnp.zeros((size, size)).at[centre, centre].set(1.0)
    np.testing.assert_allclose(gx.blur(photograph, still), photograph, atol=1e-6)
    moved = jnp.zeros((size, size)).at[centre + 1, centre - 2].set(1.0)
    expected = np.roll(photograph, (1, -2), (0, 1))
    np.testing.assert_allclose(gx.blur(photograph, moved), expected, atol=1e-6)


def test_blur_takes_channels_and_batches_one_by_one(colour_photograph):
    kernel = asymmetric_kernel((4, 5))
    batch = np.stack([colour_photograph[:20, :24], colour_photograph[30:50, 40:64]])
    whole = gx.blur(batch, kernel, boundary="edge")
    for n in range(2):
        np.testing.assert_allclose(gx.blur(batch[n], kernel, boundary="edge"), whole[n], atol=1e-6)
        for c in range(3):
            expected = reference_blur(batch[n, ..., c], kernel, "edge")
            np.testing.assert_allclose(whole[n, ..., c], expected, atol=2e-6)


@pytest.mark.parametrize("boundary", ["reflect", "edge", "wrap", "valid"])
def test_blur_keeps_a_flat_image(boundary):
    flat = jnp.full((12, 13, 3), 0.37)
    y = gx.blur(flat, asymmetric_kernel((6, 5)), boundary=boundary)
    np.testing.assert_allclose(y, 0.37, atol=1e-6)


def test_blur_under_transformations(photograph):
    x, kernel = jnp.asarray(photograph[:20, :24]), jnp.asarray(asymmetric_kernel((4, 5)))
    eager = gx.blur(x, kernel)
    np.testing.assert_allclose(jax.jit(gx.blur)(x, kernel), eager, atol=1e-6)
    kernels = jnp.stack([kernel, kernel[::-1]])
    stacked = jax.vmap(gx.blur, (None, 0))(x, kernels)
    np.testing.assert_allclose(stacked, [gx.blur(x, k) for k in kernels], atol=1e-6)
    # Blurring is linear: its derivative is itself.
    direction = jnp.asarray(photograph[20:40, 24:48])
    _, slope = jax.jvp(lambda x: gx.blur(x, kernel), (x,), (direction,))
    np.testing.assert_allclose(slope, gx.blur(direction, kernel), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, jnp.float16, jnp.bfloat16])
def test_other_floats_are_blurred_too(photograph, dtype):
    x, kernel = photograph[:20, :24].astype(dtype), asymmetric_kernel((4, 5)).astype(dtype)
    kernel = kernel if dtype is np.float64 else asymmetric_kernel((4, 5))
    y = gx.blur(x, kernel)
    # JAX has no float64 unless it is switched on.
    assert y.dtype == (jnp.float32 if dtype is np.float64 else dtype)
    expected = reference_blur(x, kernel, "wrap")
    tolerance = 1e-6 if dtype is np.float64 else float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.float64(y), expected, atol=tolerance)


# --- the two protocols ---------------------------------------------------------------------------


def test_sharp_targets(photograph):
    expected = np.clip(1.2 * np.float64(photograph), 0.0, 1.0)
    assert (expected == 1.0).any() or photograph.max() < 1 / 1.2
    np.testing.assert_allclose(gx.sharp_target(photograph), expected, atol=1e-6)
    np.testing.assert_array_equal(gx.sharp_target(photograph, protocol="release"), photograph)
    np.testing.assert_array_equal(gx.sharp_target(jnp.array([[0.0, 0.9, 1.0]])), [[0.0, 1.0, 1.0]])


@pytest.mark.parametrize("boundary", ["wrap", "reflect", "edge", "valid"])
def test_paper_protocol_without_noise(photograph, boundary):
    x, kernel = np.minimum(1.6 * photograph, 1.0), asymmetric_kernel((5, 6))
    y = gx.degrade(jax.random.key(0), x, kernel, protocol="paper", noise=0.0, boundary=boundary)
    expected = reference_blur(np.clip(1.2 * np.float64(x), 0, 1), kernel, boundary).clip(0, 1)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, expected, atol=3e-6)


@pytest.mark.parametrize("boundary", ["wrap", "valid"])
def test_release_protocol_without_noise(photograph, boundary):
    x, kernel = np.minimum(1.6 * photograph, 1.0), asymmetric_kernel((5, 6))
    key = jax.random.key(4)
    y = gx.degrade(key, x, kernel, protocol="release", noise=0.0, boundary=boundary)
    (gain,) = release_gain(key, 1)
    blurred = reference_blur(x, kernel, boundary)
    assert (float(gain) * blurred > 1.0).any()  # it is saturated somewhere
    np.testing.assert_allclose(y, (float(gain) * blurred).clip(0, 1), atol=3e-6)


def test_release_draws_a_gain_for_each_image(photograph):
    x = np.stack([0.8 * photograph[:30, :30]] * 4)[..., None].repeat(3, axis=3)
    kernel, key = asymmetric_kernel((3, 3)), jax.random.key(1)
    y = gx.degrade(key, x, kernel, protocol="release", noise=0.0)
    ratio = np.asarray(y / gx.blur(x, kernel))
    gains = ratio.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(ratio, np.broadcast_to(gains[:, None, None, None], x.shape), 1e-4)
    np.testing.assert_allclose(gains, release_gain(key, 4), rtol=1e-5)
    assert len(set(gains.round(5))) == 4


def test_release_gains_are_uniform_from_1_to_1_point_2():
    gains = np.asarray(release_gain(jax.random.key(0), 4000))
    assert gains.dtype == np.float32
    assert gains.min() >= 1.0
    assert gains.max() < 1.2
    assert scipy.stats.kstest(gains, scipy.stats.uniform(1.0, 0.2).cdf).pvalue > 0.01
    keys = jax.random.split(jax.random.key(1), 1000)
    single = np.asarray(jax.vmap(lambda key: release_gain(key, 1)[0])(keys))
    assert scipy.stats.kstest(single, scipy.stats.uniform(1.0, 0.2).cdf).pvalue > 0.01


def noise_of(protocol, noise):
    """What is added to a flat grey image, nowhere near saturation."""
    x, kernel = jnp.full((2, 64, 64, 3), 0.4), asymmetric_kernel((3, 3))
    key = jax.random.key(7)
    clean = gx.degrade(key, x, kernel, protocol=protocol, noise=0.0)
    return np.float64(gx.degrade(key, x, kernel, protocol=protocol, noise=noise) - clean)


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_paper_noise_is_gaussian(noise):
    found = noise_of("paper", noise)
    assert found.mean() == pytest.approx(0.0, abs=4 * noise / np.sqrt(found.size))
    assert found.std() == pytest.approx(noise, rel=0.02)
    assert scipy.stats.kstest(found.ravel(), scipy.stats.norm(0, noise).cdf).pvalue > 0.01
    uncorrelated(found)


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_release_noise_is_uniform_from_zero(noise):
    found = noise_of("release", noise)
    assert found.min() > -1e-6
    assert found.max() < noise + 1e-6
    assert scipy.stats.kstest(found.ravel(), scipy.stats.uniform(0, noise).cdf).pvalue > 0.01
    uncorrelated(found)


def uncorrelated(noise):
    """Noise of its own in every pixel, channel and image."""
    for axis in range(noise.ndim):
        first, second = np.moveaxis(noise, axis, 0)[:2]
        correlation = np.corrcoef(first.ravel(), second.ravel())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(first.size)


@pytest.mark.parametrize("protocol", ["paper", "release"])
def test_degrade_is_a_function_of_its_key(photograph, protocol):
    x, kernel = jnp.asarray(photograph[:20, :24]), jnp.asarray(asymmetric_kernel((4, 5)))
    degrade = partial(gx.degrade, protocol=protocol)
    eager = degrade(jax.random.key(0), x, kernel)
    np.testing.assert_array_equal(degrade(jax.random.key(0), x, kernel), eager)
    assert jnp.abs(degrade(jax.random.key(1), x, kernel) - eager).mean() > 1e-3
    jitted = jax.jit(degrade)(jax.random.key(0), x, kernel, noise=0.01)
    np.testing.assert_allclose(jitted, eager, atol=2e-6)
    keys = jnp.stack([jax.random.key(1), jax.random.key(0)])
    stacked = jax.jit(jax.vmap(degrade, (0, None, None)))(keys, x, kernel)
    np.testing.assert_allclose(stacked[1], eager, atol=2e-6)


@pytest.mark.parametrize("protocol", ["paper", "release"])
def test_degraded_images_are_saturated(protocol):
    x = jnp.concatenate([jnp.zeros((8, 16)), jnp.ones((8, 16))])
    kernel = asymmetric_kernel((3, 3))
    y = gx.degrade(jax.random.key(2), x, kernel, protocol=protocol, noise=0.2)
    assert y.min() >= 0.0
    assert y.max() == 1.0
    assert (y == 1.0).mean() > 0.1


# --- photons -------------------------------------------------------------------------------------

SENSOR = gx.NoiseModel.of_sensor(full_well=400.0, read_noise=2.0)
photographed = jax.jit(partial(gx.degrade, protocol="poisson"))


def test_photons_are_counted_by_poissons_distribution():
    """Without noise of reading out, counts of a flat image are exactly his."""
    x, kernel = jnp.full((2, 64, 64, 3), 0.05), jnp.ones((1, 1))
    y = photographed(jax.random.key(0), x, kernel, noise=gx.NoiseModel(0.0, 1 / 100))
    counts = 100.0 * np.float64(y)
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-4)
    numbers = np.bincount(np.round(counts).astype(int).ravel(), minlength=20)
    expected = counts.size * scipy.stats.poisson(5).pmf(np.arange(len(numbers)))
    often = expected > 5
    assert (
        scipy.stats.chisquare(
            [*numbers[often], numbers[~often].sum()],
            [*expected[often], counts.size - expected[often].sum()],
        ).pvalue
        > 0.01
    )
    uncorrelated(counts)


@pytest.mark.parametrize(
    "noise",
    [SENSOR, gx.NoiseModel(0.03), gx.NoiseModel(0.0, 1e-7), gx.NoiseModel(0.01, 1e-10), 0.03],
)
def test_mean_and_variance_are_those_of_the_model(noise):
    """At three brightnesses, also where counts are too many for Poisson's distribution."""
    x = jnp.broadcast_to(jnp.array([0.2, 0.5, 0.8]), (2, 64, 64, 3))
    y = np.float64(photographed(jax.random.key(0), x, jnp.ones((1, 1)), noise=noise))
    model = noise if isinstance(noise, gx.NoiseModel) else gx.NoiseModel(0.0, 2 * noise**2)
    variance = model.level**2 + model.shot * np.array([0.2, 0.5, 0.8])
    error = (y - np.asarray(x)) / np.sqrt(variance)
    count = error[..., 0].size
    np.testing.assert_allclose(error.mean(axis=(0, 1, 2)), 0.0, atol=4 / np.sqrt(count))
    np.testing.assert_allclose(error.var(axis=(0, 1, 2)), 1.0, atol=5 * np.sqrt(2 / count))
    pair = degraded_pair(jax.random.key(0), x[0], jnp.ones((1, 1)), protocol="poisson", noise=noise)
    np.testing.assert_allclose(pair.noise**2 + pair.shot * x[0, 0, 0], variance, rtol=1e-5)
    np.testing.assert_array_equal(pair.sharp, x[0])
    middle = noise_deviation(noise, protocol="poisson")
    assert float(middle) ** 2 == pytest.approx(variance[1], rel=1e-5)


def test_a_sensor_is_told_by_its_electrons():
    assert SENSOR.level == 2.0 / 400.0
    assert SENSOR.shot == 1.0 / 400.0
    by_channel = gx.NoiseModel(jnp.array([0.0, 0.02, 0.04]), jnp.array([0.0, 0.0, 1e-3]))
    x = jnp.full((2, 64, 64, 3), 0.5)
    y = np.float64(photographed(jax.random.key(3), x, jnp.ones((1, 1)), noise=by_channel))
    found = y.std(axis=(0, 1, 2))
    assert found[0] == 0.0
    np.testing.assert_allclose(found[1:], [0.02, np.sqrt(0.04**2 + 5e-4)], rtol=0.04)


def test_slopes_of_photons_are_those_of_their_mean(photograph):
    x, kernel = 0.2 + 0.5 * jnp.asarray(photograph[:20, :24]), asymmetric_kernel((3, 3))
    weights = jax.random.normal(jax.random.key(1), x.shape)

    def total(x, noise):
        y = gx.degrade(jax.random.key(0), x, kernel, protocol="poisson", noise=noise)
        return jnp.sum(weights * y)

    noise = gx.NoiseModel(1e-3, 1e-5)  # so little that nothing is clipped
    found, of_noise = jax.jit(jax.grad(total, argnums=(0, 1)))(x, noise)
    expected = jax.grad(lambda x: jnp.sum(weights * gx.blur(x, kernel)))(x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    step = 1e-3
    change = total(x, noise._replace(level=1e-3 + step)) - total(x, noise)
    assert float(of_noise.level) == pytest.approx(float(change) / step, rel=1e-2)
    assert float(of_noise.shot) == 0.0


def restorations_of_photons(model, sharp):
    """PSNR of a scene restored by the sensor's noise, by an estimate, and by other noise."""
    sensor = gx.NoiseModel.of_sensor(full_well=500.0, read_noise=3.0)
    kernel = gx.motion_kernel(jax.random.key(5), size=15)
    y = photographed(jax.random.key(4), sharp, kernel, noise=sensor)
    flat = photographed(jax.random.key(4), jnp.full_like(sharp, 0.6), kernel, noise=sensor)
    estimate = jax.jit(estimate_noise_behind_blur)
    at_grey = np.sqrt(sensor.level**2 + sensor.shot * 0.6)
    np.testing.assert_allclose(estimate(flat, kernel), at_grey, rtol=0.08)
    estimated = estimate(y, kernel)
    at_mean = np.sqrt(sensor.level**2 + sensor.shot * y.mean(axis=(0, 1)))
    assert np.all((0.7 * at_mean < estimated) & (estimated < at_mean)), (estimated, at_mean)
    restore = jax.jit(lambda noise: gx.deconvolve(y, kernel, model, boundary="wrap", noise=noise))
    shot = jnp.float32(sensor.shot)
    models = {
        "told": gx.NoiseModel(jnp.full(3, sensor.level), shot),
        "estimated": gx.NoiseModel(estimated, 0.0 * shot),
        "read": gx.NoiseModel(jnp.full(3, sensor.level), 0.0 * shot),
        "much": gx.NoiseModel(jnp.full(3, sensor.level), 30.0 * shot),
    }
    scores = {name: float(gx.psnr(restore(noise), sharp)) for name, noise in models.items()}
    return scores | {"blurred": float(gx.psnr(y, sharp))}


def test_noise_of_photons_is_estimated_and_told(colour_photograph):
    """The estimate is that of the calmest parts, which are dark ones in a scene; it will do."""
    model = gx.initial_model(jax.random.key(0), gx.Unrolled(stages=1, features=2, blocks=1), {})
    scores = restorations_of_photons(model, 0.9 * jnp.asarray(colour_photograph))
    assert scores["estimated"] == pytest.approx(scores["told"], abs=2.0), scores
    assert scores["told"] > scores["read"] + 5.0, scores


@pytest.mark.slow
def test_the_default_model_restores_what_photons_have_left(colour_photograph):
    scores = restorations_of_photons(
        gx.load_model("unrolled"), 0.9 * jnp.asarray(colour_photograph)
    )
    assert scores["told"] > scores["blurred"] + 3.0, scores
    assert scores["told"] > scores["much"] + 1.5, scores
    assert scores["estimated"] > scores["told"] - 0.5, scores


@pytest.mark.parametrize(
    ("protocol", "noise", "quoted"),
    [
        ("paper", gx.NoiseModel(0.01), r"protocol 'paper' is one level, got NoiseModel"),
        ("camera", gx.NoiseModel(0.01), r"protocol 'camera' is one level"),
        ("poisson", gx.NoiseModel(-0.01), r"noise\.level must be .*got -0\.01"),
        ("poisson", gx.NoiseModel(0.01, np.nan), r"noise\.shot must be .*got nan"),
        ("poisson", gx.NoiseModel(0.01, np.ones(2)), r"noise\.shot must be a scalar.*\(2,\)"),
        ("poisson", -0.01, r"noise must be .*got -0\.01"),
    ],
)
def test_noise_that_a_protocol_does_not_take(protocol, noise, quoted):
    with pytest.raises(ValueError, match=quoted):
        gx.degrade(
            jax.random.key(0),
            np.full((8, 9, 3), 0.5, np.float32),
            KERNEL,
            protocol=protocol,
            noise=noise,
        )
    with pytest.raises(ValueError, match="full_well must be finite and above 0, got 0"):
        gx.NoiseModel.of_sensor(full_well=0)


# --- the registry --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["paper", "release"])
def test_records_say_what_the_noise_and_the_factors_are_like(protocol):
    degradation = degradation_named(protocol)
    assert degradation.name == protocol
    found = noise_of(protocol, 0.03)
    assert found.std() == pytest.approx(degradation.noise_deviation(0.03), rel=0.02)
    assert noise_deviation(0.03, protocol=protocol) == degradation.noise_deviation(0.03)
    assert found.mean() == pytest.approx(degradation.mean_offset(0.03), abs=5e-4)
    if degradation.draw_gain is not None:
        gains = degradation.draw_gain(jax.random.key(0), 4000)
        assert float(gains.mean()) == pytest.approx(degradation.mean_gain, abs=0.004)
    else:
        assert degradation.mean_gain == 1.0


def test_protocols_are_listed_by_name():
    assert tuple(DEGRADATIONS) == ("paper", "release", "camera", "poisson")
    assert noise_deviation(0.12, protocol="release") == pytest.approx(0.12 / 12**0.5)
    with pytest.raises(
        ValueError, match="protocol must be one of paper, release, camera, poisson, got 'real'"
    ):
        noise_deviation(0.1, protocol="real")


def test_a_new_protocol_is_one_record(monkeypatch, photograph):
    """Shot noise: its variance is proportional to the light."""

    def add_noise(key, y, noise):
        return y + noise * jnp.sqrt(jnp.maximum(y, 0.0)) * jax.random.normal(key, y.shape)

    shot = Degradation(
        "shot",
        sharp_target=lambda x: 0.5 * x,
        add_noise=add_noise,
        noise_deviation=lambda noise: noise / 2,
        mean_offset=lambda noise: 0.0,
        draw_gain=lambda key, count: jnp.full((count,), 1.5),
        mean_gain=1.5,
    )
    monkeypatch.setitem(DEGRADATIONS, "shot", shot)
    kernel = asymmetric_kernel((5, 6))
    clean = 1.5 * reference_blur(0.5 * photograph, kernel, "wrap")
    y = gx.degrade(jax.random.key(0), photograph, kernel, protocol="shot", noise=0.02)
    residual = (np.float64(y) - clean) / np.sqrt(clean)
    assert residual.std() == pytest.approx(0.02, rel=0.03)
    np.testing.assert_allclose(gx.sharp_target(photograph, protocol="shot"), photograph / 2)
    batch = np.stack([photograph, photograph])[..., None]
    y = gx.degrade(jax.random.key(0), batch, kernel, protocol="shot", noise=0.0)
    np.testing.assert_allclose(y[1, ..., 0], clean, atol=3e-6)
    assert noise_deviation(0.02, protocol="shot") == 0.01


# --- bad input -----------------------------------------------------------------------------------

IMAGE = np.full((8, 9), 0.5, np.float32)
KERNEL = np.full((3, 3), 1 / 9, np.float32)


@pytest.mark.parametrize("call", [gx.blur, partial(gx.degrade, jax.random.key(0))])
@pytest.mark.parametrize(
    ("x", "kernel", "error", "quoted"),
    [
        (IMAGE[0], KERNEL, ValueError, r"rank 1.*\(9,\)"),
        (IMAGE[None, None, None], KERNEL, ValueError, r"rank 5.*\(1, 1, 1, 8, 9\)"),
        (IMAGE[:0], KERNEL, ValueError, r"empty.*\(0, 9\)"),
        (IMAGE * np.nan, KERNEL, ValueError, "72 NaN"),
        (np.uint8(200 * IMAGE), KERNEL, TypeError, r"uint8.*255\.0"),
        (IMAGE, KERNEL[0], ValueError, r"2-D.*\(3,\)"),
        (IMAGE, KERNEL[:0], ValueError, r"empty.*\(0, 3\)"),
        (IMAGE, KERNEL * np.nan, ValueError, "9 NaN"),
        (IMAGE, KERNEL * 0, ValueError, "all zero"),
        (IMAGE, -KERNEL, ValueError, "sum -1"),
        (IMAGE, 2 * KERNEL, ValueError, "sum 2.*normalize_kernel"),
        (IMAGE, np.eye(3, dtype=np.int32), TypeError, "int32"),
        (IMAGE, np.full((9, 1), 1 / 9), ValueError, r"\(9, 1\).*larger.*\(8, 9\)"),
    ],
)
def test_bad_images_and_kernels(call, x, kernel, error, quoted):
    with pytest.raises(error, match=quoted):
        call(x, kernel)


def test_bad_options():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"boundary.*valid, got 'zero'"):
        gx.blur(IMAGE, KERNEL, boundary="zero")
    with pytest.raises(ValueError, match=r"protocol.*paper, release, camera, poisson, got 'text'"):
        gx.degrade(key, IMAGE, KERNEL, protocol="text")
    with pytest.raises(ValueError, match=r"protocol.*got 'text'"):
        gx.sharp_target(IMAGE, protocol="text")
    with pytest.raises(ValueError, match=r"noise.*got -0\.1"):
        gx.degrade(key, IMAGE, KERNEL, noise=-0.1)
    with pytest.raises(ValueError, match=r"noise.*got nan"):
        gx.degrade(key, IMAGE, KERNEL, noise=np.nan)


@pytest.mark.parametrize("protocol", ["paper", "release"])
def test_integer_images_have_no_sharp_target(protocol):
    with pytest.raises(TypeError, match=r"uint8.*255\.0"):
        gx.sharp_target(np.uint8(200 * IMAGE), protocol=protocol)
