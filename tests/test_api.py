"""The public API holds to its conventions: names, signatures, docstrings, dtypes, transforms."""

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx

PUBLIC = {name: getattr(gx, name) for name in gx.__all__}
FUNCTIONS = {name: thing for name, thing in PUBLIC.items() if inspect.isfunction(thing)}
CLASSES = {name: thing for name, thing in PUBLIC.items() if inspect.isclass(thing)}
CONTRACT = {
    "DeconvNet",
    "deconvolve",
    "degrade",
    "disk_kernel",
    "fit_glra",
    "gaussian_kernel",
    "load_model",
    "motion_kernel",
    "project",
    "pseudo_inverse",
    "psnr",
    "reconstruct",
    "save_model",
    "ssim",
    "ssim_volume",
}


# --- names ---------------------------------------------------------------------------------------


def test_all_public_names_are_listed():
    assert sorted(set(gx.__all__)) == list(gx.__all__)
    assert set(gx.__all__) >= CONTRACT
    visible = {
        name
        for name, thing in vars(gx).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }
    assert visible == set(gx.__all__)
    assert set(FUNCTIONS) | set(CLASSES) == set(gx.__all__)


def test_the_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", gx.__version__)


# --- signatures and docstrings -------------------------------------------------------------------


def sections(thing):
    """Google sections of a docstring: title to text."""
    doc = inspect.getdoc(thing)
    pieces = re.split(r"^(Args|Attributes|Returns|Yields|Raises):$", doc, flags=re.MULTILINE)
    return {"": pieces[0]} | dict(zip(pieces[1::2], pieces[2::2], strict=True))


def described(section):
    """Names that a section describes, in order."""
    return re.findall(r"^  (\w+): \S", section, flags=re.MULTILINE)


def parameters(function):
    return list(inspect.signature(function).parameters.values())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_are_keyword_only_and_typed(name):
    for parameter in parameters(FUNCTIONS[name]):
        assert parameter.annotation is not parameter.empty, parameter
        if parameter.default is not parameter.empty and parameter.name not in ("model", "basis"):
            assert parameter.kind is parameter.KEYWORD_ONLY, parameter
    assert inspect.signature(FUNCTIONS[name]).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_key_comes_first(name):
    names = [parameter.name for parameter in parameters(FUNCTIONS[name])]
    assert "key" not in names[1:]
    assert not {"rng", "seed"} & set(names)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_describe_arguments_results_and_errors(name):
    function, found = FUNCTIONS[name], sections(FUNCTIONS[name])
    summary = found[""].split("\n\n")[0]
    assert summary.rstrip().endswith(".") or ":" in summary
    arguments = [parameter.name for parameter in parameters(function)]
    assert described(found.get("Args", "")) == arguments
    returns = inspect.signature(function).return_annotation
    assert ("Returns" in found) == (returns not in (None, "None"))
    if can_raise(function):
        assert described(found.get("Raises", "")), "nothing under Raises"


def can_raise(function):
    """Whether a function raises errors, itself or through the checks that it calls."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.startswith(("check_", "_check", "validation.check_")):
                return True
    return False


@pytest.mark.parametrize("name", CLASSES)
def test_classes_describe_their_attributes(name):
    cls = CLASSES[name]
    if dataclasses.is_dataclass(cls):
        fields = [field.name for field in dataclasses.fields(cls)]
    else:
        fields = list(cls._fields)
    fields = [field for field in fields if field not in ("parent", "name")]  # Flax's own
    if dataclasses.is_dataclass(cls) and not fields:  # a contract: what stands in its class
        fields = [name for name in vars(cls)["__annotations__"]]
    assert described(sections(cls)["Attributes"]) == fields


# --- arrays --------------------------------------------------------------------------------------

KERNEL = np.outer([1, 2, 1, 0], [1, 3, 0]) / 16
IMAGE = np.linspace(0.1, 0.9, 14 * 15).reshape(14, 15)
FAMILIES = gx.KernelFamilies(min_size=5, max_size=7)


@pytest.fixture(scope="module")
def calls(small_model):
    """Every public function of arrays, as one of its float arguments, which come in any float."""
    basis, model, key = small_model.constants, small_model, jax.random.key(1)
    return {
        "airy_kernel": (lambda radius: gx.airy_kernel(radius=radius, size=7), np.array(2.3)),
        "blur": (gx.blur, IMAGE, KERNEL),
        "correlate": (gx.correlate, IMAGE[None, ..., None], KERNEL[..., None, None]),
        "deconvolution_core": (
            lambda kernel, noise: gx.deconvolution_core(
                basis, kernel, inverse=gx.Inverse(0.01, 2.0), noise=noise
            ),
            KERNEL,
            np.array(0.02),
        ),
        "blur_varying": (
            lambda x, kernel: gx.blur_varying(x, jnp.stack([kernel] * 2)[None], ([1], [2, 5])),
            IMAGE,
            KERNEL,
        ),
        "deconvolve": (lambda y, kernel: gx.deconvolve(y, kernel, model), IMAGE, KERNEL),
        "deconvolve_linear": (
            lambda y, kernel: gx.deconvolve_linear(y, kernel, basis, inverse=gx.Inverse()),
            IMAGE,
            KERNEL,
        ),
        "degrade": (lambda x, kernel: gx.degrade(key, x, kernel), IMAGE, KERNEL),
        "disk_kernel": (lambda radius: gx.disk_kernel(radius=radius, size=7), np.array(2.3)),
        "estimate_noise": (gx.estimate_noise, IMAGE),
        "estimate_noise_by_channel": (gx.estimate_noise_by_channel, IMAGE[..., None]),
        "expected_error": (
            lambda restored, y: gx.expected_error(restored, y, np.float32(KERNEL), noise=0.01),
            IMAGE,
            IMAGE**2,
        ),
        "fit_glra": (lambda kernels: gx.fit_glra(kernels, rank=2), np.stack([np.eye(5)] * 2)),
        "gaussian_kernel": (lambda sigma: gx.gaussian_kernel(sigma=sigma, size=7), np.array(1.1)),
        "init_params": (lambda: gx.init_params(key, basis, features=16),),
        "initial_model": (lambda: gx.initial_model(key, gx.Glra(31, 6, 16), basis),),
        "moffat_kernel": (
            lambda alpha, beta: gx.moffat_kernel(alpha=alpha, beta=beta, size=7),
            np.array(1.7),
            np.array(2.5),
        ),
        "motion_kernel": (
            lambda extent: gx.motion_kernel(key, size=7, extent=extent),
            np.array(2.5),
        ),
        "normalize_kernel": (gx.normalize_kernel, KERNEL),
        "prepare": (lambda kernel: gx.prepare(model, kernel, tile=(8, 8)), KERNEL),
        "project": (lambda kernel: gx.project(basis, kernel), np.eye(31)),
        "pseudo_inverse": (lambda kernel: gx.pseudo_inverse(kernel, support=9), KERNEL),
        "psnr": (gx.psnr, IMAGE, IMAGE**2),
        "reconstruct": (lambda core: gx.reconstruct(basis, core), np.eye(6)),
        "sample_kernel": (lambda: gx.sample_kernel(key, FAMILIES),),
        "sharp_target": (gx.sharp_target, IMAGE),
        "ssim": (gx.ssim, IMAGE, IMAGE**2),
        "ssim_volume": (gx.ssim_volume, IMAGE, IMAGE**2),
    }


HOST_ONLY = {
    "available_models",
    "deconvolve_varying",
    "even_tile",
    "load_calibration",
    "load_model",
    "refine_kernel",
    "restore_large",
    "restore_varying",
    "save_model",
}


def assert_strong_float32(tree):
    leaves = jax.tree.leaves(tree)
    assert leaves
    for leaf in leaves:
        assert leaf.dtype == jnp.float32, leaf
        assert not leaf.weak_type, leaf


def test_no_function_is_left_out(calls):
    assert set(calls) | HOST_ONLY == set(FUNCTIONS)


ARRAY_FUNCTIONS = sorted(set(FUNCTIONS) - HOST_ONLY)


@pytest.mark.parametrize("name", ARRAY_FUNCTIONS)
def test_float32_gives_float32_under_jit(calls, name):
    function, *arrays = calls[name]
    assert_strong_float32(jax.eval_shape(function, *(np.float32(array) for array in arrays)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ARRAY_FUNCTIONS)
def test_arrays_may_be_constants_of_a_jitted_function(calls, name, dtype):
    """Also NumPy's float64, which JAX takes for float32, without a warning."""
    function, *arrays = calls[name]
    assert_strong_float32(jax.eval_shape(lambda: function(*(dtype(array) for array in arrays))))


# --- import --------------------------------------------------------------------------------------


def test_importing_has_no_side_effects():
    """No backend is started, no logging is set up and nothing heavy is loaded."""
    code = """
        import logging, sys
        import glra_jax
        heavy = {"matplotlib", "orbax", "skimage", "tensorflow_datasets", "torch"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        root = logging.getLogger()
        assert not root.handlers and root.level == logging.WARNING
        import jax
        jax.config.update("jax_num_cpu_devices", 3)  # refused once a backend has started
        assert jax.device_count("cpu") == 3
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)
