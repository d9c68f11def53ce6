"""Photographs read as they are needed: the same squares always, each used as often, few at once."""

import threading
import time
import warnings
from collections import Counter

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from glra_jax.datasets import PhotographStream, find_training_photographs, streaming
from glra_jax.datasets.packing import turned
from glra_jax.datasets.streaming import cut_square, photograph_of

SIZE = 5


def place(height, width):
    """Where each pixel is: its row in red, its column in green, 200 in blue."""
    rows, columns = np.indices((height, width), dtype=np.uint8)
    return np.stack([rows, columns, np.full_like(rows, 200)], axis=2)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Seven photographs of different sizes; the last is grey."""
    folder = tmp_path_factory.mktemp("many")
    for n in range(6):
        Image.fromarray(place(20 + n, 30 - n)).save(folder / f"{n}.png")
    Image.fromarray(place(9, 12)[..., 1]).save(folder / "6.png")
    return [folder / f"{n}.png" for n in range(7)]


def squares(paths, steps, **options):
    """What a stream gives, step by step."""
    options = {"seed": 3, "batch": 4, "size": SIZE, "channels": 3} | options
    with PhotographStream(paths, steps=steps, **options) as stream:
        return [stream.take() for _ in steps]


# --- which squares -------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_squares_depend_on_seed_and_step_and_on_nothing_else(paths, channels):
    whole = squares(paths, range(6), channels=channels, workers=1, ahead=1)
    for step, batch in enumerate(whole):
        assert batch.dtype == np.uint8
        for example, square in enumerate(batch):
            number = photograph_of(3, 4 * step + example, len(paths))
            alone = cut_square(
                paths[number], seed=3, step=step, example=example, size=SIZE, channels=channels
            )
            np.testing.assert_array_equal(square, alone)
    for workers, ahead in ((2, 3), (7, 40), (3, None)):
        again = squares(paths, range(6), channels=channels, workers=workers, ahead=ahead)
        np.testing.assert_array_equal(again, whole)
    resumed = squares(paths, range(4, 6), channels=channels)
    np.testing.assert_array_equal(resumed, whole[4:])
    part = squares(paths, range(6), channels=channels, examples=[2, 3])
    np.testing.assert_array_equal(part, [batch[2:] for batch in whole])
    other = squares(paths, range(6), channels=channels, seed=4)
    assert not np.array_equal(other, whole)


def test_squares_are_the_pixels_of_their_photographs(paths):
    for step, batch in enumerate(squares(paths, range(10))):
        for example, square in enumerate(batch):
            with Image.open(paths[photograph_of(3, 4 * step + example, 7)]) as image:
                pixels = np.asarray(image.convert("RGB"))
            top, left = (int(square[0, 0, c]) for c in (0, 1))
            if np.array_equal(square[..., 0], square[..., 1]):  # grey: only columns are known
                top = 0
            np.testing.assert_array_equal(square, pixels[top : top + SIZE, left : left + SIZE])


def test_squares_lie_everywhere_equally_often(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(place(7, 9)).save(path)
    corners = [
        tuple(
            cut_square(path, seed=0, step=step, example=0, size=SIZE, channels=3)[0, 0, :2].tolist()
        )
        for step in range(600)
    ]
    counts = Counter(corners)
    assert set(counts) == {(row, column) for row in range(3) for column in range(5)}
    # 40 expected; a standard deviation is 6.1.
    assert 15 < min(counts.values()) <= max(counts.values()) < 65


def test_one_channel_is_any_of_the_colours(paths):
    blue = sum(
        bool((cut_square(paths[0], seed=0, step=s, example=1, size=SIZE, channels=1) == 200).all())
        for s in range(150)
    )
    assert 30 < blue < 70  # 50 expected; a standard deviation is 5.8


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1), st.integers(1, 40), st.integers(0, 5))
def test_every_pass_uses_every_photograph_once(seed, count, which):
    drawn = [photograph_of(seed, which * count + n, count) for n in range(count)]
    assert sorted(drawn) == list(range(count))


def test_passes_and_seeds_have_orders_of_their_own():
    orders = {
        tuple(photograph_of(seed, which * 30 + n, 30) for n in range(30))
        for seed in range(3)
        for which in range(3)
    }
    assert len(orders) == 9


@pytest.mark.parametrize("channels", [1, 3])
def test_squares_are_turned_in_all_eight_ways(channels):
    square = np.arange(16 * channels, dtype=np.uint8).reshape(4, 4, channels)
    keys = jax.random.split(jax.random.key(0), 100)
    found = {np.asarray(x).tobytes() for x in jax.vmap(turned, (0, None))(keys, square)}
    scaled = np.float32(square) / np.float32(255)
    ways = [np.rot90(x, n) for x in (scaled, scaled[::-1]) for n in range(4)]
    assert found == {np.ascontiguousarray(way).tobytes() for way in ways}


# --- memory, waiting, errors ---------------------------------------------------------------------


def test_few_photographs_are_in_memory_whatever_the_number_of_steps(paths, monkeypatch):
    read, lock = streaming.read_photograph, threading.Lock()
    now = most = begun = 0

    def counted(path):
        nonlocal now, most, begun
        with lock:
            now, begun = now + 1, begun + 1
            most = max(most, now)
        pixels = read(path)
        time.sleep(0.002)
        with lock:
            now -= 1
        return pixels

    monkeypatch.setattr(streaming, "read_photograph", counted)
    options = {"seed": 0, "batch": 2, "size": SIZE, "channels": 3, "workers": 3, "ahead": 4}
    with PhotographStream(paths, steps=range(1000), **options) as stream:
        for step in range(30):
            batch = stream.take()
            assert begun <= 2 * (step + 1 + 4)  # taken, and ahead of that
            assert batch.base is None or batch.base.nbytes == batch.nbytes
    assert 2 <= most <= 3
    assert begun < 80  # leaving early ends the work


def test_a_square_keeps_nothing_of_its_photograph(paths):
    square = cut_square(paths[0], seed=0, step=0, example=0, size=SIZE, channels=3)
    assert square.base is None
    assert square.nbytes == 3 * SIZE**2


def test_a_stream_says_whether_it_would_wait(paths, monkeypatch):
    read, go = streaming.read_photograph, threading.Event()
    monkeypatch.setattr(streaming, "read_photograph", lambda path: go.wait(30) and read(path))
    options = {"seed": 0, "batch": 2, "size": SIZE, "channels": 3}
    with PhotographStream(paths, steps=range(1), **options) as stream:
        assert not stream.is_ready
        go.set()
        stream.take()
        assert stream.is_ready
        with pytest.raises(IndexError, match="all steps"):
            stream.take()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"no image", r"bad\.png is not an image"),
        (place(SIZE - 1, 90), r"bad\.png of shape \(4, 90, 3\) is smaller than the 5 pixels"),
        (np.full((9, 9), 40000, np.uint16), r"bad\.png has pixels of 16 bits"),
    ],
)
def test_a_photograph_of_no_use_is_named(tmp_path, paths, content, match):
    bad = tmp_path / "bad.png"
    if isinstance(content, bytes):
        bad.write_bytes(content)
    else:
        Image.fromarray(content).save(bad)
    with pytest.raises(ValueError, match=match):
        squares([*paths, bad], range(2))  # eight examples use each of eight photographs


def test_a_photograph_that_is_gone_is_named(tmp_path, paths):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        squares([*paths, tmp_path / "gone.png"], range(2))


def test_threads_keep_warnings_of_files_back_and_leave_all_others(tmp_path, monkeypatch):
    """Pillow warns of images that it finds large; here a warning is an error."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    Image.fromarray(place(9, 9)).save(tmp_path / "a.png")
    before = list(warnings.filters)
    options = {"seed": 0, "batch": 1, "size": SIZE, "channels": 3, "steps": range(20)}
    with PhotographStream([tmp_path / "a.png"], **options) as stream:
        for _ in range(20):
            stream.take()
        with pytest.raises(UserWarning, match="mine"):
            warnings.warn("mine", stacklevel=1)
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"paths": []}, "no photographs"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"ahead": 0}, "ahead must be at least 1, got 0"),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
        ({"examples": [3, 4]}, r"examples must be some of 0 to 3, got \[3, 4\]"),
    ],
)
def test_options_out_of_range_are_refused(paths, changes, match):
    options = {"paths": paths, "seed": 0, "batch": 4, "size": SIZE, "steps": range(1)}
    with pytest.raises(ValueError, match=match):
        PhotographStream(**(options | changes))


# --- finding the files ---------------------------------------------------------------------------


def test_files_are_found_by_name_and_not_opened(tmp_path):
    (tmp_path / "deeper").mkdir()
    for name in ("b.png", "a.jpg", "deeper/c.png"):
        (tmp_path / name).write_bytes(b"nothing that can be opened")
    found = find_training_photographs("folder", data_dir=tmp_path)
    assert list(found) == ["a.jpg", "b.png", "deeper/c.png"]
    assert found["deeper/c.png"] == tmp_path / "deeper" / "c.png"


def test_what_is_scored_on_is_refused_as_elsewhere(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "a.png").touch()
    with pytest.raises(ValueError, match="folder named 'val'"):
        find_training_photographs("folder", data_dir=tmp_path)
    assert len(find_training_photographs("folder", data_dir=tmp_path, allow_leak=True)) == 1


def test_a_dataset_without_files_says_which_ones_have_them():
    with pytest.raises(ValueError, match=r"'embedded' cannot be streamed.*\(folder can be\)"):
        find_training_photographs("embedded")
