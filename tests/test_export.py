"""What training and restoring hand to a GPU or TPU, lowered without one: nothing of the CPU's own.

Lowering is where an operation that a platform lacks is refused. XLA's compilers of the platforms,
memory and speed are not asked here.
"""

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from glra_jax.datasets import pack_photographs
from glra_jax.inverses import Inverse
from glra_jax.networks import Glra, Unrolled
from glra_jax.networks.convolution import Convolution
from glra_jax.training.config import TrainConfig
from glra_jax.training.step import create_state, data_mesh, initial_params, make_train_step

ACCELERATORS = ("cuda", "tpu")
# SOAP's eigenvalues and rotations, and the least-squares core's, as libraries of the platforms.
LIBRARY_CALLS = {
    "cuda": {"cusolver_geqrf_ffi", "cusolver_orgqr_ffi", "cusolver_syevd_ffi"},
    "tpu": {"Eigh", "ProductOfElementaryHouseholderReflectors", "Qr"},
}

UNROLLED = TrainConfig(
    architecture=Unrolled(stages=2, features=4, blocks=1),
    batch=4,
    patch=96,
    protocols=("paper", "camera"),
    noise=(0.0, 0.05),
    told_noise=0.2,
    estimated_noise=0.5,
    wrong_kernels=0.5,
    grey=0.5,
    kernels=gx.KernelFamilies(families=("gaussian", "motion"), max_size=9),
    loss="psnr-ssim",
    optimizer="adamw",
    clip_norm=20.0,
    average=0.9,
)
FAITHFUL = TrainConfig(
    architecture=Glra(31, 6, 16, Inverse(0.0005, 20.0, "least-squares")),
    batch=2,
    patch=64,
    kernels=gx.KernelFamilies(families=("gaussian",), max_size=9),
)


def custom_calls(program: str) -> set[str]:
    """Functions outside XLA that a lowered program calls, by name."""
    return set(re.findall(r"custom_call\s+@\"?([^\s\"(]+)", program))


def lowered_step(config: TrainConfig, *platforms: str) -> str:
    """The training step on two devices, of arrays that nobody has computed."""
    channels = max(config.architecture.joint_channels)
    pixels = np.zeros((120, 130, channels)[: 3 if channels > 1 else 2], np.uint8)
    photographs = pack_photographs([pixels], channels=channels)
    constants = config.architecture.abstract_constants()
    params = jax.eval_shape(partial(initial_params, config), constants)
    state = jax.eval_shape(partial(create_state, config), params)
    step = make_train_step(config, data_mesh(2, jax.devices()[:2]))
    return lowered(step, platforms, state, photographs, constants)


def lowered(function, platforms, *arguments) -> str:
    exported = jax.export.export(function, platforms=platforms)(*arguments)
    assert exported.platforms == tuple(platforms)
    program = exported.mlir_module()
    assert not re.search(r"\bf64\b|xf64\b", program)
    return program


def test_the_training_step_of_the_default_network_is_xla_alone():
    program = lowered_step(UNROLLED, *ACCELERATORS)
    assert custom_calls(program) == set()
    assert "stablehlo.all_reduce" in program  # of the two devices' gradients
    assert "stablehlo.fft" in program


def test_in_bfloat16_every_convolution_of_the_step_is():
    """Forward, and of both gradients."""
    half = replace(
        UNROLLED,
        architecture=Unrolled(stages=1, features=4, blocks=1),
        protocols=("paper",),
        loss="psnr",
        estimated_noise=0.0,
        wrong_kernels=0.0,
        precision="bfloat16",
    )
    program = lowered_step(half, *ACCELERATORS)
    layers = re.findall(r"stablehlo\.convolution\(.*: (.*)", program)
    assert len(layers) >= 3 * 7
    assert not [line for line in layers if "f32" in line]
    assert custom_calls(program) == set()


@pytest.mark.parametrize("platform", ACCELERATORS)
def test_that_of_the_faithful_network_calls_the_platforms_library(platform):
    assert custom_calls(lowered_step(FAITHFUL, platform)) <= LIBRARY_CALLS[platform]
    soap = custom_calls(lowered_step(replace(FAITHFUL, optimizer="soap"), platform))
    assert soap
    assert soap <= LIBRARY_CALLS[platform]


def test_a_call_of_the_cpus_library_would_be_found():
    matrix = jax.ShapeDtypeStruct((3, 3), jnp.float32)
    (call,) = custom_calls(lowered(jax.jit(jnp.linalg.eigh), ("cpu",), matrix))
    assert call.startswith("lapack_")


@pytest.mark.parametrize("noise", [None, 0.01])
def test_restoring_with_the_default_network_is_xla_alone(noise):
    params = jax.eval_shape(partial(initial_params, UNROLLED), {})
    y, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((40, 48, 3), (9, 9)))
    model = gx.Model(UNROLLED.architecture, {}, params)

    @jax.jit
    def restore(y, kernel, model):
        return gx.deconvolve(y, kernel, model, noise=noise)

    assert custom_calls(lowered(restore, ACCELERATORS, y, kernel, model)) == set()


def test_the_convolutions_products_stay_on_the_cpu():
    """The gradient by nine products is faster there alone."""
    layer = Convolution(4, jax.nn.initializers.he_normal())
    x = jnp.zeros((1, 8, 8, 5))
    params = jax.eval_shape(layer.init, jax.random.key(0), x)
    slope = jax.jit(jax.grad(lambda params: layer.apply(params, x).sum()))
    products = [
        lowered(slope, platforms, params).count("stablehlo.dot_general")
        for platforms in (("cpu",), ACCELERATORS)
    ]
    assert products == [9, 0]
