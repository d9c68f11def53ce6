"""Restorations against arrays of an earlier version: models of the package and of older files.

`tests/README.md` says how `data/restorations.npz` was made.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

import glra_jax as gx

DATA = Path(__file__).with_name("data")
# Bits vary between types of processor, numbers of threads and versions of XLA; nothing else may
# change a restoration. Found between AVX2 and SSE 4.2: 1e-6, and 1e-5 with cores by least squares
# at full size, which are solved in steps.
ROUNDING = 2e-6
ROUNDING_OF_STEPS = 2e-5
MODELS = ("glra", "glra-random-init", "glra-release")


@pytest.fixture(scope="module")
def stored() -> Mapping[str, np.ndarray]:
    with np.load(DATA / "restorations.npz") as arrays:
        return dict(arrays)


def assert_as_stored(
    found: jax.Array | np.ndarray, expected: np.ndarray, *, atol: float = ROUNDING
) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


# --- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gaussian", "disk", "motion"])
def test_kernels_and_blurred_photographs(stored: Mapping[str, np.ndarray], family: str) -> None:
    kernel = {
        "gaussian": gx.gaussian_kernel(sigma=1.7, size=15),
        "disk": gx.disk_kernel(radius=3.2, size=11),
        "motion": gx.motion_kernel(jax.random.key(4), size=14, extent=4.0),
    }[family]
    assert_as_stored(kernel, stored[f"kernel.{family}"])
    x = jnp.asarray(skimage.data.chelsea()[60:108, 150:206] / 255.0, jnp.float32)
    y = gx.degrade(jax.random.key(1), x, kernel, protocol="paper", noise=0.01)
    assert_as_stored(y, stored[f"blurred.{family}"])
    if family == "disk":
        y = gx.degrade(jax.random.key(1), x, kernel, protocol="release", noise=0.01)
        assert_as_stored(y[::2, ::2], stored["release"])


# --- files of older formats ----------------------------------------------------------------------


def restore_linearly(
    y: jax.Array,
    kernel: jax.Array,
    model: gx.Model,
    *,
    noise: float | None = None,
    **changes: float,
) -> jax.Array:
    """With a model's basis and inverse."""
    inverse = replace(model.architecture.default_inverse, **changes)
    return gx.deconvolve_linear(y, kernel, model.constants, inverse=inverse, noise=noise)


@pytest.mark.parametrize("number", [1, 2])
def test_models_of_older_formats(stored: Mapping[str, np.ndarray], number: int) -> None:
    model = gx.load_model(DATA / f"format-{number}.safetensors")
    y, kernel = (jnp.asarray(stored[f"small.{name}"]) for name in ("blurred", "kernel"))
    whole = gx.deconvolve(y, kernel, model, noise=0.01)
    assert_as_stored(whole, stored[f"format-{number}.whole"])
    tiles = gx.prepare(model, kernel, tile=(10, 12), noise=0.01)(np.asarray(y))
    assert_as_stored(tiles, stored[f"format-{number}.tiles"])
    linear = restore_linearly(y, kernel, model, noise=0.01)
    assert_as_stored(linear, stored[f"format-{number}.linear"])


@pytest.mark.parametrize("number", [1, 2])
def test_a_model_of_an_older_format_is_written_in_todays(
    stored: Mapping[str, np.ndarray], number: int, tmp_path: Path
) -> None:
    gx.save_model(gx.load_model(DATA / f"format-{number}.safetensors"), tmp_path / "new")
    y, kernel = (jnp.asarray(stored[f"small.{name}"]) for name in ("blurred", "kernel"))
    whole = gx.deconvolve(y, kernel, gx.load_model(tmp_path / "new"), noise=0.01)
    assert_as_stored(whole, stored[f"format-{number}.whole"])


# --- models of the package -----------------------------------------------------------------------


def network_alone(model: gx.Model) -> gx.Model:
    """The model as it was before steps back to the data."""
    alone = replace(model.architecture, data_step=gx.DataStep())
    return replace(model, architecture=alone)


def photograph() -> jax.Array:
    return jnp.asarray(skimage.data.chelsea()[:200, :180] / 255.0, jnp.float32)


# Those of one family only: each kind is compiled anew for every model.
RESTORATIONS: dict[str, Callable[[gx.Model, jax.Array, jax.Array], jax.Array | np.ndarray]] = {
    "gaussian": lambda model, y, kernel: gx.deconvolve(y, kernel, model),
    "disk.linear": lambda model, y, kernel: restore_linearly(y, kernel, model),
    "motion.tiles": lambda model, y, kernel: gx.prepare(model, kernel, tile=(32, 40), noise=0.01)(
        np.asarray(y)
    ),
    "gaussian.linear60": lambda model, y, kernel: restore_linearly(
        y, kernel, model, noise=0.01, noise_weight=60.0
    ),
    "disk.told": lambda model, y, kernel: gx.deconvolve(y, kernel, model, noise=0.01),
    "disk.wrap": lambda model, y, kernel: gx.deconvolve(
        y[..., 0],
        kernel,
        model,
        boundary="wrap",
        inverse=replace(model.architecture.default_inverse, regularization=0.003),
    ),
    "disk.valid": lambda model, y, kernel: gx.deconvolve(
        photograph(), kernel, model, boundary="valid", noise=0.01
    ),
}


# What the models of the package restore is held by their scores in `test_shipped_models.py` too.
@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", RESTORATIONS)
def test_models_of_the_package(stored: Mapping[str, np.ndarray], name: str, kind: str) -> None:
    family = kind.partition(".")[0]
    y, kernel = (jnp.asarray(stored[f"{part}.{family}"]) for part in ("blurred", "kernel"))
    restored = RESTORATIONS[kind](network_alone(gx.load_model(name)), y, kernel)
    atol = ROUNDING if name == "glra-random-init" else ROUNDING_OF_STEPS
    # Every second pixel is kept.
    assert_as_stored(restored[::2, ::2], stored[f"{name}.{kind}"], atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["motion.tiles", "disk.wrap"])
def test_the_step_of_the_default_model(stored: Mapping[str, np.ndarray], kind: str) -> None:
    family = kind.partition(".")[0]
    y, kernel = (jnp.asarray(stored[f"{part}.{family}"]) for part in ("blurred", "kernel"))
    restored = RESTORATIONS[kind](gx.load_model("glra"), y, kernel)
    atol = 5 * ROUNDING_OF_STEPS  # the residual's inverse is solved in steps too
    assert_as_stored(restored[::2, ::2], stored[f"glra.step.{kind}"], atol=atol)


def test_the_models_are_all_that_the_package_has() -> None:
    others = ("unrolled",)  # of this version
    assert tuple(gx.available_models()) == (*MODELS, *others)
