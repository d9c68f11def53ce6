"""The program that draws the paper's figures: its photographs, its files, and what it refuses."""

import csv
import io
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import glra_jax as gx
from experiments.figures import main
from experiments.paper_figures.feature_maps import (
    feature_maps,
)
from experiments.paper_figures.photographs import cut_middle, grey, load_photographs
from experiments.paper_figures.sensitivity import Point, draw_sensitivity
from experiments.pictures.drawing import csv_bytes, npz_bytes, png_bytes, save

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
    found = load_photographs("folder", data_dir=tmp_path, count=2, side=16)
    np.testing.assert_array_equal(found, np.array([0.2, 0.4], np.float32)[:, None, None]
                                  * np.ones((2, 16, 16), np.float32))  # fmt: skip


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


# Sizes that other tests compile for too.
TINY = [
    *("--crop", "40", "--support", "31", "--rank", "4", "--features", "3", "--shown-ranks", "4"),
    *("--ranks", "4", "31", "--error-ranks", "4", "31", "--supports", "31"),
    *("--kernels.min-size", "5", "--kernels.max-size", "9"),
    *("--kernels.min-sigma", "0.8", "--kernels.max-sigma", "2"),
    *("--kernels.families", "gaussian", "motion", "--fit-kernels", "12", "--test-kernels", "12"),
    *("--photographs", "1", "--blur", "gaussian", "--model", "None", "--random-model", "None"),
    *("--methods", "blurred", "wiener", "--models"),
]


FILES = ["fig1.npz", "fig1.png", "fig2.npz", "fig2.png", "fig4.csv", "fig4.png", "fig5.csv",
         "fig5.png", "fig6.csv", "fig6.png", "fig7.npz", "fig7.png", "fig8.csv",
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
        assert list(arrays["titles"]) == [
            "random initialization, untrained",
            "GLRA initialization, untrained",
        ]
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
        assert list(arrays["titles"]) == [
            f"random initialization: {random}",
            f"GLRA initialization: {model}",
        ]
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
        expected = ["random initialization: glra-random-init", "GLRA initialization: glra"]
        assert list(arrays["titles"]) == expected


@pytest.mark.slow
def test_the_program_replaces_no_figure_unasked(written, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in written.iterdir()}
    with pytest.raises(SystemExit, match=r"regularization\.csv exists"):
        main(["--output", str(written), *TINY])
    assert {path: path.stat().st_mtime_ns for path in written.iterdir()} == before
    main(["--output", str(written), *TINY, "--only", "fig2", "--overwrite"])
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"fig2.png", "fig2.npz"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rank", "32"], ["ranks", "31", "32"]),
        (["--error-ranks", "0"], ["ranks", "31", "0"]),
        (["--supports", "7"], ["kernel", "9", "7"]),
        (["--supports", "31", "41"], ["crop", "40", "41"]),
        (["--support", "45"], ["support 45", "crop 40"]),
        (["--kernels.max-size", "33"], ["max_size 33", "40", "31"]),
        (["--crop", "500"], ["500×500"]),
        (["--crop", "28", "--only", "fig4"], ["kernels.max_size 9", "29", "28"]),
        (["--only", "fig5", "--models", "none"], ["'none'"]),
        (["--fit-kernels", "1"], ["fit_kernels", "families"]),
        (["--noise", "-1"], ["noise", "-1"]),
        (["--model", "no-such-model"], ["'no-such-model'"]),
        (["--dataset", "folder", "--data-dir", "no-such-folder"], ["no-such-folder"]),
    ],
)
def test_the_program_refuses_early_and_says_what_is_wrong(tmp_path, capsys, arguments, words):
    folder = tmp_path / "figures"
    with pytest.raises(SystemExit) as error:
        main(["--output", str(folder), *TINY, *arguments])
    said = f"{error.value} {capsys.readouterr().err}"
    assert all(word in said for word in words), said
    assert not folder.exists()


def test_a_model_too_small_for_the_kernels_is_refused(tmp_path, started):
    path = tmp_path / "small.safetensors"
    gx.save_model(started("glra"), path)
    larger = ["--support", "33", "--supports", "33", "--kernels.max-size", "33", "--only", "fig7"]
    with pytest.raises(SystemExit, match=r"support 31.* 33"):
        main(["--output", str(tmp_path), *TINY, *larger, "--model", str(path)])
