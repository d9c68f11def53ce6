"""The program that measures noise estimates against the truth."""

import jax
import numpy as np
import pytest

from experiments.noise_grid import (
    NoiseGridOptions,
    describe,
    estimates_and_truth,
    halved_crop,
    main,
    smooth,
)


def test_the_table_has_a_row_for_each_cell(capsys):
    options = "--limit 1 --size 28 --noise 0 0.02 --smoothed 0 --exposures 1 --qualities 0"
    main([*options.split(), "--by", "noise", "file"])
    lines = capsys.readouterr().out.strip().splitlines()
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    estimates = ["estimate_noise", "estimate_noise_by_channel", "estimate_noise_behind_blur"]
    assert head == ["noise", "file", *estimates, "images"]
    assert [row[:2] + row[5:] for row in rows] == [["0 %", "8 bits", "7"], ["2 %", "8 bits", "7"]]
    for estimate in rows[1][3:5]:
        assert 0.8 < float(estimate.split()[0]) < 2.0


def test_the_truth_is_noise_and_rounding():
    x = np.full((64, 64, 1), 0.4321, np.float32)
    kernel = np.ones((1, 1), np.float32)
    noise = 0.02 * jax.random.normal(jax.random.key(0), x.shape)
    *_, truth = estimates_and_truth(x, kernel, noise, 0.5, 0, compressed=False)
    expected = np.sqrt((0.5 * np.std(noise)) ** 2 + (1 / 255) ** 2 / 12)
    np.testing.assert_allclose(truth, expected, rtol=0.01)


def test_halving_smoothing_and_describing():
    photograph = np.uint8(np.arange(60 * 80) % 251).reshape(60, 80)
    crop = halved_crop(photograph, 28)
    assert crop.shape == (28, 28, 1)
    np.testing.assert_allclose(crop[0, 0, 0], photograph[2:4, 12:14].mean() / 255, rtol=1e-6)
    with pytest.raises(ValueError, match="no crop of 31"):
        halved_crop(photograph, 31)
    noise = jax.random.normal(jax.random.key(0), (200, 200, 1))
    smoothed = smooth(noise, 0.7)
    assert float(smoothed.std()) == pytest.approx(1.0, rel=0.05)
    neighbours = float((smoothed[1:] * smoothed[:-1]).mean())
    assert neighbours == pytest.approx(np.exp(-1 / (4 * 0.7**2)), abs=0.05)
    assert describe(np.array([0.5, 1.0, 2.0])) == "1.00 (0.50 to 2.00)"


@pytest.mark.parametrize(
    ("options", "quoted"),
    [
        ({"by": ("colour",)}, "by must be one of photograph, .*got 'colour'"),
        ({"qualities": (101,)}, "qualities must be from 0 to 100, got 101"),
        ({"size": 26}, "size must be at least 27, got 26"),
        ({"exposures": (0.0,)}, "exposures must be finite and above 0"),
    ],
)
def test_options_that_will_not_do(options, quoted):
    with pytest.raises(ValueError, match=quoted):
        NoiseGridOptions(**options)
