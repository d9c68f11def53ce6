"""CSF and FCNN: against NumPy in float64, and what their MATLAB files may not be."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io
import scipy.ndimage
from authors_weights_helpers import csf_model, fcnn_weights, write_fcnn

from experiments.baselines import AUTHORS_NETWORKS, boundaries, csf, fcnn
from experiments.evaluation.methods import collect

KERNEL = np.random.default_rng(1).uniform(size=(5, 3))
KERNEL /= KERNEL.sum()
Y = np.random.default_rng(2).uniform(size=(17, 20))
Y = 0.3 * Y + 0.4 * scipy.ndimage.gaussian_filter(Y, 2.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mat")
    scipy.io.savemat(folder / "csf_pw.mat", {"model": csf_model()})
    write_fcnn(folder)
    return folder


def spectrum_of(kernel, shape):
    grid = np.zeros(shape)
    grid[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.fft.fft2(np.roll(grid, [-(size // 2) for size in kernel.shape], axis=(0, 1)))


def taper_weight(kernel, shape):
    sides = []
    for axis, size in enumerate(shape):
        lags = np.fft.ifft(np.abs(np.fft.fft(kernel.sum(axis=1 - axis), size - 1)) ** 2).real
        sides.append(1 - np.append(lags, lags[0]) / lags[0])
    return np.outer(*sides)


def csf_in_numpy(y, kernel, model):
    """CSF of images in [0, 255], by correlation in space."""
    half = [size // 2 for size in kernel.shape]
    pads = [(size, size) for size in half]
    inside = tuple(slice(size, -size) for size in half)

    def extend(x):
        x = np.pad(x[inside] if x.shape != y.shape else x, pads, mode="edge")
        inner = taper_weight(kernel, x.shape)
        for _ in range(3):
            x = inner * x + (1 - inner) * scipy.ndimage.convolve(x, kernel, mode="wrap")
        return x

    observed = x = extend(255 * y)
    K = spectrum_of(kernel, observed.shape)
    for stage, weight in enumerate(model["lambda"][0]):
        numerator = weight * np.conj(K) * np.fft.fft2(observed)
        denominator = weight * np.abs(K) ** 2
        for filter_, shrink in zip(model["f"][:, stage], model["shrink"][:, stage], strict=True):
            differences = scipy.ndimage.convolve(x, filter_, mode="wrap")
            shrunk = sum(
                height * np.exp(-0.5 * 0.01 * (differences - mean) ** 2)
                for height, mean in zip(shrink["weights"][:, 0], shrink["means"][:, 0], strict=True)
            )
            back = scipy.ndimage.correlate(shrunk, filter_, mode="wrap")
            numerator = numerator + np.fft.fft2(back)
            denominator = denominator + np.abs(spectrum_of(filter_, x.shape)) ** 2
        x = extend(np.fft.ifft2(numerator / denominator).real)
    return x[inside] / 255


def test_csf_agrees_with_numpy(folder):
    weights = csf.read_csf(folder / "csf_pw.mat")
    found = csf.csf(jnp.float32(Y), jnp.float32(KERNEL), weights=weights)
    expected = csf_in_numpy(Y, KERNEL, csf_model())
    assert np.abs(expected - Y).max() > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-4)


def fcnn_in_numpy(y, kernel, level):
    """FCNN on circular blur."""
    data, steps = fcnn_weights(level)
    K = spectrum_of(kernel, y.shape)
    filters = [np.array([[0, 1.0, -1.0]]), np.array([[0], [1.0], [-1.0]])]
    spectra = [spectrum_of(filter_, y.shape) for filter_ in filters]

    def network(maps, layers):
        maps = maps[..., None]
        for number, (weights, bias) in enumerate(layers):
            margin = len(weights) // 2
            windows = np.lib.stride_tricks.sliding_window_view(
                np.pad(maps, ((margin, margin), (margin, margin), (0, 0))),
                weights.shape[:2],
                axis=(0, 1),
            )
            maps = np.einsum("hwiab,abio->hwo", windows, np.float64(weights), optimize=True) + bias
            maps = np.maximum(maps, 0) if number < 5 else maps
        return maps[..., 0]

    def deconvolve(weight, gradients):
        numerator = weight * np.conj(K) * np.fft.fft2(y)
        for spectrum, gradient in zip(spectra, gradients, strict=True):
            numerator = numerator + np.conj(spectrum) * np.fft.fft2(gradient)
        power = sum(np.abs(spectrum) ** 2 for spectrum in spectra)
        return np.fft.ifft2(numerator / (weight * np.abs(K) ** 2 + power + 1e-4)).real

    x = deconvolve(data[0], np.zeros((2, *y.shape)))
    for weight, layers in zip(data[1:], steps, strict=True):
        across, down = (scipy.ndimage.convolve(x, filter_, mode="wrap") for filter_ in filters)
        x = deconvolve(weight, [network(across, layers), network(down.T, layers).T])
    return x


@pytest.mark.parametrize(("noise", "level"), [(0.004, 0), (0.021, 1), (0.2, 2)])
def test_fcnn_agrees_with_numpy(folder, noise, level):
    """With the weights of the nearest level."""
    weights = fcnn.read_fcnn(folder / fcnn.FCNN.file)
    y, kernel = jnp.float32(Y), jnp.float32(KERNEL)
    found = fcnn.fcnn(y, kernel, weights=weights, noise=noise, boundary="wrap")
    expected = fcnn_in_numpy(np.float64(y), KERNEL, level)
    assert np.abs(expected - Y).max() > 0.05
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.ptp(expected))


def test_fcnn_continues_a_frame_as_its_authors_do():
    """By half the kernel to even sizes: harmonically, then blended with a Gaussian blur."""
    pads = fcnn.margins(Y.shape, (5, 9))
    assert pads == ((2, 3), (4, 4))
    sides = [np.exp(-0.5 * (np.arange(-n, n + 1) / ((2 * n + 1) / 6)) ** 2) for n in (2, 4)]
    gaussian = np.outer(*(side / side.sum() for side in sides))
    plain = np.float64(boundaries.continue_harmonically(jnp.float32(Y), pads))
    inner = np.pad(taper_weight(gaussian, Y.shape), pads)
    blurred = scipy.ndimage.convolve(plain, gaussian, mode="wrap")
    expected = inner * plain + (1 - inner) * blurred
    np.testing.assert_allclose(fcnn.extend(jnp.float32(Y), pads), expected, atol=1e-5)


def test_a_kernel_of_one_row(folder):
    """And an image of even sides, which leaves no margin to fill but one pixel."""
    weights = fcnn.read_fcnn(folder / fcnn.FCNN.file)
    shape = jax.eval_shape(
        lambda y: fcnn.fcnn(y, jnp.ones((1, 3)) / 3, weights=weights), jnp.zeros((16, 16))
    )
    assert shape.shape == (16, 16)


@pytest.mark.parametrize(("name", "read"), [("csf_pw.mat", csf.read_csf)])
def test_damaged_and_foreign_files(folder, tmp_path, name, read):
    path = tmp_path / name
    whole = (folder / name).read_bytes()
    path.write_bytes(b"<html>not found")
    with pytest.raises(ValueError, match="is not a MATLAB file but a web page"):
        read(path)
    for end in (130, 200, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"is not a whole MATLAB file .*truncated"):
            read(path)
    scipy.io.savemat(path, {"x": 3.0})
    with pytest.raises(ValueError, match=r"does not fit the network: missing model\.nfilters"):
        read(path)
    scipy.io.savemat(path, {"model": csf_model(deblurring=0)})
    with pytest.raises(ValueError, match="is a model for denoising"):
        read(path)
    model = csf_model()
    model["lambda"] = model["lambda"] * np.nan
    scipy.io.savemat(path, {"model": model})
    with pytest.raises(ValueError, match=r"model\.lambda holds NaN"):
        read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere.mat")


def test_fcnn_names_the_file_that_is_missing_or_wrong(folder, tmp_path):
    for name in fcnn.FILES:
        shutil.copy(folder / name, tmp_path)
    (told,) = collect(["fcnn"], [], noise=0.01, authors_weights=tmp_path)
    assert told.about["source"] == "fcnn_noise0.01_lambda.mat"
    assert list(told.about["beside"]) == list(fcnn.FILES[1:])
    wrong = tmp_path / "fcnn_noise0.03_iter2.mat"
    scipy.io.savemat(wrong, {"lambda": np.ones((4, 1))})
    with pytest.raises(ValueError, match=r"noise0\.03_iter2\.mat does not fit the network"):
        collect(["fcnn"], [], noise=0.01, authors_weights=tmp_path)
    wrong.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no fcnn_noise0\.03_iter2\.mat, which 'fcnn'"):
        collect(["fcnn"], [], noise=0.01, authors_weights=tmp_path)


def test_csf_refuses_small_images():
    with pytest.raises(ValueError, match=r"\(2, 9\) is too small for csf"):
        AUTHORS_NETWORKS["csf"].restore(jnp.zeros((2, 9)), jnp.ones((1, 1)), weights=None)
