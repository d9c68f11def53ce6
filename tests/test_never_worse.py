"""The program that counts what restoring made worse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx
from experiments.never_worse import (
    FACTORS,
    Case,
    NeverWorseOptions,
    Scores,
    degraded,
    draw_cases,
    kernels,
    main,
    tables,
)
from glra_jax.networks import Unrolled

CASE = Case("motion", 9, 0.02, 0, 0.5, False, True, 0, 0)


@pytest.fixture(scope="module")
def pixels(colour_photograph):
    return jnp.asarray(np.tile(colour_photograph, (2, 2, 1))[:124, :124])


def test_a_case_is_blurred_noisy_dark_and_rounded(pixels):
    truth, y, told = degraded(jax.random.key(1), pixels, CASE)
    true, _ = kernels(jax.random.split(jax.random.key(1))[0], CASE)
    np.testing.assert_allclose(told[1:-1, 1:-1], true, atol=1e-7)
    np.testing.assert_array_equal(truth, pixels[30:-30, 30:-30])
    clean = 0.5 * gx.blur(pixels, true, boundary="valid")
    assert float(jnp.std(y - clean)) == pytest.approx(0.01, rel=0.05)
    levels = 255.0 * np.asarray(y)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)


def test_a_wrong_kernel_is_larger_by_a_pixel_on_each_side():
    for size in (1, 9, 61):
        case = CASE._replace(size=size, right=False)
        true, told = kernels(jax.random.key(2), case)
        assert (true.shape, told.shape) == ((61, 61), (63, 63))
        assert float(told.sum()) == pytest.approx(1.0, abs=1e-5)
        extents = [np.ptp(np.nonzero(np.asarray(k).sum(axis=0) > 1e-6)[0]) for k in (true, told)]
        assert 0 <= extents[1] - extents[0] <= 3


def test_worse_is_what_can_be_seen():
    assert Scores(30.0, 29.9).worse
    assert not Scores(30.0, 29.96).worse
    assert not Scores(70.0, 60.0).worse  # both are the truth in 8 bits
    assert Scores(70.0, 50.0).worse
    assert Scores(30.0, float("nan")).worse


def test_cases_are_drawn_once_each_and_the_same_for_a_seed():
    options = NeverWorseOptions(cases=50)
    cases = draw_cases(options, 3)
    assert cases == draw_cases(options, 3)
    assert len({case[:-1] for case in cases}) == 50
    assert {case.family for case in cases} == {"gaussian", "disk", "motion", "ellipse", "mixture"}


def test_the_tables_count_and_list_what_became_worse():
    found = [(CASE, Scores(20.0, 22.0)), (CASE._replace(noise=0.05), Scores(20.0, 19.0))]
    first, counts, listed = tables(found)
    assert first.startswith("1 of 2 cases became worse; the median gain is 0.50 dB")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in counts.splitlines()]
    assert ["noise", "2 %", "1", "0", "2.00"] in rows
    assert ["noise", "5 %", "1", "1", "-1.00"] in rows
    assert len({row[0] for row in rows[2:]}) == len(FACTORS)
    assert "| 20.00 | 19.00" in " ".join(listed.split()).replace("|", "| ").replace("|  ", "| ")


@pytest.mark.slow
def test_the_program_restores_what_it_draws(tmp_path, capsys):
    model = gx.initial_model(jax.random.key(0), Unrolled(stages=1, features=4, blocks=1), {})
    gx.save_model(model, tmp_path / "m.safetensors")
    main(["--models", str(tmp_path / "m.safetensors"), "--cases", "2", "--size", "48"])
    assert "of 2 cases became worse" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "quoted"),
    [
        ({"sizes": (4,)}, "sizes must be odd, from 1 to 61, got 4"),
        ({"qualities": (101,)}, "qualities must be from 0 to 100, got 101"),
        ({"exposures": (0.0,)}, "exposures must be above 0 and at most 1, got 0.0"),
        ({"size": 20}, "size must be at least 48, got 20"),
    ],
)
def test_options_that_will_not_do(options, quoted):
    with pytest.raises(ValueError, match=quoted):
        NeverWorseOptions(**options)
