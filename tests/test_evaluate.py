"""The evaluation program: its options, what it writes, and the sheet of examples."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from evaluation_helpers import INNER, MARGIN, NAMES, TRIPLETS, make_all, png
from PIL import Image

from experiments import evaluate
from experiments.baselines.wiener import wiener
from experiments.evaluation import methods as methods_module
from experiments.evaluation.cases import scored_part
from experiments.evaluation.leaks import check_labels, describe_methods, leak_of
from experiments.evaluation.methods import collect
from experiments.evaluation.options import EvaluateOptions, load_cases
from experiments.evaluation.results import read_results
from experiments.evaluation.scores import summarize
from experiments.evaluation.sheet import busiest_part, choose_examples
from experiments.evaluation.triplets import (
    triplet_cases,
)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"triplets": Path("t"), "dataset": "folder"}, "triplets are no dataset"),
            ({"dataset": "kodak"}, "one of embedded, bsds500, folder, got 'kodak'"),
            ({"protocol": "real"}, "one of .*, valid, circular, camera-file, got 'real'"),
            ({"triplets": Path("t"), "protocol": "paper"}, "their own kernels and protocol"),
            ({"split": "val"}, "split must be one of train, test, got 'val'"),
            ({"noise": -0.1}, "noise must be .*-0.1"),
            ({"limit": 0}, "limit must be at least 1, got 0"),
            ({"seed": 2**40}, "seed.*1099511627776"),
            ({"triplets": Path("t"), "seed": 3}, "nothing of triplets is drawn: .*--seed 3"),
        ],
    )
    def test_bad(self, options, message):
        with pytest.raises(ValueError, match=message):
            EvaluateOptions(**options)

    def test_noise_that_baselines_are_told(self):
        assert EvaluateOptions(noise=0.02).noise_deviation == 0.02
        even = np.random.default_rng(0).uniform(0, 0.02, 100_000).std()
        release = EvaluateOptions(noise=0.02, protocol="release")
        assert release.noise_deviation == pytest.approx(even, rel=0.01)

    def test_leaks(self):
        options = EvaluateOptions(
            dataset="bsds500", split="val", models=("glra-release", "x=glra-release")
        )
        packaged, x = collect([], options.models, noise=0.01)
        (baseline,) = collect(["hl"], [], noise=0.01)
        assert leak_of(packaged, options) == "no leak"  # the package's models never saw it
        for split in ("train", "test"):
            assert leak_of(packaged, EvaluateOptions(dataset="bsds500", split=split)) == "leak"
        assert leak_of(packaged, EvaluateOptions(dataset="folder")) == "not said"
        assert leak_of(packaged, EvaluateOptions()) == "no leak"  # embedded
        foreign = methods_module.Method("x", "model", x.restore, {"shipped": False})
        assert leak_of(foreign, options) == "not said"
        assert leak_of(foreign, EvaluateOptions(leaky=("x",))) == "leak"
        assert leak_of(foreign, EvaluateOptions(clean=("x",))) == "no leak"
        assert leak_of(baseline, options) == "no leak"
        assert leak_of(baseline, EvaluateOptions(dataset="bsds500", split="train")) == "leak"
        assert leak_of(baseline, EvaluateOptions()) == "no leak"  # embedded
        for where in ({"dataset": "folder"}, {"triplets": Path("folder")}):
            assert leak_of(baseline, EvaluateOptions(**where)) == "not said"
            assert leak_of(baseline, EvaluateOptions(**where, clean=("hl",))) == "no leak"
            assert leak_of(baseline, EvaluateOptions(**where, leaky=("hl",))) == "leak"
            for method in collect(["blurred", "linear"], ["glra-release"], noise=0.01)[:2]:
                assert leak_of(method, EvaluateOptions(**where)) == "no leak"  # nothing was learnt
        with pytest.raises(ValueError, match="both name 'x'"):
            check_labels([x], EvaluateOptions(leaky=("x",), clean=("x",)))
        with pytest.raises(ValueError, match="baseline is called 'y'; there are: x, hl"):
            check_labels([x, baseline], EvaluateOptions(leaky=("y",)))
        check_labels([x, baseline], EvaluateOptions(leaky=("x",), clean=("hl",)))

    def test_random_starts(self, random_model_file):
        models = ("glra-random-init", f"x={random_model_file}", f"y={random_model_file}")
        options = EvaluateOptions(models=models, random=("x",))
        found = describe_methods(collect(["hl"], models, noise=0.01), options)
        starts = {m["label"]: m.get("random_start") for m in found}
        assert starts == {"hl": None, "glra-random-init": True, "x": True, "y": False}
        with pytest.raises(ValueError, match="--random: no model is called 'hl'; there are: x"):
            check_labels(collect(["hl"], models[1:], noise=0.01), EvaluateOptions(random=("hl",)))

    def test_embedded_photographs_by_default(self):
        assert [case.name for case in load_cases(EvaluateOptions())] == ["coffee", "coins"]


class TestProgram:
    @pytest.fixture
    def arguments(self, triplets, tmp_path, random_model_file):
        return [
            *("--triplets", str(triplets), "--margin", str(MARGIN)),
            *("--methods", "blurred", "wiener:noise_to_signal=0.01"),
            *("--models", random_model_file),
            *("--output", str(tmp_path / "out"), "--sheet", "2"),
        ]

    def test_results(self, arguments, triplets, tmp_path, capsys):
        evaluate.main(arguments)
        printed = capsys.readouterr().out
        results = read_results(tmp_path / "out" / "results.json")
        labels = ["blurred", "wiener:noise_to_signal=0.01", "small"]
        assert [m["label"] for m in results.config["methods"]] == labels
        assert [case["image"] for case in results.cases] == list(NAMES)
        assert len(results.records) == 3 * 3 * 3

        # Each row of Wiener on the second image, by hand.
        case = triplet_cases(triplets)[1].make()
        out = np.asarray(wiener(case.blurred, case.kernel, noise_to_signal=0.01))
        out = out[INNER].astype(np.float64)
        truth = case.sharp[INNER]
        divisors = {"as it is": 1.0, "÷ 1.1": 1.1, "÷ own factor": case.gain}
        rows = {
            record.correction: record.psnr
            for record in results.records
            if record.image == "b" and record.method == labels[1]
        }
        for correction, divisor in divisors.items():
            error = np.mean((np.clip(out / divisor, 0, 1) - truth) ** 2)
            assert rows[correction] == pytest.approx(-10 * np.log10(error), abs=1e-3)

        text = (tmp_path / "out" / "results.md").read_text()
        assert text.strip() in printed
        mean = np.mean([r.psnr for r in results.records if r.method == "small"][::3])
        assert f"| small | as it is | {mean:.2f} |" in text
        table = list(csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text())))
        assert len(table) == 27
        assert float(table[0]["psnr"]) == results.records[0].psnr
        with Image.open(tmp_path / "out" / "sheet.png") as sheet:
            assert sheet.width > 3 * 300

    @pytest.mark.slow
    @pytest.mark.skipif(TRIPLETS not in os.environ, reason=f"needs {TRIPLETS}")
    def test_released_photographs_are_as_hard_as_others_measured(self, tmp_path):
        """The authors' set against figures that another program has of a Wiener filter."""
        folder = Path(os.environ[TRIPLETS])
        expected = {50: (21.80, 23.26, 23.70), 100: (21.74, 23.40, 23.96)}
        count = len(triplet_cases(folder))
        if count not in expected:
            pytest.skip(f"figures are of 50 or 100 triplets, not {count}")
        evaluate.main(
            [
                *("--triplets", str(folder), "--subtract", "0.005", "--sheet", "0"),
                *("--methods", "wiener:noise_to_signal=0.001", "--models"),
                *("--output", str(tmp_path / "out")),
            ]
        )
        results = read_results(tmp_path / "out" / "results.json")
        rows = summarize(results.records, results.photographs)  # as it is, ÷ 1.1, ÷ own factor
        np.testing.assert_allclose([row.psnr.mean for row in rows], expected[count], atol=0.03)
        if count == 100:
            assert rows[0].ssim_volume.mean == pytest.approx(0.777, abs=0.005)

    def test_scores_do_not_depend_on_limit_or_methods(self, arguments, tmp_path):
        less = [a for a in arguments if not a.startswith("wiener")]
        evaluate.main([*less, "--limit", "1"])
        before = read_results(tmp_path / "out" / "results.json")
        evaluate.main([*arguments, "--overwrite"])
        after = read_results(tmp_path / "out" / "results.json")
        few, many = before.records, after.records
        assert before.cases == after.cases[:1]
        scores = {(r.image, r.method, r.correction): (r.psnr, r.ssim, r.ssim_volume) for r in many}
        assert len(few) == 6
        for record in few:
            values = (record.psnr, record.ssim, record.ssim_volume)
            assert scores[record.image, record.method, record.correction] == values

    def test_photographs_to_the_borders(self, photographs, kernel_file, tmp_path):
        (tmp_path / "photographs").mkdir()
        small = {name: pixels[INNER] for name, pixels in photographs.items()}
        for name, pixels in small.items():
            png(tmp_path / "photographs" / f"{name}.png", pixels)
        where = tmp_path / "out"
        evaluate.main(
            [
                *("--dataset", "folder", "--data-dir", str(tmp_path / "photographs")),
                *("--kernel", kernel_file),
                *("--methods", "blurred", "--models", "--borders", "full", "--sheet", "0"),
                *("--output", str(where)),
            ]
        )
        results = read_results(where / "results.json")
        assert {r.correction for r in results.records} == {"as it is"}
        case = make_all(small, kernel=kernel_file, protocol="paper", seed=0)["c+k"]
        error = np.mean((case.blurred - case.sharp) ** 2)
        assert results.records[2].psnr == pytest.approx(-10 * np.log10(error), abs=1e-3)
        assert not (where / "sheet.png").exists()
        assert "output" not in (where / "results.md").read_text().splitlines()[2]

    def test_results_are_not_replaced_unasked(self, arguments, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "results.md").write_text("mine")
        with pytest.raises(SystemExit, match=r"results\.md.*--output"):
            evaluate.main(arguments)
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["results.md"]
        assert (tmp_path / "out" / "results.md").read_text() == "mine"

    def test_small_images_are_refused_first(self, triplets, tmp_path):
        arguments = ["--triplets", str(triplets), "--output", str(tmp_path / "out")]
        with pytest.raises(SystemExit, match=r"44x60.* 75 "):
            evaluate.main(arguments)
        assert not (tmp_path / "out").exists()

    def test_results_that_are_not_whole(self, tmp_path):
        path = tmp_path / "results.json"
        path.write_text('{"format": "glra_jax-evaluation-1", "config"')
        with pytest.raises(ValueError, match=r"not a whole results\.json"):
            read_results(path)
        path.write_text(json.dumps({"format": "other"}))
        with pytest.raises(ValueError, match="format 'other'"):
            read_results(path)
        path.write_text("{}")
        with pytest.raises(ValueError, match="it lacks 'format'"):
            read_results(path)

    def test_bad_outputs_of_a_method(self, triplets):
        case = triplet_cases(triplets)[0].make()
        nan = methods_module.Method("m", "tv", lambda y, k: y * np.nan, {})
        with pytest.raises(ValueError, match="has 7920 NaN or infinite values"):
            evaluate.restore_timed(nan, case, compiled=True)
        small = methods_module.Method("m", "tv", lambda y, k: y[1:], {})
        with pytest.raises(ValueError, match=r"is \(43, 60, 3\) and the image \(44, 60, 3\)"):
            evaluate.restore_timed(small, case, compiled=True)


class TestSheet:
    def test_busiest_part(self):
        image = np.zeros((40, 50))
        image[21:26, 33:37] = np.indices((5, 4)).sum(axis=0) % 2
        top, left = busiest_part(image, 8, 8)
        assert 18 <= top <= 20
        assert 29 <= left <= 32
        colour = np.repeat(image[..., None], 3, axis=2)
        assert busiest_part(colour, 8, 8) == (top, left)

    def test_choose_examples(self):
        assert choose_examples(50, 4) == [6, 18, 31, 43]
        assert choose_examples(2, 4) == [0, 1]
        assert choose_examples(5, 0) == []

    def test_scored_part(self):
        image = np.arange(30).reshape(5, 6)
        np.testing.assert_array_equal(scored_part(image, 2), [[14, 15]])
        np.testing.assert_array_equal(scored_part(image, 0), image)
