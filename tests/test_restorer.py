import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from glra_jax.convolution import correlate, prepare_filters


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
