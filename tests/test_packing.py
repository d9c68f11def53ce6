"""Photographs packed into one array, and cut into random patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glra_jax.datasets import PackedPhotographs, pack_photographs, random_patch

# --- packing -------------------------------------------------------------------------------------


def numbered(height, width, first=0):
    """A photograph in which every pixel has a value of its own."""
    return np.arange(first, first + height * width, dtype=np.uint8).reshape(height, width)


def entry(packed, index):
    start, height, width = (int(a[index]) for a in (packed.starts, packed.heights, packed.widths))
    values = packed.pixels[start : start + height * width * packed.channels]
    return np.asarray(values).reshape(height, width, packed.channels)


def test_every_channel_becomes_an_entry():
    grey = numbered(4, 6)
    colour = np.stack([numbered(5, 3, first) for first in (50, 100, 150)], axis=2)
    packed = pack_photographs([grey, colour])
    assert packed.pixels.dtype == jnp.uint8
    assert packed.starts.dtype == packed.heights.dtype == packed.widths.dtype == jnp.int32
    assert packed.pixels.shape == (4 * 6 + 3 * 5 * 3,)
    np.testing.assert_array_equal(packed.heights, [4, 5, 5, 5])
    np.testing.assert_array_equal(packed.widths, [6, 3, 3, 3])
    np.testing.assert_array_equal(entry(packed, 0)[..., 0], grey)
    for channel in range(3):
        np.testing.assert_array_equal(entry(packed, 1 + channel)[..., 0], colour[..., channel])


def test_every_photograph_becomes_an_entry_of_rgb():
    grey, single = numbered(4, 6), numbered(3, 3)[..., None]
    colour = np.stack([numbered(5, 3, first) for first in (50, 100, 150)], axis=2)
    packed = pack_photographs([grey, colour, single], channels=3)
    np.testing.assert_array_equal(packed.heights, [4, 5, 3])
    np.testing.assert_array_equal(packed.widths, [6, 3, 3])
    np.testing.assert_array_equal(entry(packed, 0), np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(entry(packed, 1), colour)
    np.testing.assert_array_equal(entry(packed, 2), np.repeat(single, 3, axis=2))


@pytest.mark.parametrize("channels", [1, 3])
def test_packed_photographs_are_a_pytree(channels):
    packed = pack_photographs([numbered(4, 6)], channels=channels)
    again = jax.jit(lambda packed: packed)(packed)
    assert isinstance(again, PackedPhotographs)
    assert again.channels == channels
    np.testing.assert_array_equal(again.pixels, packed.pixels)


@pytest.mark.parametrize(
    ("photographs", "error", "quoted"),
    [
        ([], ValueError, "no photographs"),
        ([numbered(8, 8), np.ones((8, 8))], TypeError, "photograph 1.*float64.*uint8"),
        ([numbered(8, 8)[0]], ValueError, r"photograph 0.*\(8,\)"),
        ([numbered(8, 8), numbered(9, 7)], ValueError, r"photograph 1.*\(9, 7\).*8.*smaller patch"),
    ],
)
def test_packing_refuses(photographs, error, quoted):
    for channels in (1, 3):
        with pytest.raises(error, match=quoted):
            pack_photographs(photographs, channels=channels, min_side=8)


def test_packing_refuses_other_channels():
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        pack_photographs([numbered(8, 8)], channels=2)
    with pytest.raises(ValueError, match=r"photograph 0 has shape \(8, 8, 4\), not grey or RGB"):
        pack_photographs([np.zeros((8, 8, 4), np.uint8)], channels=3)


def test_packing_refuses_more_than_its_indices_hold():
    # Two gigabytes that take no memory: one row, repeated.
    huge = np.broadcast_to(np.zeros((1, 2**16), np.uint8), (2**15, 2**16))

    with pytest.raises(ValueError, match=r"2147483648.*2\^31"):
        pack_photographs([huge])


# --- patches -------------------------------------------------------------------------------------


cut = jax.jit(jax.vmap(random_patch, (0, None, None)), static_argnums=2)


def patches(packed, size, count=400, seed=0):
    """Of one channel, `(count, size, size)`."""
    return np.asarray(cut(jax.random.split(jax.random.key(seed), count), packed, size))[..., 0]


def symmetries(square):
    """The eight ways in which a square falls on itself, as a list."""
    return [np.rot90(side, turns) for side in (square, square.T) for turns in range(4)]


def test_patches_are_squares_of_the_photograph_in_all_positions_and_symmetries():
    photograph = numbered(5, 7)
    squares_cut = patches(pack_photographs([photograph]), 3)
    assert squares_cut.dtype == np.float32
    assert squares_cut.shape == (400, 3, 3)
    squares = {}
    for top in range(3):
        for left in range(5):
            for turn, square in enumerate(symmetries(photograph[top : top + 3, left : left + 3])):
                squares[square.tobytes()] = (top, left, turn)
    found = [squares[np.uint8(np.round(255 * patch)).tobytes()] for patch in squares_cut]
    np.testing.assert_allclose(np.round(255 * squares_cut), 255 * squares_cut, atol=1e-4)
    positions, turns = {place[:2] for place in found}, [place[2] for place in found]
    assert len(positions) == 15
    counts = np.bincount(turns, minlength=8)  # 50 each with a standard deviation of 7
    assert counts.min() > 25
    assert counts.max() < 75


def test_patches_come_from_all_entries_alike():
    packed = pack_photographs([np.full((4 + n, 9), 20 * n, np.uint8) for n in range(5)])
    found = np.round(255 * patches(packed, 4)[:, 0, 0]).astype(int) // 20
    counts = np.bincount(found, minlength=5)  # 80 each with a standard deviation of 8
    assert counts.min() > 50
    assert counts.max() < 110
    assert patches(packed, 4).std(axis=(1, 2)).max() == 0.0  # never across two entries


def test_a_patch_is_a_function_of_its_key():
    packed = pack_photographs([numbered(5, 7)])
    first = patches(packed, 3)
    np.testing.assert_array_equal(patches(packed, 3), first)
    keys = jax.random.split(jax.random.key(0), 400)
    np.testing.assert_array_equal(random_patch(keys[11], packed, 3)[..., 0], first[11])
    assert (patches(packed, 3, seed=1) != first).any(axis=(1, 2)).mean() > 0.9


def test_a_patch_may_be_the_whole_photograph():
    photograph = numbered(6, 6)
    whole = {
        np.uint8(np.round(255 * patch)).tobytes()
        for patch in patches(pack_photographs([photograph]), 6, count=100)
    }
    assert whole == {square.tobytes() for square in symmetries(photograph)}


def test_colours_are_cut_together():
    """The patch of a colour photograph is that of its channels at the same place."""
    colour = np.stack([numbered(9, 11, first) for first in (0, 100, 150)], axis=2)
    keys = jax.random.split(jax.random.key(2), 60)
    found = np.asarray(cut(keys, pack_photographs([colour], channels=3), 4))
    assert found.shape == (60, 4, 4, 3)
    for channel in range(3):
        alone = cut(keys, pack_photographs([colour[..., channel]]), 4)
        np.testing.assert_array_equal(found[..., channel], alone[..., 0])
    assert len({patch.tobytes() for patch in found}) > 50


def test_grey_photographs_are_cut_among_colour_ones():
    colour = np.stack([np.full((8, 7), value, np.uint8) for value in (10, 20, 30)], axis=2)
    packed = pack_photographs([np.full((5, 9), 90, np.uint8), colour], channels=3)
    patches_cut = np.round(
        255 * np.asarray(cut(jax.random.split(jax.random.key(0), 100), packed, 4))
    )
    means = patches_cut.mean(axis=(1, 2))
    kinds, counts = np.unique(means, axis=0, return_counts=True)
    np.testing.assert_array_equal(kinds, [[10, 20, 30], [90, 90, 90]])
    assert counts.min() > 30
    assert patches_cut.std(axis=(1, 2)).max() == 0.0
