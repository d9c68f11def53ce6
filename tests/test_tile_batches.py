"""Tiles in batches and on several devices: the same result, whatever they are restored on."""

from typing import Any

import jax
import numpy as np
import pytest

import glra_jax as gx
from glra_jax import tile_batches
from glra_jax.networks import Unrolled
from glra_jax.tile_batches import batch_for, restore_batch, tile_for

KERNEL = np.asarray(gx.motion_kernel(jax.random.key(3), size=7))


@pytest.fixture(scope="module")
def unrolled() -> gx.Model:
    """Told the noise of each image, and of the frame."""
    return gx.initial_model(jax.random.key(0), Unrolled(stages=1, features=4, blocks=1), {})


@pytest.fixture(scope="module")
def images(colour_photograph: np.ndarray) -> np.ndarray:
    """Two of 40×50 pixels, of which one is darker: 18 tiles of 16×16 pixels each."""
    part = colour_photograph[20:60, 30:80]
    return np.stack([part, 0.3 * part[::-1]])


@pytest.fixture(scope="module")
def one_by_one(unrolled: gx.Model, images: np.ndarray) -> np.ndarray:
    return gx.prepare(unrolled, KERNEL, tile=(16, 16))(images)


@pytest.mark.parametrize(
    ("batch", "count", "ahead"),
    [(1, 4, 0), (5, 1, 1), (2, 3, 2)],
    ids=["four-devices", "batches", "both"],
)
def test_batches_and_devices_change_nothing(
    unrolled: gx.Model,
    images: np.ndarray,
    one_by_one: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    count: int,
    ahead: int,
) -> None:
    monkeypatch.setattr(tile_batches, "_ahead", lambda devices: ahead)
    devices = jax.local_devices()[:count]
    restorer = gx.prepare(unrolled, KERNEL, tile=(16, 16), batch=batch, devices=devices)
    np.testing.assert_allclose(restorer(images), one_by_one, atol=1e-5)


def test_every_device_restores_its_part(unrolled: gx.Model, images: np.ndarray) -> None:
    devices = tuple(jax.local_devices())
    assert len(devices) == 4
    restorer = gx.prepare(unrolled, KERNEL, tile=(16, 16), devices=devices)
    shown: list[Any] = []

    def noted(*arguments: Any, **options: Any) -> jax.Array:
        shown.append(out := restore_batch(*arguments, **options))
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_batches, "restore_batch", noted)
        restorer(images[0])
    assert len(shown) == 3  # of 12 tiles
    for out in shown:
        places = {shard.device: shard.data.shape[0] for shard in out.addressable_shards}
        assert places == dict.fromkeys(devices, 1)


def test_a_low_rank_model_on_several_devices(
    small_model: gx.Model, photograph: np.ndarray, colour_photograph: np.ndarray
) -> None:
    """Whose filters are transformed for tiles of one size and number, and channels are images."""
    for y in (photograph[:40, :50], colour_photograph[:24, :30]):
        expected = gx.prepare(small_model, KERNEL, tile=(20, 20), method="spectral")(y)
        for options in ({"devices": jax.local_devices()}, {"batch": 4}):
            restorer = gx.prepare(small_model, KERNEL, tile=(20, 20), method="spectral", **options)
            np.testing.assert_allclose(restorer(y), expected, atol=1e-5)


def test_tiles_and_batches_follow_the_memory() -> None:
    architecture = Unrolled()
    per_pixel = architecture.bytes_per_pixel
    assert tile_for(None, architecture) == (256, 256)
    assert batch_for(None, architecture, (256, 256), (9, 9)) == 1
    for memory in (2**30, 2**33, 2**36):
        tile = tile_for(memory, architecture)
        assert tile[0] == tile[1] <= 1024
        assert tile[0] * tile[1] * per_pixel <= memory / 8
        batch = batch_for(memory, architecture, tile, (9, 9))
        assert 1 <= batch <= 16
    assert tile_for(2**36, architecture) == (1024, 1024)
    few, many = (batch_for(memory, architecture, (256, 256), (9, 9)) for memory in (2**31, 2**33))
    assert many > few >= 1


def test_no_devices_and_batches_without_tiles_are_refused(unrolled: gx.Model) -> None:
    with pytest.raises(ValueError, match=r"devices has none; give some of jax\.local_devices"):
        gx.prepare(unrolled, KERNEL, devices=[])
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        gx.prepare(unrolled, KERNEL, batch=0)
