"""What is evaluated: triplets in folders, synthetic cases, and what is refused of both."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evaluation_helpers import INNER, NAMES, TRIPLETS, make_all, png

import glra_jax as gx
from experiments.evaluation.cases import PendingCase, check_cases
from experiments.evaluation.synthetic import read_kernels, synthetic_cases
from experiments.evaluation.triplets import (
    find_triplets,
    fit_gain,
    recognize_family,
    triplet_cases,
)
from glra_jax.datasets import folder_photographs


@pytest.fixture(scope="module")
def kernel():
    return np.asarray(gx.gaussian_kernel(sigma=1.2, size=9))


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
        with pytest.raises(ValueError, match=r"b_batch\.png.* 0 of 7920"):
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
        with pytest.raises(ValueError, match=r"twice\.npz.*'a0'"):
            read_kernels(tmp_path / "twice.npz")
        (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 not whole")
        with pytest.raises(ValueError, match=r"not a whole \.npz file"):
            read_kernels(tmp_path / "cut.npz")

    def test_folder(self, photographs, tmp_path):
        (tmp_path / "more").mkdir()
        png(tmp_path / "more" / "b.png", photographs["b"])
        png(tmp_path / "a.png", photographs["a"])
        found = folder_photographs(data_dir=tmp_path)
        assert list(found) == ["a", "more/b"]
        np.testing.assert_array_equal(found["more/b"], photographs["b"])
        png(tmp_path / "a.bmp", photographs["a"])
        with pytest.raises(ValueError, match="several images named a"):
            folder_photographs(data_dir=tmp_path)


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
