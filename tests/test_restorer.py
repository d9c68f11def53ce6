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
    config = replace(small_model.config, regularization=0.005, noise_weight=100.0)
    return replace(small_model, config=config)


def test_the_core_follows_the_noise(following: gx.Model, kernel: jax.Array) -> None:
    other = gx.gaussian_kernel(sigma=1.3, size=9)
    prepared = gx.prepare(following, kernel, tile=(40, 50), noise=0.02)
    cores = []
    for restorer, blur, strength, noise in (
        (prepared, kernel, 0.005, 0.02),
        (prepared.with_kernel(kernel, noise=0.05), kernel, 0.005, 0.05),
        (prepared.with_kernel(kernel, noise=0.05, regularization=0.05), kernel, 0.05, 0.05),
        (prepared.with_kernel(other, noise=0.03), other, 0.005, 0.03),
    ):
        expected = gx.deconvolution_core(
            following.basis, blur, regularization=strength, smoothness=100.0 * noise**2
        )
        np.testing.assert_allclose(restorer.core, expected, rtol=1e-4, atol=1e-5)
        cores.append(restorer.core)
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
    np.testing.assert_array_equal(noisy.core, plain.core)


def test_a_noise_level_is_asked_for_where_one_is_needed(
    following: gx.Model, kernel: jax.Array
) -> None:
    needed = r"depends on the noise level, got noise=None; give noise=estimate_noise\(y\)"
    with pytest.raises(ValueError, match=needed):
        gx.prepare(following, kernel, tile=(40, 50))
    restorer = gx.prepare(following, kernel, tile=(40, 50), noise=0.0)
    with pytest.raises(ValueError, match=needed):
        restorer.with_kernel(kernel)
    for prepare in (partial(gx.prepare, following), restorer.with_kernel):
        with pytest.raises(ValueError, match=r"noise must be .* at least 0, got -0\.01"):
            prepare(kernel, noise=-0.01)
        with pytest.raises(ValueError, match=r"noise must be a scalar, got shape \(2,\)"):
            prepare(kernel, noise=jnp.array([0.01, 0.02]))
        for bad in (0.0, -0.5, np.nan):
            with pytest.raises(ValueError, match=rf"regularization must be .*, got {bad}"):
                prepare(kernel, noise=0.0, regularization=bad)


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
    with pytest.raises(ValueError, match="valid"):
        restorer(photograph, boundary="valid")
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


def test_the_direct_way_has_nothing_to_prepare() -> None:
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
    model = replace(
        small_model, basis=gx.Basis(odd, odd), config=replace(small_model.config, core=core)
    )
    with pytest.raises(ValueError, match=r"rank 6 does not hold .* \(9, 9\).*centre the kernel"):
        gx.prepare(model, kernel)


def test_whether_a_basis_holds_a_kernel_is_told_at_its_noise_level() -> None:
    """Without noise the inverse of a wide blur is out of the basis' reach, with noise it is not."""
    kernels = [gx.gaussian_kernel(sigma=s, size=23) for s in (1.0, 2.0, 3.0)]
    config = gx.ModelConfig(31, 4, 14, regularization=1e-6, noise_weight=40.0)
    smooth = gx.smoothness_for(0.1, noise_weight=40.0)
    inverses = [
        gx.pseudo_inverse(k, support=31, regularization=1e-6, smoothness=smooth) for k in kernels
    ]
    basis, _ = gx.fit_glra(jnp.stack(inverses), rank=4)
    model = replace(gx.initial_model(jax.random.key(0), basis, features=14), config=config)
    with pytest.raises(ValueError, match="does not hold"):
        gx.prepare(model, kernels[2], noise=0.0)
    assert gx.prepare(model, kernels[2], noise=0.1).core.shape == (4, 4)
