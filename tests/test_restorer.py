from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from glra_jax.correlation.correlate import correlate, prepare_filters


@pytest.fixture(scope="module")
def kernel() -> jax.Array:
    return gx.motion_kernel(jax.random.key(5), size=9)


@pytest.mark.parametrize("boundary", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("method", ["direct", "spectral"])
def test_tiles_give_what_the_whole_image_gives(
    small_model: gx.Model, kernel: jax.Array, photograph: np.ndarray, boundary: str, method: str
) -> None:
    whole = gx.deconvolve(jnp.asarray(photograph), kernel, small_model, boundary=boundary)
    restorer = gx.prepare(small_model, kernel, tile=(40, 50), method=method)
    tiled = restorer(photograph, boundary=boundary)
    assert isinstance(tiled, np.ndarray)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_batches_channels_and_dtypes_are_kept(
    small_model: gx.Model, kernel: jax.Array, colour_photograph: np.ndarray
) -> None:
    batch = np.stack([colour_photograph, colour_photograph[::-1]]).astype(np.float16)
    restorer = gx.prepare(small_model, kernel, tile=gx.even_tile(96, 112, largest=60))
    tiled = restorer(batch)
    assert tiled.shape == batch.shape
    assert tiled.dtype == np.float16
    whole = gx.deconvolve(jnp.asarray(batch), kernel, small_model)
    np.testing.assert_allclose(tiled.astype(np.float32), np.asarray(whole, np.float32), atol=2e-3)


def test_images_smaller_than_a_tile_and_than_the_support(
    small_model: gx.Model, kernel: jax.Array, photograph: np.ndarray
) -> None:
    restorer = gx.prepare(small_model, kernel, tile=(40, 50))
    for shape in ((1, 1), (2, 60), (17, 13)):
        small = photograph[: shape[0], : shape[1]]
        whole = gx.deconvolve(jnp.asarray(small), kernel, small_model)
        np.testing.assert_allclose(restorer(small), whole, atol=1e-5)


def test_filters_of_one_size_are_transformed_without_compiling_again(
    small_model: gx.Model, kernel: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = gx.prepare(small_model, kernel, tile=(40, 50), method="spectral")
    traced = "glra_jax.correlation.correlate.transform_filters"
    monkeypatch.setattr(traced, lambda *_: pytest.fail("compiled again"))
    again = gx.prepare(small_model, kernel, tile=(40, 50), method="spectral")
    jax.tree.map(np.testing.assert_array_equal, again.prepared, first.prepared)


def test_another_kernel_keeps_the_transformed_filters(
    small_model: gx.Model, kernel: jax.Array, photograph: np.ndarray
) -> None:
    other = gx.gaussian_kernel(sigma=1.3, size=9)
    restorer = gx.prepare(small_model, kernel, tile=(40, 50), method="spectral")
    changed = restorer.with_kernel(other)
    assert changed.prepared is restorer.prepared
    assert set(changed.prepared) == {"vertical", "horizontal", "refine_1", "refine_3"}
    whole = gx.deconvolve(jnp.asarray(photograph), other, small_model)
    np.testing.assert_allclose(changed(photograph), whole, atol=1e-5)


@pytest.fixture(scope="module")
def following(small_model: gx.Model) -> gx.Model:
    """The small model with a pseudo-inverse that depends on the noise."""
    return with_inverse(small_model, gx.Inverse(0.005, noise_weight=100.0))


def with_inverse(model: gx.Model, inverse: gx.Inverse) -> gx.Model:
    return replace(model, architecture=replace(model.architecture, inverse=inverse))


def test_the_core_follows_the_noise(following: gx.Model, kernel: jax.Array) -> None:
    other = gx.gaussian_kernel(sigma=1.3, size=9)
    prepared = gx.prepare(following, kernel, tile=(40, 50), noise=0.02)
    stronger = replace(following.architecture.inverse, regularization=0.05)
    cores = []
    for restorer, blur, strength, noise in (
        (prepared, kernel, 0.005, 0.02),
        (prepared.with_kernel(kernel, noise=0.05), kernel, 0.005, 0.05),
        (prepared.with_kernel(kernel, noise=0.05, inverse=stronger), kernel, 0.05, 0.05),
        (prepared.with_kernel(other, noise=0.03), other, 0.005, 0.03),
    ):
        inverse = gx.Inverse(strength, 100.0 * noise**2)  # at a noise of 1
        expected = gx.deconvolution_core(following.constants, blur, inverse=inverse, noise=1.0)
        np.testing.assert_allclose(restorer.condition.core, expected, rtol=1e-4, atol=1e-5)
        cores.append(restorer.condition.core)
    for core in (*cores[:1], *cores[2:]):
        assert jnp.abs(core - cores[1]).max() > 1e-3


def test_tiles_at_a_noise_level_give_what_the_whole_image_gives(
    following: gx.Model, kernel: jax.Array, photograph: np.ndarray
) -> None:
    whole = gx.deconvolve(jnp.asarray(photograph), kernel, following, noise=0.03)
    restorer = gx.prepare(following, kernel, tile=(40, 50), noise=0.03)
    np.testing.assert_allclose(restorer(photograph), whole, atol=1e-5)


def test_without_a_noise_weight_the_noise_does_not_count(
    small_model: gx.Model, kernel: jax.Array
) -> None:
    plain = gx.prepare(small_model, kernel, tile=(40, 50))
    noisy = gx.prepare(small_model, kernel, tile=(40, 50), noise=0.1)
    np.testing.assert_array_equal(noisy.condition.core, plain.condition.core)


def test_noise_that_is_not_named_is_estimated_from_each_image(
    following: gx.Model, kernel: jax.Array, photograph: np.ndarray
) -> None:
    restorers = (
        gx.prepare(following, kernel, tile=(40, 50)),
        gx.prepare(following, kernel, tile=(40, 50), noise=0.3).with_kernel(kernel),
    )
    draws = np.random.default_rng(0).normal(size=photograph.shape)
    for noise in (0.02, 0.08):
        y = np.float32(photograph + noise * draws).clip(0, 1)
        level = gx.estimate_noise(jnp.asarray(y))
        assert 0.5 * noise < float(level) < 1.5 * noise
        whole = gx.deconvolve(jnp.asarray(y), kernel, following, noise=level)
        for restorer in restorers:
            np.testing.assert_allclose(restorer(y), whole, atol=1e-5)
        named = gx.prepare(following, kernel, tile=(40, 50), noise=3 * level)(y)
        assert np.abs(named - whole).max() > 1e-3
    with pytest.raises(ValueError, match=r"\(2, 40\) is smaller than the 3×3.*name the noise"):
        restorers[0](photograph[:2, :40])


def test_noise_and_inverses_out_of_range_are_refused(
    following: gx.Model, kernel: jax.Array
) -> None:
    restorer = gx.prepare(following, kernel, tile=(40, 50), noise=0.0)
    for prepare in (partial(gx.prepare, following), restorer.with_kernel):
        with pytest.raises(ValueError, match=r"noise must be .* at least 0, got -0\.01"):
            prepare(kernel, noise=-0.01)
        with pytest.raises(ValueError, match=r"noise must be a scalar, got shape \(2,\)"):
            prepare(kernel, noise=jnp.array([0.01, 0.02]))
        for bad in (0.0, -0.5, np.nan):
            inverse = gx.Inverse(jnp.float32(bad))  # which may be traced elsewhere
            with pytest.raises(ValueError, match=rf"regularization must be .*, got {bad}"):
                prepare(kernel, noise=0.0, inverse=inverse)
        with pytest.raises(TypeError, match=r"inverse must be a glra_jax\.Inverse, got float"):
            prepare(kernel, noise=0.0, inverse=0.01)


def test_valid_is_what_is_inside_the_image(
    following: gx.Model, kernel: jax.Array, colour_photograph: np.ndarray
) -> None:
    for noise in (0.03, None):
        restorer = gx.prepare(following, kernel, tile=(40, 50), noise=noise)
        inner = restorer(colour_photograph, boundary="valid")
        assert isinstance(inner, np.ndarray)
        assert inner.shape == (66, 82, 3)
        whole = gx.deconvolve(
            jnp.asarray(colour_photograph), kernel, following, boundary="valid", noise=noise
        )
        np.testing.assert_allclose(inner, whole, atol=1e-5)
    for dtype in (np.float16, np.float64):
        assert restorer(colour_photograph.astype(dtype), boundary="valid").dtype == dtype
    with pytest.raises(ValueError, match=r"\(30, 112\).* 31×31 pixels.*another boundary"):
        restorer(colour_photograph[:30, :, 0], boundary="valid")


def test_progress_is_shown_only_where_asked_for(
    small_model: gx.Model,
    kernel: jax.Array,
    photograph: np.ndarray,
    capsys: pytest.CaptureFixture[str],
) -> None:
    restorer = gx.prepare(small_model, kernel, tile=(96, 112))
    restorer(photograph)
    assert capsys.readouterr().err == ""
    restorer(photograph, progress=True)
    assert "1/1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("height", "width", "largest", "expected"),
    [(321, 481, 320, (161, 241)), (100, 50, 320, (100, 50)), (640, 641, 320, (320, 214))],
)
def test_even_tiles_share_an_image_out(
    height: int, width: int, largest: int, expected: tuple[int, int]
) -> None:
    assert gx.even_tile(height, width, largest=largest) == expected


def test_bad_input_is_refused(
    small_model: gx.Model, kernel: jax.Array, photograph: np.ndarray
) -> None:
    restorer = gx.prepare(small_model, kernel, tile=(40, 50))
    with pytest.raises(TypeError, match="uint8"):
        restorer((255 * photograph).astype(np.uint8))
    with pytest.raises(ValueError, match=r"boundary must be .*wrap, valid, got 'zero'"):
        restorer(photograph, boundary="zero")
    with pytest.raises(ValueError, match="NaN"):
        restorer(np.full((8, 8), np.nan, np.float32))
    with pytest.raises(ValueError, match="tile height must be at least 1, got 0"):
        gx.prepare(small_model, kernel, tile=(0, 50))
    with pytest.raises(ValueError, match="larger than the support 31"):
        gx.prepare(small_model, jnp.full((33, 33), 1 / 33**2))


@pytest.mark.parametrize("filters", [(5, 4, 3, 6), (1, 9, 3, 4), (9, 1, 2, 5)])
def test_prepared_filters_give_the_same_correlation(filters: tuple[int, ...]) -> None:
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, 23, 31, filters[2]))
    w = jax.random.normal(keys[1], filters)
    prepared = prepare_filters(w, x.shape[:3], padding=3, method="spectral")
    expected = correlate(x, w, padding=3, method="direct")
    scale = float(jnp.abs(expected).max())
    found = jax.jit(correlate)(x, prepared)
    np.testing.assert_allclose(found / scale, expected / scale, atol=2e-6)


def test_prepared_filters_serve_one_size_of_images_only() -> None:
    w = jnp.ones((5, 4, 3, 6))
    prepared = prepare_filters(w, (1, 20, 20), method="spectral")
    with pytest.raises(ValueError, match=r"\(1, 20, 20\)"):
        correlate(jnp.ones((1, 20, 21, 3)), prepared)


def test_the_direct_method_has_nothing_to_prepare() -> None:
    assert prepare_filters(jnp.ones((5, 4, 3, 6)), (1, 20, 20), method="direct") is None


def test_wrong_arguments_are_named(small_model):
    kernel = gx.gaussian_kernel(sigma=1.0, size=5)
    with pytest.raises(TypeError, match=r"model must be a glra_jax Model .* got str"):
        gx.prepare("glra", kernel)
    with pytest.raises(ValueError, match="tile must be a height and a width, got 64"):
        gx.prepare(small_model, kernel, tile=64)


@pytest.mark.parametrize("core", ["projection", "least-squares"])
def test_a_basis_that_holds_nothing_of_a_kernel_is_refused(
    small_model: gx.Model, kernel: jax.Array, core: str
) -> None:
    """Odd functions, whose sum is 0, keep no brightness."""
    rows = jnp.arange(31.0) - 15.0
    odd = jnp.stack([jnp.sin(2 * jnp.pi * k * rows / 31) for k in range(1, 7)], axis=1)
    odd, _ = jnp.linalg.qr(odd)
    model = replace(with_inverse(small_model, gx.Inverse(core=core)), constants=gx.Basis(odd, odd))
    with pytest.raises(ValueError, match=r"rank 6 does not hold .* \(9, 9\).*centre the kernel"):
        gx.prepare(model, kernel)


def test_whether_a_basis_holds_a_kernel_is_told_at_its_noise_level() -> None:
    """Without noise the inverse of a wide blur is out of the basis' reach, with noise it is not."""
    kernels = [gx.gaussian_kernel(sigma=s, size=23) for s in (1.0, 2.0, 3.0)]
    inverse = gx.Inverse(1e-6, noise_weight=40.0)
    inverses = [
        gx.pseudo_inverse(k, support=31, regularization=1e-6, smoothness=inverse.smoothness(0.1))
        for k in kernels
    ]
    basis, _ = gx.fit_glra(jnp.stack(inverses), rank=4)
    model = gx.initial_model(jax.random.key(0), gx.Glra(31, 4, 14, inverse), basis)
    prepare = partial(gx.prepare, model, kernels[2], tile=(40, 40))
    with pytest.raises(ValueError, match="does not hold"):
        prepare(noise=0.0)
    assert prepare(noise=0.1).condition.core.shape == (4, 4)
    # Where it is estimated, at that of the image.
    restorer = prepare()
    flat = np.full((40, 40), 0.5, np.float32)
    with pytest.raises(ValueError, match="does not hold"):
        restorer(flat)
    noisy = np.float32(flat + np.random.default_rng(0).normal(0, 0.1, flat.shape))
    expected = prepare(noise=gx.estimate_noise(noisy))(noisy)
    np.testing.assert_allclose(restorer(noisy), expected, atol=1e-5)


def test_another_kernel_compiles_no_network_again(small_model, photograph, monkeypatch):
    """Of another size, with another noise and inverse."""
    traced = []
    apply = gx.Glra.apply

    def count(self, *args, **options):
        traced.append(args)
        return apply(self, *args, **options)

    monkeypatch.setattr(gx.Glra, "apply", count)
    y = photograph[:21, :23]
    restorer = gx.prepare(small_model, gx.gaussian_kernel(sigma=1.0, size=7), tile=(21, 23))
    restorer(y)
    assert len(traced) == 1
    wider = gx.gaussian_kernel(sigma=1.3, size=9)
    restorer.with_kernel(wider, noise=0.01, inverse=gx.Inverse(0.02))(y)
    restorer.with_kernel(wider, noise=jnp.float32(0.02))(y)
    assert len(traced) == 1
