"""Training batches: functions of seed and step, and true to the degradation model."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

import glra_jax as gx
from glra_jax.datasets import pack_photographs
from glra_jax.networks import Refinement
from glra_jax.training.batches import batch_key, make_batch
from glra_jax.training.config import TrainConfig

PATCH = 40
DEFAULT = gx.Inverse()
WHOLE_BASIS = gx.Basis(jnp.eye(31), jnp.eye(31))
# Families of one kernel only, so that it is known which one a batch was made with.
ONE_GAUSSIAN = gx.KernelFamilies(
    families=("gaussian",), min_size=9, max_size=9, min_sigma=1.3, max_sigma=1.3
)


@pytest.fixture(scope="module")
def packed(colour_photograph):
    return pack_photographs([np.uint8(np.round(255 * colour_photograph))])


@pytest.fixture(scope="module")
def make(packed, small_basis):
    """`make(key, **options)`: a batch of four, jitted."""
    jitted = jax.jit(make_batch, static_argnums=1)

    def make(key, basis=small_basis, *, inverse=DEFAULT, **changes):
        options = {"kernels": ONE_GAUSSIAN} | changes
        architecture = Refinement(*basis.left.shape, 16, inverse)
        config = TrainConfig(architecture=architecture, batch=4, patch=PATCH, **options)
        return jitted(key, config, packed, basis)

    return make


def even_basis():
    """Support 30: its centre lies half a pixel off the middle."""
    rng = np.random.default_rng(0)
    sides = (np.linalg.qr(rng.normal(size=(30, 5)))[0] for _ in range(2))
    return gx.Basis(*(jnp.asarray(side, jnp.float32) for side in sides))


def blurred_where_it_can_be_checked(batch, support):
    """From the sharp middle: its blurred inner part, and the same pixels of the blurred patch."""
    kernel = np.asarray(gx.gaussian_kernel(sigma=1.3, size=9), np.float64)
    margin = support - 1 - support // 2 + 4  # what the network's output lacks, and half a kernel
    for blurred, sharp in zip(batch.blurred, batch.sharp, strict=True):
        expected = scipy.signal.convolve2d(np.float64(sharp[..., 0]), kernel, mode="valid")
        rows, columns = expected.shape
        yield blurred[margin : margin + rows, margin : margin + columns, 0], expected


def test_shapes_dtypes_and_ranges(make):
    batch = make(batch_key(0, 0))
    assert batch.blurred.shape == (4, 40, 40, 1)
    assert batch.condition.core.shape == (4, 6, 6)
    assert batch.sharp.shape == (4, 10, 10, 1)
    assert batch.linear.dtype == bool
    for leaf in jax.tree.leaves(batch._replace(linear=())):
        assert leaf.dtype == jnp.float32
    for images in (batch.blurred, batch.sharp):
        assert images.min() >= 0.0
        assert images.max() <= 1.0


@pytest.mark.parametrize(("protocol", "deviation"), [("paper", 0.03), ("release", 0.03 / 12**0.5)])
def test_the_core_is_as_smooth_as_the_noise_asks_for(make, small_basis, protocol, deviation):
    """The noise of the release is uniform in [0, 0.03], that of the paper has this deviation."""
    draw = partial(make, jax.random.key(1), protocols=(protocol,))
    smooth = gx.Inverse(0.01, 50.0)
    batch, plain = draw(noise=(0.03, 0.03), inverse=smooth), draw(noise=(0.03, 0.03))
    kernel = gx.gaussian_kernel(sigma=1.3, size=9)
    expected = gx.deconvolution_core(small_basis, kernel, inverse=smooth, noise=deviation)
    scale = float(jnp.abs(expected).max())
    for core in batch.condition.core:
        np.testing.assert_allclose(core / scale, expected / scale, atol=2e-5)
    assert np.abs(batch.condition.core - plain.condition.core).max() > 0.01 * scale
    np.testing.assert_array_equal(batch.blurred, plain.blurred)
    # Without noise its weight does not count.
    quiet = draw(noise=(0.0, 0.0), inverse=smooth)
    np.testing.assert_allclose(quiet.condition.core, plain.condition.core, atol=1e-6 * scale)


@pytest.mark.parametrize("support", [30, 31])
def test_paper_pairs_fit_pixel_by_pixel(make, small_basis, support):
    basis = small_basis if support == 31 else even_basis()
    batch = make(jax.random.key(1), basis, noise=(0.0, 0.0))
    assert batch.sharp.shape[1] == PATCH - support + 1
    for blurred, expected in blurred_where_it_can_be_checked(batch, support):
        np.testing.assert_allclose(blurred, expected, atol=1e-5)


def test_release_pairs_differ_by_their_gain(make):
    batch = make(jax.random.key(1), protocols=("release",), noise=(0.0, 0.0))
    gains = []
    for blurred, expected in blurred_where_it_can_be_checked(batch, 31):
        ratio = np.asarray(blurred / expected)
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-4)
        gains.append(ratio.mean())
    assert min(gains) >= 1.0
    assert max(gains) <= 1.2
    assert len(set(np.round(gains, 4))) == 4


def test_the_sharp_patches_are_the_photograph_brightened(make, colour_photograph):
    batch = make(jax.random.key(1), noise=(0.0, 0.0))
    plain = make(jax.random.key(1), protocols=("release",), noise=(0.0, 0.0))
    np.testing.assert_allclose(batch.sharp, (1.2 * plain.sharp).clip(0, 1), atol=1e-6)
    windows = [
        np.lib.stride_tricks.sliding_window_view(colour_photograph[..., c], (10, 10))
        for c in range(3)
    ]
    for patch in np.asarray(plain.sharp[..., 0]):
        turned = [np.rot90(side, turns) for side in (patch, patch.T) for turns in range(4)]
        assert any(
            (np.abs(window[:, :, 0, 0] - square[0, 0]) < 1e-6)[
                np.abs(window - square).max(axis=(2, 3)) < 1e-6
            ].any()
            for square in turned
            for window in windows
        )


def test_cores_are_those_of_the_kernel(make, small_basis):
    batch = make(jax.random.key(1))
    kernel = gx.gaussian_kernel(sigma=1.3, size=9)
    expected = gx.deconvolution_core(small_basis, kernel)
    for core in batch.condition.core:
        np.testing.assert_allclose(core, expected, atol=2e-5 * jnp.abs(expected).max())
    strong = gx.Inverse(0.1)
    stronger = make(jax.random.key(1), inverse=strong)
    expected = gx.deconvolution_core(small_basis, kernel, inverse=strong)
    np.testing.assert_allclose(
        stronger.condition.core[0], expected, atol=2e-5 * jnp.abs(expected).max()
    )


@pytest.mark.slow
def test_the_linear_restoration_restores_a_batch(make, small_families):
    """Kernel, core, blur and crop fit together, seen with a basis that leaves nothing out."""
    batch = make(jax.random.key(2), WHOLE_BASIS, kernels=small_families, noise=(0.0, 0.0))
    gains, cores = [], batch.condition.core[..., None]
    for blurred, core, sharp in zip(
        *(np.float64(leaf[..., 0]) for leaf in (batch.blurred, cores, batch.sharp)),
        strict=True,
    ):
        restored = scipy.signal.convolve2d(blurred, core, mode="valid")
        before = np.mean((blurred[15:25, 15:25] - sharp) ** 2)
        gains.append(10 * np.log10(before / np.mean((restored - sharp) ** 2)))
    assert min(gains) > 0.0
    assert np.mean(gains) > 3.0


def test_noise_levels_are_drawn_for_each_example(make):
    levels = []
    for key in jax.random.split(jax.random.key(3), 10):
        clean, noisy = make(key, noise=(0.0, 0.0)), make(key, noise=(0.01, 0.03))
        np.testing.assert_array_equal(noisy.sharp, clean.sharp)
        middle = (clean.blurred > 0.15) & (clean.blurred < 0.85)  # away from saturation
        noise = jnp.where(middle, noisy.blurred - clean.blurred, jnp.nan)
        levels.extend(np.nanstd(np.asarray(noise), axis=(1, 2, 3)))
    assert 0.009 < min(levels) < 0.013
    assert 0.027 < max(levels) < 0.032
    assert 0.017 < np.mean(levels) < 0.023


def test_a_batch_is_a_function_of_seed_and_step(make, small_families):
    draw = partial(make, basis=WHOLE_BASIS, kernels=small_families)
    first, again = draw(batch_key(5, 7)), draw(jax.jit(lambda step: batch_key(5, step))(7))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    for seed, step in ((5, 8), (6, 7)):
        other = draw(batch_key(seed, step))
        assert jnp.abs(other.sharp - first.sharp).max() > 0.05
        assert jnp.abs(other.condition.core - first.condition.core).max() > 0.05


def test_examples_of_a_batch_differ(make, small_families):
    batch = make(batch_key(0, 0), WHOLE_BASIS, kernels=small_families)
    cores = batch.condition.core
    for first in range(4):
        for second in range(first):
            assert jnp.abs(batch.sharp[first] - batch.sharp[second]).max() > 0.05
            assert jnp.abs(cores[first] - cores[second]).max() > 0.01
