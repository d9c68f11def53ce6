"""The tuned parameters: the file in the package, how it is read, and the command that makes it."""

import json
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data, io

from experiments.baselines import BASELINES, tune
from experiments.baselines.tuned import Tuning, tuning_record
from glra_jax import degrade
from glra_jax.datasets import pack_photographs

FOLDER = ("--dataset", "folder", "--data-dir")

WIENER = BASELINES["wiener"]
FAMILIES = ("any", "gaussian", "disk", "motion")


@pytest.fixture(scope="module")
def scores():
    """Of all candidates, as the tuning run writes them."""
    return tuning_record()["scores"]


@pytest.mark.parametrize("method", BASELINES)
def test_the_file_has_a_parameter_for_every_family_and_noise_level(method):
    families = tuning_record()["chosen"][method]
    assert set(families) == set(FAMILIES)
    for levels in families.values():
        assert set(levels) == {"0.003", "0.01", "0.02", "0.03"}
        for value in levels.values():
            assert 0 < value < np.inf


def test_every_baseline_was_tuned(scores):
    assert set(scores) - {"blurred"} == set(BASELINES)


@pytest.mark.parametrize("method", BASELINES)
def test_the_file_chooses_the_best_of_its_scores(method, scores):
    made_by = tuning_record()["made_by"]
    assert made_by["protocol"] == "paper"
    assert made_by["command"] == f"python -m {tune.__name__}"
    candidates = scores[method]["candidates"]
    for family, levels in tuning_record()["chosen"][method].items():
        for level, value in levels.items():
            row = scores[method]["psnr"][family][level]
            assert len(row) == len(candidates)
            assert value == candidates[int(np.argmax(row))]


@pytest.mark.parametrize("method", BASELINES)
def test_scores_together_are_the_mean_of_the_families(method, scores):
    rows = scores[method]["psnr"]
    for level, row in rows["any"].items():
        each = [rows[family][level] for family in rows if family != "any"]
        np.testing.assert_allclose(row, np.mean(each, axis=0), atol=2e-3)


def test_the_tuned_value_interpolates_and_goes_on():
    tuning = BASELINES["hl"].tuning
    values = tuning.chosen("disk")

    def parameter(noise):
        return float(tuning.value(noise, family="disk"))

    for level, value in values.items():
        assert parameter(float(level)) == pytest.approx(value, rel=1e-4)
    middle = np.sqrt(values["0.01"] * values["0.02"])
    assert parameter(np.sqrt(2) * 0.01) == pytest.approx(middle, rel=1e-4)
    assert parameter(0.0003) == pytest.approx(100 * values["0.003"], rel=1e-3)
    assert parameter(0.06) == pytest.approx(values["0.03"] / 4, rel=1e-3)
    traced = jax.jit(lambda noise: tuning.value(noise, family="disk"))
    assert float(traced(0.015)) == pytest.approx(parameter(0.015), rel=1e-5)


def test_what_was_never_tuned_is_refused():
    with pytest.raises(ValueError, match="family must be one of any, gaussian, disk, motion, got"):
        BASELINES["hl"].tuning.value(0.01, family="box")
    with pytest.raises(ValueError, match="median was never tuned: give its side, or tune it"):
        Tuning("median", "side", (3, 5)).value(0.01)


@pytest.mark.parametrize("method", BASELINES)
def test_the_file_has_the_candidates_of_the_record(method, scores):
    tuning = BASELINES[method].tuning
    assert tuning.baseline == method
    assert np.all(np.diff(tuning.candidates) > 0)
    assert scores[method]["parameter"] == tuning.parameter
    assert scores[method]["candidates"] == list(tuning.candidates)


@pytest.mark.slow
def test_examples_differ_in_blur_and_noise_alone():
    packed = pack_photographs([data.camera()])
    key = jax.random.key(0)
    quiet, loud, disk = (
        tune.make_example(key, packed, family=family, noise=noise, size=81)
        for family, noise in (("gaussian", 1e-6), ("gaussian", 0.02), ("disk", 1e-6))
    )
    np.testing.assert_array_equal(quiet.truth, loud.truth)
    np.testing.assert_array_equal(quiet.truth, disk.truth)
    np.testing.assert_array_equal(quiet.kernel, loud.kernel)
    inside = (quiet.blurred > 0.1) & (quiet.blurred < 0.9)
    residual = (loud.blurred - quiet.blurred)[inside]
    assert float(residual.std()) == pytest.approx(0.02, rel=0.05)
    # The kernel's centre is the truth's: blurring it gives the blurred patch, but for the frame.
    again = degrade(key, quiet.truth / 1.2, quiet.kernel, noise=0.0, boundary="wrap")
    inner = slice(27, -27)
    np.testing.assert_allclose(again[inner, inner], quiet.blurred[inner, inner], atol=1e-4)
    assert tune.score(quiet.truth, quiet) > 100.0


def test_command(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    io.imsave(tmp_path / "images" / "a.png", data.camera()[:160, 150:310], check_contrast=False)
    options = tune.TuneOptions(
        dataset="folder",
        data_dir=tmp_path / "images",
        output=tmp_path / "tuned.json",
        noise=(0.02,),
        examples=2,
        size=81,
        methods=("wiener",),
    )
    tune.tune(options)
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "tuned.json").read_text("utf-8"))
    assert record["made_by"]["examples"] == 2
    chosen = record["chosen"]["wiener"]
    assert set(chosen) == set(FAMILIES)
    scores = record["scores"]["wiener"]
    for family, levels in chosen.items():
        row = scores["psnr"][family]["0.02"]
        assert levels["0.02"] == scores["candidates"][int(np.argmax(row))]
        assert re.search(f"wiener.*{family}.* {levels['0.02']:g}", printed)
    # One score by hand.
    first = scores["candidates"][0]
    packed = pack_photographs([data.camera()[:160, 150:310]])
    example_scores = [
        tune.score(WIENER.restore(e.blurred, e.kernel, noise=0.02, noise_to_signal=first), e)
        for key in jax.random.split(jax.random.key(0), 2)
        for e in [tune.make_example(key, packed, family="disk", noise=0.02, size=81)]
    ]
    assert scores["psnr"]["disk"]["0.02"][0] == pytest.approx(np.mean(example_scores), abs=2e-3)
    with pytest.raises(FileExistsError, match=r"tuned\.json exists; remove it"):
        tune.tune(options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("median",)}, "no baseline is called 'median'; there are: wiener, "),
        ({"noise": (0.02, 0.01)}, r"must rise, got \(0.02, 0.01\)"),
        ({"noise": (0.0,)}, "noise must be finite and above 0"),
        ({"size": 80}, "size must be at least 81, got 80"),
        ({"examples": 0}, "examples must be at least 1, got 0"),
    ],
)
def test_bad_options(tmp_path, change, message):
    arguments = {"dataset": "folder", "output": tmp_path / "tuned.json"} | change
    with pytest.raises(ValueError, match=message):
        tune.tune(tune.TuneOptions(**arguments))


class TestPhotographs:
    """Which photographs a run takes and goes on with."""

    def folder(self, path, photographs):
        path.mkdir(parents=True)
        for name, pixels in photographs.items():
            io.imsave(path / f"{name}.png", pixels, check_contrast=False)
        return path

    def options(self, images, output, *methods):
        small = {"noise": (0.02,), "examples": 1, "size": 81}
        return tune.TuneOptions("folder", output, data_dir=images, methods=methods, **small)

    @pytest.fixture
    def pixels(self):
        camera = data.camera()
        return camera[:160, 150:310], camera[200:360, 150:310]

    @pytest.fixture(autouse=True)
    def without_restoring(self, monkeypatch):
        """Scores of nothing: what is tested is which photographs are taken."""
        monkeypatch.setattr(
            tune,
            "score_grid",
            lambda name, *_: np.arange(len(BASELINES[name].tuning.candidates)),
        )

    def test_hash(self, pixels):
        a, b = pixels
        assert tune.hash_photographs([a, b]) == tune.hash_photographs([b, a])
        assert tune.hash_photographs([a, b]) != tune.hash_photographs([a, a])
        assert tune.hash_photographs([a]) != tune.hash_photographs([a.reshape(80, 320)])
        changed = b.copy()
        changed[0, 0] ^= 1
        assert tune.hash_photographs([a, b]) != tune.hash_photographs([a, changed])

    @pytest.mark.slow
    def test_goes_on_with_the_same_photographs_alone(self, pixels, tmp_path, capsys):
        a, b = pixels
        output = tmp_path / "tuned.json"
        here = self.folder(tmp_path / "here", {"a": a, "b": b})
        tune.tune(self.options(here, output, "wiener"))
        before = output.read_bytes()
        other = self.folder(tmp_path / "other", {"a": a, "b": a})  # as many
        with pytest.raises(FileExistsError, match=r"differs in photographs_sha256; remove it or"):
            tune.tune(self.options(other, output, "wiener", "hl"))
        assert output.read_bytes() == before
        copy = self.folder(tmp_path / "copy", {"a": a, "b": b})
        tune.tune(self.options(copy, output, "wiener", "hl"))
        assert "going on with" in capsys.readouterr().out
        record = json.loads(output.read_text())
        assert set(record["chosen"]) == {"wiener", "hl"}
        record["scores"]["hl"]["candidates"][0] = 1.0
        for change in ({}, {"scores": {}}, {"chosen": {"old": {}}}):
            output.write_text(json.dumps(record | change))
            with pytest.raises(FileExistsError, match=r"has \w+ tuned on other candidates"):
                tune.tune(self.options(here, output, "wiener", "hl", "tv"))

    def test_photographs_that_methods_are_scored_on_are_refused(self, pixels, tmp_path):
        for name in ("val", "BSD100"):
            images = self.folder(tmp_path / "images" / name, {"a": pixels[0]})
            arguments = [*FOLDER, str(images.parent), "-o", str(tmp_path / "t.json")]
            with pytest.raises(SystemExit, match=rf"'{name}', as BSD100 does.*--allow-leak"):
                tune.main(arguments)
            images.rename(tmp_path / f"was {name}")
        images = self.folder(tmp_path / "images" / "val" / "deeper", {"a": pixels[0]})
        with pytest.raises(SystemExit, match="'val', as BSD100 does"):
            tune.main([*FOLDER, str(tmp_path / "images"), "-o", str(tmp_path / "t.json")])
        triplets = self.folder(tmp_path / "triplets", {"a_gt": pixels[0], "a_batch": pixels[1]})
        with pytest.raises(SystemExit, match=r"a_gt\.png is of a triplet.*--allow-leak"):
            tune.main([*FOLDER, str(triplets), "-o", str(tmp_path / "t.json")])
        images = self.folder(tmp_path / "val", {"a": pixels[0]})
        options = self.options(images, tmp_path / "t.json", "wiener")
        tune.tune(replace(options, allow_leak=True))
        assert (tmp_path / "t.json").exists()


def test_outputs_are_checked_first(tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "load_training_photographs", lambda *_, **__: pytest.fail("late"))
    for output, message in (
        ("missing/t.json", "no folder .*missing"),
        (".", "is a folder"),
    ):
        with pytest.raises(SystemExit, match=message):
            tune.main([*FOLDER, str(tmp_path), "-o", str(tmp_path / output)])


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    io.imsave(tmp_path / "images" / "a.png", data.camera()[:160, :160], check_contrast=False)
    for content in ("{", "[]", "{}"):
        (tmp_path / "t.json").write_text(content)
        with pytest.raises(SystemExit, match=r"^error: .*t\.json is not a file of a tuning run"):
            tune.main(
                [
                    *(*FOLDER, str(tmp_path / "images"), "-o", str(tmp_path / "t.json")),
                    *("--size", "81", "--examples", "1"),
                ]
            )
        assert (tmp_path / "t.json").read_text() == content


def test_a_tuned_default_is_read_under_jit():
    """A parameter read from the file runs a method under jit, where the noise is traced."""
    y = jnp.linspace(0.0, 1.0, 256).reshape(16, 16)
    kernel = jnp.ones((3, 3)) / 9
    restore = jax.jit(lambda y, noise: WIENER.restore(y, kernel, noise=noise, family="disk"))
    expected = WIENER.restore(y, kernel, noise_to_signal=WIENER.tuning.value(0.02, family="disk"))
    np.testing.assert_allclose(restore(y, 0.02), expected, atol=1e-5)


@pytest.mark.slow
def test_the_weight_tuned_without_saturation_serves_saturated_patches():
    """Protocol "paper" hardly saturates what is blurred; protocol "release" does."""
    baseline = BASELINES["tv_saturated"]
    tuned = baseline.tuning.value(0.003, family="gaussian")
    packed = pack_photographs([data.camera(), data.astronaut()[..., 1], data.coffee()[..., 0]])
    factors = (0.1, 0.3, 1.0, 3.0, 10.0)
    scores = []
    for seed in (1, 2, 4, 5, 6):
        key = jax.random.key(seed)
        example = tune.make_example(key, packed, family="gaussian", noise=1e-6, size=96)
        bright = 1.2 * example.blurred + 0.003 * jax.random.normal(key, example.blurred.shape)
        y = jnp.minimum(bright, 1.0)
        assert 0.03 < float((y == 1.0).mean()) < 0.5
        restored = (baseline.restore(y, example.kernel, weight=f * tuned) for f in factors)
        scores.append([tune.score(x / 1.2, example) for x in restored])
    means = dict(zip(factors, np.mean(scores, axis=0), strict=True))
    assert means[1.0] > max(means[0.1], means[10.0])
    assert means[1.0] > max(means.values()) - 0.3
