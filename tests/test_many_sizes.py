"""Images of many sizes: nothing is compiled for each, so that memory does not grow with them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import glra_jax as gx
from glra_jax import cli
from glra_jax.networks import Unrolled
from glra_jax.photo_files import Photo, write_photo

KERNEL = np.asarray(gx.gaussian_kernel(sigma=1.0, size=5))
SIZES = [(int(h), int(w)) for h, w in np.random.default_rng(0).integers(64, 100, (30, 2))]

_compiled: list[str] = []


def _note(event: str, duration_secs: float, **_: str | int) -> None:
    del duration_secs
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(event)


@pytest.fixture(scope="module")
def compilations() -> Callable[[], int]:
    """Number of programs compiled so far."""
    jax.monitoring.register_event_duration_secs_listener(_note)
    return lambda: len(_compiled)


def image(size: tuple[int, int], seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    smooth = np.kron(generator.random((9, 9, 3)), np.ones((16, 16, 1)))[: size[0], : size[1]]
    return np.float32(0.1 + 0.8 * smooth + 0.01 * generator.standard_normal((*size, 3)))


@pytest.fixture(scope="module")
def low_rank(small_model: gx.Model) -> gx.Model:
    """A model whose inverse depends on the noise, which is estimated from each image."""
    inverse = gx.Inverse(0.005, noise_weight=100.0)
    return replace(small_model, architecture=replace(small_model.architecture, inverse=inverse))


@pytest.fixture(scope="module")
def unrolled() -> gx.Model:
    return gx.initial_model(jax.random.key(0), Unrolled(stages=1, features=4, blocks=1), {})


@pytest.mark.parametrize(("name", "channels"), [("low_rank", 1), ("unrolled", 3)])
def test_a_restorer_compiles_nothing_for_another_size(
    name: str, channels: int, request: pytest.FixtureRequest, compilations: Callable[[], int]
) -> None:
    restorer = gx.prepare(request.getfixturevalue(name), KERNEL, tile=(100, 100))
    first = image((65, 65), 0)[..., :channels]
    restorer(first)
    restorer(first, mask=np.arange(65 * 65).reshape(65, 65) % 50 > 0)
    before = compilations()
    assert before > 0
    for seed, size in enumerate(SIZES):
        y = image(size, seed)[..., :channels]
        mask = np.random.default_rng(seed).random(size) > 0.02 if seed % 3 == 0 else None
        assert restorer(y, mask=mask).shape == y.shape
    assert compilations() == before


def test_one_of_many_sizes_is_restored_as_the_whole_image_is(low_rank: gx.Model) -> None:
    restorer = gx.prepare(low_rank, KERNEL, tile=(64, 64))
    for seed in (3, 17):
        y = image(SIZES[seed], seed)[..., 0]
        np.testing.assert_allclose(restorer(y), gx.deconvolve(y, KERNEL, low_rank), atol=1e-5)


def test_the_command_compiles_nothing_for_another_size(
    tmp_path: Path, unrolled: gx.Model, compilations: Callable[[], int]
) -> None:
    gx.save_model(unrolled, tmp_path / "model.safetensors")
    np.save(tmp_path / "kernel.npy", KERNEL)
    counts = []
    for name, sizes in (("first", SIZES[:2]), ("more", SIZES[2:10])):
        (tmp_path / name).mkdir()
        for seed, size in enumerate(sizes):
            pixels = np.uint8(np.rint(255 * image(size, seed).clip(0, 1)))
            write_photo(Photo(pixels), tmp_path / name / f"{seed}.png")
        before = compilations()
        command = (
            tmp_path / name,
            tmp_path / "kernel.npy",
            "--output-dir",
            tmp_path / f"{name}-out",
        )
        cli.main(["deblur", *map(str, command), "--model", str(tmp_path / "model.safetensors")])
        counts.append(compilations() - before)
        assert len(list((tmp_path / f"{name}-out").iterdir())) == len(sizes)
    assert counts[0] > 0
    assert counts[1] == 0
