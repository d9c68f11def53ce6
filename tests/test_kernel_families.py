"""Random blur kernels: each draw is of its family and in its ranges, and all of them occur."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import glra_jax as gx
from glra_jax.inverses import sample_inverses
from glra_jax.kernel_families import FAMILIES, BlurFamily, blur_family

COUNT = 300
GAUSSIAN = gx.KernelFamilies(
    families=("gaussian",), min_size=5, max_size=11, min_sigma=0.9, max_sigma=3.0
)
DISK = gx.KernelFamilies(families=("disk",), min_size=5, max_size=11, min_radius=1.5)
MOTION = gx.KernelFamilies(families=("motion",), min_size=5, max_size=11)
PINNED = (
    0.0562189,
    0.0664252,
    0.434913,
    0.0423181,
    0.0174562,
    0.0245695,
)  # middle values of some draws


@cache
def draws(families):
    sample = jax.jit(jax.vmap(lambda key: gx.sample_kernel(key, families)))
    return np.asarray(sample(jax.random.split(jax.random.key(0), COUNT)), np.float64)


def half_windows(kernels):
    """Largest distance along an axis from the centre to a pixel that is not zero."""
    distance = np.abs(np.arange(kernels.shape[1]) - kernels.shape[1] // 2)
    far = np.maximum(distance[:, None], distance[None, :])
    return np.where(kernels > 0, far, 0).max(axis=(1, 2))


@pytest.mark.parametrize("families", [GAUSSIAN, DISK, MOTION])
def test_draws_are_kernels_of_one_shape(families):
    kernels = draws(families)
    assert kernels.shape == (COUNT, 11, 11)
    assert kernels.min() >= 0.0
    np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1.0, atol=1e-5)
    differences = np.abs(kernels[1:] - kernels[:-1]).sum(axis=(1, 2))
    assert differences.min() > 0.0


def test_gaussian_draws_are_cut_off_gaussians():
    kernels = draws(GAUSSIAN)
    sigma = 1.0 / np.sqrt(2.0 * np.log(kernels[:, 5, 5] / kernels[:, 5, 6]))
    assert sigma.min() > 0.9 - 1e-4
    assert sigma.max() < 3.0 + 1e-4
    assert scipy.stats.kstest(sigma, scipy.stats.uniform(0.9, 2.1).cdf).pvalue > 0.01
    half = half_windows(kernels)
    assert set(half) == {2, 3, 4, 5}  # every odd window from 5 to 11
    x = np.arange(11) - 5
    for kernel, s, h in zip(kernels, sigma, half, strict=True):
        profile = np.where(np.abs(x) <= h, np.exp(-(x**2) / (2 * s**2)), 0.0)
        expected = np.outer(profile, profile) / profile.sum() ** 2
        np.testing.assert_allclose(kernel, expected, atol=1e-5)


def test_disk_draws_are_disks_within_their_window():
    kernels = draws(DISK)
    radius = np.sqrt(1.0 / (np.pi * kernels[:, 5, 5]))
    assert radius.min() > 1.5 - 1e-4
    assert radius.max() < 5.5 + 1e-4
    assert radius.max() > 5.0
    disk = jax.jit(lambda radius: gx.disk_kernel(radius=radius, size=11))
    for kernel, r in zip(kernels, radius, strict=True):
        np.testing.assert_allclose(kernel, disk(r), atol=2e-5)


def test_motion_draws_reach_from_a_half_to_the_whole_of_their_window():
    kernels = draws(MOTION)
    half = half_windows(np.where(kernels > 1e-6, kernels, 0.0))
    assert half.max() == 5
    assert half.min() == 2  # a path that reaches 1 to 2 pixels, in the smallest window
    x = np.arange(11) - 5
    np.testing.assert_allclose((kernels * x[:, None]).sum(axis=(1, 2)), 0.0, atol=1e-4)
    np.testing.assert_allclose((kernels * x[None, :]).sum(axis=(1, 2)), 0.0, atol=1e-4)


def test_families_are_equally_likely_also_in_one_size():
    kernels = draws(gx.KernelFamilies(min_size=9, max_size=9))
    values = np.linalg.svd(kernels, compute_uv=False)
    separable = values[:, 1] < 1e-5 * values[:, 0]
    alike = np.abs(kernels - np.rot90(kernels, axes=(1, 2))).max(axis=(1, 2)) < 1e-5
    gaussian, disk, motion = separable & alike, alike & ~separable, ~alike
    # A third of 300 with a standard deviation of 8.
    for family in (gaussian, disk, motion):
        assert 75 < family.sum() < 125
    assert set(half_windows(kernels[gaussian])) == {4}


def test_draws_do_not_change_from_version_to_version():
    """The seed of a training run stands for the same kernels as ever."""
    values = [float(draws(families)[7, 5, 5]) for families in (GAUSSIAN, DISK, MOTION)]
    mixed = draws(gx.KernelFamilies(min_size=9, max_size=9))[:3, 4, 4]
    np.testing.assert_allclose([*values, *mixed], PINNED, rtol=1e-4)


# --- the registry --------------------------------------------------------------------------------


def test_families_are_listed_by_name():
    assert tuple(FAMILIES) == ("gaussian", "disk", "motion", "ellipse", "mixture")
    assert gx.KernelFamilies().families == ("gaussian", "disk", "motion")
    for name in FAMILIES:
        assert blur_family(name).name == name


@pytest.mark.parametrize("size", [9, 27])
def test_examples_are_of_middling_strength(size):
    key = jax.random.key(4)
    expected = {
        "gaussian": gx.gaussian_kernel(sigma=size / 10, size=size),
        "disk": gx.disk_kernel(radius=size / 6, size=size),
        "motion": gx.motion_kernel(key, size=size, extent=0.7 * (size // 2)),
    }
    for name, kernel in expected.items():
        np.testing.assert_array_equal(blur_family(name).example(size), kernel)


@pytest.mark.parametrize("name", ["box", "Gaussian", ""])
def test_an_unknown_family_is_quoted_beside_those_there_are(name):
    with pytest.raises(ValueError, match=f"motion, ellipse, mixture, got '{name}'"):
        blur_family(name)


def test_a_new_family_is_one_record(monkeypatch):
    def draw(key, families, half):
        offsets = jnp.abs(jnp.arange(families.max_size) - families.max_size // 2)
        reach = jax.random.randint(key, (), 1, half + 1)
        inside = (offsets <= reach).astype(jnp.float32)
        return inside[:, None] * inside

    monkeypatch.setitem(
        FAMILIES, "box", BlurFamily("box", draw, lambda size: jnp.full((size, size), size**-2.0))
    )
    kernels = draws(gx.KernelFamilies(families=("box",), min_size=5, max_size=7))
    half = half_windows(kernels)
    assert set(half) == {1, 2, 3}
    for kernel, h in zip(kernels, half, strict=True):
        assert np.allclose(kernel[kernel > 0], 1 / (2 * h + 1) ** 2)
    assert blur_family("box").example(3).sum() == pytest.approx(1.0)
    drawn = draws(gx.KernelFamilies(families=("disk", "box"), min_size=7, max_size=7))
    boxes = [np.ptp(kernel[kernel > 0]) < 1e-6 for kernel in drawn]
    assert 110 < sum(boxes) < 190


def test_a_kernel_is_a_function_of_its_key_with_jit_and_without():
    keys = jax.random.split(jax.random.key(0), COUNT)
    eager = gx.sample_kernel(keys[7], GAUSSIAN)
    assert eager.dtype == jnp.float32
    np.testing.assert_array_equal(eager, gx.sample_kernel(keys[7], GAUSSIAN))
    np.testing.assert_allclose(draws(GAUSSIAN)[7], eager, atol=1e-5)


def test_inverses_do_not_depend_on_how_many_are_made_at_once():
    key, inverse = jax.random.key(3), gx.Inverse(0.02)
    draw = partial(sample_inverses, key, GAUSSIAN, count=5, support=21, inverse=inverse)
    whole = draw()
    assert (whole.shape, whole.dtype) == ((5, 21, 21), jnp.float32)
    np.testing.assert_allclose(draw(chunk=3), whole, atol=1e-5)
    for one, inverse in zip(jax.random.split(key, 5), whole, strict=True):
        kernel = gx.sample_kernel(one, GAUSSIAN)
        expected = gx.pseudo_inverse(kernel, support=21, regularization=0.02)
        np.testing.assert_allclose(inverse, expected, atol=1e-4)


def test_inverses_are_smooth_for_a_range_of_noise_levels():
    """At one frequency, whose power of differences is P, 1 / (K† K) - 1 is (λ + μ P) / K²."""
    one_kernel = gx.KernelFamilies(
        families=("gaussian",), min_size=5, max_size=5, min_sigma=1.0, max_sigma=1.0
    )
    draw = partial(
        sample_inverses, jax.random.key(3), one_kernel, count=60, support=21, noise=(0.01, 0.05)
    )
    kernel = np.pad(np.float64(gx.gaussian_kernel(sigma=1.0, size=5)), 8)
    gain = np.fft.fft2(np.fft.ifftshift(kernel))[0, 4].real
    power = 4 * np.sin(np.pi * 4 / 21) ** 2

    def damping(inverses):
        centred = np.fft.ifftshift(np.float64(inverses), axes=(1, 2))
        return gain / np.fft.fft2(centred)[:, 0, 4].real - gain**2

    inverses = draw(inverse=gx.Inverse(0.02, noise_weight=100.0))
    levels = np.sqrt((damping(inverses) - 0.02) / power / 100.0)
    assert levels.min() > 0.0099
    assert levels.max() < 0.0501
    assert scipy.stats.kstest(levels, scipy.stats.uniform(0.01, 0.04).cdf).pvalue > 0.01
    plain = draw(inverse=gx.Inverse(0.02))
    np.testing.assert_allclose(damping(plain), 0.02, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "quoted"),
    [
        ({"families": ()}, ValueError, "families is empty.*gaussian, disk, motion"),
        ({"families": ("box",)}, ValueError, "'box'"),
        ({"min_size": 8}, ValueError, "odd, got 8"),
        ({"max_size": 28}, ValueError, "odd, got 28"),
        ({"min_size": 1}, ValueError, "at least 3, got 1"),
        ({"min_size": 9.0}, TypeError, r"9\.0"),
        ({"min_size": 15, "max_size": 13}, ValueError, "15.*13"),
        ({"min_sigma": 0.0}, ValueError, r"0\.0"),
        ({"min_sigma": 3.0, "max_sigma": 2.0}, ValueError, r"3\.0, 2\.0"),
        ({"min_radius": 0.0}, ValueError, r"0\.0"),
        ({"min_radius": 5.0}, ValueError, r"5\.0"),
    ],
)
def test_families_refuse(options, error, quoted):
    with pytest.raises(error, match=quoted):
        gx.KernelFamilies(**options)
