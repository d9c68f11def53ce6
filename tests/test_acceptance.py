"""`deconvolve` and `prepare` take and refuse the same things, and say the same of them.

Every kernel, image, boundary and noise level is tried with good ones of the other three. Of two bad
ones together either may be named, for `prepare` sees the kernel before it sees an image.
"""

from functools import cache
from itertools import combinations, product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx

SUPPORT = 31  # of the small model


def motion(size: int) -> np.ndarray:
    return np.asarray(gx.motion_kernel(jax.random.key(2), size=size))


def delta_in_a_corner() -> np.ndarray:
    kernel = np.zeros((SUPPORT, SUPPORT), np.float32)
    kernel[0, 0] = 1.0
    return kernel


def with_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[1, 1] = np.nan
    return array


GOOD_KERNEL = motion(9)
KERNELS = {
    "odd": GOOD_KERNEL,
    "even": motion(8),
    "integer": np.eye(3, dtype=np.int32),
    "NaN": with_nan(GOOD_KERNEL),
    "3-D": GOOD_KERNEL[None],
    "empty": GOOD_KERNEL[:0],
    "all zero": 0 * GOOD_KERNEL,
    "negative sum": -GOOD_KERNEL,
    "sum 2": 2 * GOOD_KERNEL,
    "larger than the support": np.full((3, SUPPORT + 2), 1 / 3 / (SUPPORT + 2), np.float32),
    "not in the basis": delta_in_a_corner(),
}

GOOD_IMAGE = np.float32(np.random.default_rng(0).random((2, 40, 36, 3)))
IMAGES = {
    "2-D": GOOD_IMAGE[0, ..., 0],
    "3-D": GOOD_IMAGE[0],
    "4-D": GOOD_IMAGE,
    "integer": np.uint8(255 * GOOD_IMAGE[0]),
    "NaN": with_nan(GOOD_IMAGE[0, ..., 0]),
    "rank 1": GOOD_IMAGE[0, 0, :, 0],
    "empty": GOOD_IMAGE[0, :0],
    "0 to 255": 255 * GOOD_IMAGE[0],
    "2×2": GOOD_IMAGE[0, :2, :2],
    "list": GOOD_IMAGE[0].tolist(),
}

BOUNDARIES = ("edge", "reflect", "wrap", "valid", "unknown")
NOISES = {
    "none": None,
    "0.01": 0.01,
    "negative": -1.0,
    "NaN": np.nan,
    "array": np.array([0.01, 0.01]),
}

GOOD = {"kernel": "odd", "image": "2-D", "boundary": "edge", "noise": "0.01"}
CHOICES = {"kernel": KERNELS, "image": IMAGES, "boundary": BOUNDARIES, "noise": NOISES}
# By argument, what is not good or may be refused together with something else.
SUSPECT = {
    "kernel": [name for name in KERNELS if name not in ("odd", "even")],
    "image": [name for name in IMAGES if name not in ("2-D", "3-D", "4-D")],
    "boundary": ["valid", "unknown"],
    "noise": [name for name in NOISES if name != "0.01"],
}
# By argument, what is refused with whatever else.
REFUSED = {
    "kernel": SUSPECT["kernel"],
    "image": [name for name in SUSPECT["image"] if name != "2×2"],
    "boundary": ["unknown"],
    "noise": ["negative", "NaN", "array"],
}

Case = dict[str, str]
Refusal = tuple[type[Exception], str]


def alone() -> list[Case]:
    """Each once, and the good ones together once."""
    found = [GOOD | {name: each} for name, choices in CHOICES.items() for each in choices]
    return [found[0], *(case for case in found[1:] if case != GOOD)]


def pairs() -> list[Case]:
    return [
        GOOD | {one: a, other: b}
        for one, other in combinations(SUSPECT, 2)
        for a, b in product(SUSPECT[one], SUSPECT[other])
    ]


def name_of(case: Case) -> str:
    return (
        ", ".join(f"{name} {each}" for name, each in case.items() if each != GOOD[name]) or "good"
    )


def outcome(call: Any) -> np.ndarray | Refusal:
    try:
        return np.asarray(call())
    except (TypeError, ValueError) as error:
        return type(error), str(error)


@pytest.fixture(scope="module")
def model(small_model: gx.Model) -> gx.Model:
    """Its inverse does not depend on the noise."""
    return small_model


@pytest.fixture(scope="module")
def noisy_model(small_basis: gx.Basis) -> gx.Model:
    """Its inverse depends on the noise, which is estimated where it is not told."""
    architecture = gx.Glra(31, 6, 16, gx.Inverse(0.005, 100.0))
    return gx.initial_model(jax.random.key(1), architecture, small_basis)


class Calls:
    """What both say of cases with a model; each is asked once."""

    def __init__(self, model: gx.Model) -> None:
        self.model = model
        self.whole = cache(self._whole)
        self.tiled = cache(self._tiled)

    def _whole(self, kernel: str, image: str, boundary: str, noise: str) -> np.ndarray | Refusal:
        y: Any = IMAGES[image]
        options: Any = {"boundary": boundary, "noise": NOISES[noise]}
        return outcome(lambda: gx.deconvolve(y, KERNELS[kernel], self.model, **options))

    def _tiled(self, kernel: str, image: str, boundary: str, noise: str) -> np.ndarray | Refusal:
        k: Any = KERNELS[kernel]
        return outcome(
            lambda: gx.prepare(self.model, k, tile=(24, 28), noise=NOISES[noise])(
                IMAGES[image], boundary=boundary
            )
        )

    def both(self, case: Case) -> tuple[np.ndarray | Refusal, np.ndarray | Refusal]:
        return self.whole(**case), self.tiled(**case)

    def refusals(self, case: Case) -> list[Refusal]:
        """What `deconvolve` says of the case, and of each of its suspects alone."""
        single = [GOOD | {name: each} for name, each in case.items() if each != GOOD[name]]
        outcomes = [self.whole(**each) for each in (case, *single)]
        return [each for each in outcomes if isinstance(each, tuple)]


@pytest.fixture(scope="module")
def calls(model: gx.Model) -> Calls:
    return Calls(model)


@pytest.fixture(scope="module")
def noisy_calls(noisy_model: gx.Model) -> Calls:
    return Calls(noisy_model)


def assert_agree(whole: np.ndarray | Refusal, tiled: np.ndarray | Refusal) -> None:
    if isinstance(whole, tuple):
        assert isinstance(tiled, tuple), f"only deconvolve refuses it: {whole[1]}"
        assert tiled == whole
    elif isinstance(tiled, tuple):
        pytest.fail(f"only prepare refuses it: {tiled[1]}")
    else:
        assert (tiled.shape, tiled.dtype) == (whole.shape, whole.dtype)
        np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", alone(), ids=name_of)
def test_both_agree(case: Case, noisy_calls: Calls) -> None:
    assert_agree(*noisy_calls.both(case))


@pytest.mark.parametrize("noise", NOISES)
def test_both_agree_where_the_noise_does_not_count(noise: str, calls: Calls) -> None:
    assert_agree(*calls.both(GOOD | {"noise": noise}))


@pytest.mark.slow
@pytest.mark.parametrize("case", pairs(), ids=name_of)
def test_both_refuse_where_two_things_may_be_bad(case: Case, noisy_calls: Calls) -> None:
    assert_taken_or_refused(case, noisy_calls)


def assert_taken_or_refused(case: Case, calls: Calls) -> None:
    whole, tiled = calls.both(case)
    if isinstance(whole, tuple) and isinstance(tiled, tuple):
        assert tiled in calls.refusals(case)
    else:
        assert_agree(whole, tiled)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_both_agree_on_the_whole_product(kernel: str, noisy_calls: Calls) -> None:
    for image, boundary, noise in product(IMAGES, BOUNDARIES, NOISES):
        case = {"kernel": kernel, "image": image, "boundary": boundary, "noise": noise}
        print(name_of(case))  # shown where it fails
        assert_taken_or_refused(case, noisy_calls)


@pytest.mark.parametrize(
    ("argument", "name"), [(argument, name) for argument in REFUSED for name in REFUSED[argument]]
)
def test_what_is_refused(argument: str, name: str, calls: Calls) -> None:
    """Without this, taking everything would pass the tests above."""
    refusal = calls.whole(**(GOOD | {argument: name}))
    assert isinstance(refusal, tuple)
    _, said = refusal
    assert argument in said or (argument == "image" and said.startswith("y "))


@pytest.mark.parametrize("name", KERNELS)
def test_another_kernel_is_taken_and_refused_as_the_first(name: str, model: gx.Model) -> None:
    kernel: Any = KERNELS[name]
    restorer = gx.prepare(model, jnp.asarray(GOOD_KERNEL), tile=(24, 28))
    y = IMAGES["2-D"]
    first = outcome(lambda: gx.prepare(model, kernel, tile=(24, 28))(y))
    assert_agree(first, outcome(lambda: restorer.with_kernel(kernel)(y)))
