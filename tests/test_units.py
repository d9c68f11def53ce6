"""Images in other units and byte orders: the same restoration, in the image's own unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from glra_jax import validation
from glra_jax.light import noise_in_linear_light, to_linear, to_srgb, traced_to_srgb
from glra_jax.noise import NoiseModel
from glra_jax.units import in_unit, noise_in_unit, out_of_unit, unit_of

KERNEL = gx.gaussian_kernel(sigma=1.0, size=5)


def test_the_unit_of_an_image():
    dark = np.full((6, 7), 0.5, np.float32)
    assert unit_of(dark, None) == 1.0
    assert unit_of(dark, 4095) == 4095.0
    noisy_white = 1.0 + 0.05 * np.random.default_rng(0).standard_normal((200, 200, 3))
    assert unit_of(noisy_white, None) == 1.0
    for shape in ((6, 7), (6, 7, 3), (2, 6, 7, 3), (1, 1)):
        bright = np.full(shape, 1.5, np.float32)
        assert unit_of(bright, None) == pytest.approx(1.25 * 1.5)
        assert float(jax.jit(lambda y: unit_of(y, None))(bright)) == pytest.approx(1.25 * 1.5)
        assert float(jax.jit(lambda y: unit_of(y, None))(0.5 * bright)) == 1.0
    star = dark.copy()
    star[2:5, 2:5] = [[0.9, 1.2, 0.9], [1.2, 1.9, 1.2], [0.9, 1.2, 0.9]]
    assert unit_of(star, None) == pytest.approx(1.25 * 1.9)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="scale must be finite and above 0"):
            unit_of(dark, bad)


def test_noise_is_divided_as_the_image_is():
    assert noise_in_unit(None, 4.0) is None
    assert noise_in_unit(0.02, 1.0) == 0.02
    assert float(noise_in_unit(0.02, 4.0)) == pytest.approx(0.005)
    found = noise_in_unit(NoiseModel(0.02, 0.04), 4.0)
    y = 0.6  # the variance of y / 4 is that of y, over 16
    variance = found.level**2 + found.shot * (y / 4)
    assert float(variance) == pytest.approx((0.02**2 + 0.04 * y) / 16)
    y = np.full((2, 2), 3.0, np.float16)
    assert out_of_unit(in_unit(y, 4.0), 4.0).dtype == np.float16


def small_model() -> gx.Model:
    basis = gx.Basis(jnp.eye(9), jnp.eye(9))
    return gx.initial_model(jax.random.key(0), gx.Glra(9, 9, 13), basis)


def test_the_result_has_the_unit_of_the_image():
    model = small_model()
    y = np.random.default_rng(0).random((24, 20), np.float32)
    expected = gx.deconvolve(jnp.asarray(y), KERNEL, model)
    for scale in (0.5, 255.0, 4095.0):
        found = gx.deconvolve(jnp.asarray(y * scale), KERNEL, model, scale=scale)
        np.testing.assert_allclose(found / scale, expected, atol=2e-5)
        tiles = gx.prepare(model, KERNEL, tile=(24, 20))(y * scale, scale=scale)
        np.testing.assert_allclose(tiles / scale, expected, atol=2e-5)
    with pytest.raises(ValueError, match=r"y reaches from .* times white.*scale="):
        gx.deconvolve(jnp.asarray(y * 255), KERNEL, model)
    linear = gx.deconvolve_linear(jnp.asarray(y), KERNEL)
    found = gx.deconvolve_linear(jnp.asarray(y * 100), KERNEL, scale=100.0)
    np.testing.assert_allclose(found / 100, linear, atol=1e-4)


def test_values_above_white_are_not_cut_off():
    y = jnp.full((24, 20), 1.5)
    model = small_model()
    for found in (gx.deconvolve(y, KERNEL, model), gx.prepare(model, KERNEL)(np.asarray(y))):
        assert np.abs(np.asarray(found)[8:-8, 8:-8] - 1.5).max() < 0.05


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", np.longdouble])
def test_any_byte_order_and_precision_at_the_door(dtype):
    y = np.random.default_rng(0).random((16, 16))
    kernel = np.full((3, 3), 1 / 9)
    other, plain = y.astype(dtype), y.astype(np.float32)
    tolerance = 1e-2 if dtype == ">f2" else 1e-5
    np.testing.assert_allclose(
        gx.psnr(other, np.zeros_like(other)), gx.psnr(plain, 0 * plain), rtol=1e-3
    )
    np.testing.assert_allclose(gx.normalize_kernel(kernel.astype(dtype)), kernel, atol=tolerance)
    model = small_model()
    expected = gx.deconvolve(plain, kernel.astype(np.float32), model)
    found = gx.deconvolve(other, np.asarray(kernel, ">f4"), model)
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, atol=tolerance)
    found = gx.prepare(model, np.asarray(kernel, ">f4"))(other)
    np.testing.assert_allclose(found.astype(np.float32), expected, atol=tolerance)


def test_other_functions_name_the_byte_order():
    y = np.full((16, 16), 0.5, ">f4")
    with pytest.raises(TypeError, match=r"x is of the other byte order, >f4; pass x\.astype"):
        gx.blur(y, np.asarray(KERNEL))


def test_masked_values_are_refused():
    y = np.ma.masked_greater(np.full((16, 16), 0.5, np.float32), 0.4)
    with pytest.raises(ValueError, match=r"y has 256 masked values of 256"):
        gx.deconvolve(y, KERNEL, small_model())
    clear = np.ma.masked_greater(np.full((16, 16), 0.5, np.float32), 0.6)
    gx.psnr(clear, clear)


@pytest.mark.parametrize(
    ("dtype", "fix"), [(np.uint8, r"8-bit data pass y / 255\.0"), (np.uint16, r"y / 65535\.0")]
)
def test_integers_are_refused_with_their_white(dtype, fix):
    with pytest.raises(TypeError, match=fix):
        gx.deconvolve(np.ones((16, 16), dtype), KERNEL, small_model())
    with pytest.raises(TypeError, match=r"kernel must be floating.*normalize_kernel\(kernel\)"):
        gx.deconvolve(jnp.ones((16, 16)), np.ones((3, 3), dtype), small_model())


def test_linear_light_is_that_of_the_standard():
    """IEC 61966-2-1: middle grey is a fifth of the light, and both curves undo each other."""
    assert float(to_linear(np.float32(0.5))) == pytest.approx(0.21404, abs=1e-5)
    values = np.linspace(-0.1, 1.8, 200, dtype=np.float32)
    np.testing.assert_allclose(to_srgb(to_linear(values)), values, atol=2e-6)
    bright = np.linspace(0.1, 1.0, 20)
    slope = (to_linear(bright + 1e-3) - to_linear(bright - 1e-3)) / 2e-3
    noise = noise_in_linear_light(0.01)
    modelled = np.sqrt(noise.level**2 + noise.shot * to_linear(bright))
    assert np.all(np.abs(np.log(modelled / (0.01 * slope))) < 0.5)


def test_the_traced_curve_is_the_same_and_has_slopes():
    light = jnp.asarray(np.linspace(-0.1, 1.8, 200), jnp.float32)
    np.testing.assert_allclose(jax.jit(traced_to_srgb)(light), to_srgb(light), atol=1e-6)
    assert float(traced_to_srgb(jnp.float32(1.0))) == 1.0  # what is white is shown white
    slopes = jax.grad(lambda values: traced_to_srgb(values).sum())(light)
    differences = (to_srgb(np.float64(light) + 1e-6) - to_srgb(np.float64(light) - 1e-6)) / 2e-6
    np.testing.assert_allclose(slopes, differences, rtol=1e-3)


def test_looking_at_numpy_input_compiles_nothing():
    """Programs for every shape would pile up in memory."""
    shapes = iter(range(16, 60))
    with pytest.MonkeyPatch.context() as patch:
        compiled = []
        from jax._src import compiler

        real = compiler.backend_compile_and_load
        patch.setattr(
            compiler,
            "backend_compile_and_load",
            lambda *a, **k: (compiled.append(1), real(*a, **k))[1],
        )
        for _ in range(3):
            y = np.random.default_rng(0).random((next(shapes), next(shapes))).astype(np.float32)
            validation.check_image(y)
            validation.check_range(y)
            validation.check_kernel(y / y.sum())
            unit_of(y, None)
            unit_of(2 * y, None)
            gx.normalize_kernel(y)
    assert compiled == []
