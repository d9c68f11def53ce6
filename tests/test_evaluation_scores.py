"""Scores of an evaluation, and the paper's tables made of them."""

import json
import re

import numpy as np
import pytest
import scipy.stats
from skimage import metrics as reference

from experiments import tables
from experiments.evaluation.paper_tables import paper_numbers
from experiments.evaluation.report import Results, check_output, format_json, format_markdown
from experiments.evaluation.scores import (
    AS_IT_IS,
    MEAN_FACTOR,
    TOLD_FACTOR,
    Record,
    bootstrap,
    corrections,
    count_wins,
    score_image,
    summarize,
)


def record(image, method, psnr, correction=AS_IT_IS, ssim_volume=0.75):
    return Record(image, method, correction, psnr, 0.5, ssim_volume, 0.25)


class TestScoreImage:
    @pytest.mark.parametrize(("divisor", "subtract"), [(1.0, 0.0), (1.1, 0.0), (1.17, 0.005)])
    def test_against_scikit_image(self, colour_photograph, divisor, subtract):
        truth = colour_photograph[20:44, 30:70]
        noise = np.random.default_rng(0).normal(0, 0.05, truth.shape)
        restored = np.float32(1.4 * truth + noise)
        assert restored.max() > 1  # so that clipping counts
        image = np.clip((restored.astype(np.float64) - subtract) / divisor, 0, 1)
        psnr, ssim, volume = score_image(restored, truth, divisor=divisor, subtract=subtract)
        truth = truth.astype(np.float64)
        expected = reference.peak_signal_noise_ratio(truth, image, data_range=1)
        assert psnr == pytest.approx(expected, abs=1e-3)
        window = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 1}
        expected = reference.structural_similarity(truth, image, channel_axis=2, **window)
        assert ssim == pytest.approx(expected, abs=1e-4)
        assert volume > ssim

    def test_corrections(self):
        assert corrections(None, 0.005) == {AS_IT_IS: (1, 0)}
        expected = {AS_IT_IS: (1, 0), MEAN_FACTOR: (1.1, 0.005), TOLD_FACTOR: (1.03, 0.005)}
        assert corrections(1.03, 0.005) == expected


class TestBootstrap:
    def test_against_scipy(self):
        values = np.random.default_rng(1).gamma(2.0, size=60)
        found = bootstrap(values)
        assert found.mean == pytest.approx(values.mean())
        expected = scipy.stats.bootstrap(
            (values,), np.mean, method="percentile", n_resamples=10_000, random_state=0
        ).confidence_interval
        spread = values.std() / np.sqrt(60)
        assert found.low == pytest.approx(expected.low, abs=0.05 * spread)
        assert found.high == pytest.approx(expected.high, abs=0.05 * spread)

    def test_law_of_large_numbers(self):
        values = np.random.default_rng(2).normal(size=400)
        found = bootstrap(values)
        reach = 1.96 * values.std() / np.sqrt(400)
        assert found.high - found.mean == pytest.approx(reach, rel=0.06)
        assert found.mean - found.low == pytest.approx(reach, rel=0.06)

    def test_same_images_for_every_method(self):
        values = np.random.default_rng(3).normal(size=30)
        one, other = bootstrap(values), bootstrap(values + 2)
        assert other.low == pytest.approx(one.low + 2)
        assert bootstrap(values) == one
        assert bootstrap(values, seed=1) != one

    def test_one_image(self):
        found = bootstrap([3.0])
        assert found.mean == 3.0
        assert np.isnan(found.low)


def test_wins_and_means():
    scores = {"a": (20, 22, 24), "b": (21, 22, 20), "c": (19, 23, 25)}
    records = [record(f"i{i}", m, p) for m, row in scores.items() for i, p in enumerate(row)]
    records.append(record("i0", "a", 99, correction=MEAN_FACTOR))
    methods, wins = count_wins(records, AS_IT_IS)
    assert methods == ["a", "b", "c"]
    np.testing.assert_array_equal(wins, [[0, 1, 1], [1, 0, 1], [2, 2, 0]])
    means = {(row.method, row.correction): row.psnr.mean for row in summarize(records)}
    assert means == {
        ("a", AS_IT_IS): 22,
        ("a", MEAN_FACTOR): 99,
        ("b", AS_IT_IS): 21,
        ("c", AS_IT_IS): pytest.approx(67 / 3),
    }


def results(kernel="gaussian", noise=0.01, kinds=("hl", "model", "wiener"), psnr=25.0):
    """An evaluation of two images, of methods `my hl`, ..."""
    config = {
        "data": "BSDS500 val",
        "kernel": kernel,
        "protocol": "release",
        "noise": noise,
        "seed": 5,
        "margin": 75,
        "subtract": 0.0,
        "methods": [{"label": f"my {kind}", "kind": kind, "leak": "no leak"} for kind in kinds],
    }
    machine = {"processor": "abacus", "cores": 2, "backend": "cpu"}
    cases = [{"image": name, "gain": 1.05, "shape": [9, 9], "kernel": [3, 3]} for name in "xy"]
    records = [
        record(name, f"my {kind}", psnr + index + 2 * step, correction)
        for index, name in enumerate("xy")
        for kind in kinds
        for step, correction in enumerate((AS_IT_IS, MEAN_FACTOR, TOLD_FACTOR))
    ]
    return Results(config, machine, cases, records)


def test_markdown():
    text = format_markdown(results())
    assert text.startswith(
        "2 images: BSDS500 val, gaussian blur, protocol release, noise 1 %, seed 5, 75 pixels off "
        "each side."
    )
    assert "| my hl | as it is | 25.50 [25.00, 26.00] | 0.500 [0.500, 0.500] | 0.750 [" in text
    assert "| my hl | ÷ 1.1 | 27.50 [27.00, 28.00] |" in text
    assert "| my model | 0 |  | 0 |" in text
    assert "on abacus (2 cores), cpu" in text


def test_output_folder(tmp_path):
    check_output(tmp_path / "new", overwrite=False)
    check_output(tmp_path, overwrite=False)
    (tmp_path / "sheet.png").touch()
    with pytest.raises(FileExistsError, match=r"holds sheet\.png; choose another"):
        check_output(tmp_path, overwrite=False)
    check_output(tmp_path, overwrite=True)
    with pytest.raises(FileExistsError, match="is a file"):
        check_output(tmp_path / "sheet.png", overwrite=True)


class TestTables:
    @pytest.fixture
    def text(self, tmp_path):
        runs = {
            "one": results(),
            "two": results("disk", kinds=("model",), psnr=30.0),
            "three": results("motion", kinds=("model",), psnr=40.0),
        }
        for name, run in runs.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "results.json").write_text(format_json(run))
        tables.main([str(tmp_path), "--output", str(tmp_path / "tables.md")])
        return (tmp_path / "tables.md").read_text()

    def section(self, text, table, column):
        part = text.split(f"## Table {table}:")[1].split("\n## ")[0]
        return part.split(f"### {column}")[1].split("###")[0]

    def row(self, section, start):
        (line,) = [line for line in section.splitlines() if line.startswith(start)]
        return [cell.strip() for cell in line.split("|")[1:-1]]

    def test_ours_beside_the_papers(self, text):
        section = self.section(text, 2, "Gaussian blur, 1 %")
        assert self.row(section, "| GLRA") == [
            "GLRA", "23.21 / 0.773", "leak", "my model", "25.50 [25.00, 26.00]",
            "0.750 [0.750, 0.750]", "27.50 [27.00, 28.00]", "29.50 [29.00, 30.00]",
            "2 images, BSDS500 val", "release", "no leak",
        ]  # fmt: skip
        assert self.row(section, "| CSF")[1:5] == [
            "21.44 / 0.764", "", "no implementation here yet", "",
        ]  # fmt: skip
        assert self.row(section, "| HL")[1:4] == ["not at hand / 0.62", "", "my hl"]
        assert self.row(section, "| EPLL")[1:4] == ["not at hand", "", "not measured"]
        assert self.row(section, "|  |  |  | my wiener")[4] == "25.50 [25.00, 26.00]"
        disk = self.section(text, 2, "disk blur, 1 %")
        assert self.row(disk, "| GLRA")[1:5] == [
            "24.24 / 0.815", "leak", "my model", "30.50 [30.00, 31.00]",
        ]  # fmt: skip

    def test_a_run_stands_only_where_it_belongs(self, text):
        assert "40.50" not in text
        for title in ("Gaussian blur, 2 %", "disk blur, 3 %"):
            assert "not measured" in self.section(text, 3, title)
            assert "my " not in self.section(text, 3, title)

    def test_every_method_of_the_paper_has_a_row(self, text):
        for number, columns in ((1, 2), (2, 2), (3, 4)):
            part = text.split(f"## Table {number}:")[1].split("\n## ")[0]
            for name in paper_numbers()["methods"]:
                assert len(re.findall(rf"^\| {re.escape(name)} \|", part, re.M)) == columns, name

    def test_numbers_are_known_or_missing_with_a_reason(self):
        paper = paper_numbers()
        known = []
        for table in paper["tables"]:
            for column in table["columns"]:
                assert column["numbers"].keys() <= paper["methods"].keys()
                for number in column["numbers"].values():
                    assert number.keys() == {"psnr", "ssim"}
                    known += [value for value in number.values() if value is not None]
        assert all(10 < value < 50 or 0 < value < 1 for value in known)
        assert paper["missing_reason"]
        assert paper["source"].startswith("https://papers.nips.cc/")

    def test_errors(self, tmp_path):
        with pytest.raises(SystemExit, match="nor a folder that holds any"):
            tables.main([str(tmp_path), "--output", str(tmp_path / "t.md")])
        path = tmp_path / "results.json"
        path.write_text(json.dumps({"format": "glra_jax-evaluation-1"}))
        with pytest.raises(SystemExit, match=r"not a whole results\.json"):
            tables.main([str(path), "--output", str(tmp_path / "t.md")])
        path.write_text(format_json(results()))
        (tmp_path / "t.md").write_text("mine")
        with pytest.raises(SystemExit, match="exists"):
            tables.main([str(path), "--output", str(tmp_path / "t.md")])
        assert (tmp_path / "t.md").read_text() == "mine"
