"""`deconvolve` and `deconvolve_linear`: borders, shapes, transformations, and what they refuse."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

import glra_jax as gx
from glra_jax.model_files import default_model, linear_model

SUPPORT = 31
REACH = 10  # of layers 4 and 6: 7 + 3 pixels
BOUNDARIES = ("reflect", "edge", "wrap")


@pytest.fixture(scope="module")
def model(random_model):
    return random_model


@pytest.fixture(scope="module")
def motion():
    return gx.motion_kernel(jax.random.key(2), size=9)


@pytest.fixture(scope="module")
def patch(photograph):
    return photograph[30:50, 40:66]


def pad(y, mode, reach=0):
    """Continues an image by what the support and so many pixels more need."""
    before, after = SUPPORT - 1 - SUPPORT // 2 + reach, SUPPORT // 2 + reach
    return np.pad(y, [(before, after)] * 2, mode=mode)


def linear(y, kernel, model, *, inverse=None, **options):
    """`deconvolve_linear` with the basis and the inverse of a model."""
    inverse = model.architecture.inverse if inverse is None else inverse
    return gx.deconvolve_linear(y, kernel, model.constants, inverse=inverse, **options)


both = pytest.mark.parametrize("restore", [gx.deconvolve, linear])


# --- linear restoration alone --------------------------------------------------------------------


def reference_linear(y, kernel, model, boundary, regularization=0.01, smoothness=0.0):
    """Pseudo-inverse, projection, normalisation and convolution in float64."""
    left, right = (np.asarray(side, np.float64) for side in model.constants)
    inverse = gx.pseudo_inverse(
        kernel, support=SUPPORT, regularization=regularization, smoothness=smoothness
    )
    inverse = left @ (left.T @ np.float64(inverse) @ right) @ right.T
    y = np.float64(y) if boundary == "valid" else pad(np.float64(y), boundary)
    return scipy.signal.convolve2d(y, inverse / inverse.sum(), mode="valid")


@pytest.mark.parametrize("boundary", [*BOUNDARIES, "valid"])
@pytest.mark.parametrize("size", [9, 12])
def test_linear_restoration_is_scipys_convolution(photograph, small_model, boundary, size):
    y, kernel = photograph[:40, :51], gx.motion_kernel(jax.random.key(2), size=size)
    x = linear(y, kernel, small_model, boundary=boundary)
    assert x.dtype == jnp.float32
    expected = reference_linear(y, kernel, small_model, boundary)
    assert x.shape == expected.shape
    np.testing.assert_allclose(x, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("boundary", "shape"),
    [("reflect", (5, 7)), ("reflect", (1, 9)), ("edge", (1, 1)), ("wrap", (5, 7))],
)
def test_images_smaller_than_the_support(photograph, small_model, motion, boundary, shape):
    y = photograph[: shape[0], : shape[1]]
    expected = reference_linear(y, motion, small_model, boundary)
    x = linear(y, motion, small_model, boundary=boundary)
    np.testing.assert_allclose(x, expected, atol=2e-5)


def test_linear_restoration_is_not_clipped_and_takes_an_inverse(photograph, small_model, motion):
    y = photograph[:40, :51] * 4.0 - 1.0
    x = gx.deconvolve_linear(y, motion, small_model.constants, inverse=gx.Inverse(0.2))
    expected = reference_linear(y, motion, small_model, "edge", regularization=0.2)
    assert expected.min() < -0.2
    assert expected.max() > 1.2
    np.testing.assert_allclose(x, expected, atol=5e-5)


# --- the network at the borders ------------------------------------------------------------------


def test_valid_is_the_network_itself(photograph, model, motion):
    y = photograph[:45, :50]
    x = gx.deconvolve(y, motion, model, boundary="valid")
    core = gx.deconvolution_core(model.constants, motion)
    apply = jax.jit(model.architecture.module().apply)
    expected = apply({"params": model.params}, y[None, ..., None], core)
    assert x.shape == (15, 20)
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(x, expected[0, ..., 0], atol=1e-6)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_valid_is_the_interior_of_a_continued_image(patch, model, motion, boundary):
    x = gx.deconvolve(patch, motion, model, boundary=boundary)
    assert x.shape == patch.shape
    continued = pad(patch, boundary, REACH)
    interior = gx.deconvolve(continued, motion, model, boundary="valid")[REACH:-REACH, REACH:-REACH]
    np.testing.assert_allclose(x, interior, atol=1e-5)


def test_wrap_knows_no_borders(patch, model, motion):
    x = gx.deconvolve(patch, motion, model, boundary="wrap")
    rolled = gx.deconvolve(np.roll(patch, (7, -5), (0, 1)), motion, model, boundary="wrap")
    np.testing.assert_allclose(rolled, jnp.roll(x, (7, -5), (0, 1)), atol=1e-5)


@pytest.mark.parametrize("size", [9, 12])
def test_the_identity_initialization_is_linear_up_to_the_borders(photograph, small_model, size):
    y, kernel = photograph[20:60, 20:71], gx.motion_kernel(jax.random.key(5), size=size)
    x = gx.deconvolve(y, kernel, small_model)
    expected = reference_linear(y, kernel, small_model, "edge").clip(0.02, 0.98)
    np.testing.assert_allclose(x, expected, atol=0.01)


def test_blur_is_undone(photograph, small_model):
    kernel = gx.gaussian_kernel(sigma=1.2, size=9)
    y = gx.degrade(jax.random.key(0), photograph, kernel, noise=0.003)
    sharp = gx.sharp_target(photograph)
    gain = float(gx.psnr(gx.deconvolve(y, kernel, small_model, boundary="wrap"), sharp))
    assert gain > float(gx.psnr(y, sharp)) + 1.5


# --- noise ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def following(model):
    """The model with a pseudo-inverse that depends on the noise."""
    return with_inverse(model, gx.Inverse(0.005, noise_weight=100.0))


def with_inverse(model, inverse):
    return replace(model, architecture=replace(model.architecture, inverse=inverse))


@pytest.fixture(scope="module")
def noisy(patch):
    draws = np.random.default_rng(0).normal(0, 0.02, (2, *patch.shape))
    return np.float32(np.stack([patch, patch[::-1]]) + draws).clip(0, 1)[..., None]


@partial(jax.jit, static_argnames="network")
def apply_network(params, y, core, *, network):
    return network.apply({"params": params}, y, core)


def restored_with(restore, core, y, model):
    """An image continued by its edges and restored with a core that is given."""
    if restore is linear:
        left, right = (np.asarray(side, np.float64) for side in model.constants)
        inverse = left @ np.float64(core) @ right.T
        return scipy.signal.convolve2d(pad(np.float64(y), "edge"), inverse, mode="valid")
    continued = pad(y, "edge", REACH)[None, ..., None]
    x = apply_network(model.params, continued, core, network=model.architecture.module())
    return x[0, REACH:-REACH, REACH:-REACH, 0]


@both
def test_a_noise_level_is_a_smoothness(noisy, following, motion, restore):
    y, found = noisy[0, ..., 0], []
    for noise, regularization in (
        (0.0, None),
        (0.05, None),
        (jnp.float32(0.2), None),
        (0.05, 0.1),
    ):
        own = following.architecture.inverse
        strength = 0.005 if regularization is None else regularization
        inverse = None if regularization is None else replace(own, regularization=strength)
        x = jax.jit(restore)(y, motion, following, noise=noise, inverse=inverse)
        smoothness = 100.0 * float(noise) ** 2
        core = gx.deconvolution_core(
            following.constants, motion, inverse=gx.Inverse(strength, smoothness), noise=1.0
        )
        np.testing.assert_allclose(x, restored_with(restore, core, y, following), atol=1e-5)
        found.append(x)
    for other in (found[0], found[2], found[3]):
        assert np.abs(found[1] - other).max() > 1e-4


@both
def test_noise_that_is_not_named_is_estimated(noisy, following, motion, restore):
    """From all images and channels together; by vmap from each independently."""
    restore = jax.jit(restore)
    x = restore(noisy, motion, following)
    level = gx.estimate_noise(noisy)
    assert 0.01 < float(level) < 0.03
    np.testing.assert_allclose(x, restore(noisy, motion, following, noise=level), atol=1e-5)
    assert np.abs(x - restore(noisy, motion, following, noise=5 * level)).max() > 1e-3
    each = jax.vmap(lambda y: restore(y, motion, following))(noisy)
    for y, found in zip(noisy, each, strict=True):
        level = gx.estimate_noise(y)
        np.testing.assert_allclose(found, restore(y, motion, following, noise=level), atol=1e-5)


@both
def test_without_a_noise_weight_the_noise_does_not_count(noisy, model, motion, restore):
    restore = jax.jit(restore)
    plain = restore(noisy[0], motion, model)
    np.testing.assert_allclose(restore(noisy[0], motion, model, noise=0.1), plain, atol=1e-6)


def test_gradients_with_an_estimated_noise_are_finite(noisy, following, motion):
    @jax.jit
    @partial(jax.grad, argnums=(0, 1))
    def slope(y, kernel):
        return jnp.sum(linear(y, kernel, following) ** 2)

    for leaf in slope(noisy[0], motion):
        assert jnp.isfinite(leaf).all()
        assert jnp.abs(leaf).max() > 0


@both
def test_bad_noise(small_model, following, restore):
    for value, quoted in ((-0.01, r"got -0\.01"), (np.nan, "got nan"), (np.inf, "got inf")):
        with pytest.raises(ValueError, match=f"noise must be finite and at least 0, {quoted}"):
            restore(IMAGE, KERNEL, small_model, noise=value)
    with pytest.raises(ValueError, match=r"noise must be a scalar, got shape \(2,\).*vmap"):
        restore(IMAGE, KERNEL, small_model, noise=jnp.array([0.01, 0.02]))
    with pytest.raises(ValueError, match=r"\(2, 34\).*3×3"):
        restore(IMAGE[:2], KERNEL, following)


# --- kernels of any size -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [12, 31])
def test_zeros_around_a_kernel_change_nothing(patch, model, motion, size):
    restore = partial(gx.deconvolve, patch, model=model)
    before = size // 2 - len(motion) // 2  # centre on centre
    wide = jnp.pad(motion, (before, size - len(motion) - before))
    np.testing.assert_allclose(restore(kernel=wide), restore(kernel=motion), atol=1e-5)


def test_oblong_kernels(photograph, small_model):
    kernel = gx.normalize_kernel(jnp.arange(1.0, 29.0).reshape(4, 7))
    y = photograph[:40, :51]
    x = linear(y, kernel, small_model)
    np.testing.assert_allclose(x, reference_linear(y, kernel, small_model, "edge"), atol=2e-5)


def test_the_linear_restoration_takes_a_noise_weight(patch, small_model, motion):
    y, basis, own = jnp.asarray(patch), small_model.constants, small_model.architecture.inverse
    x = gx.deconvolve_linear(y, motion, basis, inverse=replace(own, noise_weight=60.0), noise=0.03)
    expected = reference_linear(patch, motion, small_model, "edge", smoothness=60.0 * 0.03**2)
    np.testing.assert_allclose(x, expected, atol=2e-5)
    for weight in (0.0, 5.0):
        inverse = replace(own, noise_weight=weight)
        plain = gx.deconvolve_linear(y, motion, basis, inverse=inverse, noise=0.03)
        assert jnp.std(x) < 0.99 * jnp.std(plain)  # smoother


@both
def test_an_inverse_is_taken_in_place_of_the_models_own(patch, model, motion, restore):
    y, own = jnp.asarray(patch), model.architecture.inverse
    plain = restore(y, motion, model, noise=0.03)
    for inverse in (
        replace(own, regularization=0.1),
        replace(own, noise_weight=60.0),
        replace(own, core="least-squares"),
    ):
        x = restore(y, motion, model, inverse=inverse, noise=0.03)
        core = gx.deconvolution_core(model.constants, motion, inverse=inverse, noise=0.03)
        np.testing.assert_allclose(x, restored_with(restore, core, patch, model), atol=2e-5)
        assert np.abs(x - plain).max() > 1e-4


@both
def test_another_strength_compiles_nothing_again(patch, model, motion, restore):
    count = 0

    @jax.jit
    def compiled(y, inverse):
        nonlocal count
        count += 1
        return restore(y, motion, model, inverse=inverse, noise=0.03)

    first = compiled(patch, gx.Inverse(0.01, 60.0))
    second = compiled(patch, gx.Inverse(0.1, 6.0))
    assert count == 1
    expected = restore(patch, motion, model, inverse=gx.Inverse(0.1, 6.0), noise=0.03)
    np.testing.assert_allclose(second, expected, atol=1e-5)
    assert np.abs(first - second).max() > 1e-4


# --- shapes and dtypes ---------------------------------------------------------------------------


def test_channels_and_images_go_through_independently(colour_photograph, model, motion):
    batch = np.stack([colour_photograph[:20, :26], colour_photograph[50:70, 60:86]])
    for restore in (gx.deconvolve, linear):
        x = restore(batch, motion, model)
        assert x.shape == (2, 20, 26, 3)
        colour = restore(batch[1], motion, model)
        assert colour.shape == (20, 26, 3)
        np.testing.assert_allclose(colour, x[1], atol=1e-5)
        grey = restore(batch[1, ..., 2], motion, model)
        assert grey.shape == (20, 26)
        np.testing.assert_allclose(grey, x[1, ..., 2], atol=1e-5)


@both
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_the_dtype_is_kept(patch, model, motion, dtype, restore):
    y = patch.astype(dtype)
    x = restore(y, motion, model)
    # JAX has no float64 unless it is switched on.
    assert x.dtype == (np.float32 if dtype is np.float64 else dtype)
    expected = restore(y.astype(np.float32), motion, model)  # computed in float32 in between
    tolerance = 1e-3 if dtype is np.float16 else 1e-5
    np.testing.assert_allclose(np.float32(x), expected, atol=tolerance)


@both
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(33, 35), (33, 35, 1), (7, 9, 4), (2, 33, 35, 3)])
def test_shapes_and_dtypes_are_kept(model, motion, shape, dtype, restore):
    y = jax.ShapeDtypeStruct(shape, dtype)
    x = jax.eval_shape(partial(restore, kernel=motion, model=model), y)
    assert (x.shape, x.dtype) == (shape, dtype)


# --- transformations -----------------------------------------------------------------------------


def test_jit_changes_nothing(patch, model, motion):
    eager = gx.deconvolve(patch, motion, model)
    jitted = jax.jit(gx.deconvolve)(patch, motion, model)
    np.testing.assert_allclose(jitted, eager, atol=1e-6)
    fixed = jax.jit(lambda y: linear(y, motion, model, boundary="edge"))(patch)
    expected = linear(patch, motion, model, boundary="edge")
    np.testing.assert_allclose(fixed, expected, atol=1e-6)


def test_vmap_over_images_kernels_and_inverses(photograph, model, motion):
    images = jnp.stack([photograph[:20, :26], photograph[50:70, 60:86]])
    kernels = jnp.stack([motion, gx.gaussian_kernel(sigma=1.1, size=9)])
    strengths = jnp.array([0.01, 0.05])

    def restore(y, kernel, inverse):
        return gx.deconvolve(y, kernel, model, inverse=inverse)

    weights = jnp.zeros(2)
    together = jax.vmap(restore)(images, kernels, gx.Inverse(strengths, weights))
    for n in range(2):
        single = restore(images[n], kernels[n], gx.Inverse(float(strengths[n])))
        np.testing.assert_allclose(together[n], single, atol=1e-5)


def test_methods_of_computing_give_the_same(patch, model, motion):
    direct = gx.deconvolve(patch, motion, model, method="direct")
    spectral = gx.deconvolve(patch, motion, model, method="spectral")
    np.testing.assert_allclose(spectral, direct, atol=1e-5)


def test_without_a_model_the_packages_own_is_taken(patch, motion, monkeypatch, small_model):
    calls = []

    def default():
        calls.append(1)
        return small_model

    for name in ("default_model", "linear_model"):
        monkeypatch.setattr(f"glra_jax.restoration.{name}", default)
    for named, restore in ((gx.deconvolve, gx.deconvolve), (linear, gx.deconvolve_linear)):
        expected = named(patch, motion, small_model)
        assert not calls
        np.testing.assert_array_equal(restore(patch, motion), expected)
        assert calls
        calls.clear()


def test_the_linear_restoration_takes_what_is_not_named_from_the_packages_model(
    patch, motion, monkeypatch, small_model
):
    own = with_inverse(small_model, gx.Inverse(0.05))
    monkeypatch.setattr("glra_jax.restoration.linear_model", lambda: own)
    by_inverse = gx.deconvolve_linear(patch, motion, inverse=gx.Inverse(0.01))
    np.testing.assert_array_equal(by_inverse, linear(patch, motion, small_model))
    other = gx.Basis(*reversed(small_model.constants))
    by_basis = gx.deconvolve_linear(patch, motion, other)
    expected = gx.deconvolve_linear(patch, motion, other, inverse=gx.Inverse(0.05))
    np.testing.assert_array_equal(by_basis, expected)
    assert np.abs(by_basis - gx.deconvolve_linear(patch, motion)).max() > 1e-4


@pytest.mark.parametrize("read", [default_model, linear_model])
def test_the_packages_models_are_read_once_and_hold_arrays(read):
    read.cache_clear()
    jax.jit(lambda x: x * jax.tree.leaves(read())[0].sum())(1.0)  # first read while tracing
    model = read()
    for leaf in jax.tree.leaves(model):
        assert isinstance(leaf, jax.Array)
        assert not isinstance(leaf, jax.core.Tracer)
    assert model is read()


def test_gradients_match_finite_differences(patch, model, motion):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=patch.shape)
    tilt = np.where(np.asarray(motion) > 0, rng.normal(size=motion.shape), 0.0)
    tilt = 0.1 * np.float32(tilt - motion * tilt.sum())  # keeps the sum
    shade = np.float32(rng.normal(size=patch.shape))
    # Weights that keep away from the bend of the leaky ReLUs, where finite differences mean
    # nothing, and in the middle of the sigmoid.
    params = {name: dict(weights) for name, weights in model.params.items()}
    params["refine_1"]["bias"] += 3.0
    params["refine_2"]["kernel"] = jnp.abs(params["refine_2"]["kernel"])
    params["refine_3"]["kernel"] -= params["refine_3"]["kernel"].mean(axis=(0, 1))
    model = replace(model, params=params)

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1, 2))
    def loss(y, kernel, model):
        return jnp.sum(weights * gx.deconvolve(y, kernel, model))

    _, (by_image, by_kernel, by_model) = loss(patch, motion, model)
    for leaf in jax.tree.leaves((by_image, by_kernel, by_model)):
        assert jnp.isfinite(leaf).all()
        assert jnp.abs(leaf).max() > 0
    for direction, gradient, moved in (
        (tilt, by_kernel, lambda t: (patch, motion + t * tilt, model)),
        (shade, by_image, lambda t: (patch + t * shade, motion, model)),
    ):
        above, below = (float(loss(*moved(t))[0]) for t in (0.01, -0.01))
        slope = float(jnp.vdot(direction, gradient))
        assert abs(slope) > 0.1
        assert slope == pytest.approx((above - below) / 0.02, rel=0.02)


def test_gradient_of_linear_restoration_for_the_kernel(patch, small_model, motion):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=patch.shape)
    tilt = rng.normal(size=motion.shape) / 81
    tilt -= tilt.mean()

    def loss(kernel):
        return jnp.sum(weights * linear(patch, kernel, small_model))

    gradient = jax.jit(jax.grad(loss))(motion)

    def reference(step):
        kernel = jnp.asarray(np.asarray(motion) + step * tilt, jnp.float32)
        return (weights * reference_linear(patch, kernel, small_model, "edge")).sum()

    slope = (reference(0.01) - reference(-0.01)) / 0.02
    assert float(jnp.vdot(gradient, tilt)) == pytest.approx(slope, rel=0.01)


# --- bad input -----------------------------------------------------------------------------------

IMAGE = np.full((33, 34), 0.5, np.float32)
KERNEL = np.full((3, 3), 1 / 9, np.float32)


@both
@pytest.mark.parametrize(
    ("y", "kernel", "error", "quoted"),
    [
        (IMAGE[0], KERNEL, ValueError, r"y.*rank 1.*\(34,\)"),
        (IMAGE[None, None, None], KERNEL, ValueError, r"y.*rank 5.*\(1, 1, 1, 33, 34\)"),
        (IMAGE[:0], KERNEL, ValueError, r"y.*empty.*\(0, 34\)"),
        (np.uint8(200 * IMAGE), KERNEL, TypeError, r"y.*uint8.*255\.0"),
        (np.where(IMAGE > 1, IMAGE, np.nan), KERNEL, ValueError, "y holds 1122 NaN"),
        (IMAGE, KERNEL[0], ValueError, r"kernel.*2-D.*\(3,\)"),
        (IMAGE, KERNEL[:, :0], ValueError, r"kernel.*empty.*\(3, 0\)"),
        (IMAGE, KERNEL * np.nan, ValueError, "kernel holds 9 NaN"),
        (IMAGE, KERNEL * 0, ValueError, "kernel.*all zero.*sum 1"),
        (IMAGE, -KERNEL, ValueError, "kernel.*sum -1.*positive"),
        (IMAGE, 3 * KERNEL, ValueError, "kernel.*sum 3.*normalize_kernel"),
        (IMAGE, np.eye(3, dtype=np.uint8), TypeError, r"kernel.*uint8"),
        (IMAGE, np.full((1, 32), 1 / 32), ValueError, r"kernel.*\(1, 32\).*support 31.*crop"),
    ],
)
def test_bad_images_and_kernels(small_model, restore, y, kernel, error, quoted):
    with pytest.raises(error, match=quoted):
        restore(y, kernel, small_model)


@both
def test_bad_options(small_model, restore):
    with pytest.raises(ValueError, match=r"boundary.*wrap, valid, got 'zero'"):
        restore(IMAGE, KERNEL, small_model, boundary="zero")
    # Arrays, which may be traced, are not looked at before.
    for inverse, quoted in (
        (gx.Inverse(jnp.float32(0.0)), r"regularization.*got 0\.0"),
        (gx.Inverse(0.01, jnp.float32(-1.0)), r"noise_weight.*got -1\.0"),
        (gx.Inverse(0.01, jnp.float32(np.nan)), r"noise_weight.*got nan"),
        (gx.Inverse(jnp.ones(2)), r"regularization must be a scalar, got shape \(2,\).*vmap"),
    ):
        with pytest.raises(ValueError, match=quoted):
            restore(IMAGE, KERNEL, small_model, inverse=inverse)
    with pytest.raises(TypeError, match=r"inverse must be a glra_jax\.Inverse, got float"):
        restore(IMAGE, KERNEL, small_model, inverse=0.01)
    with pytest.raises(ValueError, match=r"\(30, 34\).* 31×31 pixels.*another boundary"):
        restore(IMAGE[:30], KERNEL, small_model, boundary="valid")


def test_what_is_no_model_or_basis(small_model):
    with pytest.raises(TypeError, match=r"load_model.*str"):
        gx.deconvolve(IMAGE, KERNEL, "a name")
    with pytest.raises(TypeError, match=r"load_model.*Basis"):
        gx.deconvolve(IMAGE, KERNEL, small_model.constants)
    with pytest.raises(TypeError, match=r"basis must be a glra_jax\.Basis, got str"):
        gx.deconvolve_linear(IMAGE, KERNEL, "a name")


@both
@pytest.mark.parametrize("core", ["projection", "least-squares"])
def test_a_kernel_that_the_basis_does_not_hold_is_refused(small_model, motion, restore, core):
    """Odd functions, whose sum is 0, keep no brightness."""
    rows = jnp.arange(31.0) - 15.0
    odd = jnp.stack([jnp.sin(2 * jnp.pi * k * rows / 31) for k in range(1, 7)], axis=1)
    odd, _ = jnp.linalg.qr(odd)
    model = with_inverse(small_model, gx.Inverse(core=core))
    model = replace(model, constants=gx.Basis(odd, odd))
    with pytest.raises(ValueError, match=r"rank 6 does not hold .* \(9, 9\).*centre the kernel"):
        restore(IMAGE, motion, model)
    # While tracing nothing is known of it.
    assert jax.eval_shape(lambda kernel: restore(IMAGE, kernel, model), motion).shape == (33, 34)


def test_bad_method(small_model):
    with pytest.raises(ValueError, match=r"method.*auto, direct, spectral.*'fft'"):
        gx.deconvolve(IMAGE, KERNEL, small_model, method="fft")


def test_what_can_be_checked_while_tracing_is(small_model):
    with pytest.raises(ValueError, match=r"\(40, 40\).*support 31"):
        jax.jit(gx.deconvolve)(IMAGE, jnp.ones((40, 40)), small_model)
    with pytest.raises(TypeError, match="int32"):
        jax.jit(gx.deconvolve)(jnp.ones((33, 33), jnp.int32), KERNEL, small_model)


@both
def test_an_image_of_another_range_is_refused(model, motion, restore):
    y = jnp.linspace(0.0, 255.0, 40 * 40, dtype=jnp.float32).reshape(40, 40)
    with pytest.raises(ValueError, match=r"y .* 0 to 255.*divide"):
        restore(y, motion, model)
    restore(y / 255 * 1.2 - 0.1, motion, model)  # noise may leave the range


def test_lists_are_refused_by_name(model, motion):
    with pytest.raises(TypeError, match="y must be an array, got list"):
        gx.deconvolve([[0.5] * 40] * 40, motion, model)
    with pytest.raises(TypeError, match="kernel must be an array, got list"):
        gx.deconvolve(jnp.full((40, 40), 0.5), [[1.0]], model)
