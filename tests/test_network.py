"""The network's sizes, its first three layers against SciPy, and how its weights start."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.signal
import scipy.special

import glra_jax as gx

SMALL = {"support": 31, "rank": 6, "features": 16}


def orthonormal_basis(support, rank):
    rng = np.random.default_rng(support)
    sides = (np.linalg.qr(rng.normal(size=(support, rank)))[0] for _ in range(2))
    return gx.Basis(*(jnp.asarray(side, jnp.float32) for side in sides))


def linear_restoration(y, basis, core):
    """Valid convolution with the kernel that a core stands for, in float64."""
    left, right, core = (np.asarray(a, np.float64) for a in (*basis, core))
    return scipy.signal.fftconvolve(np.float64(y), left @ core @ right.T, mode="valid")


@pytest.fixture(scope="module")
def motion():
    return gx.motion_kernel(jax.random.key(2), size=9)


@pytest.fixture(scope="module")
def shrinkage(small_basis):
    return gx.init_params(jax.random.key(0), small_basis, initialization="shrinkage", features=112)


# --- size ----------------------------------------------------------------------------------------


def test_the_full_network_has_1_85_million_weights():
    net = gx.DeconvNet()
    y, core = jnp.zeros((1, 256, 256, 1)), jnp.zeros((50, 50))
    params = jax.eval_shape(net.init, jax.random.key(0), y, core)["params"]
    shapes = {
        "vertical": {"kernel": (151, 1, 1, 50), "bias": (50,)},
        "core": {"bias": (50,)},
        "horizontal": {"kernel": (1, 151, 50, 50), "bias": (50,)},
        "refine_1": {"kernel": (15, 15, 50, 128), "bias": (128,)},
        "refine_2": {"kernel": (1, 1, 128, 128), "bias": (128,)},
        "refine_3": {"kernel": (7, 7, 128, 1), "bias": (1,)},
    }
    assert jax.tree.map(lambda leaf: leaf.shape, params) == shapes
    trained = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    assert trained == 1_848_113
    assert trained + core.size == 1_850_613  # with M, which is given and not trained
    out = jax.eval_shape(net.apply, {"params": params}, y, core)
    assert (out.shape, out.dtype) == ((1, 106, 106, 1), jnp.float32)
    # init_params makes the same tree, float32 throughout.
    basis = gx.Basis(jnp.zeros((151, 50)), jnp.zeros((151, 50)))
    started = jax.eval_shape(gx.init_params, jax.random.key(0), basis)
    assert jax.tree.map(lambda leaf: leaf.shape, started) == shapes
    assert {leaf.dtype for leaf in jax.tree.leaves(started)} == {jnp.dtype(jnp.float32)}


# --- layers 1 to 3 -------------------------------------------------------------------------------


def test_first_three_layers_convolve_with_the_reconstructed_kernel(
    photograph, motion, small_model, started, shrinkage
):
    core = gx.deconvolution_core(small_model.constants, motion)
    y = photograph[:60, :70]
    apply = jax.jit(partial(small_model.architecture.module().apply, method="low_rank"))
    maps = apply({"params": small_model.params}, y[None, ..., None], core)
    assert maps.shape == (1, 30, 40, 6)
    np.testing.assert_allclose(
        maps[0].sum(axis=-1), linear_restoration(y, small_model.constants, core), atol=1e-5
    )
    # The other initialisations that stand on a basis have the same three layers.
    for params in (started("glra").params, shrinkage):
        for layer in ("vertical", "core", "horizontal"):
            jax.tree.map(np.testing.assert_array_equal, params[layer], small_model.params[layer])


def test_first_three_layers_with_an_even_support(photograph, motion):
    basis = orthonormal_basis(30, 6)
    core = gx.project(basis, gx.pseudo_inverse(motion, support=30))
    params = gx.init_params(jax.random.key(0), basis, initialization="glra", features=16)
    y = photograph[:60, :70]
    apply = jax.jit(partial(gx.DeconvNet(30, 6, 16).apply, method="low_rank"))
    maps = apply({"params": params}, y[None, ..., None], core)
    assert maps.shape == (1, 31, 41, 6)
    np.testing.assert_allclose(maps[0].sum(axis=-1), linear_restoration(y, basis, core), atol=1e-5)


@pytest.mark.slow
def test_first_three_layers_at_full_size(photograph, motion):
    basis = orthonormal_basis(151, 50)
    core = gx.project(basis, gx.pseudo_inverse(motion))
    params = gx.init_params(jax.random.key(0), basis)
    y = np.pad(photograph, ((40, 40), (40, 40)), mode="reflect")
    maps = jax.jit(partial(gx.DeconvNet().apply, method="low_rank"))(
        {"params": params}, y[None, ..., None], core
    )
    assert maps.shape == (1, 26, 42, 50)
    np.testing.assert_allclose(maps[0].sum(axis=-1), linear_restoration(y, basis, core), atol=1e-5)


# --- initialisation ------------------------------------------------------------------------------


def test_identity_initialization_restores_linearly(photograph, small_basis, motion, small_model):
    core = gx.deconvolution_core(small_basis, motion)
    # Contrast beyond what an image holds, so that every tone occurs and both ends are clipped.
    y = np.float32((photograph - 0.4) * 1.8 + 0.5)
    linear = linear_restoration(y, small_basis, core)
    assert linear.min() < -0.1
    assert linear.max() > 1.1
    variables = {"params": small_model.params}
    out = jax.jit(gx.DeconvNet(**SMALL).apply)(variables, y[None, ..., None], core)
    np.testing.assert_allclose(out[0, ..., 0], np.clip(linear, 0.02, 0.98), atol=0.01)


def test_shrinkage_initialization_removes_small_local_cosines(
    photograph, small_basis, motion, shrinkage
):
    core = gx.deconvolution_core(small_basis, motion)
    y = gx.degrade(jax.random.key(0), photograph, motion, noise=0.02)
    linear = linear_restoration(y, small_basis, core)
    net = gx.DeconvNet(31, 6, 112)
    out = jax.jit(net.apply)({"params": shrinkage}, y[None, ..., None], core)[0, ..., 0]

    # The mean over all 7x7 windows of what a threshold of 0.03 cuts off their cosines.
    windows = np.lib.stride_tricks.sliding_window_view(linear, (7, 7))
    cosines = scipy.fft.dctn(windows, axes=(2, 3), norm="ortho").clip(-0.03, 0.03)
    cosines[..., 0, 0] = 0.0
    cut = scipy.fft.idctn(cosines, axes=(2, 3), norm="ortho")
    rows, columns = (n - 6 for n in cut.shape[:2])
    cut = sum(
        cut[6 - i : 6 - i + rows, 6 - j : 6 - j + columns, i, j] for i in range(7) for j in range(7)
    )
    inner = linear[6:-6, 6:-6]
    # It is taken off the logit, whose slope in the middle tones is taken to be 5.
    expected = scipy.special.expit(scipy.special.logit(inner.clip(0.02, 0.98)) - 5 * cut / 49)
    assert np.abs(cut / 49).max() > 0.02
    np.testing.assert_allclose(out[6:-6, 6:-6], expected, atol=0.01)


def test_identity_initialization_lets_all_weights_learn(
    photograph, small_basis, motion, small_model
):
    core = gx.deconvolution_core(small_basis, motion)
    net = gx.DeconvNet(**SMALL)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        out = net.apply({"params": params}, photograph[None, :48, :48, None], core)
        return jnp.mean((out[0, ..., 0] - photograph[15:33, 15:33]) ** 2)

    params = small_model.params
    first, gradient = loss(params)
    for layer, weights in gradient.items():
        for name, value in weights.items():
            assert jnp.isfinite(value).all(), (layer, name)
            assert jnp.abs(value).max() > 0, (layer, name)
    # A small step downhill, chosen to save 1 %.
    slope = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))
    step = 0.01 * first / slope
    second, _ = loss(jax.tree.map(lambda p, g: p - step * g, params, gradient))
    assert float(second) == pytest.approx(0.99 * float(first), rel=0.003)


@pytest.mark.parametrize(("name", "needed"), [("identity", 13), ("shrinkage", 109)])
def test_initializations_that_need_features(small_basis, name, needed):
    key, fewer = jax.random.key(0), needed - 1
    refused = f"initialization '{name}' needs {needed} features or more, got {fewer}"
    with pytest.raises(ValueError, match=refused):
        gx.init_params(key, small_basis, initialization=name, features=fewer)
    architecture = gx.Glra(31, 6, fewer)
    with pytest.raises(ValueError, match=refused):
        gx.initial_model(key, architecture, small_basis, initialization=name)


def xavier_limit(kernel):
    receptive = math.prod(kernel.shape[:2])
    return math.sqrt(6.0 / (receptive * (kernel.shape[2] + kernel.shape[3])))


def assert_xavier(kernel):
    limit = xavier_limit(kernel)
    assert jnp.abs(kernel).max() <= limit
    assert float(jnp.std(kernel)) == pytest.approx(limit / math.sqrt(3), rel=0.15)


@pytest.fixture(scope="module")
def random_params(small_basis):
    """Weights of the initialisation "random" of two equal keys and another one."""
    keys = jnp.stack([jax.random.key(seed) for seed in (0, 0, 1)])
    make = partial(gx.init_params, basis=small_basis, initialization="random", features=16)
    return jax.vmap(make)(keys)


def test_random_initialization_is_xavier_and_a_function_of_its_key(random_params):
    for weights in random_params.values():
        assert not weights["bias"].any()
        if "kernel" not in weights:
            continue
        first, again, other = weights["kernel"]
        np.testing.assert_array_equal(first, again)
        assert jnp.abs(other - first).max() > 0.01
        assert_xavier(first)


def test_glra_initialization_is_the_basis_and_xavier(small_basis, started):
    params = started("glra").params
    assert all(not weights["bias"].any() for weights in params.values())
    for name in ("refine_1", "refine_2", "refine_3"):
        assert_xavier(params[name]["kernel"])
    # Flipped, because layers correlate.
    np.testing.assert_array_equal(params["vertical"]["kernel"][::-1, 0, 0, :], small_basis.left)
    for i in range(6):
        for j in range(6):
            taps = params["horizontal"]["kernel"][0, ::-1, i, j]
            np.testing.assert_array_equal(taps, small_basis.right[:, i] if i == j else 0.0)


@pytest.mark.parametrize("name", ["identity", "shrinkage"])
def test_brightness_is_undone_behind_layer_3(photograph, small_basis, motion, name):
    """Of images that are brighter by a factor and an offset on the mean."""
    architecture = gx.Glra(31, 6, 112)
    key, gain, offset = jax.random.key(0), 1.25, 0.03
    plain = architecture.init(key, small_basis, initialization=name)
    brighter = architecture.init(key, small_basis, initialization=name, gain=gain, offset=offset)
    core = gx.deconvolution_core(small_basis, motion)  # of sum 1: a factor and an offset pass it
    y = jnp.asarray(photograph[None, :60, :70, None])
    apply = jax.jit(architecture.module().apply)
    expected = apply({"params": plain}, y, core)
    found = apply({"params": brighter}, gain * y + offset, core)
    rim = (slice(None), slice(10, -10), slice(10, -10))  # where layer 4 sees no zeros
    np.testing.assert_allclose(found[rim], expected[rim], atol=1e-4)
    assert np.abs(apply({"params": plain}, gain * y + offset, core) - expected).max() > 0.05


def test_unknown_initialization(small_basis):
    with pytest.raises(ValueError, match=r"initialization must .*glra, random, got 'zeros'"):
        gx.init_params(jax.random.key(0), small_basis, initialization="zeros")


# --- the whole -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def random_network(random_model):
    return random_model.architecture.module(), {"params": random_model.params}


def reference_network(params, y, core):
    """The six layers written out, for one image, in float64."""
    p = jax.tree.map(np.float64, params)

    def layer(x, name, pad=0):
        kernel = p[name]["kernel"]
        x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
        maps = [
            sum(
                scipy.signal.correlate(x[..., c], kernel[..., c, o], mode="valid")
                for c in range(kernel.shape[2])
            )
            for o in range(kernel.shape[3])
        ]
        return np.stack(maps, axis=-1) + p[name]["bias"]

    x = layer(np.float64(y)[..., None], "vertical")
    x = x @ np.float64(core) + p["core"]["bias"]
    x = layer(x, "horizontal")
    for name, pad in (("refine_1", 7), ("refine_2", 0)):
        x = layer(x, name, pad)
        x = np.where(x > 0, x, 0.2 * x)
    return 1 / (1 + np.exp(-layer(x, "refine_3", 3)))


def test_the_network_written_out(random_network, photograph, small_basis, motion):
    net, variables = random_network
    y = photograph[:40, :44]
    core = gx.deconvolution_core(small_basis, motion)
    out = jax.jit(net.apply)(variables, y[None, ..., None], core)
    assert out.shape == (1, 10, 14, 1)
    expected = reference_network(variables["params"], y, core)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(out[0], expected, atol=1e-5)


def test_methods_of_computing_give_the_same(random_network, photograph, small_basis, motion):
    _, variables = random_network
    core = gx.deconvolution_core(small_basis, motion)
    y = photograph[None, :40, :44, None]
    direct, spectral = (
        jax.jit(gx.DeconvNet(**SMALL, method=method).apply)(variables, y, core)
        for method in ("direct", "spectral")
    )
    np.testing.assert_allclose(spectral, direct, atol=1e-5)


def test_a_core_for_each_image(random_network, photograph, small_basis, motion):
    net, variables = random_network
    apply = jax.jit(net.apply)
    y = jnp.stack([photograph[:40, :44], photograph[40:80, 60:104]])[..., None]
    kernels = (motion, gx.gaussian_kernel(sigma=1.2, size=9))
    cores = jnp.stack([gx.deconvolution_core(small_basis, kernel) for kernel in kernels])
    together = apply(variables, y, cores)
    for n in range(2):
        single = apply(variables, y[n : n + 1], cores[n])
        np.testing.assert_allclose(together[n : n + 1], single, atol=1e-6)
    shared = apply(variables, y, cores[0])
    np.testing.assert_allclose(shared[0], together[0], atol=1e-6)
    assert jnp.abs(shared[1] - together[1]).max() > 1e-4


@pytest.mark.parametrize(
    ("y", "core", "quoted"),
    [
        ((40, 40, 1), (6, 6), r"\(40, 40, 1\)"),
        ((1, 40, 40, 3), (6, 6), r"\(1, 40, 40, 3\)"),
        ((1, 30, 40, 1), (6, 6), r"\(1, 30, 40, 1\).*support 31"),
        ((1, 40, 40, 1), (5, 6), r"\(6, 6\).*\(5, 6\)"),
        ((2, 40, 40, 1), (3, 6, 6), r"\(2, 6, 6\).*\(3, 6, 6\)"),
    ],
)
def test_the_network_refuses(random_network, y, core, quoted):
    net, variables = random_network
    with pytest.raises(ValueError, match=quoted):
        net.apply(variables, jnp.zeros(y), jnp.zeros(core))
