"""The evaluation program: what is evaluated, by what, and what it writes."""

import csv
import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import glra_jax as gx
from experiments import evaluate
from experiments.baselines import BASELINES, patch_prior
from experiments.baselines.tuned import tuning_record
from experiments.evaluation import methods as methods_module
from experiments.evaluation.cases import PendingCase, check_cases, scored_part
from experiments.evaluation.leaks import check_labels, describe_methods, leak_of
from experiments.evaluation.methods import collect
from experiments.evaluation.options import EvaluateOptions, load_cases
from experiments.evaluation.results import read_results
from experiments.evaluation.scores import summarize
from experiments.evaluation.sheet import busiest_part, choose_examples
from experiments.evaluation.synthetic import read_kernels, read_named_folder, synthetic_cases
from experiments.evaluation.triplets import (
    find_triplets,
    fit_gain,
    recognize_family,
    triplet_cases,
)
from glra_jax import interop

TRIPLETS = "GLRA_JAX_RELEASE_TRIPLETS"
MARGIN = 10
INNER = (slice(MARGIN, -MARGIN),) * 2
NAMES = ("a", "b", "c")


def png(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def kernel():
    return np.asarray(gx.gaussian_kernel(sigma=1.2, size=9))


@pytest.fixture(scope="module")
def kernel_file(kernel, tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels") / "k.npy"
    np.save(path, kernel)
    return str(path)


@pytest.fixture(scope="module")
def model_file(random_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    gx.save_model(random_model, path)
    return str(path)


class TestTriplets:
    def test_read(self, triplets, photographs):
        cases = [pending.make() for pending in triplet_cases(triplets)]
        assert [case.name for case in cases] == list(NAMES)
        for index, case in enumerate(cases):
            np.testing.assert_array_equal(np.round(case.sharp * 255), photographs[case.name])
            assert case.kernel.sum() == pytest.approx(1, abs=1e-6)
            assert case.kernel[4, 4] == case.kernel.max()
            assert case.gain == pytest.approx(1.05 + 0.05 * index, abs=2e-3)

    def test_limit(self, triplets):
        assert [case.name for case in triplet_cases(triplets, limit=2)] == ["a", "b"]

    def test_all_missing_files_are_listed(self, triplets):
        (triplets / "a_gt.png").unlink()
        (triplets / "c_kernel.png").unlink()
        with pytest.raises(FileNotFoundError, match=r"2 file.*a_gt\.png, c_kernel\.png"):
            find_triplets(triplets)

    def test_no_triplets(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no triplets"):
            find_triplets(tmp_path)
        with pytest.raises(NotADirectoryError, match="nowhere"):
            find_triplets(tmp_path / "nowhere")

    def test_truncated_file(self, triplets):
        path = triplets / "b_batch.png"
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(ValueError, match=r"b_batch\.png.*truncated"):
            triplet_cases(triplets)

    def test_sizes_that_differ(self, triplets, photographs):
        png(triplets / "b_gt.png", photographs["b"][1:])
        with pytest.raises(ValueError, match=r"\(44, 60, 3\).*\(43, 60, 3\)"):
            triplet_cases(triplets)

    def test_saturated_all_over(self, triplets, photographs):
        png(triplets / "b_batch.png", np.full_like(photographs["b"], 255))
        with pytest.raises(
            ValueError, match=r"b_batch\.png: only 0 of 7920 values .* leave it out"
        ):
            triplet_cases(triplets)

    def test_black_kernel(self, triplets):
        png(triplets / "a_kernel.png", np.zeros((9, 9), np.uint8))
        with pytest.raises(ValueError, match=r"a_kernel\.png is black"):
            triplet_cases(triplets)


class TestRecognizeFamily:
    def test_families(self):
        as_pixels = lambda k: np.round(255 * np.asarray(k / k.max()))  # noqa: E731
        for sigma in (1.15, 3.0, 5.15):  # the released files' range
            gaussian = gx.gaussian_kernel(sigma=sigma, size=23)
            assert recognize_family(as_pixels(gaussian)) == "gaussian"
        for radius in (1.5, 4.0, 9.0):
            assert recognize_family(as_pixels(gx.disk_kernel(radius=radius, size=23))) == "disk"
        for seed in range(3):
            motion = np.asarray(gx.motion_kernel(jax.random.key(seed), size=23))
            assert recognize_family(as_pixels(motion)) is None

    def test_of_cases(self, triplets, photographs, kernel_file):
        assert [case.family for case in triplet_cases(triplets)] == ["gaussian"] * 3
        how = {"protocol": "paper", "noise": 0.01, "seed": 0}
        (drawn, *_) = synthetic_cases(photographs, kernel="disk", **how)
        assert (drawn.family, drawn.photograph) == ("disk", None)
        (of_file, *_) = synthetic_cases(photographs, kernel=kernel_file, **how)
        assert (of_file.name, of_file.family, of_file.photograph) == ("a+k", None, "a")


class TestFitGain:
    def test_recovers_what_was_put_in(self, colour_photograph, kernel):
        blurred = np.asarray(gx.blur(jnp.asarray(colour_photograph), jnp.asarray(kernel)))
        y = np.minimum(1.7 * blurred + 0.03, 1.0)
        assert (y == 1.0).mean() > 0.02  # saturation must not spoil it
        gain, offset = fit_gain(np.float32(y), colour_photograph, kernel)
        assert gain == pytest.approx(1.7, abs=1e-5)
        assert offset == pytest.approx(0.03, abs=1e-5)

    def test_nothing_below_saturation(self, colour_photograph, kernel):
        with pytest.raises(ValueError, match="below saturation"):
            fit_gain(np.ones_like(colour_photograph), colour_photograph, kernel)

    @pytest.mark.skipif(TRIPLETS not in os.environ, reason=f"needs {TRIPLETS}")
    def test_released_factors(self):
        gains = [case.make().gain for case in triplet_cases(Path(os.environ[TRIPLETS]), limit=4)]
        assert all(1.0 <= gain <= 1.2 for gain in gains)
        assert max(gains) - min(gains) > 0.02


def make_all(photographs, **options):
    how = {"kernel": "motion", "protocol": "release", "noise": 0.01, "seed": 3} | options
    return {c.name: c.make() for c in synthetic_cases(photographs, **how)}


def same(a, b):
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("blurred", "sharp", "kernel"))


class TestSynthetic:
    def test_reproducible_to_the_bit_whatever_else_is_evaluated(self, photographs):
        everything = make_all(photographs)
        again = make_all(dict(reversed(photographs.items())))
        first = make_all(photographs, limit=1)
        assert list(first) == ["a"]
        assert same(first["a"], everything["a"])
        assert first["a"].gain == everything["a"].gain
        assert all(same(everything[name], again[name]) for name in NAMES)

    def test_seeds_and_names_differ(self, photographs):
        one, other = make_all(photographs), make_all(photographs, seed=4)
        assert not np.array_equal(one["a"].kernel, other["a"].kernel)
        assert not np.array_equal(one["a"].kernel, one["b"].kernel)
        twins = make_all({"a": photographs["a"], "d": photographs["a"]})
        assert twins["a"].gain != twins["d"].gain

    def test_release(self, photographs):
        case = make_all(photographs)["b"]
        gain, offset = fit_gain(case.blurred, case.sharp, case.kernel)
        assert gain == pytest.approx(case.gain, abs=2e-3)
        assert offset == pytest.approx(0.005, abs=1e-3)
        np.testing.assert_allclose(case.sharp, photographs["b"] / 255, atol=1e-7)

    def test_paper(self, photographs, kernel_file):
        small = {"b": photographs["b"][INNER]}
        case = make_all(small, protocol="paper", kernel=kernel_file, noise=0.02)["b+k"]
        truth = np.minimum(1.2 * (small["b"] / 255), 1)
        np.testing.assert_allclose(case.sharp, truth, atol=1e-6)
        assert case.gain is None
        residual = case.blurred - np.asarray(gx.blur(jnp.asarray(case.sharp), case.kernel))
        assert residual.std() == pytest.approx(0.02, rel=0.05)

    def test_kernel_file(self, photographs, kernel, tmp_path):
        np.savez(tmp_path / "k.npz", wide=3 * kernel, stack=np.stack([np.eye(9), np.ones((9, 9))]))
        cases = make_all(photographs, kernel=str(tmp_path / "k.npz"), limit=2)
        assert list(cases) == [f"{p}+{k}" for p in "ab" for k in ("wide", "stack0", "stack1")]
        np.testing.assert_allclose(cases["a+wide"].kernel, kernel, rtol=1e-6)
        np.testing.assert_allclose(cases["b+stack1"].kernel, np.full((9, 9), 1 / 81), rtol=1e-6)

    def test_bad_kernel_files(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="'gausian' is neither a family"):
            read_kernels(Path("gausian"))
        np.save(tmp_path / "zero.npy", np.zeros((3, 3)))
        with pytest.raises(ValueError, match="zero has the sum 0"):
            read_kernels(tmp_path / "zero.npy")
        np.save(tmp_path / "flat.npy", np.ones(3))
        with pytest.raises(ValueError, match=r"float64\(3,\)"):
            read_kernels(tmp_path / "flat.npy")
        np.savez(tmp_path / "twice.npz", a=np.ones((3, 5, 5)), a0=np.eye(5))
        with pytest.raises(ValueError, match=r"twice\.npz holds two kernels named 'a0'.* rename"):
            read_kernels(tmp_path / "twice.npz")
        (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 not whole")
        with pytest.raises(ValueError, match="not a whole file"):
            read_kernels(tmp_path / "cut.npz")

    def test_folder(self, photographs, tmp_path):
        (tmp_path / "more").mkdir()
        png(tmp_path / "more" / "b.png", photographs["b"])
        png(tmp_path / "a.png", photographs["a"])
        found = read_named_folder(tmp_path)
        assert list(found) == ["a", "more/b"]
        np.testing.assert_array_equal(found["more/b"], photographs["b"])
        png(tmp_path / "a.bmp", photographs["a"])
        with pytest.raises(ValueError, match="several images named a"):
            read_named_folder(tmp_path)


class TestCheckCases:
    def pending(self, name="a", shape=(64, 48, 3), kernel=(9, 9)):
        return PendingCase(name, shape, kernel, lambda: None)

    def test_good(self):
        check_cases([self.pending()], margin=18, supports={"net": 9})

    @pytest.mark.parametrize(
        ("cases", "margin", "supports", "message"),
        [
            ([], 0, {}, "nothing to evaluate"),
            ([{}, {}], 0, {}, "several photographs are named 'a'"),
            ([{}], 19, {}, "64x48.*49x49 at least"),
            ([{"kernel": (9, 51)}], 0, {}, "9x51, is larger than the image, 64x48"),
            ([{"kernel": (5, 9)}], 0, {"net": 7}, "5x9, is larger than the support 7 of 'net'"),
        ],
    )
    def test_bad(self, cases, margin, supports, message):
        with pytest.raises(ValueError, match=message):
            check_cases([self.pending(**c) for c in cases], margin=margin, supports=supports)


class TestMethods:
    def test_values(self, photographs, kernel, random_model, model_file):
        y = np.float32(photographs["a"] / 255)
        specs = ["blurred", "eq8", "wiener:noise_to_signal=0.25,boundary=wrap"]
        found = {m.label: m for m in collect(specs, [model_file], noise=0.01)}
        assert list(found) == [*specs, "small"]
        expected = {
            "blurred": y,
            "eq8": gx.deconvolve_linear(y, kernel, random_model),
            specs[2]: BASELINES["wiener"](y, kernel, noise_to_signal=0.25, boundary="wrap"),
            "small": gx.deconvolve(y, kernel, random_model),
        }
        for label, method in found.items():
            method.check(y.shape, kernel.shape)
            out = method.restore(y, kernel)
            assert isinstance(out, np.ndarray)
            np.testing.assert_allclose(out, expected[label], atol=2e-5, err_msg=label)
        assert found["small"].support == found["eq8"].support == 31

    def test_another_kernel_with_the_same_tiles(self, photographs, random_model, model_file):
        (method,) = collect([], [model_file], noise=0.01)
        y = np.float32(photographs["a"] / 255)
        for radius in (1.5, 3.0):
            kernel = np.asarray(gx.disk_kernel(radius=radius, size=9))
            expected = gx.deconvolve(y, kernel, random_model)
            np.testing.assert_allclose(method.restore(y, kernel), expected, atol=2e-5)

    def test_eq8_of_a_named_model(self, model_file):
        specs = ["eq8:model=other,regularization=0.05"]
        linear = collect(specs, [model_file, f"other={model_file}"], noise=0.01)[0]
        assert linear.about["basis_of"] == "other"
        assert linear.about["options"] == {"regularization": 0.05}

    def test_eq8_with_another_kind_of_core(self, photographs, random_model, model_file):
        (method, *_) = collect(["eq8:core=least-squares"], [model_file], noise=0.01)
        assert method.about["options"] == {"core": "least-squares"}
        config = replace(random_model.config, core="least-squares")
        y = np.float32(photographs["a"] / 255)
        kernel = gx.disk_kernel(radius=2.5, size=9)
        expected, plain = (
            np.asarray(gx.deconvolve_linear(y, kernel, model))
            for model in (replace(random_model, config=config), random_model)
        )
        np.testing.assert_allclose(method.restore(y, np.asarray(kernel)), expected, atol=2e-5)
        assert np.abs(expected - plain).max() > 0.01

    def test_noise_is_handed_to_baselines(self):
        told, own = collect(["hl", "hl:noise=0.03"], [], noise=0.02)
        assert told.about["options"] == {"noise": 0.02}
        assert own.about["options"] == {"noise": 0.03}

    def test_of_models_the_name_is_recorded_and_whether_they_are_shipped(self, model_file):
        packaged, own = (m.about for m in collect([], ["glra", f"a={model_file}"], noise=0.01))
        assert (packaged["source"], packaged["shipped"]) == ("glra", True)
        assert (own["source"], own["shipped"]) == (Path(model_file).name, False)
        assert own["sha256"] == hashlib.sha256(Path(model_file).read_bytes()).hexdigest()

    def test_what_baselines_learnt_is_recorded(self, monkeypatch):
        specs = ["hl", "hl:family=disk", "hl:weight=2000", "epll"]
        any_family, disk, own, epll = (m.about for m in collect(specs, [], noise=0.01))
        chosen = tuning_record()["chosen"]
        assert any_family["tuned"] == {"weight": chosen["hl"]["any"]}
        assert disk["tuned"] == {"weight": chosen["hl"]["disk"]}
        assert own == {"options": {"noise": 0.01, "weight": 2000}}
        prior = Path(patch_prior.__file__).with_name("patch_prior.npz").read_bytes()
        assert epll["prior_sha256"] == hashlib.sha256(prior).hexdigest()

    @pytest.mark.parametrize(
        ("methods", "models", "message"),
        [
            ([], [], "at least one method"),
            (["winer"], [], "unknown method 'winer'"),
            (["wiener:ratio=1"], [], "no option 'ratio'; it has: .*noise_to_signal"),
            (["blurred:noise=1"], [], "blurred has no option 'noise'; it has: none"),
            (["wiener:noise"], [], "'noise' is not option=value"),
            (["tv:weight=1,weight=2"], [], "gives 'weight' twice"),
            (["tv:saturated=False"], [], "saturated must be true or false, got 'False'"),
            (["tv:num_iterations=9.5"], [], "num_iterations must be an integer, got '9.5'"),
            (["richardson_lucy:num_iterations=9.5"], [], "must be an integer, got '9.5'"),
            (["hl:weight=abc"], [], "'hl:weight=abc': weight must be a number, got 'abc'"),
            (["hl:weight=true"], [], "weight must be a number, got 'true'"),
            (["epll:prior=mine.npz"], [], "epll has no option 'prior'"),
            (["eq8:regularization=x"], ["glra"], "regularization must be a number, got 'x'"),
            (["hl", "hl"], [], "are called 'hl'"),
            (["hl"], ["hl=glra-release"], "are called 'hl'"),
            (["eq8:core=wiener"], ["glra-release"], "core must be .*least-squares, got 'wiener'"),
            (["eq8:model=no"], ["glra-release"], "no model is called 'no'.*glra-release"),
            ([], ["net.caffemodel"], "without its basis.*--basis"),
        ],
    )
    def test_bad(self, methods, models, message):
        with pytest.raises(ValueError, match=message):
            collect(methods, models, noise=0.01)

    def test_bad_files(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no model file 'nowhere\.safetensors'"):
            collect([], ["nowhere.safetensors"], noise=0.01)
        for models in ([], ["glra-release"]):
            with pytest.raises(ValueError, match=r"weights that come without one.*none is given"):
                collect(["hl"], models, noise=0.01, basis=Path("basis.npz"))
        with pytest.raises(IsADirectoryError, match="is a folder"):
            collect([], [str(tmp_path)], noise=0.01)

    @pytest.mark.parametrize("spec", ["wiener:boundary=round", "eq8:boundary=round"])
    def test_option_values_are_checked_without_computing(self, spec, model_file):
        method = collect([spec], [model_file], noise=0.01)[0]
        with pytest.raises(ValueError, match=f"'{spec}': boundary must be one of"):
            method.check((44, 60, 3), (9, 9))

    def test_pytorch_models(self, random_model, model_file, tmp_path):
        safetensors = pytest.importorskip("safetensors.numpy")
        pytest.importorskip("torch")
        interop.save_torch_model(random_model, tmp_path / "a.pt")
        interop.save_torch_model(random_model, tmp_path / "b.safetensors")
        state = interop.params_to_state_dict(random_model.params)
        safetensors.save_file(state, tmp_path / "bare.safetensors")
        np.savez(tmp_path / "basis.npz", **random_model.basis._asdict())
        files = [str(tmp_path / name) for name in ("a.pt", "b.safetensors", "bare.safetensors")]
        loaded = methods_module._load_all(
            [(f, f) for f in [*files, model_file]], tmp_path / "basis.npz"
        )
        assert [named.released for named in loaded] == [False] * 4
        for named in loaded:  # the basis goes to the one without
            jax.tree.map(np.testing.assert_array_equal, named.model, random_model)
        with pytest.raises(ValueError, match=r"bare\.safetensors.* holds no basis\.left"):
            collect([], files, noise=0.01)
        labels = [method.label for method in collect(["eq8"], files[:2], noise=0.01)]
        assert labels == ["eq8", "a", "b"]

    def test_caffe_model(self, photographs, tmp_path):
        from test_caffe import net_bytes, random_basis, random_layers

        caffe = pytest.importorskip("glra_jax.interop.caffe")
        pytest.importorskip("google.protobuf")
        left, right = random_basis()
        np.savez(tmp_path / "basis.npz", left=left, right=right)
        path = tmp_path / "net.caffemodel"
        path.write_bytes(net_bytes(random_layers()))
        found = collect(["eq8"], [str(path)], noise=0.01, basis=tmp_path / "basis.npz")
        model = caffe.load_caffemodel(path, left=left, right=right)
        y = np.float32(photographs["a"] / 255)
        kernel = np.asarray(gx.motion_kernel(jax.random.key(0), size=9))
        expected = caffe.deconvolve_as_released(y, kernel, model)
        np.testing.assert_allclose(found[1].restore(y, kernel), expected, atol=1e-5)
        turned = gx.deconvolve_linear(np.swapaxes(y, 0, 1), kernel.T, model)
        expected = np.swapaxes(turned, 0, 1)
        np.testing.assert_allclose(found[0].restore(y, kernel), expected, atol=1e-5)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"triplets": Path("t"), "images": Path("i")}, "give one of"),
            ({"triplets": Path("t"), "protocol": "paper"}, "their own kernels and protocol"),
            ({"data_dir": Path("d")}, "for --bsds500"),
            ({"noise": -0.1}, "noise must be .*-0.1"),
            ({"limit": 0}, "limit must be at least 1, got 0"),
            ({"seed": 2**40}, r"seed must be from 0 to 2\^31 - 1, got 1099511627776"),
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
        options = EvaluateOptions(bsds500="val", models=("glra-release", "x=glra-release"))
        packaged, x = collect([], options.models, noise=0.01)
        (baseline,) = collect(["hl"], [], noise=0.01)
        assert leak_of(packaged, options) == "no leak"  # the package's models never saw it
        for split in ("train", "test"):
            assert leak_of(packaged, EvaluateOptions(bsds500=split)) == "leak"
        assert leak_of(packaged, EvaluateOptions(images=Path("folder"))) == "not said"
        assert leak_of(packaged, EvaluateOptions()) == "no leak"  # embedded
        foreign = methods_module.Method("x", "model", x.restore, {"shipped": False})
        assert leak_of(foreign, options) == "not said"
        assert leak_of(foreign, EvaluateOptions(leaky=("x",))) == "leak"
        assert leak_of(foreign, EvaluateOptions(clean=("x",))) == "no leak"
        assert leak_of(baseline, options) == "no leak"
        assert leak_of(baseline, EvaluateOptions(bsds500="train")) == "leak"
        assert leak_of(baseline, EvaluateOptions()) == "no leak"  # embedded
        for where in ({"images": Path("folder")}, {"triplets": Path("folder")}):
            assert leak_of(baseline, EvaluateOptions(**where)) == "not said"
            assert leak_of(baseline, EvaluateOptions(**where, clean=("hl",))) == "no leak"
            assert leak_of(baseline, EvaluateOptions(**where, leaky=("hl",))) == "leak"
            for method in collect(["blurred", "eq8"], ["glra-release"], noise=0.01)[:2]:
                assert leak_of(method, EvaluateOptions(**where)) == "no leak"  # nothing was learnt
        with pytest.raises(ValueError, match="both name 'x'"):
            check_labels([x], EvaluateOptions(leaky=("x",), clean=("x",)))
        with pytest.raises(ValueError, match="baseline is called 'y'; there are: x, hl"):
            check_labels([x, baseline], EvaluateOptions(leaky=("y",)))
        check_labels([x, baseline], EvaluateOptions(leaky=("x",), clean=("hl",)))

    def test_random_starts(self, model_file):
        models = ("glra-random-init", f"x={model_file}", f"y={model_file}")
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
    def arguments(self, triplets, tmp_path, model_file):
        return [
            *("--triplets", str(triplets), "--margin", str(MARGIN)),
            *("--methods", "blurred", "wiener:noise_to_signal=0.01"),
            *("--models", model_file),
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
        out = np.asarray(BASELINES["wiener"](case.blurred, case.kernel, noise_to_signal=0.01))
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
                *("--images", str(tmp_path / "photographs"), "--kernel", kernel_file),
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
        with pytest.raises(SystemExit, match=r"results\.md; choose another --output"):
            evaluate.main(arguments)
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["results.md"]
        assert (tmp_path / "out" / "results.md").read_text() == "mine"

    def test_small_images_are_refused_first(self, triplets, tmp_path):
        arguments = ["--triplets", str(triplets), "--output", str(tmp_path / "out")]
        with pytest.raises(SystemExit, match="a has 44x60 pixels; with 75 left out"):
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
