"""Scoreboards: published figures beside measured ones."""

from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import skimage.data
from evaluation_helpers import png, record_restorations
from hypothesis import given
from PIL import Image

from experiments import scoreboard
from experiments.baselines import AUTHORS_NETWORKS, BASELINES
from experiments.evaluation.results import Results, read_results
from experiments.evaluation.scores import Interval, Record
from experiments.scoreboards import boards
from experiments.scoreboards.boards import Published, board_named
from experiments.scoreboards.measured import Measured, measured_methods
from experiments.scoreboards.options import ScoreboardOptions, evaluation_of
from experiments.scoreboards.page import make_rows
from experiments.scoreboards.plot import spread_labels

WIENER, OTHER = "wiener:noise_to_signal=0.01", "wiener:noise_to_signal=0.02"


@pytest.mark.parametrize("name", ["set12-levin", "cbsd68-gaussian"])
def test_published_figures_belong_to_columns(name):
    board = board_named(name)
    columns = {column.name for column in board.columns}
    for method in board.methods:
        assert set(method.psnr) <= columns
        assert method.kind is None or method.kind in {*BASELINES, *AUTHORS_NETWORKS}
        ordered = [method.psnr[c.name] for c in board.columns if c.name in method.psnr]
        assert ordered == sorted(ordered, reverse=True)  # harder from column to column
        assert 20 < min(ordered) <= max(ordered) < 35


def test_published_means():
    """Sums of the rows, so that no figure is changed by chance."""
    sums = {
        board: [round(sum(method.psnr.values()), 2) for method in board_named(board).methods]
        for board in ("set12-levin", "cbsd68-gaussian")
    }
    assert sums["set12-levin"] == [76.72, 80.88, 57.62, 83.92, 140.57, 141.36, 141.76, 144.47]
    assert sums["cbsd68-gaussian"] == [52.83, 56.38, 56.56]


def test_noise_is_of_255_grey_levels():
    for column in board_named("set12-levin").columns:
        assert 255 * column.noise == pytest.approx(float(column.name))


@pytest.fixture
def board(monkeypatch):
    """Two photographs, one kernel, one column; the blurred image stands for a published method."""
    whole = board_named("set12-levin")
    method = Published("Blurry", "blurred", "nobody", {"2.55": 12.34})
    small = replace(
        whole, name="small", photographs=2, kernels=1, columns=whole.columns[:1], methods=(method,)
    )
    monkeypatch.setattr(boards, "_boards", lambda: {"small": small})
    return small


@pytest.fixture
def start(board, tmp_path, kernel_file):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index, name in enumerate("ab"):
        png(
            folder / f"{name}.png",
            skimage.data.camera()[80:164, 200 + 40 * index : 290 + 40 * index],
        )

    def start(*methods, output="out", more=()):
        arguments = ["--board", "small", "--photographs", str(folder), "--kernels", kernel_file]
        arguments += ["--methods", *methods, "--models", "--output", str(tmp_path / output), *more]
        scoreboard.main(arguments)
        return tmp_path / output

    return start


@pytest.fixture
def restored(monkeypatch):
    return record_restorations(monkeypatch)


def test_the_program(start, restored, capsys):
    out = start("blurred", WIENER)
    page = (out / "scoreboard.md").read_text()
    assert page.strip() in capsys.readouterr().out
    results = read_results(out / "2.55" / "results.json")
    means = {
        label: np.mean([r.psnr for r in results.records if r.method == label])
        for label in ("blurred", WIENER)
    }
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    head = "method | σ = 2.55, published | here | SSIM here | s a megapixel"
    assert rows[0] == f"| {head} |"
    best, blurred = sorted(rows[2:4], key=lambda row: "Blurry" in row)
    assert best.startswith(f"| `{WIENER}` |  | {means[WIENER]:.2f} | 0.")
    assert blurred.startswith(f"| Blurry, `blurred` | 12.34 | {means['blurred']:.2f} | 0.")
    assert blurred.endswith(" |  |")  # takes no time
    assert (rows[2] == best) == (means[WIENER] > means["blurred"])
    assert "--photographs PHOTOGRAPHS --kernels k.npy" in page
    assert "of 2 cases" not in page
    with Image.open(out / "scoreboard.png") as picture:
        assert picture.width > 600

    # Nothing is lost or computed again.
    with pytest.raises(SystemExit, match=r"scoreboard\.md.*exists; choose another --page"):
        start("blurred", WIENER)
    restored.clear()
    (out / "scoreboard.md").unlink()
    (out / "scoreboard.png").unlink()
    with pytest.raises(SystemExit, match=r"2\.55 has results of blurred, which would be lost"):
        start(WIENER)
    start("blurred", WIENER)  # resumes
    assert restored == []
    start("blurred", WIENER, OTHER, more=["--overwrite"])
    assert restored == [("a+k", OTHER), ("b+k", OTHER)]
    page = (out / "scoreboard.md").read_text()
    assert f"taken over from earlier runs: `blurred` (2), `{WIENER}` (2), of 2 cases" in page

    # A part of the cases is not set beside published figures unsaid; other folders are reused.
    restored.clear()
    part = start("blurred", output="part", more=["--limit", "1", "--reuse", str(out)])
    assert restored == []
    page = (part / "scoreboard.md").read_text()
    assert "| here, 1 of 2 cases |" in page
    assert "not with published ones" in page


def test_a_part_of_the_cases_is_not_ranked_among_published_figures(board):
    measured = {"2.55": [Measured("tv", "tv", *2 * [Interval(10.0, 9.0, 11.0)], 1.0)]}
    ranked = make_rows(board, measured, whole=True)
    assert [row.title for row in ranked] == ["Blurry", "`tv`"]
    apart = make_rows(board, measured, whole=False)
    assert [row.title for row in apart] == ["`tv`", "Blurry"]


def test_other_data_is_refused_first(start, tmp_path, kernel_file):
    png(tmp_path / "photographs" / "c.png", np.zeros((84, 90), np.uint8))
    with pytest.raises(SystemExit, match=r"'small' has 2 photographs, and .* holds 3"):
        start("blurred")
    (tmp_path / "photographs" / "c.png").unlink()
    kernels = tmp_path / "two.npy"
    np.save(kernels, np.ones((2, 3, 3)))
    with pytest.raises(SystemExit, match=r"has 1 blur kernels, and .*two\.npy holds 2: two0, two1"):
        start("blurred", more=["--kernels", str(kernels)])
    with pytest.raises(SystemExit, match="is not a folder"):
        start("blurred", more=["--photographs", str(tmp_path / "nowhere")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"board": "set14"}, "board must be one of set12-levin, cbsd68-gaussian, got 'set14'"),
        ({}, "'set12-levin' has 8 blur kernels: give the file .* --kernels FILE"),
        ({"board": "cbsd68-gaussian", "kernels": Path("k.npz")}, "leave --kernels k.npz out"),
        ({"kernels": Path("k.npz"), "columns": ("1.6",)}, "one of 2.55, .*, got '1.6'"),
        ({"kernels": Path("k.npz"), "limit": 0}, "limit must be at least 1, got 0"),
        ({"kernels": Path("k.npz"), "page": Path("p.html")}, "NAME.md, got 'p.html'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        ScoreboardOptions(Path("photographs"), **options)


def test_gaussian_blur_that_wraps_around(tmp_path):
    options = ScoreboardOptions(tmp_path, "cbsd68-gaussian", output=tmp_path / "out")
    first, second = options.measured
    path = scoreboard.kernel_file(options, second)
    kernel = np.load(path)
    offsets = np.arange(25) - 12
    expected = np.exp(-np.add.outer(offsets**2, offsets**2) / (2 * 2.0**2))
    np.testing.assert_allclose(kernel, expected / expected.sum(), rtol=1e-5, atol=1e-9)
    evaluation = evaluation_of(options, first, path)
    assert (evaluation.used_protocol, evaluation.model_boundary) == ("circular", "wrap")
    assert evaluation.scored_margin == 0
    assert evaluation.tell_models


def test_seconds_for_each_megapixel_are_a_median():
    shapes = {"a": [500, 1000], "b": [250, 1000, 3], "c": [1000, 1000]}
    cases = [{"image": name, "shape": shape} for name, shape in shapes.items()]
    seconds = {"a": 1.0, "b": 1.0, "c": 100.0}  # 2, 4 and 100 for each megapixel
    records = [Record(n, "tv", "as it is", 20.0, 0.5, 0.5, s) for n, s in seconds.items()]
    config = {"methods": [{"label": "tv", "kind": "tv"}]}
    (one,) = measured_methods(Results(config, {}, cases, records))
    assert one.seconds == pytest.approx(4.0)
    assert one.psnr.mean == pytest.approx(20.0)


@given(st.lists(st.floats(0.0, 50.0), max_size=9), st.floats(0.01, 5.0))
def test_labels_do_not_overlap(values, gap):
    found = spread_labels({str(i): value for i, value in enumerate(values)}, gap=gap)
    assert [value for _, value, _ in found] == sorted(values)
    places = [place for *_, place in found]
    assert all(place >= value for _, value, place in found)
    assert all(np.diff(places) >= gap * (1 - 1e-6))
    if found:
        assert places[0] == min(values)
