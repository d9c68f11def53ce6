"""Protocols of an evaluation: what becomes of photographs, kernels and outputs."""

import io
from dataclasses import replace

import numpy as np
import pytest
from evaluation_helpers import make_all, png
from PIL import Image
from scipy.signal import convolve2d
from skimage.color import rgb2xyz, xyz2rgb

from experiments import evaluate
from experiments.baselines import baseline_named
from experiments.evaluation import methods
from experiments.evaluation.camera import Camera, clipped_srgb, expose
from experiments.evaluation.cases import check_cases
from experiments.evaluation.options import EvaluateOptions
from experiments.evaluation.protocols import round_to_8_bits
from experiments.evaluation.results import read_results
from experiments.evaluation.synthetic import synthetic_cases
from glra_jax.light import to_linear

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


class TestCircular:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_against_scipy(self, photographs, tmp_path, shape):
        kernel = random_kernel(shape)
        how = {"protocol": "circular", "kernel": save_kernel(tmp_path, kernel)}
        case = make_all(photographs, noise=0.0, **how)["b+k"]
        x = photographs["b"] / 255.0
        expected = [convolve2d(x[..., c], kernel, mode="full") for c in range(3)]
        whole = np.stack(expected, axis=2)
        height, width = x.shape[:2]
        whole[: shape[0] - 1] += whole[height:]  # what leaves at the end comes in at the beginning
        whole[:, : shape[1] - 1] += whole[:, width:]
        wrapped = np.roll(whole[:height, :width], [-(s // 2) for s in shape], axis=(0, 1))
        np.testing.assert_allclose(case.blurred, wrapped, atol=2e-6)
        np.testing.assert_allclose(case.sharp, x, atol=1e-7)
        noise = make_all(photographs, noise=0.5, **how)["b+k"].blurred - case.blurred
        assert noise.std() == pytest.approx(0.5, rel=0.02)  # and nothing was clipped

    def test_all_is_scored(self):
        assert EvaluateOptions(protocol="circular").scored_margin == 0
        assert EvaluateOptions(protocol="circular", margin=5).scored_margin == 5

    def test_models_may_know_that_the_blur_wraps_around(self, random_model_file, monkeypatch):
        called = []

        def prepare(model, kernel, *, tile, noise):
            return lambda y, boundary: called.append(boundary) or y

        monkeypatch.setattr(methods, "prepare", prepare)
        (method,) = methods.collect([], [random_model_file], noise=0.01, model_boundary="wrap")
        method.restore(np.zeros((8, 8), np.float32), np.ones((1, 1), np.float32))
        assert called == ["wrap"]
        assert method.about["boundary"] == "wrap"  # scores of the other are not taken for these
        with pytest.raises(ValueError, match=r"model_boundary must be one of .*'taper'"):
            methods.collect([], [random_model_file], noise=0.01, model_boundary="taper")


@pytest.mark.parametrize("own", [None, 0.07])
@pytest.mark.parametrize("tell", [False, True])
def test_models_are_told_the_noise_if_that_is_wanted(tell, own, random_model_file, monkeypatch):
    told = []

    class Ready:
        def with_kernel(self, kernel, *, noise):
            told.append(noise)
            return self

        def __call__(self, y, *, boundary):
            assert boundary == "edge"
            return y

    def prepare(model, kernel, *, tile, noise):
        return Ready().with_kernel(kernel, noise=noise)

    monkeypatch.setattr(methods, "prepare", prepare)
    level = 0.05 if own is None else None
    (method,) = methods.collect([], [random_model_file], noise=level, tell_models=tell)
    for _ in range(2):
        case = [np.zeros((8, 8), np.float32), np.ones((1, 1), np.float32)]
        method.restore(*case, *([] if own is None else [own]))
    assert told == 2 * [(level or own) if tell else None]
    assert method.about.get("noise") == ((level or "each image's own") if tell else None)


def test_baselines_are_told_the_noise_of_each_image(monkeypatch):
    told = []

    def restore(y, kernel, *, noise=0.01):
        told.append(noise)
        return y

    recorder = replace(baseline_named("tv"), restore=restore)
    monkeypatch.setattr(methods, "baseline_named", lambda name: recorder)
    found = methods.collect(["tv", "tv:noise=0.02"], [], noise=None)
    for method in found:
        method.restore(np.zeros((8, 8), np.float32), np.ones((1, 1), np.float32), 0.07)
    assert told == [0.07, 0.02]
    assert found[0].about["noise"] == "each image's own"
    assert "noise" not in found[1].about
    assert [method.about["options"] for method in found] == [{}, {"noise": 0.02}]


# --- camera-file ----------------------------------------------------------------------------------

NO_NOISE = Camera(full_well=1e15, read_noise=0.0)


def make_files(photographs, camera, **options):
    return make_all(photographs, protocol="camera-file", camera=camera, **options)


def levels(case, camera):
    """The 8-bit levels of a case's file."""
    file = case.blurred if camera.light == "file" else clipped_srgb(case.blurred)
    return 255.0 * file.astype(np.float64)


class TestCameraFile:
    @pytest.mark.parametrize("light", ["linear", "file"])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_against_scipy_and_scikit_image(self, photographs, tmp_path, shape, light):
        """Without noise: XYZ is linear in light, and scikit-image converts to it and back."""
        kernel, camera = random_kernel(shape), replace(NO_NOISE, light=light)
        case = make_files(photographs, camera, kernel=save_kernel(tmp_path, kernel))["a+k"]
        xyz = rgb2xyz(photographs["a"] / 255.0)
        blurred = [convolve2d(xyz[..., c], kernel, mode="valid") for c in range(3)]
        expected = 255.0 * xyz2rgb(np.stack(blurred, axis=2))
        found = levels(case, camera)
        np.testing.assert_allclose(found, np.round(found), atol=1e-3)
        assert np.abs(found - expected).max() < 0.51
        top, left = (side - 1 - side // 2 for side in shape)
        height, width = case.blurred.shape[:2]
        part = photographs["a"][top : top + height, left : left + width] / 255.0
        np.testing.assert_allclose(case.sharp, part, atol=1e-6)

    def test_srgb(self):
        file = np.random.default_rng(0).uniform(size=(20, 20, 3))
        file[0] /= 20.0  # the straight part
        np.testing.assert_allclose(clipped_srgb(to_linear(file)), file, atol=1e-12)
        np.testing.assert_allclose(clipped_srgb([-0.2, 0.0, 1.0, 1.3]), [0, 0, 1, 1], atol=1e-12)
        assert to_linear(np.float64(0.5)) == pytest.approx(0.21404, abs=1e-5)

    def test_noise_of_photons_and_of_the_sensor(self):
        generator = np.random.default_rng(1)
        camera = Camera(full_well=1000.0, read_noise=20.0)
        for light in (0.0, 0.05, 0.8):
            found = expose(np.full((300, 300), light), generator, camera)
            assert found.mean() == pytest.approx(light, abs=4e-4)
            variance = light / 1000 + (20 / 1000) ** 2
            assert found.var() == pytest.approx(variance, rel=0.03)

    def test_noise_that_methods_are_told(self, tmp_path):
        """Of a grey photograph, in both lights; rounding adds a twelfth of a level's square."""
        grey = {"a": np.full((150, 160), 128, np.uint8)}
        kernel = save_kernel(tmp_path, np.ones((3, 3)))
        light = ((128 / 255 + 0.055) / 1.055) ** 2.4
        slope = 2.4 / 1.055 * ((128 / 255 + 0.055) / 1.055) ** 1.4
        variance = light / 10_000 + (5 / 10_000) ** 2
        for name, scale in (("linear", 1.0), ("file", slope)):
            case = make_files(grey, Camera(light=name), kernel=kernel)["a+k"]
            rounding = (slope / 255) ** 2 / 12
            assert case.noise * scale == pytest.approx(np.sqrt(variance + rounding), rel=0.03)

    def test_jpeg(self, photographs, kernel_file):
        plain, squeezed = (
            Camera(light="file", quality=quality, full_well=500) for quality in (None, 60)
        )
        pixels = levels(make_files(photographs, plain, kernel=kernel_file)["a+k"], plain)
        buffer = io.BytesIO()
        Image.fromarray(np.uint8(np.round(pixels))).save(buffer, format="JPEG", quality=60)
        found = levels(make_files(photographs, squeezed, kernel=kernel_file)["a+k"], squeezed)
        np.testing.assert_allclose(found, np.asarray(Image.open(buffer)), atol=1e-3)
        assert np.abs(found - pixels).max() > 3

    def test_shake(self, photographs):
        camera = Camera(shake=15)
        cases = make_files(photographs, camera, kernel="shake")
        for case in cases.values():
            assert case.kernel.shape == (15, 15)
            assert case.kernel.sum() == pytest.approx(1, abs=1e-5)
            inner = case.kernel[1:-1, 1:-1].sum()
            assert inner < case.kernel.sum() - 1e-4  # it reaches the window's edge
            assert case.blurred.shape == case.sharp.shape == (30, 46, 3)
        again = make_files({"b": photographs["b"]}, camera, kernel="shake")["b"]
        np.testing.assert_array_equal(again.blurred, cases["b"].blurred)
        np.testing.assert_array_equal(again.kernel, cases["b"].kernel)
        other = make_files(photographs, camera, kernel="shake", seed=4)["b"]
        for kernel in (other.kernel, cases["a"].kernel):
            assert not np.array_equal(kernel, again.kernel)

    def test_scores_are_of_srgb(self, photographs, kernel_file):
        options = EvaluateOptions(protocol="camera-file")
        assert options.scored_margin == 0
        case = make_files(photographs, options.camera, kernel=kernel_file)["a+k"]
        wrong = to_linear(case.sharp) + 0.05
        method = methods.Method("m", "tv", lambda y, kernel, noise: np.float32(wrong), {})
        scored = evaluate.score_case(method, case, options, compiled=True, keep=True)
        expected = clipped_srgb(np.minimum(wrong, 1.0))
        np.testing.assert_allclose(scored.image, expected, atol=1e-6)
        error = np.mean((expected - case.sharp) ** 2)
        assert scored.records[0].psnr == pytest.approx(-10 * np.log10(error), abs=1e-3)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"noise": 0.02}, "leave --noise 0.02 out; --camera.full-well"),
            ({"protocol": "paper", "camera": Camera(quality=90)}, "'paper'.*--camera.quality 90"),
            ({"kernel": "disk", "camera": Camera(shake=9)}, "--kernel disk.*--camera.shake 9"),
        ],
    )
    def test_options_that_contradict(self, options, message):
        with pytest.raises(ValueError, match=message):
            EvaluateOptions(**{"protocol": "camera-file"} | options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"full_well": 0.0}, "full_well must be .*0.0"),
            ({"read_noise": -1.0}, "read_noise must be .*-1.0"),
            ({"quality": 101}, "quality must be from 1 to 100, got 101"),
            ({"shake": 2}, "shake must be at least 3, got 2"),
            ({"light": "dark"}, "light must be one of linear, file, got 'dark'"),
        ],
    )
    def test_bad_cameras(self, options, message):
        with pytest.raises(ValueError, match=message):
            Camera(**options)

    def test_program(self, photographs, tmp_path):
        (tmp_path / "photographs").mkdir()
        png(tmp_path / "photographs" / "a.png", photographs["a"])
        arguments = [
            *("--dataset", "folder", "--data-dir", str(tmp_path / "photographs")),
            *("--protocol", "camera-file", "--camera.shake", "9", "--camera.light", "file"),
            *("--methods", "blurred", "--models", "--sheet", "0"),
        ]
        evaluate.main([*arguments, "--output", str(tmp_path / "out")])
        results = read_results(tmp_path / "out" / "results.json")
        camera = Camera(shake=9, light="file")
        case = make_files(photographs, camera, kernel="shake", seed=0)["a"]
        error = np.mean((case.blurred.astype(np.float64) - case.sharp) ** 2)
        assert results.records[0].psnr == pytest.approx(-10 * np.log10(error), abs=1e-3)
        assert results.cases[0]["noise"] == case.noise
        assert results.cases[0]["family"] == "motion"
        assert results.config["camera"] == {
            "full_well": 10_000.0, "read_noise": 5.0, "quality": None, "shake": 9, "light": "file",
        }  # fmt: skip
        assert (results.config["noise"], results.config["margin"]) == (None, 0)
        text = (tmp_path / "out" / "results.md").read_text()
        assert "10000 electrons, read noise 5, 8 bits, restored in the file's values" in text
        again = [*arguments, "--reuse", str(tmp_path / "out"), "--camera.quality", "90"]
        with pytest.raises(SystemExit, match=r"camera was .*'quality': None.*'quality': 90"):
            evaluate.main([*again, "--output", str(tmp_path / "other")])


def test_other_protocols_record_what_they_did():
    recorded = EvaluateOptions().describe()
    assert {"camera", "tell_models"}.isdisjoint(recorded)
    assert (recorded["noise"], recorded["margin"], recorded["kernel"]) == (0.01, 75, "gaussian")
