"""Scores of an evaluation, and the paper's tables made of them."""

import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from skimage import metrics as reference

from experiments import tables
from experiments.evaluation import scores
from experiments.evaluation.paper_tables import paper_numbers, write_tables
from experiments.evaluation.report import format_markdown
from experiments.evaluation.results import (
    Results,
    check_output,
    find_results,
    format_json,
    read_results,
)
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
        """Percentiles, further out than the level's by what Student's t is further out."""
        values = np.random.default_rng(1).gamma(2.0, size=60)
        found = bootstrap(values)
        assert found.mean == pytest.approx(values.mean())
        reach = np.sqrt(60 / 59) * scipy.stats.t.ppf(0.975, 59)
        expected = scipy.stats.bootstrap(
            (values,), np.mean, method="percentile", n_resamples=10_000, rng=0,
            confidence_level=scipy.stats.norm.cdf(reach) - scipy.stats.norm.cdf(-reach),
        ).confidence_interval  # fmt: skip
        spread = values.std() / np.sqrt(60)
        assert found.low == pytest.approx(expected.low, abs=0.06 * spread)
        assert found.high == pytest.approx(expected.high, abs=0.06 * spread)

    @pytest.mark.parametrize("count", [6, 10, 40])
    def test_covers_the_truth_as_often_as_it_says(self, count, monkeypatch):
        monkeypatch.setattr(scores, "RESAMPLES", 2000)
        samples = np.random.default_rng(7).normal(size=(400, count))
        found = [bootstrap(row) for row in samples]
        covered = np.mean([one.low <= 0.0 <= one.high for one in found])
        assert 0.91 <= covered <= 0.98

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

    def test_images_of_one_photograph_are_drawn_together(self):
        means = np.random.default_rng(4).normal(size=12)
        values = np.repeat(means, 8)  # eight kernels that tell nothing more
        photographs = np.repeat(np.arange(12), 8).tolist()
        found, alone = bootstrap(values, photographs), bootstrap(means)
        assert found.low == pytest.approx(alone.low)
        assert found.high == pytest.approx(alone.high)
        independent = bootstrap(values)
        assert found.high - found.low > 2.5 * (independent.high - independent.low)

    def test_photographs_of_several_sizes(self, monkeypatch):
        monkeypatch.setattr(scores, "RESAMPLES", 50_000)
        names = ["a", *"bbcdef"]
        found = bootstrap([0.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0], names)
        assert found.mean == pytest.approx(6 / 7)
        # Means are 6k / (6 + k) if b is drawn k times; the upper end is that of 6 draws of 6.
        assert found.low == 0.0
        assert found.high in [pytest.approx(6 * k / (6 + k)) for k in (4, 5, 6)]

    def test_too_few_photographs(self):
        for values, names in (([3.0], None), ([1.0, 2, 3, 4, 5], None), ([1.0] * 7, [*"aabbcde"])):
            found = bootstrap(values, names)
            assert found.mean == np.mean(values)
            assert np.isnan([found.low, found.high]).all()


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


def test_wins_by_photograph():
    scores = {"a": (20, 24, 22, 22), "b": (21, 22, 23, 20)}
    records = [record(f"i{i}", m, p) for m, row in scores.items() for i, p in enumerate(row)]
    photographs = {"i0": "p", "i1": "p", "i2": "q", "i3": "q"}
    _, wins = count_wins(records, AS_IT_IS, photographs)
    np.testing.assert_array_equal(wins, [[0, 2], [0, 0]])
    (a, _) = summarize(records, photographs)
    assert (a.psnr.mean, a.images) == (22, 4)


def results(kernel="gaussian", noise=0.01, kinds=("hl", "model", "wiener"), psnr=25.0, **config):
    """An evaluation of two images, of methods `my hl`, ..."""
    config = {
        "data": "BSDS500 val",
        "triplets": None,
        "dataset": "bsds500",
        "split": "val",
        "kernel": kernel,
        "protocol": "release",
        "noise": noise,
        "seed": 5,
        "margin": 75,
        "subtract": 0.0,
        "methods": [{"label": f"my {kind}", "kind": kind, "leak": "no leak"} for kind in kinds],
    } | config
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
    assert "| my hl | as it is | 25.50 | 0.500 | 0.750 |" in text
    assert "| my hl | ÷ 1.1 | 27.50 |" in text
    assert "| my model | 0 |  | 0 |" in text
    assert "on abacus (2 cores), cpu" in text


def with_kernels(run, count):
    """The evaluation with `count` kernels for each photograph."""
    names = [(case["image"], f"{case['image']}+{k}") for case in run.cases for k in range(count)]
    cases = [run.cases[0] | {"image": image, "photograph": name} for name, image in names]
    records = [replace(r, image=f"{r.image}+{k}") for r in run.records for k in range(count)]
    return replace(run, cases=cases, records=records)


def test_markdown_of_several_kernels():
    run = with_kernels(results(), 8)
    text = format_markdown(run)
    assert text.startswith("2 photographs × 8 kernels: BSDS500 val")
    # Two photographs have no interval, however many kernels there are.
    assert "| my hl | as it is | 25.50 |" in text
    assert "No intervals: fewer than 6 photographs." in text
    assert "means over their kernels" in text


def test_intervals_of_several_kernels():
    """As wide as that of the photographs alone."""
    run = results()
    cases = [case | {"image": f"{case['image']}{n}"} for case in run.cases for n in range(3)]
    records = [replace(r, image=f"{r.image}{n}") for r in run.records for n in range(3)]
    six = replace(run, cases=cases, records=records)
    expected = bootstrap([25.0, 26.0] * 3)
    for several in (six, with_kernels(six, 8)):
        text = format_markdown(several)
        (row,) = [line for line in text.splitlines() if "| my hl | as it is |" in line]
        low, high = map(float, re.search(r"25\.50 \[([\d.]+), ([\d.]+)\]", row).groups())
        assert [low, high] == pytest.approx([expected.low, expected.high], abs=0.1)


def test_labels_do_not_break_tables():
    methods = [{"label": "a|b", "kind": "hl", "leak": "no leak"}]
    run = results(methods=methods)
    run = replace(run, records=[replace(r, method="a|b") for r in run.records if "hl" in r.method])
    text = format_markdown(run)
    assert "\n| a\\|b | as it is | 25.50 |" in text
    assert "\n|  | a\\|b |\n| --- | --- |\n" in text
    assert "| HL | not at hand / 0.62 (per channel) |  | a\\|b |" in write([run])


def write(runs):
    """The tables of evaluations."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.json" for index, _ in enumerate(runs)]
        for path, run in zip(paths, runs, strict=True):
            path.write_text(format_json(run))
        return write_tables(paths)


class TestReadResults:
    def damage(self, tmp_path, change):
        path = tmp_path / "results.json"
        content = json.loads(format_json(results()))
        change(content)
        path.write_text(json.dumps(content))
        return path

    def test_older_files(self, tmp_path):
        """Without photographs and failures, as they were written at first."""
        path = self.damage(tmp_path, lambda content: content.pop("failures"))
        run = read_results(path)
        assert run == results()
        assert run.photographs == {"x": "x", "y": "y"}

    def test_the_linear_restoration_by_its_former_name(self, tmp_path):
        """Files of before it was renamed; tables add the number of the paper's equation."""

        def rename(content):
            content["reused"] = {"my wiener": 1}
            for text in ("methods", "records", "failures", "reused"):
                where = content["config"] if text == "methods" else content
                renamed = json.dumps(where[text]).replace("my wiener", "eq8:noise_weight=60")
                where[text] = json.loads(renamed.replace('"wiener"', '"eq8"'))

        run = read_results(self.damage(tmp_path, rename))
        label = "linear:noise_weight=60"
        assert [(m["label"], m["kind"]) for m in run.config["methods"]][-1] == (label, "linear")
        assert [r.psnr for r in run.records if r.method == label] == [25, 27, 29, 26, 28, 30]
        assert run.reused == {label: 1}
        text = format_markdown(run)
        assert "| linear (eq. 8):noise_weight=60 | as it is | 25.50 |" in text
        assert "eq8" not in text
        assert "| linear (eq. 8):noise_weight=60 | 25.50 |" in write([run])

    @pytest.mark.parametrize(
        ("old", "expected"),
        [
            ({"bsds500": "val", "images": None}, ("bsds500", "val")),
            ({"bsds500": None, "images": "bsd100"}, ("folder", "all")),
            ({"bsds500": None, "images": None}, ("embedded", "test")),
            ({"bsds500": None, "images": None, "triplets": "t"}, (None, None)),
        ],
    )
    def test_older_files_have_an_option_for_each_dataset(self, tmp_path, old, expected):
        content = json.loads(format_json(results()))
        del content["config"]["dataset"], content["config"]["split"]
        content["config"] |= old
        (tmp_path / "results.json").write_text(json.dumps(content))
        config = read_results(tmp_path / "results.json").config
        assert (config["dataset"], config["split"]) == expected

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c["config"].pop("kernel"), "config lacks 'kernel'"),
            (lambda c: c["config"]["methods"][0].pop("leak"), "a method in config lacks 'leak'"),
            (lambda c: c["records"].pop(), "1 of 18 scores are missing.*my wiener on y, ÷ own"),
            (lambda c: c["cases"].pop(), "18 scores for 9"),
            (lambda c: c["records"].append(c["records"][0]), "19 scores for 18"),
            (lambda c: c.pop("cases"), "lacks 'cases'"),
            (lambda c: c["config"].update(dataset=["val"]), r"config: dataset is \['val'\]"),
            (lambda c: c["config"].update(kernel=3), "config: kernel is 3"),
            (lambda c: c["config"].update(noise="x"), "config: noise is 'x'"),
            (lambda c: c["records"][4].update(psnr="x"), "a record: psnr is 'x'"),
            (lambda c: c["records"][4].update(seconds=None), "a record: seconds is None"),
            (lambda c: c["records"][4].update(psnr=True), "a record: psnr is True"),
            (lambda c: c["records"][4].update(psnr=float("nan")), "a record: psnr is nan"),
            (lambda c: c["cases"][0].update(family=[1]), r"a case: family is \[1\]"),
            (lambda c: c["config"]["methods"][0].update(sha256=3), "config: sha256 is 3"),
        ],
    )
    def test_damaged(self, tmp_path, change, message):
        path = self.damage(tmp_path, change)
        with pytest.raises(SystemExit, match=rf"^error: .*results\.json is not .*{message}") as e:
            tables.main([str(path), "--output", str(tmp_path / "t.md")])
        assert "\n" not in str(e.value)
        assert not (tmp_path / "t.md").exists()

    def test_failures_are_no_damage(self, tmp_path):
        def fail(content):
            content["records"] = [
                r for r in content["records"] if (r["image"], r["method"]) != ("y", "my hl")
            ]
            content["failures"] = [{"image": "y", "method": "my hl", "error": "no memory"}]

        path = self.damage(tmp_path, fail)
        text = write_tables([path])
        assert "| my hl | failed on 1 of 2 images |" in text
        assert "| my model | 25.50 |" in text


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
            "three": results("motion", kinds=("model",), psnr=40.0, seed=7, margin=0),
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
            "GLRA", "23.21 / 0.773 (volume)", "leak", "my model", "25.50",
            "0.500", "0.750", "27.50",
            "29.50", "2 images, BSDS500 val, seed 5", "release", "no leak",
        ]  # fmt: skip
        assert self.row(section, "| CSF")[1:5] == [
            "21.44 / 0.764", "", "no implementation here yet", "",
        ]  # fmt: skip
        first = ["not at hand / 0.62 (per channel)", "", "my hl"]
        assert self.row(section, "| HL")[1:4] == first
        assert self.row(section, "| EPLL")[1:4] == ["not at hand", "", "not measured"]
        assert self.row(section, "|  |  |  | my wiener")[4] == "25.50"
        disk = self.section(text, 2, "disk blur, 1 %")
        assert self.row(disk, "| GLRA")[1:5] == [
            "24.24 / 0.815 (volume)", "leak", "my model", "30.50",
        ]  # fmt: skip

    def test_a_run_stands_only_where_it_belongs(self, text):
        tables_only, others = text.split("## Other evaluations")
        assert "40.50" not in tables_only
        assert self.row(others, "| motion") == [
            "motion", "1 %", "my model", "40.50", "0.500",
            "0.750", "42.50", "44.50",
            "2 images, BSDS500 val, seed 7, margin 0", "release", "no leak",
        ]  # fmt: skip
        assert "30.50" not in others
        for title in ("Gaussian blur, 2 %", "disk blur, 3 %"):
            assert "not measured" in self.section(text, 3, title)
            assert "my " not in self.section(text, 3, title)

    @pytest.mark.parametrize(
        ("config", "families", "columns"),
        [
            ({"protocol": "paper"}, None, ["1 Gaussian 1", "2 Gaussian 1"]),
            ({"protocol": "release"}, None, ["2 Gaussian 1"]),
            ({"protocol": "release", "noise": 0.02}, None, []),  # its deviation is 0.58 %
            ({"protocol": "paper", "noise": 0.02}, None, ["3 Gaussian 2"]),
            ({"protocol": "paper", "split": "bsd100"}, None, ["1 Gaussian 1", "2 Gaussian 1"]),
            ({"protocol": "paper", "split": "train"}, None, ["1 Gaussian 1"]),
            ({"protocol": "paper", "dataset": "embedded", "split": "test"}, None, ["1 Gaussian 1"]),
            ({"protocol": "paper", "dataset": "folder", "split": "all"}, None, []),
            ({"kernel": "k.npz"}, None, []),
            ({"margin": 0}, None, []),
            ({"kernel": None, "triplets": "t", "dataset": None, "split": None}, None, []),
            ({"kernel": None, "triplets": "t"}, ("gaussian", "gaussian"), ["2 Gaussian 1"]),
            ({"kernel": None, "triplets": "t"}, ("disk", "disk"), ["2 disk 1"]),
            ({"kernel": None, "triplets": "t"}, ("disk", "gaussian"), []),
        ],
    )
    def test_columns_of_an_evaluation(self, config, families, columns):
        run = results(**config)
        if families:
            cases = [c | {"family": f} for c, f in zip(run.cases, families, strict=True)]
            run = replace(run, cases=cases)
        text = write([run])
        found = []
        for part in re.split(r"^## Table ", text.split("## Other")[0], flags=re.M)[1:]:
            for section in part.split("### ")[1:]:
                if "my model" in section:
                    blur, _, noise = re.match(r"(\w+) blur(, )(\d) %", section).groups()
                    found.append(f"{part[0]} {blur} {noise}")
        assert found == columns
        assert ("## Other evaluations" in text) == (not columns)

    def test_what_tells_evaluations_apart_is_said(self):
        runs = [results(seed=0), results(seed=1), results(seed=0, subtract=0.005)]
        section = self.section(write(runs), 2, "Gaussian blur, 1 %")
        data = "2 images, BSDS500 val"
        found = [line.split("|")[-4].strip() for line in section.splitlines() if "my hl" in line]
        assert found == [data, f"{data}, seed 1", f"{data}, subtract 0.005"]

    def test_models_are_told_apart_by_their_files(self):
        model = {"label": "my model", "kind": "model", "leak": "leak", "sha256": "0123456789abcdef"}
        text = write([results(kinds=("model",), methods=[model])])
        assert "| my model (01234567) | 25.50 |" in text

    def test_a_file_given_twice_counts_once(self, tmp_path, monkeypatch):
        (tmp_path / "results.json").write_text("{}")
        monkeypatch.chdir(tmp_path)
        assert len(find_results([Path(), tmp_path, Path("results.json")])) == 1

    def test_random_starts_have_a_row_of_their_own(self):
        methods = [
            {"label": f"my {kind}", "kind": "model", "leak": "leak", "random_start": kind == "hl"}
            for kind in ("hl", "model")
        ]
        section = self.section(
            write([results(kinds=("hl", "model"), methods=methods)]), 2, "Gaussian blur, 1 %"
        )
        assert self.row(section, "| Random init")[3] == "my hl"
        assert self.row(section, "| GLRA")[3] == "my model"
        assert section.count("my hl") == section.count("my model") == 1

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
                    assert number.keys() == {"psnr", "ssim", "ssim_kind"}
                    assert number["ssim_kind"] in ("volume", "per channel", None)
                    known += [number["psnr"]] if number["psnr"] is not None else []
                    assert number["ssim"] is None or 0 < number["ssim"] < 1
        assert len(known) >= 3
        assert all(10 < value < 50 for value in known)
        assert paper["missing_reason"]
        assert paper["source"].startswith("https://papers.nips.cc/")

    def test_the_tables_in_docs_are_of_the_evaluations_in_docs(self):
        docs = Path(__file__).parents[1] / "docs"
        text = write_tables(find_results([docs / "evaluations"]))
        assert (docs / "tables.md").read_text() == f"{text}\n"

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
