"""Images in files, restored tile by tile into files: what the same image in memory gives."""

import errno
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import hypothesis
import hypothesis.extra.numpy as npst
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

import glra_jax as gx
from glra_jax import cli, large_images
from glra_jax.large_images import _look, _unit, restore_large
from glra_jax.networks import Unrolled
from glra_jax.networks.architecture import image_facts
from glra_jax.networks.data_step import DataStep
from glra_jax.units import unit_of

KERNEL = np.asarray(gx.motion_kernel(jax.random.key(3), size=7))
TILE = (24, 30)


@pytest.fixture(scope="module")
def unrolled() -> gx.Model:
    return gx.initial_model(jax.random.key(0), Unrolled(stages=1, features=4, blocks=1), {})


@pytest.fixture(scope="module")
def stepping(small_model: gx.Model) -> gx.Model:
    """Each channel by itself, at the noise of the image, and a step back to the data behind."""
    architecture = replace(
        small_model.architecture,
        inverse=gx.Inverse(0.005, noise_weight=100.0),
        data_step=DataStep(0.01, 10.0),
    )
    return replace(small_model, architecture=architecture)


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are looked at at a time, as of an image that is wide."""
    monkeypatch.setattr(large_images, "_PIECE", 700)


def mapped(path: Path, pixels: np.ndarray) -> np.ndarray:
    np.save(path, pixels)
    found: np.ndarray = np.load(path, mmap_mode="r")
    return found


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("model", ["unrolled", "stepping"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_file_is_restored_as_the_image_is(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    colour_photograph: np.ndarray,
    model: str,
    dtype: type,
) -> None:
    part = 0.9 * colour_photograph[20:84, 30:110]
    white = 1.0 if dtype is np.float32 else float(np.iinfo(dtype).max)
    pixels = part if dtype is np.float32 else np.rint(white * part).astype(dtype)
    restorer = gx.prepare(request.getfixturevalue(model), KERNEL, tile=TILE)
    expected = restorer((pixels / white).astype(np.float32), boundary="reflect")
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", dtype, pixels.shape)
    y = mapped(tmp_path / "y.npy", pixels)
    beyond = restore_large(restorer, y, out, boundary="reflect")
    out.flush()
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == dtype
    if dtype is np.float32:
        np.testing.assert_allclose(found, expected, atol=2e-5)
        assert beyond == 0
        return
    np.testing.assert_allclose(found / white, expected.clip(0, 1), atol=0.5 / white + 2e-5)
    assert beyond == pytest.approx(np.sum(expected * white > white + 0.5), abs=3)


def test_grey_at_a_known_noise_and_white(tmp_path: Path, unrolled: gx.Model) -> None:
    """Noise and white are in the unit of the array."""
    y = np.float32(np.random.default_rng(0).uniform(100, 900, (40, 50)))
    restorer = gx.prepare(unrolled, KERNEL, tile=TILE, noise=20.0)
    out = np.zeros_like(y)
    assert restore_large(restorer, mapped(tmp_path / "y.npy", y), out, scale=1000.0) == 0
    np.testing.assert_allclose(out, restorer(y, scale=1000.0), atol=0.02)
    restore_large(restorer, y / 500, out)  # no white: the brightest is above it
    np.testing.assert_allclose(out, restorer(y / 500), atol=1e-4)


@hypothesis.given(
    y=npst.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
        elements=st.floats(-0.5, 1.875, width=32),
    ),
    piece=st.integers(1, 60),
)
def test_looking_in_pieces_sees_what_looking_at_the_whole_does(y: np.ndarray, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_images, "_PIECE", piece)
        facts = _look(y[None])
    assert _unit(y, facts, None) == pytest.approx(unit_of(y, None), rel=1e-6)
    brightest, told = facts.of_images(1.0, together=True)
    expected = image_facts(y[None])
    np.testing.assert_array_equal(brightest, [y.max()])
    np.testing.assert_array_equal(told.grey, expected.grey)
    np.testing.assert_allclose(told.brightness, expected.brightness, atol=1e-6)


def test_the_temporary_file_has_its_room_and_no_name(
    tmp_path: Path,
    stepping: gx.Model,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    restorer = gx.prepare(stepping, KERNEL, tile=TILE, noise=0.01)
    y = np.full((24, 30), 0.5, np.float32)
    seen: list[tuple[int, list[Path]]] = []
    monkeypatch.setattr(
        large_images, "let_go", lambda array: seen.append((array.size, list(tmp_path.iterdir())))
    )
    restore_large(restorer, y, out := np.zeros_like(y), progress=True)
    bars = capsys.readouterr().err
    assert "restoring: 100%" in bars
    assert "fitting to the data: 100%" in bars
    np.testing.assert_allclose(out, restorer(y), atol=2e-5)
    assert len(seen) > 3
    assert all(not names for _, names in seen)

    def full(file: int, start: int, size: int) -> None:
        assert (start, size) == (0, 4 * y.size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="has no room for 2880 bytes; name another by TMPDIR") as told:
        restore_large(restorer, y, out)
    assert told.value.errno == errno.ENOSPC


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize(
    ("y", "out", "error", "quoted"),
    [
        ([[0.5]], np.zeros((1, 1)), TypeError, "y must be a NumPy array, got list"),
        (np.zeros((4, 4), int), np.zeros((4, 4)), TypeError, "uint8 or uint16, got int64"),
        (np.ma.masked_equal(np.eye(4), 1), np.zeros((4, 4)), TypeError, "y is a masked array"),
        (np.zeros((4, 4)), np.zeros((4, 5)), ValueError, r"out of shape \(4, 5\).*\(4, 4\)"),
        (
            np.zeros((4, 4)),
            np.zeros((4, 4), np.uint8),
            TypeError,
            "out must be floating or float64",
        ),
        (
            np.full((40, 40), np.nan),
            np.zeros((40, 40)),
            ValueError,
            "holds 1600 NaN or inf.*of 1600",
        ),
        (np.full((40, 40), 90.0), np.zeros((40, 40)), ValueError, "90 to 90 times white.*scale="),
    ],
)
def test_arrays_that_will_not_do(
    unrolled: gx.Model, y: np.ndarray, out: np.ndarray, error: type[Exception], quoted: str
) -> None:
    restorer = gx.prepare(unrolled, KERNEL, tile=TILE, noise=0.01)
    with pytest.raises(error, match=quoted):
        restore_large(restorer, y, out)
    assert not np.any(out)


def test_what_is_read_is_not_written_over(tmp_path: Path, unrolled: gx.Model) -> None:
    restorer = gx.prepare(unrolled, KERNEL, tile=TILE, noise=0.01)
    y = np.full((40, 40), 0.5, np.float32)
    np.save(tmp_path / "y.npy", y)
    (tmp_path / "link.npy").symlink_to(tmp_path / "y.npy")
    names = (tmp_path / "y.npy", tmp_path / "y.npy", str(tmp_path / "y.npy"), tmp_path / "link.npy")
    first, *others = (np.load(name, mmap_mode="r+") for name in names)
    for read, written in ((y, y), *((first, other) for other in others)):
        with pytest.raises(ValueError, match="out is in the place of y"):
            restore_large(restorer, read, written)
    with pytest.raises(
        ValueError, match="boundary must be one of edge, reflect, wrap, got 'valid'"
    ):
        restore_large(restorer, y, np.zeros_like(y), boundary="valid")


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, unrolled: gx.Model, colour_photograph: np.ndarray) -> Path:
    gx.save_model(unrolled, tmp_path / "model.safetensors")
    np.save(tmp_path / "kernel.npy", KERNEL)
    np.save(tmp_path / "big.npy", np.rint(255 * colour_photograph).astype(np.uint8))
    return tmp_path


def deblur(folder: Path, *arguments: str) -> None:
    named = [str(folder / a) if a.endswith(".npy") else a for a in arguments]
    cli.main(["deblur", *named, "--model", str(folder / "model.safetensors")])


def test_the_command_restores_arrays_in_files(
    files: Path, unrolled: gx.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    deblur(files, "big.npy", "kernel.npy", "-o", "out.npy", "--noise", "0.02")
    assert "(96, 112, 3), uint8" in capsys.readouterr().out
    pixels, found = np.load(files / "big.npy"), np.load(files / "out.npy")
    expected = gx.prepare(unrolled, KERNEL, tile=(96, 112), noise=0.02)(np.float32(pixels / 255))
    np.testing.assert_allclose(found, 255 * expected.clip(0, 1), atol=0.51)
    assert found.dtype == np.uint8
    assert sorted(path.name for path in files.iterdir()) == [
        *("big.npy", "kernel.npy", "model.safetensors", "out.npy"),
    ]
    with pytest.raises(SystemExit, match="exists; choose another name"):
        deblur(files, "big.npy", "kernel.npy", "-o", "out.npy")


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        (("big.npy", "kernel.npy", "-o", "out.png"), "is an array, and is restored into one"),
        (("big.npy", "kernel.npy", "-o", "out.npy", "--preview"), "--preview is for photographs"),
        (("kernel.npy", "kernel.npy", "-o", "no/out.npy"), "there is no folder"),
        (("flat.npy", "kernel.npy", "-o", "out.npy"), r"shape \(4,\); a photograph is \(H, W\)"),
        (("nan.npy", "kernel.npy", "-o", "out.npy"), r"nan\.npy: y holds 1 NaN or infinite values"),
    ],
)
def test_the_command_refuses_what_it_cannot_restore(
    files: Path, arguments: tuple[str, ...], quoted: str
) -> None:
    np.save(files / "flat.npy", np.zeros(4, np.float32))
    nan = np.zeros((9, 9), np.float32)
    nan[4, 4] = np.nan
    np.save(files / "nan.npy", nan)
    with pytest.raises(SystemExit, match=quoted):
        deblur(files, *arguments)
    assert not [path for path in files.iterdir() if "out" in path.name or path.suffix == ".tmp"]
