"""The benchmark's model and its table."""

import pytest

import glra_jax as gx
from experiments.benchmark import BenchmarkOptions
from experiments.benchmarks.network import example_model
from experiments.benchmarks.timing import Comparison, format_table


def test_the_example_has_the_faithful_size_and_holds_its_kernel():
    model = example_model()
    assert (model.config.support, model.config.rank, model.config.features) == (151, 50, 128)
    kernel = gx.gaussian_kernel(sigma=2.5, size=23)
    restorer = gx.prepare(model, kernel, tile=(16, 16), noise=0.01)
    assert restorer.core.shape == (50, 50)


def test_table_has_medians_and_ratios_to_the_first_way():
    comparison = Comparison("step", {"ours": [1.0, 2.0, 4.0], "theirs": [3.0, 10.0, 8.0]})
    assert comparison.median("theirs") == 8.0
    assert comparison.ratio("theirs") == (3.0, 2.0, 5.0)
    assert "|  | theirs | 8000.0 | 3.0 (2.0 to 5.0) |" in format_table([comparison])


def test_at_least_one_round():
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        BenchmarkOptions(rounds=0)
