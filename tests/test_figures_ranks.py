"""Figures of support and rank: how they change the restoration, and the error of a basis."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from figure_helpers import SUPPORT, few_kernels, inverted, kernels_to_fit, numpy_psnr

import glra_jax as gx
from experiments.paper_figures.inverses import (
    mix,
)
from experiments.paper_figures.rank_error import (
    ErrorPoint,
    basis_errors,
    compute_rank_errors,
    draw_rank_errors,
    svd_errors,
)
from experiments.paper_figures.sensitivity import Point, compute_sensitivity, draw_sensitivity


@pytest.fixture(scope="module")
def kernels(small_families) -> dict[str, jax.Array]:
    return few_kernels(small_families)


@pytest.fixture(scope="module")
def fit_kernels(small_families) -> dict[str, jax.Array]:
    return kernels_to_fit(small_families)


# --- figure 8 ------------------------------------------------------------------------------------


def test_sensitivity_by_hand(photograph, kernels, fit_kernels):
    photographs = np.stack([photograph[:48, :48], photograph[40:88, 30:78]])[..., None]
    points = compute_sensitivity(
        jax.random.key(0), photographs, kernels, fit_kernels,
        supports=(SUPPORT,), ranks=(4, SUPPORT), support=SUPPORT, rank=4, noise=0.01,
    )  # fmt: skip
    assert [(p.varied, p.support, p.rank, p.family) for p in points] == [
        (varied, SUPPORT, m, family)
        for varied, m in (("support", 4), ("rank", 4), ("rank", SUPPORT))
        for family in ("gaussian", "disk", "motion")
    ]
    basis, _ = gx.fit_glra(mix(inverted(fit_kernels)), rank=4)
    # While it is traced, what so small a basis does not hold is not refused.
    linear = jax.jit(partial(gx.deconvolve_linear, boundary="wrap"))
    for index, stack in enumerate(kernels.values()):
        varied_support, varied_rank, full = points[index::3]
        assert varied_support.psnr == varied_rank.psnr
        # A full basis loses nothing.
        assert full.psnr == pytest.approx(full.psnr_whole, abs=2e-3)
        scores = []
        for j, kernel in enumerate(stack):
            key = jax.random.fold_in(jax.random.key(0), 1000 * index + j)
            y = gx.degrade(key, jnp.asarray(photographs), kernel, noise=0.01)
            restored = np.clip(linear(y, kernel, basis, inverse=gx.Inverse()), 0, 1)
            truth = np.clip(1.2 * photographs, 0, 1)
            scores += [numpy_psnr(a, b) for a, b in zip(restored, truth, strict=True)]
        assert len(scores) == 4
        assert varied_rank.psnr == pytest.approx(np.mean(scores), abs=2e-3)


def test_sensitivity_curves_are_drawn_in_order():
    points = [Point("support", d, 5, "disk", 20 + d / 10, 30.0) for d in (31, 11, 21)]
    points += [Point("rank", 31, m, "disk", 20.0 + m, 30.0) for m in (9, 5)]
    left, right = draw_sensitivity(points).axes
    np.testing.assert_allclose(left.lines[0].get_xydata(), [(11, 21.1), (21, 22.1), (31, 23.1)])
    np.testing.assert_allclose(right.lines[0].get_xydata(), [(5, 25), (9, 29)])
    np.testing.assert_allclose(right.lines[1].get_ydata(), [30, 30])
    assert (left.get_xlabel(), left.get_ylabel()) == (
        "support d, pixels",
        "mean PSNR of linear (eq. 8), dB",
    )


# --- rank and error ------------------------------------------------------------------------------


def test_svd_errors_by_hand_and_by_truncation():
    matrix = np.diag([2.0, -4.0, 4.0])
    errors = svd_errors(matrix[None], ranks=(0, 1, 2, 3))
    np.testing.assert_allclose(errors[:, 0], [1.0, np.sqrt(20) / 6, 2 / 6, 0.0], atol=1e-15)

    random = np.random.default_rng(0).normal(size=(3, 8, 8))
    u, s, vt = np.linalg.svd(random)
    best = (u[:, :, :5] * s[:, None, :5]) @ vt[:, :5]
    expected = np.linalg.norm(random - best, axis=(1, 2)) / np.linalg.norm(random, axis=(1, 2))
    np.testing.assert_allclose(svd_errors(random, ranks=(5,))[0], expected, rtol=1e-12)


def test_basis_errors_are_those_of_the_reconstruction(small_basis, kernels):
    inverses = inverted(kernels)["motion"]
    rebuilt = gx.reconstruct(small_basis, gx.project(small_basis, inverses))
    expected = np.linalg.norm(rebuilt - inverses, axis=(1, 2)) / np.linalg.norm(
        inverses, axis=(1, 2)
    )
    np.testing.assert_allclose(basis_errors(small_basis, np.asarray(inverses)), expected, rtol=1e-4)


@pytest.fixture(scope="module")
def error_points(kernels, fit_kernels) -> list[ErrorPoint]:
    return compute_rank_errors(inverted(fit_kernels), inverted(kernels), ranks=(4, SUPPORT))


def test_no_basis_is_better_than_the_bound(error_points, kernels):
    table = {(p.family, p.basis, p.rank): p for p in error_points}
    assert len(table) == len(error_points) == 2 * 3 * 3
    for family in kernels:
        for rank in (4, SUPPORT):
            bound = table[family, "svd", rank]
            for basis in (family, "all"):
                point = table[family, basis, rank]
                assert point.smallest <= point.mean <= point.largest
                for name in ("smallest", "mean", "largest"):
                    assert getattr(bound, name) <= getattr(point, name) * (1 + 1e-6) + 1e-15
        assert table[family, "svd", SUPPORT].largest == 0.0
        assert table[family, "all", SUPPORT].largest < 1e-5
        assert table[family, "all", 4].mean > 1.2 * table[family, "svd", 4].mean > 0


def test_one_family_alone_has_no_basis_of_all(kernels, fit_kernels):
    points = compute_rank_errors(
        {"disk": inverted(fit_kernels)["disk"]}, {"disk": inverted(kernels)["disk"]}, ranks=(4,)
    )
    assert [point.basis for point in points] == ["disk", "svd"]


def test_error_curves_leave_out_what_is_below_the_floor():
    points = [
        ErrorPoint(family, basis, rank, mean, 0.0, 1.0)
        for family in ("gaussian", "motion")
        for basis in (family, "all", "svd")
        for rank, mean in ((20, 2e-5), (10, 0.3), (30, 1e-6))
    ]
    axes = draw_rank_errors(points).axes
    assert [axis.get_title() for axis in axes] == ["Gaussian kernels", "motion kernels"]
    for line in (line for axis in axes for line in axis.lines):
        np.testing.assert_allclose(line.get_xydata(), [(10, 0.3), (20, 2e-5)])
    assert [len(axis.lines) for axis in axes] == [3, 3]
    assert axes[1].get_yscale() == "log"
