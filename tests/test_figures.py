"""The program that draws the paper's figures: the numbers behind them, the pictures, its files."""

import csv
import io
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

import glra_jax as gx
from experiments.figures import main
from experiments.paper_figures.core_structure import (
    compute_core_structure,
    draw_core_structure,
    leading_block,
)
from experiments.paper_figures.feature_maps import (
    compute_map_comparison,
    draw_maps,
    feature_maps,
    tabulate_maps,
)
from experiments.paper_figures.inverses import (
    apply_inverse,
    draw_kernels,
    invert,
    mix,
    truncated_inverse,
)
from experiments.paper_figures.photographs import cut_middle, grey, load_photographs
from experiments.paper_figures.rank_error import (
    ErrorPoint,
    basis_errors,
    compute_rank_errors,
    draw_rank_errors,
    svd_errors,
)
from experiments.paper_figures.regularization import compute_regularization, draw_regularization
from experiments.paper_figures.sensitivity import Point, compute_sensitivity, draw_sensitivity
from experiments.paper_figures.truncation import (
    compute_truncation,
    draw_truncation,
    tabulate_truncation,
)
from experiments.pictures.drawing import csv_bytes, npz_bytes, png_bytes, save

SUPPORT = 31


@pytest.fixture(scope="module")
def kernels(small_families) -> dict[str, jax.Array]:
    drawn = draw_kernels(jax.random.key(1), small_families, count=12)
    return {family: stack[:2] for family, stack in drawn.items()}


@pytest.fixture(scope="module")
def fit_kernels(small_families) -> dict[str, jax.Array]:
    return draw_kernels(jax.random.key(2), small_families, count=12)


def inverted(stacks: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {
        name: invert(stack, support=SUPPORT, regularization=0.01) for name, stack in stacks.items()
    }


def numpy_psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return -10 * np.log10(np.mean((np.float64(image) - np.float64(truth)) ** 2))


def numpy_convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Circular convolution with a centred kernel, in float64."""
    return scipy.ndimage.convolve(np.float64(image), np.float64(kernel), mode="wrap")


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
    core = gx.deconvolution_core(small_basis, kernel, regularization=0.02)
    np.testing.assert_allclose(
        truncated_inverse(small_basis, inverse), gx.reconstruct(small_basis, core), atol=2e-5
    )


def test_apply_inverse_is_circular_convolution_and_deconvolve_linear(
    small_model, photograph, kernels
):
    y = jnp.asarray(photograph[:64, :64])
    kernel = kernels["disk"][0]
    inverse = truncated_inverse(
        small_model.basis, invert(kernel[None], support=SUPPORT, regularization=0.01)[0]
    )
    restored = apply_inverse(y, inverse)
    np.testing.assert_allclose(restored, np.clip(numpy_convolve(y, inverse), 0, 1), atol=2e-5)
    linear = gx.deconvolve_linear(y, kernel, small_model, boundary="wrap")
    np.testing.assert_allclose(restored, np.clip(linear, 0, 1), atol=2e-5)


# --- photographs ---------------------------------------------------------------------------------


def test_cut_middle_takes_the_middle():
    pixels = np.arange(9 * 12 * 3, dtype=np.uint8).reshape(9, 12, 3)
    cut = cut_middle(pixels, 5)
    assert cut.dtype == np.float32
    np.testing.assert_array_equal(cut, np.float32(pixels[2:7, 3:8]) / 255)


def test_a_photograph_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match=r"9×12 pixels is smaller than the 10×10"):
        cut_middle(np.zeros((9, 12), np.uint8), 10)


def test_grey_is_the_mean_of_the_channels(colour_photograph, photograph):
    np.testing.assert_allclose(grey(colour_photograph), colour_photograph.mean(2), rtol=1e-6)
    assert grey(photograph) is photograph


def test_load_photographs_takes_the_first_of_a_folder(tmp_path):
    for index, name in enumerate(("c", "a", "b")):
        Image.fromarray(np.full((20, 20), 51 * index, np.uint8)).save(tmp_path / f"{name}.png")
    found = load_photographs(tmp_path, count=2, side=16)
    np.testing.assert_array_equal(found, np.array([0.2, 0.4], np.float32)[:, None, None]
                                  * np.ones((2, 16, 16), np.float32))  # fmt: skip


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


def test_leading_block_by_hand():
    core = np.diag([3.0, -2.0, 1.0, 0.1])  # energies 9, 13, 14, 14.01
    assert leading_block(core, share=0.6) == 1
    assert leading_block(core, share=0.9) == 2
    assert leading_block(core, share=0.99) == 3
    assert leading_block(core, share=1.0) == 4
    corner = np.zeros((3, 3))
    corner[0, 2] = 1.0
    assert leading_block(corner) == 3


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
            np.testing.assert_allclose(data.cores[i, j], core, atol=1e-4)
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


# --- figure 7 ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blurred(photograph, kernels) -> jax.Array:
    return gx.degrade(jax.random.key(3), jnp.asarray(photograph[:40, :40]), kernels["disk"][1])


def test_feature_maps_by_scipy(random_model, blurred, kernels):
    kernel = kernels["disk"][1]
    maps, restored = feature_maps(blurred, kernel, random_model, 0.0)
    assert {layer: value.shape for layer, value in maps.items()} == {
        3: (40, 40, 6),
        4: (40, 40, 16),
    }
    params = jax.tree.map(np.float64, random_model.params)
    core = np.float64(gx.deconvolution_core(random_model.basis, kernel))
    # Circular correlations, layer by layer.
    y = np.float64(blurred)
    first = [
        scipy.ndimage.correlate1d(y, params["vertical"]["kernel"][:, 0, 0, i], 0, mode="wrap")
        for i in range(6)
    ]
    second = (np.stack(first, -1) + params["vertical"]["bias"]) @ core + params["core"]["bias"]
    weights = params["horizontal"]["kernel"][0]
    third = params["horizontal"]["bias"] + np.stack(
        [
            sum(
                scipy.ndimage.correlate1d(second[..., i], weights[:, i, j], 1, mode="wrap")
                for i in range(6)
            )
            for j in range(6)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(maps[3], third, atol=1e-3 * np.abs(third).max())
    for j in (0, 9):
        fourth = params["refine_1"]["bias"][j] + sum(
            scipy.ndimage.correlate(
                third[..., i], params["refine_1"]["kernel"][:, :, i, j], mode="wrap"
            )
            for i in range(6)
        )
        fourth = np.where(fourth > 0, fourth, 0.2 * fourth)
        np.testing.assert_allclose(maps[4][..., j], fourth, atol=1e-3 * np.abs(fourth).max())
    np.testing.assert_allclose(
        restored, gx.deconvolve(blurred, kernel, random_model, boundary="wrap"), atol=1e-5
    )


def test_maps_of_the_glra_start_sum_to_eq_8(started, blurred, kernels):
    model = started("glra")
    maps, _ = feature_maps(blurred, kernels["disk"][1], model, 0.0)
    linear = gx.deconvolve_linear(blurred, kernels["disk"][1], model, boundary="wrap")
    np.testing.assert_allclose(maps[3].sum(axis=-1), linear, atol=1e-4)


@pytest.fixture(scope="module")
def comparison(started, random_model, photograph, kernels):
    models = {"random": random_model, "glra": started("glra")}
    return compute_map_comparison(
        jax.random.key(3), photograph[:40, :40], kernels["disk"][1], models, noise=0.01
    )


def test_map_comparison(comparison, random_model, blurred, kernels):
    np.testing.assert_allclose(comparison.blurred, blurred, atol=1e-6)
    assert comparison.blurred_psnr == pytest.approx(numpy_psnr(blurred, comparison.sharp), abs=1e-3)
    assert list(comparison.networks) == ["random", "glra"]
    network = comparison.networks["random"]
    maps, restored = feature_maps(blurred, kernels["disk"][1], random_model, 0.0)
    np.testing.assert_allclose(network.layers[4], maps[4], atol=1e-5)
    assert network.psnr == pytest.approx(numpy_psnr(restored, comparison.sharp), abs=1e-3)


def test_strongest_maps_are_drawn_and_kept(comparison):
    network = comparison.networks["glra"]
    deviations = network.layers[3].std(axis=(0, 1))
    strongest = network.strongest(3, 4)
    np.testing.assert_array_equal(deviations[strongest], np.sort(deviations)[::-1][:4])

    kept = tabulate_maps(comparison, shown=4)
    np.testing.assert_array_equal(kept["network_1.layer_3.indices"], strongest)
    np.testing.assert_allclose(
        kept["network_1.layer_3.maps"], network.layers[3][..., strongest], rtol=1e-3, atol=1e-5
    )
    figure = draw_maps(comparison, shown=4)
    titles = [axis.get_title() for axis in figure.axes]
    assert len(titles) == 2 * (2 + 4 + 4)
    for index in strongest:
        assert f"{index + 1}: σ = {deviations[index]:.2g}" in titles


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
    model = gx.Model(basis, {}, gx.ModelConfig(support=SUPPORT, rank=4))
    for index, stack in enumerate(kernels.values()):
        varied_support, varied_rank, full = points[index::3]
        assert varied_support.psnr == varied_rank.psnr
        # A full basis loses nothing.
        assert full.psnr == pytest.approx(full.psnr_whole, abs=2e-3)
        scores = []
        for j, kernel in enumerate(stack):
            key = jax.random.fold_in(jax.random.key(0), 1000 * index + j)
            y = gx.degrade(key, jnp.asarray(photographs), kernel, noise=0.01)
            restored = np.clip(gx.deconvolve_linear(y, kernel, model, boundary="wrap"), 0, 1)
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
    assert (left.get_xlabel(), left.get_ylabel()) == ("support d, pixels", "mean PSNR of eq. 8, dB")


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
    axes = draw_rank_errors(points, floor=1e-5).axes
    assert [axis.get_title() for axis in axes] == ["Gaussian kernels", "motion kernels"]
    for line in (line for axis in axes for line in axis.lines):
        np.testing.assert_allclose(line.get_xydata(), [(10, 0.3), (20, 2e-5)])
    assert [len(axis.lines) for axis in axes] == [3, 3]
    assert axes[1].get_yscale() == "log"


# --- files and the program -----------------------------------------------------------------------


def test_tables_can_be_read_again():
    rows = [{"name": "a", "value": 0.1}, {"name": "b", "value": 2}]
    read = list(csv.DictReader(io.StringIO(csv_bytes(rows).decode())))
    assert read == [{"name": "a", "value": "0.1"}, {"name": "b", "value": "2"}]
    arrays = np.load(io.BytesIO(npz_bytes({"x": np.arange(3), "names": np.array(["a", "b"])})))
    np.testing.assert_array_equal(arrays["x"], [0, 1, 2])
    assert list(arrays["names"]) == ["a", "b"]


def test_save_replaces_nothing_unasked(tmp_path):
    path = tmp_path / "a.csv"
    save({path: b"first"}, overwrite=False)
    with pytest.raises(FileExistsError, match=re.escape(str(path))):
        save({path: b"second"}, overwrite=False)
    assert path.read_bytes() == b"first"
    save({path: b"second"}, overwrite=True)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"second"]


def test_pictures_have_the_size_asked_for():
    with Image.open(io.BytesIO(png_bytes(draw_sensitivity(
        [Point(v, 5, 5, "disk", 1.0, 2.0) for v in ("support", "rank")]
    )))) as picture:  # fmt: skip
        assert picture.size == (round(9.6 * 140), round(3.9 * 140))


# Sizes that the tests above have compiled for.
TINY = [
    *("--crop", "40", "--support", "31", "--rank", "4", "--features", "3", "--shown-ranks", "4"),
    *("--ranks", "4", "31", "--error-ranks", "4", "31", "--supports", "31"),
    *("--kernels.min-size", "5", "--kernels.max-size", "9"),
    *("--kernels.min-sigma", "0.8", "--kernels.max-sigma", "2"),
    *("--kernels.families", "gaussian", "motion", "--fit-kernels", "12", "--test-kernels", "12"),
    *("--photographs", "1", "--blur", "gaussian", "--model", "None", "--random-model", "None"),
]
FILES = ["fig1.npz", "fig1.png", "fig2.npz", "fig2.png", "fig7.npz", "fig7.png", "fig8.csv",
         "fig8.png", "rank-error.csv", "rank-error.png", "regularization.csv",
         "regularization.png"]  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("figures") / "new"
    main(["--output", str(folder), *TINY])
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


@pytest.mark.slow
def test_the_program_writes_every_figure_and_its_numbers(written):
    assert sorted(path.name for path in written.iterdir()) == FILES
    for path in written.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 200
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    rows = read_csv(written / "rank-error.csv")
    assert len(rows) == 2 * 2 * 3
    assert max(float(r["mean"]) for r in rows if r["rank"] == "31") < 1e-5
    rows = read_csv(written / "fig8.csv")
    assert [r["family"] for r in rows] == ["gaussian", "motion"] * 3
    with np.load(written / "fig7.npz") as arrays:
        assert list(arrays["titles"]) == ["random start, untrained", "GLRA start, untrained"]
    with np.load(written / "fig1.npz") as arrays:
        assert arrays["restored"].shape == (2, 2, 40, 40, 3)
    with np.load(written / "fig2.npz") as arrays:
        assert list(arrays["sizes"]) == [5, 7, 9]


@pytest.mark.slow
def test_the_program_shows_models_from_files(tmp_path, started, random_model):
    gx.save_model(random_model, tmp_path / "random.safetensors")
    gx.save_model(started("glra"), tmp_path / "glra.safetensors")
    model, random = (str(tmp_path / f"{name}.safetensors") for name in ("glra", "random"))
    main(["--output", str(tmp_path), *TINY, "--only", "fig7", "--model", model,
          "--random-model", random])  # fmt: skip
    with np.load(tmp_path / "fig7.npz") as arrays:
        assert list(arrays["titles"]) == [f"random start: {random}", f"GLRA start: {model}"]
        assert arrays["network_1.layer_4.deviations"].shape == (16,)
        expected = started("glra")
        kernel = gx.gaussian_kernel(sigma=0.9, size=9)
        maps, restored = feature_maps(jnp.asarray(arrays["blurred"]), kernel, expected, 0.0)
        np.testing.assert_allclose(arrays["network_1.restored"], restored, atol=1e-5)
        deviations = maps[3].std(axis=(0, 1))
        np.testing.assert_allclose(arrays["network_1.layer_3.deviations"], deviations, rtol=1e-4)


@pytest.mark.slow
def test_figure_7_is_of_the_models_of_the_package(tmp_path):
    main(["--output", str(tmp_path), "--only", "fig7", "--crop", "160"])
    with np.load(tmp_path / "fig7.npz") as arrays:
        expected = ["random start: glra-random-init", "GLRA start: glra"]
        assert list(arrays["titles"]) == expected


@pytest.mark.slow
def test_the_program_replaces_no_figure_unasked(written, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in written.iterdir()}
    with pytest.raises(SystemExit, match=r"regularization\.csv exists; choose another --output"):
        main(["--output", str(written), *TINY])
    assert {path: path.stat().st_mtime_ns for path in written.iterdir()} == before
    main(["--output", str(written), *TINY, "--only", "fig2", "--overwrite"])
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"fig2.png", "fig2.npz"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rank", "32"], "ranks must be from 1 to the support 31, got 32"),
        (["--error-ranks", "0"], "ranks must be from 1 to the support 31, got 0"),
        (["--supports", "7"], "at least the rank and the largest kernel, 9, and at most"),
        (["--supports", "31", "41"], "at most the crop, 40, got 41"),
        (["--support", "45"], "support 45 is above the crop 40, which fig1 and regularization"),
        (["--kernels.max-size", "33"], "max_size 33 is above the crop 40 or the support 31"),
        (["--crop", "500"], "smaller than the 500×500"),
        (["--fit-kernels", "1"], "fit_kernels must be at least the number of families, got 1"),
        (["--noise", "-1"], "noise must be finite and at least 0, got -1"),
        (["--model", "no-such-model"], "no model file 'no-such-model'"),
        (["--images", "no-such-folder"], "no-such-folder is not a folder"),
    ],
)
def test_the_program_refuses_early_and_says_what_is_wrong(tmp_path, capsys, arguments, message):
    folder = tmp_path / "figures"
    with pytest.raises(SystemExit) as error:
        main(["--output", str(folder), *TINY, *arguments])
    said = f"{error.value} {capsys.readouterr().err}"
    assert message in " ".join(re.sub("[│╭╮╰╯─]", " ", said).split())
    assert not folder.exists()


def test_a_model_too_small_for_the_kernels_is_refused(tmp_path, started):
    path = tmp_path / "small.safetensors"
    gx.save_model(started("glra"), path)
    larger = ["--support", "33", "--supports", "33", "--kernels.max-size", "33"]
    with pytest.raises(SystemExit, match=r"has the support 31, too small for kernels\.max_size 33"):
        main(["--output", str(tmp_path), *TINY, *larger, "--model", str(path)])


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
