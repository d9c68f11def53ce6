"""Figures of inverses: truncated to a rank, their cores, and regularised in two ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from figure_helpers import (
    SUPPORT,
    few_kernels,
    inverted,
    kernels_to_fit,
    numpy_convolve,
    numpy_psnr,
)

import glra_jax as gx
from experiments.paper_figures import core_structure
from experiments.paper_figures.core_structure import (
    compute_core_structure,
    draw_core_structure,
    leading_block,
)
from experiments.paper_figures.inverses import (
    apply_inverse,
    draw_kernels,
    invert,
    mix,
    truncated_inverse,
)
from experiments.paper_figures.regularization import compute_regularization, draw_regularization
from experiments.paper_figures.truncation import (
    compute_truncation,
    draw_truncation,
    tabulate_truncation,
)


@pytest.fixture(scope="module")
def kernels(small_families) -> dict[str, jax.Array]:
    return few_kernels(small_families)


@pytest.fixture(scope="module")
def fit_kernels(small_families) -> dict[str, jax.Array]:
    return kernels_to_fit(small_families)


# --- kernels and inverses ------------------------------------------------------------------------


def test_a_family_gets_the_same_kernels_whatever_the_other_families(small_families, kernels):
    alone = gx.KernelFamilies(
        families=("motion",), min_size=5, max_size=9, min_sigma=0.8, max_sigma=2.0
    )
    (motion,) = draw_kernels(jax.random.key(1), alone, count=12).values()
    assert list(kernels) == ["gaussian", "disk", "motion"]
    np.testing.assert_array_equal(motion[:2], kernels["motion"])
    for stack in kernels.values():
        np.testing.assert_allclose(stack.sum(axis=(1, 2)), 1.0, rtol=1e-5)
        assert np.abs(stack[0] - stack[1]).max() > 1e-3


def test_mix_takes_the_same_share_of_each():
    stacks = {"a": jnp.arange(7.0), "b": 10 + jnp.arange(7.0), "c": 20 + jnp.arange(7.0)}
    np.testing.assert_array_equal(mix(stacks), [0, 1, 10, 11, 20, 21])


def test_truncated_inverse_is_that_of_the_network(small_basis, kernels):
    kernel = kernels["motion"][0]
    inverse = invert(kernel[None], support=SUPPORT, regularization=0.02)[0]
    core = gx.deconvolution_core(small_basis, kernel, inverse=gx.Inverse(0.02))
    np.testing.assert_allclose(
        truncated_inverse(small_basis, inverse), gx.reconstruct(small_basis, core), atol=2e-5
    )


def test_apply_inverse_is_circular_convolution_and_deconvolve_linear(
    small_model, photograph, kernels
):
    y = jnp.asarray(photograph[:64, :64])
    kernel = kernels["disk"][0]
    inverse = truncated_inverse(
        small_model.constants, invert(kernel[None], support=SUPPORT, regularization=0.01)[0]
    )
    restored = apply_inverse(y, inverse)
    np.testing.assert_allclose(restored, np.clip(numpy_convolve(y, inverse), 0, 1), atol=2e-5)
    linear = gx.deconvolve_linear(
        y, kernel, small_model.constants, inverse=gx.Inverse(), boundary="wrap"
    )
    np.testing.assert_allclose(restored, np.clip(linear, 0, 1), atol=2e-5)


# --- figure 1 ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def truncation(colour_photograph, kernels, fit_kernels):
    return compute_truncation(
        jax.random.key(0),
        colour_photograph[:64, :64],
        {family: stack[0] for family, stack in kernels.items()},
        mix(inverted(fit_kernels)),
        ranks=(4, SUPPORT),
        noise=0.01,
    )


def test_truncation_at_full_rank_is_the_whole_inverse(truncation):
    full, whole = truncation.restored[:, 1], truncation.restored[:, 2]
    np.testing.assert_allclose(full, whole, atol=1e-4)
    assert np.abs(truncation.restored[:, 0] - whole).max() > 0.05


def test_truncation_whole_inverse_by_numpy(truncation):
    kernel = np.float64(truncation.kernels[2])
    grid = np.zeros((SUPPORT, SUPPORT))
    first = SUPPORT // 2 - kernel.shape[0] // 2
    grid[first : first + len(kernel), first : first + len(kernel)] = kernel
    spectrum = np.fft.fft2(np.fft.ifftshift(grid))
    inverse = np.fft.fftshift(np.fft.ifft2(spectrum.conj() / (abs(spectrum) ** 2 + 0.01)).real)
    inverse /= inverse.sum()
    np.testing.assert_allclose(truncation.inverses[2], inverse, atol=1e-5)
    for channel in range(3):
        expected = np.clip(numpy_convolve(truncation.blurred[2, ..., channel], inverse), 0, 1)
        np.testing.assert_allclose(truncation.restored[2, -1, ..., channel], expected, atol=1e-4)


def test_truncation_scores_and_truth(truncation, colour_photograph):
    truth = np.clip(1.2 * colour_photograph[:64, :64], 0, 1)
    np.testing.assert_allclose(truncation.sharp, truth, rtol=1e-6)
    for i in range(3):
        score = numpy_psnr(truncation.blurred[i], truth)
        assert truncation.blurred_psnr[i] == pytest.approx(score, abs=1e-3)
        for j in range(3):
            score = numpy_psnr(truncation.restored[i, j], truth)
            assert truncation.restored_psnr[i, j] == pytest.approx(score, abs=1e-3)
    assert (truncation.restored_psnr[:, -1] > truncation.blurred_psnr).all()


def test_truncation_drawn_and_kept(truncation):
    axes = draw_truncation(truncation).axes
    assert len(axes) == 3 * 7
    np.testing.assert_array_equal(axes[3].images[0].get_array(), truncation.restored[0, 0])
    assert axes[3].get_title() == f"m = 4\n{truncation.restored_psnr[0, 0]:.2f} dB"
    assert axes[5].get_title().startswith(f"whole (m = {SUPPORT})")
    kept = tabulate_truncation(truncation)
    assert kept["restored"].dtype == np.uint8
    np.testing.assert_allclose(kept["restored"] / 255, truncation.restored, atol=0.5 / 255 + 1e-6)


# --- figure 2 ------------------------------------------------------------------------------------


def test_leading_block_by_hand(monkeypatch):
    core = np.diag([3.0, -2.0, 1.0, 0.1])  # energies 9, 13, 14, 14.01
    assert leading_block(core) == 3
    corner = np.zeros((3, 3))
    corner[0, 2] = 1.0
    assert leading_block(corner) == 3
    for share, side in ((0.6, 1), (0.9, 2), (0.99, 3), (1.0, 4)):
        monkeypatch.setattr(core_structure, "_SHARE", share)
        assert leading_block(core) == side


@pytest.fixture(scope="module")
def structure(small_basis):
    kernels = {
        "gaussian": [gx.gaussian_kernel(sigma=size / 5, size=size) for size in (5, 9)],
        "disk": [gx.disk_kernel(radius=size / 4, size=size) for size in (5, 9)],
    }
    return kernels, compute_core_structure(kernels, small_basis, regularization=0.01)


def test_cores_are_those_of_the_network(structure, small_basis):
    kernels, data = structure
    assert (data.families, data.sizes) == (("gaussian", "disk"), (5, 9))
    left, right = (np.float64(side) for side in small_basis)
    for i, row in enumerate(kernels.values()):
        for j, kernel in enumerate(row):
            inverse = np.float64(gx.pseudo_inverse(kernel, support=SUPPORT))
            core = left.T @ inverse @ right
            core /= (left @ core @ right.T).sum()
            np.testing.assert_allclose(data.cores[i, j], core, rtol=2e-5, atol=1e-4)
            assert data.leading[i, j] == leading_block(data.cores[i, j])
            middle = slice(4 - kernel.shape[0] // 2, 5 + kernel.shape[0] // 2)
            np.testing.assert_array_equal(data.kernels[i, j, middle, middle], kernel)
            assert data.kernels[i, j].sum() == pytest.approx(1.0, abs=1e-5)


def test_cores_share_one_scale_of_colours(structure):
    _, data = structure
    figure = draw_core_structure(data)
    pictures = [axis.images[0] for axis in figure.axes[:4]]
    assert len({id(picture.norm) for picture in pictures}) == 1
    assert pictures[0].norm.vmax == pytest.approx(np.abs(data.cores).max())
    shown = np.abs(data.cores[1, 0])
    visible = shown >= pictures[0].norm.vmin
    np.testing.assert_array_equal(pictures[2].get_array()[visible], shown[visible])
    assert [axis.get_ylabel() for axis in figure.axes].count("|M|") == 1


# --- regularisation ------------------------------------------------------------------------------


def test_scores_of_regularised_inverses_by_numpy(photograph):
    side, support = 40, 31
    sharp = np.float32(photograph[:side, :side])
    kernel = gx.disk_kernel(radius=2.3, size=7)
    points = compute_regularization(
        jax.random.key(0),
        jnp.asarray(sharp)[None],
        {"disk": kernel[None]},
        noise_levels=(0.02,),
        strengths=(0.01, 0.1),
        regularization=0.003,
        support=support,
    )
    assert [(p.kind, p.strength) for p in points] == [
        *(("regularization", 0.01), ("regularization", 0.1)),
        *(("smoothness", 0.01), ("smoothness", 0.1)),
    ]
    (key,) = jax.random.split(jax.random.key(0), 1)
    y = np.float64(gx.degrade(key, jnp.asarray(sharp), kernel, noise=0.02))
    truth = np.clip(1.2 * np.float64(sharp), 0, 1)
    for point in points:
        pair = (point.strength, 0.0) if point.kind == "regularization" else (0.003, point.strength)
        options = dict(zip(("regularization", "smoothness"), pair, strict=True))
        inverse = np.float64(gx.pseudo_inverse(kernel, support=support, **options))
        inverse /= inverse.sum()
        restored = np.clip(scipy.ndimage.convolve(y, inverse, mode="wrap"), 0, 1)
        expected = -10 * np.log10(np.mean((restored - truth) ** 2))
        assert point.psnr == pytest.approx(expected, abs=1e-3)
    figure = draw_regularization(points)
    assert [len(axis.lines) for axis in figure.axes] == [4]
