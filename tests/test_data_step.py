"""The step back to the data behind a network, and the mean brightness that it keeps."""

import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

import glra_jax as gx
from glra_jax.networks.data_step import StepFilters, take_step_in_frame
from glra_jax.networks.low_rank import LowRank

# What SciPy calls them.
BOUNDARIES = {"edge": "nearest", "reflect": "mirror", "wrap": "wrap", "valid": "constant"}
STEP = gx.DataStep(regularization=0.01, noise_weight=300.0)
NOISE = 0.01


def with_step(model: gx.Model, step: gx.DataStep = STEP) -> gx.Model:
    return replace(model, architecture=replace(model.architecture, data_step=step))


@pytest.fixture(scope="module")
def stepping(random_model: gx.Model) -> gx.Model:
    """Behind a network that restores nothing, so that the step has much to do."""
    return with_step(random_model)


@pytest.fixture(scope="module")
def kernel() -> jax.Array:
    """Of an even and an odd side, without symmetry."""
    kernel = gx.motion_kernel(jax.random.key(5), size=9)[:8]
    return kernel / kernel.sum()


# --- what it is ----------------------------------------------------------------------------------


def filters_of(model: gx.Model, kernel: jax.Array, noise: float = NOISE) -> StepFilters:
    """Of one kernel for all images."""
    condition = model.architecture.condition(model.constants, kernel, noise=noise)
    filters = model.architecture.step_filters(jax.tree.map(lambda leaf: leaf[None], condition))
    assert filters is not None
    return filters


def test_its_inverse_is_the_low_rank_one(stepping: gx.Model, kernel: jax.Array) -> None:
    left, right = (np.asarray(side, np.float64) for side in stepping.constants)
    inverse = gx.Inverse(STEP.regularization, STEP.noise_weight, "least-squares")
    core = gx.deconvolution_core(stepping.constants, kernel, inverse=inverse, noise=NOISE)
    filters = filters_of(stepping, kernel)
    np.testing.assert_array_equal(filters.kernel[0], kernel)
    np.testing.assert_allclose(filters.inverse[0], left @ core @ right.T, rtol=0, atol=1e-5)
    np.testing.assert_allclose(filters.inverse.sum(), 1.0, rtol=1e-5)


def test_noise_makes_it_smoother(stepping: gx.Model, kernel: jax.Array) -> None:
    gains = [
        float(jnp.sum(jnp.square(filters_of(stepping, kernel, noise).inverse)))
        for noise in (0.0, 0.01, 0.05)
    ]
    assert gains[0] > 1.5 * gains[1] > 2.0 * gains[2]


def reference(
    x: np.ndarray, y: np.ndarray, kernel: np.ndarray, inverse: np.ndarray, boundary: str
) -> np.ndarray:
    """The step by SciPy in float64."""
    outside = "wrap" if boundary == "wrap" else "constant"
    share = scipy.ndimage.convolve(np.ones_like(x), kernel, mode=outside)
    counted = share > 0.999 if boundary == "valid" else share**4
    left = counted * (y - scipy.ndimage.convolve(x, kernel, mode=BOUNDARIES[boundary]))
    return np.clip(x + scipy.ndimage.convolve(left, inverse, mode=outside), 0.0, 1.0)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("shape", [(48, 60), (5, 13)])  # the latter is below kernel and support
def test_the_step_is_scipys(
    stepping: gx.Model,
    kernel: jax.Array,
    photograph: np.ndarray,
    boundary: str,
    shape: tuple[int, int],
) -> None:
    y = photograph[: shape[0], : shape[1]]
    x = photograph[: shape[0], shape[1] - 1 :: -1]  # something else
    filters = filters_of(stepping, kernel)
    images = (jnp.asarray(image)[None, ..., None] for image in (x, y))
    found = take_step_in_frame(*images, filters, boundary)[0, ..., 0]
    small, large = (np.float64(array[0]) for array in filters)
    expected = reference(np.float64(x), np.float64(y), small, large, boundary)
    if boundary != "valid" or shape[0] > 8:  # else nothing is known of what is left
        assert np.abs(expected - x).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)


@pytest.mark.slow
def test_with_a_delta_kernel_and_no_noise_the_blurred_image_comes_back(
    photograph: np.ndarray,
) -> None:
    """A basis of full rank holds its inverse, which is a delta too, divided by its DC gain."""
    side = jnp.eye(31, dtype=jnp.float32)
    whole = gx.Glra(31, 31, 16, data_step=STEP)
    delta = jnp.zeros((3, 5), jnp.float32).at[1, 2].set(1.0)
    filters = filters_of(gx.Model(whole, gx.Basis(side, side), {}), delta, 0.0)
    y = jnp.asarray(photograph)[None, ..., None]
    for restored in (y[:, ::-1], 0.5 * jnp.ones_like(y)):
        found = take_step_in_frame(restored, y, filters, "edge")
        np.testing.assert_allclose(found, y, rtol=0, atol=1e-5)


# --- behind a network ----------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", ["edge", "valid"])
def test_it_is_taken_on_what_the_network_restores(
    random_model: gx.Model,
    stepping: gx.Model,
    kernel: jax.Array,
    photograph: np.ndarray,
    boundary: str,
) -> None:
    y = jnp.asarray(photograph)
    before = gx.deconvolve(y, kernel, random_model, boundary=boundary)
    found = gx.deconvolve(y, kernel, stepping, boundary=boundary, noise=NOISE)
    inner = y[15:-15, 15:-15] if boundary == "valid" else y
    images = (image[None, ..., None] for image in (before, inner))
    expected = take_step_in_frame(*images, filters_of(stepping, kernel), boundary)
    np.testing.assert_allclose(found, expected[0, ..., 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("boundary", ["edge", "reflect", "wrap"])
def test_tiles_give_what_the_whole_image_gives(
    stepping: gx.Model, kernel: jax.Array, photograph: np.ndarray, boundary: str
) -> None:
    whole = gx.deconvolve(jnp.asarray(photograph), kernel, stepping, boundary=boundary, noise=NOISE)
    restorer = gx.prepare(stepping, kernel, tile=(40, 50), noise=NOISE)
    np.testing.assert_allclose(restorer(photograph, boundary=boundary), whole, rtol=0, atol=1e-5)


def test_batches_channels_and_dtypes_in_tiles_larger_than_images(
    stepping: gx.Model, kernel: jax.Array, colour_photograph: np.ndarray
) -> None:
    batch = np.stack([colour_photograph, colour_photograph[::-1]])[:, :17, :13].astype(np.float16)
    whole = gx.deconvolve(jnp.asarray(batch), kernel, stepping, noise=NOISE)
    tiled = gx.prepare(stepping, kernel, tile=(40, 50), noise=NOISE)(batch)
    assert whole.dtype == tiled.dtype == np.float16
    np.testing.assert_allclose(np.float32(tiled), np.float32(whole), rtol=0, atol=1e-3)


@pytest.mark.slow
def test_jit_vmap_and_grad(stepping: gx.Model, kernel: jax.Array, photograph: np.ndarray) -> None:
    y = jnp.asarray(0.25 + 0.5 * photograph[:24, :28])
    direction = jax.random.normal(jax.random.key(0), y.shape)

    def along(t: jax.Array, noise: jax.Array) -> jax.Array:
        moved = y + 1e-2 * t * direction
        return jnp.mean(gx.deconvolve(moved, kernel, stepping, noise=noise) * direction)

    noises = jnp.array([NOISE, 0.03])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(along), (None, 0)))(0.0, noises)
    assert abs(values[0] - values[1]) > 1e-4
    ends = jnp.array([along(jnp.float32(t), noises[0]) for t in (-0.1, 0.0, 0.1)])
    np.testing.assert_allclose(values[0], ends[1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(slopes[0], (ends[2] - ends[0]) / 0.2, rtol=3e-2)


def test_only_a_noise_weight_makes_it_depend_on_the_noise(random_model: gx.Model) -> None:
    for step, uses in ((gx.DataStep(), False), (gx.DataStep(0.01), False), (STEP, True)):
        assert with_step(random_model, step).architecture.uses_noise(None) == uses


# --- configuration -------------------------------------------------------------------------------


def test_what_is_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"regularization of a data step.*got -1"):
        gx.DataStep(-1.0)
    with pytest.raises(ValueError, match=r"noise_weight 3\.0 needs a regularization above 0"):
        gx.DataStep(noise_weight=3.0)
    with pytest.raises(TypeError, match=re.escape("data_step must be a glra_jax.DataStep, got 5")):
        gx.Glra(data_step=5)  # type: ignore[arg-type]


def test_files_hold_it_and_those_without_have_none(stepping: gx.Model, tmp_path: Path) -> None:
    gx.save_model(stepping, tmp_path / "new")
    assert gx.load_model(tmp_path / "new").architecture == stepping.architecture
    shipped = (gx.load_model(name).architecture for name in gx.available_models())
    # glra, glra-random-init, glra-release
    steps = [bool(one.data_step) for one in shipped if isinstance(one, LowRank)]
    assert steps == [True, False, False]


# --- mean brightness -----------------------------------------------------------------------------


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**16),
    family=st.sampled_from(["gaussian", "disk", "motion"]),
    noise=st.sampled_from([0.0, 0.01, 0.03]),
    brightness=st.floats(0.9, 1.1),
)
def test_the_mean_brightness_is_kept(
    seed: int, family: str, noise: float, brightness: float
) -> None:
    """Whatever the network makes of it, as long as nothing is saturated."""
    families = gx.KernelFamilies((family,), 5, 9, max_sigma=2.0)
    kernel = gx.sample_kernel(jax.random.key(seed), families)
    random = np.random.default_rng(seed)
    x = scipy.ndimage.gaussian_filter(random.normal(size=(40, 44)), 2.0, mode="wrap")
    x = jnp.asarray(0.5 + 0.3 * x, jnp.float32)
    y = gx.blur(x, kernel) + noise * jax.random.normal(jax.random.key(seed), x.shape)
    architecture = gx.Glra(31, 31, 16, data_step=STEP)
    side = jnp.eye(31, dtype=jnp.float32)
    filters = filters_of(gx.Model(architecture, gx.Basis(side, side), {}), kernel, noise)
    images = (image[None, ..., None] for image in (brightness * x[::-1], y))
    restored = take_step_in_frame(*images, filters, "wrap")
    assert 0.0 < float(restored.min()) < float(restored.max()) < 1.0
    np.testing.assert_allclose(restored.mean(), y.mean(), rtol=1e-4)


@pytest.mark.slow
@settings(max_examples=6)
@given(
    seed=st.integers(0, 2**16),
    family=st.sampled_from(["gaussian", "disk", "motion"]),
    noise=st.sampled_from([0.0, 0.01, 0.03]),
)
def test_glra_keeps_the_mean_brightness(seed: int, family: str, noise: float) -> None:
    """`glra-release` divides by some 1.1 on purpose, and `glra-random-init` keeps no mean."""
    model = gx.load_model("glra")
    families = gx.KernelFamilies(families=(family,))
    kernel = gx.sample_kernel(jax.random.key(seed), families)
    row, column = np.random.default_rng(seed).integers(0, (200, 340))
    cat = skimage.data.chelsea()[row : row + 100, column : column + 100, 1] / 255.0
    x = jnp.asarray(0.25 + 0.5 * cat, jnp.float32)
    y = gx.blur(x, kernel) + noise * jax.random.normal(jax.random.key(seed), x.shape)
    restored = gx.deconvolve(y, kernel, model, boundary="wrap", noise=noise)
    np.testing.assert_allclose(restored.mean(), y.mean(), rtol=1e-3)
