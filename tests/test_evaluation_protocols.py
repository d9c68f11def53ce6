"""Protocols of an evaluation: what becomes of photographs, kernels and outputs."""

import numpy as np
import pytest
from evaluation_helpers import make_all, png
from scipy.signal import convolve2d

from experiments import evaluate
from experiments.evaluation import methods
from experiments.evaluation.cases import check_cases
from experiments.evaluation.options import EvaluateOptions
from experiments.evaluation.protocols import round_to_8_bits
from experiments.evaluation.results import read_results
from experiments.evaluation.synthetic import synthetic_cases

SHAPES = [(5, 5), (4, 6), (3, 4)]


@pytest.fixture(scope="module")
def grey(photographs):
    return {"a": photographs["a"][..., 1]}


def random_kernel(shape):
    kernel = np.random.default_rng(2).uniform(size=shape)
    return kernel / kernel.sum()


def save_kernel(folder, kernel):
    np.save(folder / "k.npy", kernel)
    return str(folder / "k.npy")


class TestValid:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_against_scipy(self, photographs, tmp_path, shape):
        kernel = random_kernel(shape)
        how = {"protocol": "valid", "kernel": save_kernel(tmp_path, kernel), "noise": 0.0}
        case = make_all(photographs, **how)["a+k"]
        x = photographs["a"] / 255.0
        expected = [convolve2d(x[..., c], kernel, mode="valid") for c in range(3)]
        np.testing.assert_allclose(case.blurred, np.stack(expected, axis=2), atol=2e-6)
        assert case.gain is None

    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_truth_lies_where_the_blurred_image_does(self, grey, tmp_path, shape):
        """A kernel that is 1 at its centre and 0 elsewhere moves nothing."""
        kernel = np.zeros(shape)
        kernel[shape[0] // 2, shape[1] // 2] = 1.0
        how = {"protocol": "valid", "kernel": save_kernel(tmp_path, kernel), "noise": 0.0}
        (pending,) = synthetic_cases(grey, seed=0, **how)
        case = pending.make()
        height, width = grey["a"].shape
        assert pending.shape == (height - shape[0] + 1, width - shape[1] + 1)
        assert case.blurred.shape == case.sharp.shape == pending.shape
        np.testing.assert_allclose(case.blurred, case.sharp, atol=1e-6)

    def test_noise_is_not_clipped(self, tmp_path):
        black = np.zeros((120, 150), np.uint8)
        how = {"protocol": "valid", "kernel": save_kernel(tmp_path, np.ones((3, 3))), "noise": 0.02}
        cases = make_all({"a": black, "b": black + 255, "c": black}, **how)
        for name, mean in (("a+k", 0.0), ("b+k", 1.0)):
            noise = cases[name].blurred - mean
            assert noise.std() == pytest.approx(0.02, rel=0.03)
            assert abs(noise.mean()) < 6e-4
            assert (noise > 0).mean() == pytest.approx(0.5, abs=0.02)
        assert not np.array_equal(cases["a+k"].blurred, cases["c+k"].blurred)
        again = make_all({"c": black}, **how)["c+k"]
        np.testing.assert_array_equal(again.blurred, cases["c+k"].blurred)

    def test_round_to_8_bits(self):
        values = np.float32([-0.3, 0.49 / 255, 0.51 / 255, 0.5, 254.4 / 255, 1.7])
        np.testing.assert_array_equal(
            round_to_8_bits(values), np.float32([0, 0, 1, 128, 254, 255]) / np.float32(255)
        )

    def test_what_is_scored(self):
        assert EvaluateOptions().scored_margin == 75
        assert EvaluateOptions(borders="full").scored_margin == 0
        assert EvaluateOptions(protocol="valid").scored_margin == 30
        assert EvaluateOptions(protocol="valid", margin=12).scored_margin == 12
        assert EvaluateOptions(protocol="valid", borders="full").scored_margin == 0
        assert EvaluateOptions(protocol="valid", noise=0.03).noise_deviation == 0.03

    def test_kernels_that_leave_nothing_are_refused(self, grey, tmp_path):
        kernel = save_kernel(tmp_path, np.ones((50, 3)))
        cases = synthetic_cases(grey, kernel=kernel, protocol="valid", noise=0.0, seed=0)
        with pytest.raises(ValueError, match=r"a\+k has 0x58 pixels"):
            check_cases(cases, margin=0)

    def test_program(self, grey, tmp_path):
        (tmp_path / "photographs").mkdir()
        png(tmp_path / "photographs" / "a.png", grey["a"])
        kernel = save_kernel(tmp_path, random_kernel((4, 5)))
        evaluate.main(
            [
                *("--dataset", "folder", "--data-dir", str(tmp_path / "photographs")),
                *("--kernel", kernel, "--protocol", "valid", "--noise", "0.05", "--margin", "7"),
                *("--methods", "blurred", "--models", "--sheet", "0"),
                *("--output", str(tmp_path / "out")),
            ]
        )
        results = read_results(tmp_path / "out" / "results.json")
        case = make_all(grey, kernel=kernel, protocol="valid", noise=0.05, seed=0)["a+k"]
        assert case.blurred.min() < 0
        levels = np.round(np.clip(case.blurred.astype(np.float64), 0, 1) * 255)[7:-7, 7:-7]
        error = np.mean((levels / 255 - case.sharp[7:-7, 7:-7]) ** 2)
        assert results.records[0].psnr == pytest.approx(-10 * np.log10(error), abs=1e-3)
        assert results.config["protocol"] == "valid"
        text = (tmp_path / "out" / "results.md").read_text()
        assert "every output is rounded to 8 bits" in text


@pytest.mark.parametrize("tell", [False, True])
def test_models_are_told_the_noise_if_that_is_wanted(tell, random_model_file, monkeypatch):
    told = []

    class Ready:
        def with_kernel(self, kernel, *, noise):
            told.append(noise)
            return self

        def __call__(self, y):
            return y

    def prepare(model, kernel, *, tile, noise):
        return Ready().with_kernel(kernel, noise=noise)

    monkeypatch.setattr(methods, "prepare", prepare)
    (method,) = methods.collect([], [random_model_file], noise=0.05, tell_models=tell)
    for _ in range(2):
        method.restore(np.zeros((8, 8), np.float32), np.ones((1, 1), np.float32))
    assert told == ([0.05, 0.05] if tell else [None, None])
    assert method.about.get("noise") == (0.05 if tell else None)
