"""What restores in an evaluation: models and baselines by name, file and option."""

import hashlib
from pathlib import Path

import jax
import numpy as np
import pytest

import glra_jax as gx
from experiments.baselines import patch_prior
from experiments.baselines.tuned import tuning_record
from experiments.baselines.wiener import wiener
from experiments.evaluation import methods as methods_module
from experiments.evaluation.methods import collect
from glra_jax import interop


@pytest.fixture(scope="module")
def kernel():
    return np.asarray(gx.gaussian_kernel(sigma=1.2, size=9))


class TestMethods:
    def test_values(self, photographs, kernel, random_model, random_model_file):
        y = np.float32(photographs["a"] / 255)
        specs = ["blurred", "linear", "wiener:noise_to_signal=0.25,boundary=wrap"]
        found = {m.label: m for m in collect(specs, [random_model_file], noise=0.01)}
        assert list(found) == [*specs, "small"]
        expected = {
            "blurred": y,
            "linear": gx.deconvolve_linear(y, kernel, random_model.constants, inverse=gx.Inverse()),
            specs[2]: wiener(y, kernel, noise_to_signal=0.25, boundary="wrap"),
            "small": gx.deconvolve(y, kernel, random_model),
        }
        for label, method in found.items():
            method.check(y.shape, kernel.shape)
            out = method.restore(y, kernel)
            assert isinstance(out, np.ndarray)
            np.testing.assert_allclose(out, expected[label], atol=2e-5, err_msg=label)
        assert found["small"].support == found["linear"].support == 31

    def test_another_kernel_with_the_same_tiles(self, photographs, random_model, random_model_file):
        (method,) = collect([], [random_model_file], noise=0.01)
        y = np.float32(photographs["a"] / 255)
        for radius in (1.5, 3.0):
            kernel = np.asarray(gx.disk_kernel(radius=radius, size=9))
            expected = gx.deconvolve(y, kernel, random_model)
            np.testing.assert_allclose(method.restore(y, kernel), expected, atol=2e-5)

    def test_linear_of_a_named_model(self, random_model_file):
        specs = ["linear:model=other,regularization=0.05"]
        linear = collect(specs, [random_model_file, f"other={random_model_file}"], noise=0.01)[0]
        assert linear.about["basis_of"] == "other"
        assert linear.about["options"] == {"regularization": 0.05}

    def test_linear_with_another_kind_of_core(self, photographs, random_model, random_model_file):
        (method, *_) = collect(["linear:core=least-squares"], [random_model_file], noise=0.01)
        assert method.about["options"] == {"core": "least-squares"}
        y = np.float32(photographs["a"] / 255)
        kernel = gx.disk_kernel(radius=2.5, size=9)
        expected, plain = (
            np.asarray(
                gx.deconvolve_linear(
                    y, kernel, random_model.constants, inverse=gx.Inverse(core=core)
                )
            )
            for core in ("least-squares", "projection")
        )
        np.testing.assert_allclose(method.restore(y, np.asarray(kernel)), expected, atol=2e-5)
        assert np.abs(expected - plain).max() > 0.01

    def test_noise_is_handed_to_baselines(self):
        told, own = collect(["hl", "hl:noise=0.03"], [], noise=0.02)
        assert told.about["options"] == {"noise": 0.02}
        assert own.about["options"] == {"noise": 0.03}

    def test_of_models_the_name_is_recorded_and_whether_they_are_shipped(self, random_model_file):
        packaged, own = (
            m.about for m in collect([], ["glra", f"a={random_model_file}"], noise=0.01)
        )
        assert (packaged["source"], packaged["shipped"]) == ("glra", True)
        assert (own["source"], own["shipped"]) == (Path(random_model_file).name, False)
        assert own["sha256"] == hashlib.sha256(Path(random_model_file).read_bytes()).hexdigest()

    def test_what_baselines_learned_is_recorded(self, monkeypatch):
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
            (["tv:num_iterations=9.5"], [], "num_iterations.*integer.*'9.5'"),
            (["richardson_lucy:num_iterations=9.5"], [], "integer.*'9.5'"),
            (["hl:weight=abc"], [], "'hl:weight=abc'.*number.*'abc'"),
            (["hl:weight=true"], [], "weight.*number.*'true'"),
            (["epll:prior=mine.npz"], [], "epll has no option 'prior'"),
            (["linear:regularization=x"], ["glra"], "regularization.*number.*'x'"),
            (["hl", "hl"], [], "are called 'hl'"),
            (["hl"], ["hl=glra-release"], "are called 'hl'"),
            (["linear:core=no"], ["glra-release"], "core must be .*least-squares, got 'no'"),
            (["linear:model=no"], ["glra-release"], "no model is called 'no'.*glra-release"),
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
            with pytest.raises(ValueError, match="none is given"):
                collect(["hl"], models, noise=0.01, basis=Path("basis.npz"))
        with pytest.raises(IsADirectoryError, match="is a folder"):
            collect([], [str(tmp_path)], noise=0.01)

    @pytest.mark.parametrize("spec", ["wiener:boundary=round", "linear:boundary=round"])
    def test_option_values_are_checked_without_computing(self, spec, random_model_file):
        method = collect([spec], [random_model_file], noise=0.01)[0]
        with pytest.raises(ValueError, match=f"'{spec}': boundary must be one of"):
            method.check((44, 60, 3), (9, 9))

    def test_pytorch_models(self, random_model, random_model_file, tmp_path):
        safetensors = pytest.importorskip("safetensors.numpy")
        pytest.importorskip("torch")
        interop.save_torch_model(random_model, tmp_path / "a.pt")
        interop.save_torch_model(random_model, tmp_path / "b.safetensors")
        state = interop.params_to_state_dict(random_model.params)
        safetensors.save_file(state, tmp_path / "bare.safetensors")
        np.savez(tmp_path / "basis.npz", **random_model.constants._asdict())
        files = [str(tmp_path / name) for name in ("a.pt", "b.safetensors", "bare.safetensors")]
        loaded = methods_module._load_all(
            [(f, f) for f in [*files, random_model_file]], tmp_path / "basis.npz"
        )
        assert [named.released for named in loaded] == [False] * 4
        for named in loaded:  # the basis goes to the one without
            jax.tree.map(np.testing.assert_array_equal, named.model, random_model)
        with pytest.raises(ValueError, match=r"bare\.safetensors.* holds no basis\.left"):
            collect([], files, noise=0.01)
        labels = [method.label for method in collect(["linear"], files[:2], noise=0.01)]
        assert labels == ["linear", "a", "b"]

    def test_caffe_model(self, photographs, tmp_path):
        from caffe_files import net_bytes, random_basis, random_layers

        caffe = pytest.importorskip("glra_jax.interop.caffe")
        pytest.importorskip("google.protobuf")
        left, right = random_basis()
        np.savez(tmp_path / "basis.npz", left=left, right=right)
        path = tmp_path / "net.caffemodel"
        path.write_bytes(net_bytes(random_layers()))
        found = collect(["linear"], [str(path)], noise=0.01, basis=tmp_path / "basis.npz")
        model = caffe.load_caffemodel(path, left=left, right=right)
        y = np.float32(photographs["a"] / 255)
        kernel = np.asarray(gx.motion_kernel(jax.random.key(0), size=9))
        expected = caffe.deconvolve_as_released(y, kernel, model)
        np.testing.assert_allclose(found[1].restore(y, kernel), expected, atol=1e-5)
        turned = gx.deconvolve_linear(
            np.swapaxes(y, 0, 1), kernel.T, model.constants, inverse=gx.Inverse()
        )
        expected = np.swapaxes(turned, 0, 1)
        np.testing.assert_allclose(found[0].restore(y, kernel), expected, atol=1e-5)
