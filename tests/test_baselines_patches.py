"""The patch prior and EPLL: EM, likelihoods and filters against closed forms and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from skimage import data, io

from experiments.baselines import learn_patch_prior, patch_prior
from experiments.baselines.epll import denoise_patches, epll, extract_patches, sum_patches
from glra_jax import disk_kernel, psnr

FOLDER = ("--dataset", "folder", "--data-dir")

pytestmark = pytest.mark.usefixtures("baseline_parameters")

IDENTITY = jnp.zeros((5, 5)).at[2, 2].set(1.0)


def covariance(seed, dimension):
    factor = np.random.default_rng(seed).normal(size=(dimension, dimension))
    return 0.01 * factor @ factor.T


@pytest.fixture
def mixture():
    """Three components of patches of side 2."""
    weights = np.array([0.5, 0.3, 0.2])
    return weights, np.stack([covariance(seed, 4) for seed in range(3)])


def photograph_patches(side=8, count=3000):
    return learn_patch_prior.draw_patches([data.camera()], side=side, count=count, seed=5)


@pytest.fixture(scope="module")
def photograph():
    return jnp.asarray(data.camera()[60:124, 200:264], jnp.float32) / 255.0


class TestPrior:
    def test_log_likelihoods_agree_with_scipy(self, mixture):
        weights, covariances = mixture
        prior = patch_prior.from_covariances(weights, covariances)
        patches = np.random.default_rng(9).normal(scale=0.2, size=(6, 4))
        expected = [
            np.log(weight)
            + stats.multivariate_normal(np.zeros(4), spread + 0.02 * np.eye(4)).logpdf(patches)
            for weight, spread in zip(weights, covariances, strict=True)
        ]
        actual = patch_prior.log_likelihoods(
            jnp.asarray(patches, jnp.float32), prior, noise_variance=0.02
        )
        np.testing.assert_allclose(actual, np.transpose(expected), rtol=1e-4, atol=1e-4)

    def test_file(self, mixture, tmp_path):
        path = tmp_path / "prior.npz"
        patch_prior.save_patch_prior(path, *mixture)
        loaded, original = (
            patch_prior.load_patch_prior(path),
            patch_prior.from_covariances(*mixture),
        )
        assert patch_prior.patch_side(loaded) == 2
        np.testing.assert_allclose(loaded.log_weights, original.log_weights, rtol=1e-6)
        np.testing.assert_allclose(loaded.variances, original.variances, rtol=1e-3)
        rebuilt = loaded.axes * loaded.variances[:, None] @ loaded.axes.transpose(0, 2, 1)
        np.testing.assert_allclose(rebuilt, mixture[1], atol=1e-6)
        with pytest.raises(FileExistsError):
            patch_prior.save_patch_prior(path, *mixture)
        np.savez(tmp_path / "other.npz", a=np.zeros(3))
        with pytest.raises(ValueError, match=r"other.npz holds \['a'\]"):
            patch_prior.load_patch_prior(tmp_path / "other.npz")

    def test_em_finds_a_mixture(self):
        """Two components at right angles are told apart, and no step lowers the likelihood."""
        random = np.random.default_rng(0)
        scales = np.array([[0.3, 0.03, 0.03, 0.03], [0.03, 0.03, 0.03, 0.2]])
        choice = random.random(4000) < 0.7
        patches = random.normal(size=(4000, 4)) * np.where(choice[:, None], scales[0], scales[1])
        patches = patches.astype(np.float32)
        weights, covariances, likelihoods = learn_patch_prior.learn(
            patches, components=2, steps=30, seed=1
        )
        assert np.all(np.diff(likelihoods) > -1e-4)
        assert likelihoods[-1] > likelihoods[0] + 0.1
        order = np.argsort(-weights)
        np.testing.assert_allclose(weights[order], [choice.mean(), 1 - choice.mean()], atol=0.02)
        deviations = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))[order]
        np.testing.assert_allclose(deviations, scales, rtol=0.08)

    def test_em_step_by_its_formula(self, mixture):
        """One step in NumPy, float64, with an odd last chunk."""
        weights, covariances = mixture
        patches = np.random.default_rng(3).normal(scale=0.2, size=(50, 4)).astype(np.float32)
        density = np.stack(
            [
                weight * stats.multivariate_normal(np.zeros(4), spread).pdf(patches)
                for weight, spread in zip(weights, covariances, strict=True)
            ],
            axis=1,
        )
        share = density / density.sum(axis=1, keepdims=True)
        expected = np.einsum("nk,ni,nj->kij", share, patches, patches) / share.sum(0)[:, None, None]
        prior = patch_prior.from_covariances(weights, covariances)
        new_weights, new_covariances, likelihood = patch_prior.expectation_maximization_step(
            patches, prior, chunk=16
        )
        np.testing.assert_allclose(new_weights, share.mean(axis=0), rtol=1e-4)
        floor = patch_prior.VARIANCE_FLOOR * np.eye(4)
        np.testing.assert_allclose(new_covariances, expected + floor, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(likelihood, np.log(density.sum(axis=1)).mean(), rtol=1e-4)

    def test_the_default_explains_other_photographs(self):
        """Better than a Gaussian that was fitted to the very patches it is asked about."""
        prior = patch_prior.default_patch_prior()
        patches = photograph_patches()
        fitted = patch_prior.from_covariances(np.ones(1), np.cov(patches.T, bias=True)[None])

        @jax.jit
        def mean_log_likelihood(prior):
            scores = patch_prior.log_likelihoods(patches, prior, noise_variance=1e-5)
            return jax.scipy.special.logsumexp(scores, axis=1).mean()

        mixture, gaussian = (mean_log_likelihood(p) for p in (prior, fitted))
        assert mixture > gaussian + 10.0
        np.testing.assert_allclose(np.exp(prior.log_weights).sum(), 1.0, rtol=1e-4)
        np.testing.assert_allclose(
            prior.axes @ prior.axes.transpose(0, 2, 1),
            np.broadcast_to(np.eye(64), prior.axes.shape),
            atol=1e-5,
        )


class TestPatches:
    def test_extraction(self):
        x = jnp.arange(30.0).reshape(5, 6)
        patches = extract_patches(x, 2)
        np.testing.assert_array_equal(patches[0], [0, 1, 6, 7])
        np.testing.assert_array_equal(patches[-1], [29, 24, 5, 0])  # around the corner

    def test_summing_is_the_adjoint(self):
        x = jax.random.normal(jax.random.key(0), (9, 11))
        other = jax.random.normal(jax.random.key(1), (99, 9))
        np.testing.assert_allclose(
            jnp.vdot(jax.jit(extract_patches, static_argnums=1)(x, 3), other),
            jnp.vdot(x, jax.jit(sum_patches, static_argnums=1)(other, x.shape)),
            rtol=1e-4,
        )
        both = jax.jit(lambda x: sum_patches(extract_patches(x, 3), x.shape))
        np.testing.assert_allclose(both(x), 9 * x, atol=1e-5)

    def test_one_gaussian_is_a_wiener_filter(self):
        spread = covariance(0, 4)
        prior = patch_prior.from_covariances(np.ones(1), spread[None])
        patches = np.random.default_rng(1).normal(size=(7, 4))
        mean = patches.mean(axis=1, keepdims=True)
        gain = spread @ np.linalg.inv(spread + 0.1 * np.eye(4))
        expected = mean + (patches - mean) @ gain.T
        actual = denoise_patches(jnp.asarray(patches, jnp.float32), prior, 0.1)
        np.testing.assert_allclose(actual, expected, atol=1e-5)

    def test_the_likelier_component_is_taken(self):
        smooth, rough = 1e-4 * np.eye(4), np.eye(4)
        prior = patch_prior.from_covariances(np.full(2, 0.5), np.stack([smooth, rough]))
        patches = jnp.asarray([[0.01, -0.01, 0.0, 0.0], [1.0, -1.0, 0.5, -0.5]])
        gains = denoise_patches(patches, prior, 1e-2)[:, 0] / patches[:, 0]
        np.testing.assert_allclose(gains, [1e-4 / 1.01e-2, 1 / 1.01], rtol=1e-4)


class TestEpll:
    def test_denoises(self, photograph):
        """The identity kernel leaves denoising, which EPLL was first made for."""
        noisy = photograph + 0.05 * jax.random.normal(jax.random.key(0), photograph.shape)
        x = epll(noisy, IDENTITY, noise=0.05, weight=1.0, boundary="wrap")
        assert psnr(x, photograph) > psnr(noisy, photograph) + 4.0

    def test_limits(self, photograph):
        x = epll(photograph, IDENTITY, noise=1e-5, boundary="wrap")
        np.testing.assert_allclose(x, photograph, atol=1e-4)
        flat = jnp.full((64, 64), 0.4)
        x = epll(flat, disk_kernel(radius=2, size=5), boundary="wrap")
        np.testing.assert_allclose(x, flat, atol=1e-5)

    def test_against_numpy(self, mixture, photograph):
        """All of it anew in float64, patch by patch, as the paper's section 4 has it."""
        weights, covariances = mixture
        kernel = np.asarray(disk_kernel(radius=1, size=3), np.float64)
        sharp = np.asarray(photograph[:12, :16], np.float64)
        transfer = np.fft.fft2(np.roll(np.pad(kernel, ((0, 9), (0, 13))), (-1, -1), (0, 1)))
        y = np.fft.ifft2(np.fft.fft2(sharp) * transfer).real
        y += 0.02 * np.random.default_rng(0).normal(size=y.shape)
        data_weight = 1.5 / 0.02**2 * 4  # 4 patches hold a pixel
        x = y
        for beta in 50.0 * 2.0 ** np.arange(7):
            total = np.zeros_like(x)
            for row, column in np.ndindex(x.shape):
                rows, columns = (
                    (row + np.array([0, 0, 1, 1])) % 12,
                    (column + np.arange(4) % 2) % 16,
                )
                patch = x[rows, columns]
                zero_mean = patch - patch.mean()
                spreads = [c + np.eye(4) / beta for c in covariances]
                best = np.argmax(
                    [
                        np.log(w) + stats.multivariate_normal(np.zeros(4), c).logpdf(zero_mean)
                        for w, c in zip(weights, spreads, strict=True)
                    ]
                )
                filtered = covariances[best] @ np.linalg.solve(spreads[best], zero_mean)
                total[rows, columns] += patch.mean() + filtered
            right = data_weight * np.conj(transfer) * np.fft.fft2(y) + beta * np.fft.fft2(total)
            x = np.fft.ifft2(right / (data_weight * np.abs(transfer) ** 2 + 4 * beta)).real
        prior = patch_prior.from_covariances(weights, covariances)
        how = {"noise": 0.02, "weight": 1.5, "boundary": "wrap"}
        found = epll(jnp.asarray(y, jnp.float32), jnp.float32(kernel), prior=prior, **how)
        assert np.abs(x - y).max() > 0.05
        np.testing.assert_allclose(found, x, atol=2e-4)

    def test_a_prior_of_another_size(self, mixture):
        prior = patch_prior.from_covariances(*mixture)
        flat = jnp.full((3, 5), 0.4)
        np.testing.assert_allclose(epll(flat, jnp.ones((1, 1)), prior=prior), flat, atol=1e-5)
        with pytest.raises(ValueError, match=r"\(3, 5\) is smaller than .* side 8"):
            epll(flat, jnp.ones((1, 1)))


class TestLearning:
    def test_draws_are_zero_mean_grey_and_reproducible(self):
        colour = np.random.default_rng(0).integers(0, 256, (12, 15, 3), np.uint8)
        patches = learn_patch_prior.draw_patches([colour], side=12, count=4, seed=0)
        assert patches.shape == (4, 144)
        grey = colour @ [0.299, 0.587, 0.114] / 255.0
        candidates = [grey[:, column : column + 12].ravel() for column in range(4)]
        candidates = np.stack([c - c.mean() for c in candidates])
        nearest = np.abs(patches[:, None] - candidates).max(axis=2).min(axis=1)
        np.testing.assert_allclose(nearest, 0.0, atol=1e-6)
        again = learn_patch_prior.draw_patches([colour], side=12, count=4, seed=0)
        np.testing.assert_array_equal(patches, again)
        with pytest.raises(ValueError, match="smaller than 13"):
            learn_patch_prior.draw_patches([colour], side=13, count=4, seed=0)

    def test_command(self, tmp_path, capsys):
        (tmp_path / "images").mkdir()
        io.imsave(tmp_path / "images" / "a.png", data.camera()[:64, :64], check_contrast=False)
        options = learn_patch_prior.LearnOptions(
            dataset="folder",
            data_dir=tmp_path / "images",
            output=tmp_path / "prior.npz",
            components=3,
            side=4,
            patches=200,
            steps=2,
        )
        learn_patch_prior.learn_file(options)
        assert "200 patches of 1 photographs" in capsys.readouterr().out
        prior = patch_prior.load_patch_prior(tmp_path / "prior.npz")
        assert prior.axes.shape == (3, 16, 16)
        np.testing.assert_allclose(np.exp(prior.log_weights).sum(), 1.0, rtol=1e-5)
        with pytest.raises(FileExistsError, match="remove it"):
            learn_patch_prior.learn_file(options)

    def test_outputs_are_checked_first(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            learn_patch_prior,
            "load_training_photographs",
            lambda *_, **__: pytest.fail("too late"),
        )
        (tmp_path / "there.npz").touch()
        for output, message in (
            ("missing/x.npz", "no folder .*missing"),
            ("there.npz", r"there\.npz exists"),
        ):
            with pytest.raises(SystemExit, match=message):
                learn_patch_prior.main([*FOLDER, str(tmp_path), "-o", str(tmp_path / output)])

    def test_photographs_that_methods_are_scored_on_are_refused(self, tmp_path):
        (tmp_path / "val").mkdir()
        io.imsave(tmp_path / "val" / "a.png", data.camera()[:64, :64], check_contrast=False)
        arguments = [*FOLDER, str(tmp_path), "-o", str(tmp_path / "x.npz")]
        with pytest.raises(SystemExit, match="'val', as BSD100 does"):
            learn_patch_prior.main(arguments)
        small = ["--components", "2", "--side", "3", "--patches", "50", "--steps", "1"]
        learn_patch_prior.main([*arguments, *small, "--allow-leak"])
        assert patch_prior.load_patch_prior(tmp_path / "x.npz").axes.shape == (2, 9, 9)
