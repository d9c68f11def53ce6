"""Settings and data that all tests share."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

# What one process of a run has compiled the others need not: pytest-xdist's start after this, and
# inherit it. The folder goes when this process ends.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="glra-jax-tests-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# The tests compile much and compute little, so that machine code of quick making is the quicker.
# XLA ends a process that gives it a flag which it does not know, as other versions may not.
if "XLA_FLAGS" not in os.environ:
    _quick = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    _tried = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices('cpu')"],
        env={**os.environ, "XLA_FLAGS": _quick},
        capture_output=True,
        check=False,
    )
    os.environ["XLA_FLAGS"] = _quick if _tried.returncode == 0 else ""

import jax

# Four devices on any machine, so that sharding can be tested; must come before JAX's first use.
jax.config.update("jax_num_cpu_devices", 4)

import hypothesis  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import skimage.data  # noqa: E402
from PIL import Image  # noqa: E402

import glra_jax as gx  # noqa: E402
from glra_jax.inverses import sample_inverses  # noqa: E402

# The same examples every time: a failure can be repeated, and times do not vary.
hypothesis.settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, max_examples=25
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def colour_photograph() -> np.ndarray:
    """A cat's face, `(96, 112, 3)` float32 in [0, 1]; read-only."""
    photograph = np.float32(skimage.data.chelsea()[60:156, 150:262] / 255.0)
    photograph.flags.writeable = False
    return photograph


@pytest.fixture(scope="session")
def photograph(colour_photograph: np.ndarray) -> np.ndarray:
    """The green channel of the colour photograph, `(96, 112)` float32 in [0, 1]; read-only."""
    return colour_photograph[..., 1]


@pytest.fixture(scope="session")
def small_families() -> gx.KernelFamilies:
    """Blur kernels of all families, as `(9, 9)` arrays."""
    return gx.KernelFamilies(min_size=5, max_size=9, min_sigma=0.8, max_sigma=2.0)


@pytest.fixture(scope="session")
def small_basis(small_families: gx.KernelFamilies) -> gx.Basis:
    """Support 31, rank 6, fitted by GLRA on 40 kernels of the small families."""
    inverses = sample_inverses(
        jax.random.key(0), small_families, count=40, support=31, inverse=gx.Inverse()
    )
    basis, _ = gx.fit_glra(inverses, rank=6, num_iters=4)
    return basis


@pytest.fixture(scope="session")
def complete_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a model of support 9 whose basis is complete, so that nothing is lost in it."""
    basis = gx.Basis(jnp.eye(9), jnp.eye(9))
    path = tmp_path_factory.mktemp("model") / "delta.safetensors"
    gx.save_model(gx.initial_model(jax.random.key(0), gx.Glra(9, 9, 13), basis), path)
    return path


@pytest.fixture(scope="session")
def started(small_basis: gx.Basis) -> Callable[[str], gx.Model]:
    """Untrained models of the small basis with 16 features by initialisation, each made once."""
    return cache(partial(_start, small_basis))


def _start(basis: gx.Basis, initialization: str) -> gx.Model:
    architecture = gx.Glra(31, 6, 16)
    return gx.initial_model(jax.random.key(1), architecture, basis, initialization=initialization)


@pytest.fixture(scope="session")
def small_model(started: Callable[[str], gx.Model]) -> gx.Model:
    """An untrained model of the small basis, which restores linearly."""
    return started("identity")


@pytest.fixture(scope="session")
def random_model(started: Callable[[str], gx.Model]) -> gx.Model:
    """The same with random layers 4 to 6 and biases, so that every weight counts."""
    model = started("glra")
    params = {
        name: {**weights, "bias": 0.1 + jnp.arange(weights["bias"].size) / 50}
        for name, weights in model.params.items()
    }
    return gx.Model(model.architecture, model.constants, params)


@pytest.fixture(scope="session")
def random_model_file(random_model: gx.Model, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of it, `small.safetensors`."""
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    gx.save_model(random_model, path)
    return str(path)


@pytest.fixture(scope="session")
def kernel_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of one Gaussian kernel, `k.npy`."""
    path = tmp_path_factory.mktemp("kernels") / "k.npy"
    np.save(path, gx.gaussian_kernel(sigma=1.2, size=9))
    return str(path)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two small photographs to train on, one in colour and one in grey."""
    folder = tmp_path_factory.mktemp("images")
    Image.fromarray(skimage.data.chelsea()[60:140, 100:190]).save(folder / "cat.png")
    Image.fromarray(skimage.data.camera()[40:110, 200:280]).save(folder / "man.png")
    return folder


@pytest.fixture(scope="module")
def basis_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fitted bases go to a folder of the tests, also those of programs that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def photographs(colour_photograph: np.ndarray) -> dict[str, np.ndarray]:
    """Three, named a, b and c, of 44×60 pixels, 8 bits."""
    pixels = np.uint8(np.round(colour_photograph * 255))
    return {
        name: pixels[10 * i : 10 * i + 44, 20 * i : 20 * i + 60] for i, name in enumerate("abc")
    }


@pytest.fixture
def triplets(tmp_path: Path, photographs: dict[str, np.ndarray]) -> Path:
    """A folder of triplets as released, with factors of 1.05, 1.10 and 1.15."""
    folder = tmp_path / "triplets"
    folder.mkdir()
    spread = np.exp(-0.5 * ((np.arange(9) - 4) / 1.2) ** 2)
    kernel_pixels = np.uint8(np.round(255 * np.outer(spread, spread)))
    kernel = jnp.asarray(kernel_pixels / kernel_pixels.sum(), jnp.float32)
    for index, (name, pixels) in enumerate(photographs.items()):
        rng = np.random.default_rng(index)
        y = np.asarray(gx.blur(jnp.asarray(pixels / 255, jnp.float32), kernel))
        y = np.clip((1.05 + 0.05 * index) * y + rng.uniform(0, 0.01, y.shape), 0, 1)
        Image.fromarray(np.uint8(np.round(255 * y))).save(folder / f"{name}_batch.png")
        Image.fromarray(pixels).save(folder / f"{name}_gt.png")
        Image.fromarray(kernel_pixels).save(folder / f"{name}_kernel.png")
    return folder


# By method, at 1, 2 and 3 % of noise.
BASELINE_PARAMETERS = {
    "wiener": (0.02, 0.03, 0.04),
    "richardson_lucy": (20, 12, 8),
    "hl": (1600.0, 800.0, 400.0),
    "tv": (0.001, 0.003, 0.006),
    "tv_saturated": (0.001, 0.003, 0.006),
    "epll": (1.0, 1.0, 1.0),
    "vem": (0.002, 0.004, 0.008),
}


@pytest.fixture(scope="module")
def baseline_parameters() -> Iterator[None]:
    """Parameters of the baselines that do not change when they are tuned anew."""
    from experiments.baselines import tuned

    families = (tuned.ANY_FAMILY, "gaussian", "disk", "motion")
    chosen = {
        method: {
            family: dict(zip(("0.01", "0.02", "0.03"), values, strict=True)) for family in families
        }
        for method, values in BASELINE_PARAMETERS.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuned, "tuning_record", lambda: {"chosen": chosen})
        yield
