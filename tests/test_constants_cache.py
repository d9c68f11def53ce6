"""The cache of fitted constants: of use when whole, and never in the way."""

import numpy as np
import pytest
import safetensors.numpy
from training_program_helpers import TINY

import glra_jax as gx
from experiments.training_runs.options import parse
from glra_jax.training import constants_cache
from glra_jax.training.constants_cache import cached_training_constants

FITTED = gx.Basis(np.eye(9, 2, dtype=np.float32), np.eye(9, 2, dtype=np.float32))


@pytest.fixture
def config():
    return parse(TINY).config


@pytest.fixture
def fits(monkeypatch) -> list[int]:
    """A fit that takes no time and counts itself."""
    calls: list[int] = []

    def fit(_):
        calls.append(1)
        return FITTED

    monkeypatch.setattr(constants_cache, "training_constants", fit)
    return calls


def spoil(arrays: dict[str, np.ndarray], how: str) -> None:
    name = next(iter(arrays))
    if how == "nan":
        arrays[name] = np.full_like(arrays[name], np.nan)
    elif how == "dtype":
        arrays[name] = arrays[name].astype(np.float16)
    elif how == "shape":
        arrays[name] = arrays[name][:-1]
    else:
        del arrays[name]


@pytest.mark.parametrize("how", ["nan", "dtype", "shape", "missing"])
def test_a_damaged_entry_is_fitted_again(tmp_path, config, fits, how):
    cached_training_constants(config, tmp_path)
    cached_training_constants(config, tmp_path)
    assert len(fits) == 1
    (entry,) = tmp_path.iterdir()
    whole = entry.read_bytes()
    arrays = safetensors.numpy.load(whole)
    spoil(arrays, how)
    entry.write_bytes(safetensors.numpy.save(arrays))
    found = cached_training_constants(config, tmp_path)
    assert len(fits) == 2
    np.testing.assert_array_equal(found.left, FITTED.left)
    assert entry.read_bytes() == whole


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path, config, fits):
    (tmp_path / "cache").write_bytes(b"a file in place of the folder")
    with pytest.warns(UserWarning, match="not kept for the next run: .*cache"):
        found = cached_training_constants(config, tmp_path / "cache")
    np.testing.assert_array_equal(found.left, FITTED.left)
