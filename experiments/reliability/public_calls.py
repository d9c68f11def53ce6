"""A small call of every public function of `glra_jax`, for checks that hold for all of them."""

import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import glra_jax as gx
from experiments.reliability.model_seeds import FEATURES, SUPPORT, complete_model
from experiments.reliability.photo_seeds import kernel
from glra_jax.error_maps import FEATURES as FEATURES_OF_ERRORS

_SIDE = 16
_CENTRES = (np.array([4.0]), np.array([4.0, 12.0]))

_CALIBRATION = Path(gx.__file__).parent / "weights" / "unrolled-error.json"
_COEFFICIENTS = np.zeros(len(FEATURES_OF_ERRORS), np.float32)


@dataclass(frozen=True)
class Call:
    """A call of a public function.

    Attributes:
      run: makes the call, given arrays by the names that the function has for them.
      arrays: good ones, float32.
      random: whether what comes out is drawn, so that another precision draws other numbers.
    """

    run: Callable[..., Any]
    arrays: Mapping[str, Any] = field(default_factory=dict)
    random: bool = False

    def __call__(self) -> Any:
        """Makes the call with the good arrays."""
        return self.run(**self.arrays)


@functools.cache
def calls() -> dict[str, Call]:
    """The calls, by the names in `glra_jax.__all__`."""
    rng = np.random.default_rng(0)
    smooth = 0.3 + 0.4 * np.outer(np.hanning(_SIDE), np.hanning(_SIDE))
    x = _single(smooth + 0.01 * rng.standard_normal((_SIDE, _SIDE)))
    rgb = _single(np.stack([x, 0.9 * x, 0.8 * x], axis=-1))
    k = _single(kernel())
    kernels = _single(np.stack([[k, k.T]]))
    model = complete_model()
    basis = model.constants
    key = jax.random.key(0)
    glra, families = gx.Glra(SUPPORT, SUPPORT, FEATURES), gx.KernelFamilies(max_size=9)

    return {
        "Architecture": Call(lambda: isinstance(glra, gx.Architecture)),
        "Basis": Call(
            lambda left, right: gx.Basis(left, right),
            {"left": np.asarray(basis.left), "right": np.asarray(basis.right)},
        ),
        "DataStep": Call(lambda: gx.DataStep(regularization=0.01).regularization),
        "DeconvNet": Call(
            lambda y, cores: gx.DeconvNet(SUPPORT, SUPPORT, FEATURES).apply(
                {"params": model.params}, y, cores
            ),
            {"y": x[None, :, :, None], "cores": np.ones((1, SUPPORT, SUPPORT), np.float32)},
        ),
        "ErrorCalibration": Call(lambda: gx.ErrorCalibration(_COEFFICIENTS).coefficients),
        "Glra": Call(lambda: gx.Glra(SUPPORT, SUPPORT, FEATURES).halo),
        "Inverse": Call(lambda: gx.Inverse(regularization=0.02).regularization),
        "KernelFamilies": Call(lambda: gx.KernelFamilies(max_size=9).max_size),
        "Model": Call(lambda: gx.Model(model.architecture, model.constants, model.params).params),
        "NoiseModel": Call(
            lambda level: gx.NoiseModel(level, 0.0).level, {"level": np.float32(0.01)}
        ),
        "RefinedKernel": Call(
            lambda: gx.RefinedKernel(jnp.asarray(k), 1.0, 0.0, 2.0, 1.0).objective
        ),
        "Restorer": Call(
            lambda y: gx.prepare(model, jnp.asarray(k), tile=(24, 24), noise=0.01)(y), {"y": x}
        ),
        "Unrolled": Call(lambda: gx.Unrolled(stages=1, features=2, blocks=1).halo),
        "airy_kernel": Call(lambda: gx.airy_kernel(radius=2.0, size=9)),
        "available_models": Call(lambda: len(gx.available_models())),
        "blur": Call(lambda x, kernel: gx.blur(x, kernel), {"x": rgb, "kernel": k}),
        "blur_varying": Call(
            lambda x, kernels: gx.blur_varying(x, kernels, _CENTRES), {"x": x, "kernels": kernels}
        ),
        "correlate": Call(
            lambda x, filters: gx.correlate(x, filters),
            {"x": rgb[None], "filters": _single(rng.standard_normal((3, 3, 3, 2)))},
        ),
        "deconvolution_core": Call(
            lambda kernel: gx.deconvolution_core(basis, kernel), {"kernel": k}
        ),
        "deconvolve": Call(
            lambda y, kernel: gx.deconvolve(y, kernel, model), {"y": rgb, "kernel": k}
        ),
        "deconvolve_linear": Call(
            lambda y, kernel: gx.deconvolve_linear(y, kernel, basis), {"y": x, "kernel": k}
        ),
        "deconvolve_varying": Call(
            lambda y, kernels: gx.deconvolve_varying(y, kernels, _CENTRES, model, noise=0.01),
            {"y": x, "kernels": kernels},
        ),
        "degrade": Call(
            lambda x, kernel: gx.degrade(key, x, kernel), {"x": rgb, "kernel": k}, random=True
        ),
        "disk_kernel": Call(lambda: gx.disk_kernel(radius=2.5, size=9)),
        "estimate_noise": Call(lambda y: gx.estimate_noise(y), {"y": x}),
        "estimate_noise_by_channel": Call(lambda y: gx.estimate_noise_by_channel(y), {"y": rgb}),
        "even_tile": Call(lambda: gx.even_tile(700, 500)),
        "expected_error": Call(
            lambda restored, y, kernel: gx.expected_error(
                restored, y, kernel, noise=0.01, calibration=gx.ErrorCalibration(_COEFFICIENTS)
            ),
            {"restored": x, "y": _single(0.9 * x), "kernel": k},
        ),
        "fit_glra": Call(lambda kernels: _kept(kernels), {"kernels": np.stack([k, k.T])}),
        "gaussian_kernel": Call(lambda: gx.gaussian_kernel(sigma=1.5, size=9)),
        "init_params": Call(lambda: gx.init_params(key, basis, features=FEATURES), random=True),
        "initial_model": Call(lambda: gx.initial_model(key, glra, basis).params, random=True),
        "load_calibration": Call(lambda: gx.load_calibration(_CALIBRATION).coefficients),
        "load_model": Call(lambda: _saved_and_loaded(model)),
        "moffat_kernel": Call(lambda: gx.moffat_kernel(beta=2.5, fwhm=2.0, size=9)),
        "motion_kernel": Call(lambda: gx.motion_kernel(key, size=9), random=True),
        "normalize_kernel": Call(
            lambda kernel: gx.normalize_kernel(kernel), {"kernel": _single(3 * k)}
        ),
        "prepare": Call(
            lambda kernel: gx.prepare(model, kernel, tile=(24, 24), noise=0.01)(x), {"kernel": k}
        ),
        "project": Call(lambda kernel: gx.project(basis, kernel), {"kernel": k}),
        "pseudo_inverse": Call(
            lambda kernel: gx.pseudo_inverse(kernel, support=15), {"kernel": k}
        ),
        "psnr": Call(
            lambda image, reference: gx.psnr(image, reference),
            {"image": x, "reference": _single(smooth)},
        ),
        "reconstruct": Call(
            lambda core: gx.reconstruct(basis, core), {"core": np.eye(SUPPORT, dtype=np.float32)}
        ),
        "refine_kernel": Call(
            lambda y, kernel: gx.refine_kernel(
                y, kernel, largest_scale=1.0, largest_angle=0.0
            ).kernel,
            {"y": np.tile(x, (4, 4)), "kernel": k},
        ),
        "restore_large": Call(lambda: _restored_large(model, x, k)),
        "restore_varying": Call(
            lambda y, kernels: gx.restore_varying(
                lambda part, kernel: part, y, kernels, _CENTRES, distance=2
            ),
            {"y": x, "kernels": kernels},
        ),
        "sample_kernel": Call(lambda: gx.sample_kernel(key, families), random=True),
        "save_model": Call(lambda: _saved_and_loaded(model)),
        "sharp_target": Call(lambda x: gx.sharp_target(x), {"x": rgb}),
        "ssim": Call(
            lambda image, reference: gx.ssim(image, reference),
            {"image": x, "reference": _single(smooth)},
        ),
        "ssim_volume": Call(
            lambda image, reference: gx.ssim_volume(image, reference),
            {"image": rgb, "reference": _single(np.repeat(smooth[..., None], 3, axis=-1))},
        ),
    }  # fmt: skip


def _single(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32)


def _restored_large(model: gx.Model, y: np.ndarray, k: np.ndarray) -> np.ndarray:
    out = np.empty_like(y)
    gx.restore_large(gx.prepare(model, jnp.asarray(k), tile=(24, 24), noise=0.01), y, out)
    return out


def _kept(kernels: Any) -> Any:
    """What a fitted basis keeps of kernels: the basis itself may turn."""
    basis, _ = gx.fit_glra(kernels, rank=2, num_iters=2)
    return jnp.stack([gx.reconstruct(basis, gx.project(basis, kernel)) for kernel in kernels])


def _saved_and_loaded(model: gx.Model) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        gx.save_model(model, path)
        return gx.load_model(path).params
