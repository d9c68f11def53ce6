"""Non-blind image deconvolution by generalized low-rank approximation, in JAX and Flax.

A reimplementation of Ren et al., "Deep Non-Blind Deconvolution via Generalized Low-Rank
Approximation" (NeurIPS 2018). Arrays: float32 images in [0, 1], channels last; blur kernels 2-D,
sum 1, centre at `size // 2`; blurring is true convolution.
"""

# isort: off
from glra_jax import starting  # noqa: F401  # before what takes long

# isort: on
from glra_jax.blurring import blur
from glra_jax.cores import deconvolution_core
from glra_jax.correlation.correlate import correlate
from glra_jax.degradation import degrade, sharp_target
from glra_jax.error_maps import ErrorCalibration, expected_error, load_calibration
from glra_jax.glra import fit_glra
from glra_jax.inverses import Inverse, pseudo_inverse
from glra_jax.kernel_families import KernelFamilies, sample_kernel
from glra_jax.kernel_refinement import RefinedKernel, refine_kernel
from glra_jax.kernels import disk_kernel, gaussian_kernel, motion_kernel, normalize_kernel
from glra_jax.large_images import restore_large
from glra_jax.lowrank import Basis, project, reconstruct
from glra_jax.metrics import psnr, ssim, ssim_volume
from glra_jax.model import Model, initial_model
from glra_jax.model_files import available_models, load_model, save_model
from glra_jax.networks import Architecture, Glra, Unrolled
from glra_jax.networks.data_step import DataStep
from glra_jax.networks.deconv_net import DeconvNet
from glra_jax.networks.initialization import init_params
from glra_jax.noise import NoiseModel, estimate_noise, estimate_noise_by_channel
from glra_jax.optical_kernels import airy_kernel, moffat_kernel
from glra_jax.restoration import deconvolve, deconvolve_linear
from glra_jax.restorer import Restorer, even_tile, prepare
from glra_jax.varying import blur_varying, deconvolve_varying, restore_varying

__version__ = "0.2.0"

__all__ = [
    "Architecture",
    "Basis",
    "DataStep",
    "DeconvNet",
    "ErrorCalibration",
    "Glra",
    "Inverse",
    "KernelFamilies",
    "Model",
    "NoiseModel",
    "RefinedKernel",
    "Restorer",
    "Unrolled",
    "airy_kernel",
    "available_models",
    "blur",
    "blur_varying",
    "correlate",
    "deconvolution_core",
    "deconvolve",
    "deconvolve_linear",
    "deconvolve_varying",
    "degrade",
    "disk_kernel",
    "estimate_noise",
    "estimate_noise_by_channel",
    "even_tile",
    "expected_error",
    "fit_glra",
    "gaussian_kernel",
    "init_params",
    "initial_model",
    "load_calibration",
    "load_model",
    "moffat_kernel",
    "motion_kernel",
    "normalize_kernel",
    "prepare",
    "project",
    "pseudo_inverse",
    "psnr",
    "reconstruct",
    "refine_kernel",
    "restore_large",
    "restore_varying",
    "sample_kernel",
    "save_model",
    "sharp_target",
    "ssim",
    "ssim_volume",
]


def __getattr__(name: str) -> object:
    """Finds the names of version 0.1 that are deprecated."""
    if name == "ModelConfig":
        from glra_jax.deprecated.keywords import warn
        from glra_jax.deprecated.model_config import ModelConfig

        warn("glra_jax.ModelConfig", "glra_jax.Glra, an architecture")
        return ModelConfig
    if name == "smoothness_for":
        from glra_jax.deprecated.smoothness import smoothness_for

        return smoothness_for
    if name == "caffe":
        from glra_jax.deprecated.keywords import warn
        from glra_jax.interop import caffe

        warn("glra_jax.caffe", "glra_jax.interop.caffe")
        return caffe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
