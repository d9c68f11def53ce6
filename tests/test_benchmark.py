"""The benchmark's model and its table."""

import jax
import pytest

import glra_jax as gx
from experiments.benchmark import BenchmarkOptions
from experiments.benchmarks.accelerator import at_precision, compare_precisions, peak_rate
from experiments.benchmarks.network import example_model
from experiments.benchmarks.timing import Comparison, format_table


def test_the_example_has_the_faithful_size_and_holds_its_kernel():
    model = example_model()
    sizes = (model.architecture.support, model.architecture.rank, model.architecture.features)
    assert sizes == (151, 50, 128)
    kernel = gx.gaussian_kernel(sigma=2.5, size=23)
    restorer = gx.prepare(model, kernel, tile=(16, 16), noise=0.01)
    assert restorer.condition.core.shape == (50, 50)


def test_table_has_medians_and_ratios_to_the_first_method():
    comparison = Comparison("step", {"ours": [1.0, 2.0, 4.0], "theirs": [3.0, 10.0, 8.0]})
    assert comparison.median("theirs") == 8.0
    assert comparison.ratio("theirs") == (3.0, 2.0, 5.0)
    assert "|  | theirs | 8000.0 | 3.0 (2.0 to 5.0) |" in format_table([comparison])


def test_at_least_one_round():
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        BenchmarkOptions(rounds=0)


def test_every_call_runs_at_its_precision():
    seen = []

    def look():
        seen.append(jax.config.jax_default_matmul_precision)

    at_precision("tensorfloat32", look)()
    look()
    assert seen == ["tensorfloat32", None]


@pytest.mark.slow
def test_the_accelerator_section_gives_steps_and_their_share_of_the_peak():
    assert peak_rate("float32", size=64) > 1e6
    comparison = compare_precisions(rounds=1, batch=1, size=256)
    assert list(comparison.seconds) == [
        f"{method}, {precision}"
        for precision in ("float32", "tensorfloat32")
        for method in ("direct", "spectral")
    ]
    seconds = comparison.median("spectral, float32")
    note = comparison.notes["spectral, float32: steps/s, TFLOP/s as defined, share of peak"]
    rate, done, share = map(float, str(note).split(", "))
    assert rate == pytest.approx(1 / seconds, rel=0.01)
    assert done == pytest.approx(0.126 / seconds, rel=0.01)
    assert share > 0
