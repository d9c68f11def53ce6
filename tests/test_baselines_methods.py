"""The baselines one by one: closed forms, objectives that fall, and other libraries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from skimage import data, restoration

from experiments.baselines import boundaries
from experiments.baselines import hl as hyper_laplacian
from experiments.baselines import vem as outliers
from experiments.baselines.hl import hl
from experiments.baselines.richardson_lucy import richardson_lucy
from experiments.baselines.tv import tv, tv_saturated
from experiments.baselines.vem import vem
from experiments.baselines.wiener import wiener
from glra_jax import blur, disk_kernel, gaussian_kernel, psnr, spectra

pytestmark = pytest.mark.usefixtures("baseline_parameters")

# All of one size, so that a method is compiled once for several tests.
IDENTITY = jnp.zeros((5, 5)).at[2, 2].set(1.0)
DISK = disk_kernel(radius=2.0, size=5)
FLAT = jnp.full((64, 64), 0.4)


@pytest.fixture(scope="module")
def photograph() -> jax.Array:
    return jnp.asarray(data.camera()[60:124, 200:264], jnp.float32) / 255.0


@pytest.fixture(scope="module")
def circular(photograph):
    """Circular blur and a little noise."""
    kernel = DISK
    y = blur(photograph, kernel, boundary="wrap")
    return y + 0.01 * jax.random.normal(jax.random.key(0), y.shape), kernel


class TestWiener:
    def test_identity_kernel(self, photograph):
        x = wiener(photograph, IDENTITY, noise_to_signal=0.25)
        np.testing.assert_allclose(x, photograph / 1.25, atol=1e-5)

    def test_no_noise_inverts_circular_blur(self, photograph):
        kernel = gaussian_kernel(sigma=0.6, size=5)  # without zeros in its spectrum
        y = blur(photograph, kernel, boundary="wrap")
        x = wiener(y, kernel, noise_to_signal=1e-9, boundary="wrap")
        np.testing.assert_allclose(x, photograph, atol=1e-3)
        # The default ratio goes with the square of the noise, so that it vanishes as well.
        np.testing.assert_allclose(wiener(y, kernel, noise=1e-6, boundary="wrap"), x, atol=1e-3)

    def test_numpy_float64(self, circular):
        y, kernel = circular
        grid = np.zeros(y.shape)
        grid[:5, :5] = kernel
        K = np.fft.fft2(np.roll(grid, (-2, -2), axis=(0, 1)))
        X = np.conj(K) / (np.abs(K) ** 2 + 0.01) * np.fft.fft2(np.asarray(y, np.float64))
        x = wiener(y, kernel, noise_to_signal=0.01, boundary="wrap")
        np.testing.assert_allclose(x, np.fft.ifft2(X).real, atol=2e-5)

    def test_scikit_image_in_the_interior(self, circular):
        """Theirs is circular; a strong regularisation keeps the boundary's influence local."""
        y, kernel = circular
        expected = restoration.wiener(
            np.asarray(y), np.asarray(kernel), balance=0.1, reg=np.ones((1, 1)), clip=False
        )
        x = wiener(y, kernel, noise_to_signal=0.1)
        inner = slice(20, -20)
        np.testing.assert_allclose(x[inner, inner], expected[inner, inner], atol=2e-3)


class TestRichardsonLucy:
    @staticmethod
    @jax.jit
    def objective(x, y, kernel):
        """Negative Poisson log-likelihood for circular blur, up to a constant."""
        blurred = spectra.convolve(x, spectra.transfer_function(kernel, x.shape))
        blurred = jnp.maximum(blurred, 1e-6)
        return jnp.mean(blurred - y * jnp.log(blurred))

    def test_identity_kernel(self, photograph):
        x = richardson_lucy(photograph, IDENTITY, num_iterations=1)
        np.testing.assert_allclose(x, photograph, atol=1e-5)

    def test_objective_falls_and_brightness_stays(self, circular):
        y, kernel = circular
        y = jnp.maximum(y, 0.0)
        values = []
        for num_iterations in (1, 2, 3, 5, 10, 20, 40):
            x = richardson_lucy(y, kernel, num_iterations=num_iterations, boundary="wrap")
            assert x.min() >= 0
            np.testing.assert_allclose(x.sum(), y.sum(), rtol=1e-4)
            values.append(float(self.objective(x, y, kernel)))
        assert np.all(np.diff(values) < 0)

    def test_scikit_image_in_the_interior(self, circular):
        y, kernel = circular
        expected = restoration.richardson_lucy(
            np.asarray(y, np.float64), np.asarray(kernel, np.float64), num_iter=4, clip=False
        )
        x = richardson_lucy(y, kernel, num_iterations=4)
        inner = slice(20, -20)  # 2 pixels of reach, twice an iteration
        np.testing.assert_allclose(x[inner, inner], expected[inner, inner], atol=1e-4)

    def test_traced_number_of_iterations(self, circular):
        y, kernel = circular
        restore = jax.jit(lambda y, n: richardson_lucy(y, kernel, num_iterations=n))
        np.testing.assert_allclose(
            restore(y, 7), richardson_lucy(y, kernel, num_iterations=7), atol=1e-5
        )


class TestHyperLaplacian:
    @pytest.mark.parametrize("beta", [1.0, 8.0, 181.0])
    def test_shrink_is_the_minimum(self, beta):
        """Against a fine grid in float64; two equal minima are told apart by their value."""
        v = np.linspace(-2.0, 2.0, 401)
        w = np.linspace(-2.0, 2.0, 40001)

        def cost(w, v):
            return np.abs(w) ** (2 / 3) + 0.5 * beta * (w - v) ** 2

        least = np.array([cost(w, value).min() for value in v])
        shrunk = np.asarray(jax.jit(hyper_laplacian.shrink)(v, beta), np.float64)
        np.testing.assert_allclose(cost(shrunk, v), least, rtol=1e-4, atol=1e-6)
        assert np.any(shrunk == 0)
        assert np.any(shrunk != 0)

    def test_shrink_solves_its_quartic(self):
        v, beta = jnp.asarray([0.7, 1.5, -40.0]), 10.0
        w = np.asarray(jax.jit(hyper_laplacian.shrink)(v, beta), np.float64)
        slope = 2 / 3 * np.sign(w) * np.abs(w) ** (-1 / 3) + beta * (w - np.asarray(v))
        np.testing.assert_allclose(slope, 0.0, atol=1e-4)
        gradient = jax.jit(jax.grad(lambda v: hyper_laplacian.shrink(v, beta).sum()))(v)
        assert np.all(np.isfinite(gradient))

    def test_each_step_lowers_the_split_objective(self, circular):
        y, kernel = circular
        options = {"weight": 500.0, "beta": 20.0}

        @jax.jit
        def round_trip(x, w):
            """The objective before, between and after the two steps."""
            transfer = spectra.transfer_function(kernel, y.shape)

            def value(x, w):
                """Eq. 3 of the paper, for circular blur."""
                residual = spectra.convolve(x, transfer) - y
                coupling = w - boundaries.gradient(x)
                data = options["weight"] * jnp.sum(residual**2)
                split = options["beta"] * jnp.sum(coupling**2)
                return jnp.sum(jnp.abs(w) ** (2.0 / 3.0)) + 0.5 * (data + split)

            before = value(x, w)
            w = hyper_laplacian.shrink(boundaries.gradient(x), options["beta"])
            between = value(x, w)
            x = hyper_laplacian.solve_for_image(w, y, transfer, **options)
            return x, w, [before, between, value(x, w)]

        x, w, values = y, boundaries.gradient(y), []
        for _ in range(4):
            x, w, round_values = round_trip(x, w)
            values += round_values[len(values) > 0 :]
        assert np.all(np.diff(values) < 0)

    def test_limits(self, photograph):
        np.testing.assert_allclose(hl(photograph, IDENTITY, weight=1e8), photograph, atol=1e-3)
        np.testing.assert_allclose(hl(FLAT, DISK), FLAT, atol=1e-5)


class TestTotalVariation:
    def test_limits(self, photograph):
        np.testing.assert_allclose(tv(photograph, IDENTITY, weight=1e-7), photograph, atol=1e-3)
        np.testing.assert_allclose(tv(FLAT, DISK), FLAT, atol=1e-4)
        smooth = tv(photograph, IDENTITY, weight=1e3, boundary="wrap")
        np.testing.assert_allclose(smooth, photograph.mean(), atol=2e-3)

    @pytest.mark.parametrize("saturated", [False, True])
    def test_reaches_the_minimum_that_scipy_finds(self, photograph, saturated):
        kernel = disk_kernel(radius=1.5, size=5)
        y = jnp.clip(blur(1.3 * photograph[20:44, 10:34], kernel, boundary="wrap"), 0.0, 0.9)

        @jax.jit
        def objective(x, rounding=0.0):
            """What is minimised; the corners of |Dx| may be rounded a little."""
            excess = spectra.convolve(x, spectra.transfer_function(kernel, x.shape)) - y
            if saturated:
                excess = jnp.where((y >= 0.9 - 0.5 / 255) & (excess > 0), 0.0, excess)
            length = jnp.sqrt(jnp.sum(boundaries.gradient(x) ** 2, axis=0) + rounding)
            return 0.5 * jnp.sum(excess**2) + 0.01 * length.sum()

        smoothed = jax.jit(jax.value_and_grad(lambda x: objective(x, 1e-8)))

        def function(x):
            value, slope = smoothed(jnp.asarray(x.reshape(y.shape), jnp.float32))
            return float(value), np.asarray(slope, np.float64).ravel()

        found = optimize.minimize(
            function, np.asarray(y).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 1000}
        )
        other = jnp.asarray(found.x.reshape(y.shape), jnp.float32)
        method, ceiling = (tv_saturated, {"ceiling": 0.9}) if saturated else (tv, {})
        ours = method(y, kernel, weight=0.01, boundary="wrap", num_iterations=500, **ceiling)
        value = objective(ours)
        assert value <= 1.001 * objective(other)
        assert value < 0.9 * objective(y)
        for seed in range(3):  # the problem is convex: no step aside helps
            aside = ours + 1e-3 * jax.random.normal(jax.random.key(seed), y.shape)
            assert value < objective(aside)

    def test_scikit_image_denoising(self, photograph):
        """The identity kernel leaves the Rudin-Osher-Fatemi problem, in the interior alike."""
        y = photograph + 0.05 * jax.random.normal(jax.random.key(0), photograph.shape)
        expected = restoration.denoise_tv_chambolle(
            np.asarray(y, np.float64), weight=0.05, eps=1e-8, max_num_iter=1000
        )
        x = tv(y, IDENTITY, weight=0.05, num_iterations=300)
        inner = slice(20, -20)
        np.testing.assert_allclose(x[inner, inner], expected[inner, inner], atol=3e-3)

    def test_saturated_beats_plain_on_saturated_lights(self, photograph):
        lights = 0.6 * photograph
        for row, column in ((12, 15), (30, 44), (48, 20), (50, 52)):
            lights = lights.at[row : row + 4, column : column + 4].set(4.0)
        kernel = DISK
        y = jnp.clip(blur(lights, kernel, boundary="reflect"), 0.0, 1.0)
        truth = jnp.clip(lights, 0.0, 1.0)
        plain, onesided = (
            psnr(jnp.clip(method(y, kernel, weight=5e-4), 0.0, 1.0), truth)
            for method in (tv, tv_saturated)
        )
        assert onesided > plain + 3.0
        # Nothing at the ceiling: the two are the same method.
        np.testing.assert_array_equal(
            tv(0.9 * photograph, kernel, weight=1e-3),
            tv_saturated(0.9 * photograph, kernel, weight=1e-3),
        )

    def test_ceiling(self, photograph):
        """Brightness and ceiling scaled together scale the result (and the weight with it)."""
        kernel = DISK
        y = jnp.minimum(blur(1.5 * photograph, kernel, boundary="reflect"), 1.0)
        x = tv_saturated(y, kernel, weight=1e-3, num_iterations=300)
        half = tv_saturated(0.5 * y, kernel, weight=5e-4, ceiling=0.5, num_iterations=300)
        assert psnr(2.0 * half, x) > 40.0


class TestOutliers:
    @staticmethod
    @jax.jit
    def objective(x, y, kernel, *, weight, inlier_noise=5 / 255):
        """Negative log-posterior for circular blur, which EM brings down.

        It is sure to fall only as long as no prediction crosses the ends of the sensor's range,
        where the model itself jumps.
        """
        blurred = spectra.convolve(x, spectra.transfer_function(kernel, x.shape))
        density = jnp.exp(-0.5 * ((blurred - y) / inlier_noise) ** 2)
        inlier = 0.9 * density / (inlier_noise * jnp.sqrt(2 * jnp.pi))
        inlier = jnp.where((blurred >= 0.0) & (blurred <= 1.0), inlier, 0.0)

        def cost(d):
            """`2/0.8 |d|^0.8`; below 0.01 a parabola of the same value and slope."""
            size, floor, a = jnp.abs(d), 0.01, 0.8
            parabola = floor ** (a - 2) * size**2 + (2 / a - 1) * floor**a
            return jnp.where(size < floor, parabola, 2 / a * jnp.maximum(size, floor) ** a).sum()

        d = outliers._differences(x)
        prior = 0.1 * weight * (cost(d.first) + 0.25 * cost(d.second))
        return prior / (2 * inlier_noise**2) - jnp.sum(jnp.log(inlier + 0.1))

    def test_inlier_chance(self):
        blurred = jnp.asarray([0.5, 0.5, 1.01, -0.01])
        y = jnp.asarray([0.5, 0.6, 1.0, 0.0])
        std = 0.05
        density = np.exp(-0.5 * (np.array([0.0, 0.1]) / std) ** 2) / (std * np.sqrt(2 * np.pi))
        expected = [*(0.9 * density / (0.9 * density + 0.1)), 0.0, 0.0]
        np.testing.assert_allclose(outliers.inlier_chance(blurred, y, std), expected, rtol=1e-5)

    def test_differences_have_their_adjoint(self):
        x = jax.random.normal(jax.random.key(0), (9, 11))
        differences = jax.jit(outliers._differences)(x)
        random = np.random.default_rng(0)
        other = jax.tree.map(lambda d: random.normal(size=d.shape).astype(np.float32), differences)
        product = [np.vdot(d, o) for d, o in zip(differences, other, strict=True)]
        np.testing.assert_allclose(
            sum(product), jnp.vdot(x, jax.jit(outliers._differences_adjoint)(other)), rtol=1e-4
        )
        rows, columns, mixed = np.asarray(differences.second)
        x = np.asarray(x)
        np.testing.assert_allclose(rows[3, 4], x[2, 4] - 2 * x[3, 4] + x[4, 4], atol=1e-5)
        np.testing.assert_allclose(columns[3, 4], x[3, 3] - 2 * x[3, 4] + x[3, 5], atol=1e-5)
        np.testing.assert_allclose(mixed[3, 4], x[4, 5] - x[4, 4] - x[3, 5] + x[3, 4], atol=1e-5)

    def test_objective_falls(self, photograph):
        """Grey enough that no prediction leaves the sensor's range, with one pixel in 20 wrong."""
        kernel = DISK
        y = blur(0.3 + 0.4 * photograph, kernel, boundary="wrap")
        wrong = jax.random.bernoulli(jax.random.key(0), 0.05, y.shape)
        y = jnp.where(wrong, jax.random.uniform(jax.random.key(1), y.shape), y)
        values = []
        for num_iterations in (1, 2, 4, 8):
            x = vem(y, kernel, weight=3e-3, num_iterations=num_iterations, boundary="wrap")
            values.append(float(self.objective(x, y, kernel, weight=3e-3)))
        assert np.all(np.diff(values) < 0)
        assert values[0] < float(self.objective(y, y, kernel, weight=3e-3))

    def test_wrong_pixels_are_ignored(self, photograph):
        kernel = DISK
        y = blur(photograph, kernel, boundary="reflect")
        wrong = jax.random.bernoulli(jax.random.key(0), 0.03, y.shape)
        spoilt = jnp.where(wrong, 1.0, y)
        clean, robust = (vem(image, kernel, weight=3e-3) for image in (y, spoilt))
        assert psnr(robust, photograph) > psnr(clean, photograph) - 1.0
        assert psnr(robust, photograph) > psnr(tv(spoilt, kernel), photograph) + 3.0

    def test_flat_image_stays(self):
        np.testing.assert_allclose(vem(FLAT, DISK), FLAT, atol=1e-4)
