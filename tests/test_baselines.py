"""What every baseline promises, whichever its method."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from experiments.baselines import AUTHORS_NETWORKS, BASELINES, Baseline, baseline_named
from experiments.baselines.__main__ import main
from experiments.baselines.boundaries import BOUNDARIES
from experiments.baselines.tuned import Tuning
from experiments.evaluation.methods import collect
from glra_jax import degrade, motion_kernel, psnr, sharp_target

pytestmark = pytest.mark.usefixtures("baseline_parameters")

NAMES = tuple(BASELINES)
NOISE = 0.01
# Of even size: its centre is at size // 2 as well.
KERNEL = jnp.pad(motion_kernel(jax.random.key(3), size=11), ((1, 0), (1, 0)))
GAINS = {"wiener": 3.5, "richardson_lucy": 5.0}  # dB; the others have a prior and gain 5


@pytest.fixture(scope="module")
def sharp() -> jax.Array:
    photograph = data.astronaut()[60:131, 190:261, :2]
    return jnp.asarray(photograph, jnp.float32) / 255.0


@pytest.fixture(scope="module")
def blurred(sharp):
    return degrade(jax.random.key(0), sharp, KERNEL, noise=NOISE, boundary="valid")


@pytest.fixture(scope="module")
def truth(sharp):
    return sharp_target(sharp)[5:-6, 5:-6]


@pytest.fixture(scope="module")
def restored(blurred, baseline_parameters):
    return {name: BASELINES[name].restore(blurred, KERNEL, noise=NOISE) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_improves_a_photograph(name, blurred, truth, restored):
    """The whole frame counts, so that a boundary handled badly would show."""
    result = restored[name]
    assert result.shape == blurred.shape
    assert result.dtype == jnp.float32
    gain = psnr(jnp.clip(result, 0, 1), truth) - psnr(blurred, truth)
    assert gain > GAINS.get(name, 5.0)


@pytest.mark.parametrize("name", NAMES)
def test_one_channel_under_jit_agrees(name, blurred, restored):
    """One channel without its axis, with kernel and noise traced."""

    @jax.jit
    def restore(y, kernel, noise):
        return BASELINES[name].restore(y, kernel, noise=noise)

    channel = restore(blurred[..., 1], KERNEL, NOISE)
    np.testing.assert_allclose(channel, restored[name][..., 1], atol=5e-4)


@pytest.mark.parametrize("name", NAMES)
def test_colour_is_channel_by_channel(name, blurred, restored):
    other = jnp.stack([blurred[..., 1], jnp.zeros_like(blurred[..., 0])], axis=-1)
    changed = BASELINES[name].restore(other, KERNEL, noise=NOISE)
    np.testing.assert_allclose(changed[..., 0], restored[name][..., 1], atol=1e-5)
    np.testing.assert_allclose(changed[..., 1], 0.0, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_that_only_shifts_is_undone(name, truth):
    """The origin is at size // 2, and blur is true convolution, not correlation."""
    kernel = jnp.zeros(KERNEL.shape).at[6 + 1, 6 - 2].set(1.0)  # y[i, j] = x[i - 1, j + 2]
    shifted = jnp.roll(truth, (1, -2), axis=(0, 1))
    options = {"num_iterations": 30} if name == "richardson_lucy" else {}
    x = BASELINES[name].restore(shifted, kernel, noise=1e-3, **options)
    inner = slice(9, -9)
    assert psnr(x[inner, inner], truth[inner, inner]) > 33.0
    assert psnr(shifted[inner, inner], truth[inner, inner]) < 25.0


@pytest.mark.parametrize("name", NAMES)
def test_more_noise_gives_a_smoother_image(name, blurred, restored):
    """The default parameters follow the noise that is named."""
    smoother = BASELINES[name].restore(blurred, KERNEL, noise=0.03)
    rough, smooth = (jnp.mean(jnp.abs(jnp.diff(x, axis=0))) for x in (restored[name], smoother))
    assert smooth < 0.97 * rough


@pytest.mark.parametrize("name", ["wiener", "tv"])
def test_a_batch_by_vmap(name, blurred, restored):
    batch = jnp.stack([blurred, 0.5 * blurred])
    result = jax.vmap(lambda y: BASELINES[name].restore(y, KERNEL, noise=NOISE))(batch)
    np.testing.assert_allclose(result[0], restored[name], atol=5e-4)
    alone = BASELINES[name].restore(0.5 * blurred, KERNEL, noise=NOISE)
    np.testing.assert_allclose(result[1], alone, atol=5e-4)


@pytest.mark.parametrize("name", NAMES)
def test_signature(name):
    parameters = inspect.signature(BASELINES[name].restore).parameters
    assert list(parameters)[:2] == ["y", "kernel"]
    options = list(parameters.values())[2:]
    assert {"noise", "family"} <= {option.name for option in options}
    for option in options:
        assert option.kind is inspect.Parameter.KEYWORD_ONLY
        assert option.default is not inspect.Parameter.empty


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": jnp.zeros((9, 9), jnp.uint8)}, TypeError, "uint8"),
        ({"y": jnp.zeros((2, 9, 9, 1))}, ValueError, r"\(2, 9, 9, 1\); use jax.vmap"),
        ({"y": jnp.full((9, 9), jnp.nan)}, ValueError, "81 NaN"),
        ({"kernel": jnp.ones((3, 3))}, ValueError, "sum 9"),
        ({"kernel": jnp.ones(3) / 3}, ValueError, "2-D"),
        ({"kernel": jnp.ones((3, 10)) / 30}, ValueError, r"\(3, 10\) is larger"),
        ({"noise": 0.0}, ValueError, "noise must be finite and above 0, got 0.0"),
        ({"noise": -0.1}, ValueError, "got -0.1"),
        ({"family": "square"}, ValueError, "family must be one of any, .*'square'"),
        ({"boundary": "zero"}, ValueError, "boundary must be one of .*'zero'"),
    ],
)
def test_bad_input(name, change, error, message):
    arguments = {"y": jnp.zeros((9, 9)), "kernel": jnp.ones((3, 3)) / 9} | change
    with pytest.raises(error, match=message):
        BASELINES[name].restore(**arguments)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("wiener", "noise_to_signal"),
        ("richardson_lucy", "num_iterations"),
        ("hl", "weight"),
        ("tv", "weight"),
        ("tv", "num_iterations"),
        ("tv_saturated", "weight"),
        ("tv_saturated", "ceiling"),
        ("epll", "weight"),
        ("vem", "weight"),
        ("vem", "inlier_noise"),
        ("vem", "num_iterations"),
        ("vem", "num_inner"),
    ],
)
def test_options_must_be_positive(name, option):
    with pytest.raises(ValueError, match=rf"{option} must be .*got 0"):
        BASELINES[name].restore(jnp.zeros((9, 9)), jnp.ones((3, 3)) / 9, **{option: 0})


# --- the registry --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_boundaries_of_the_record_are_those_that_are_taken(name):
    y, kernel = jnp.zeros((9, 9)), jnp.ones((3, 3)) / 9
    baseline = baseline_named(name)
    parameters = inspect.signature(baseline.restore).parameters
    assert parameters["boundary"].default == baseline.boundaries[0]
    for boundary in BOUNDARIES:
        if boundary in baseline.boundaries:
            jax.eval_shape(partial(baseline.restore, boundary=boundary), y, kernel)
        else:
            with pytest.raises(ValueError, match=f"boundary must be one of .*'{boundary}'"):
                baseline.restore(y, kernel, boundary=boundary)


def test_names():
    assert all(baseline.name == name for name, baseline in BASELINES.items())
    with pytest.raises(ValueError, match="no baseline is called 'median'; there are: wiener, "):
        baseline_named("median")


def test_the_program_prints_a_table(capsys):
    main()
    tables = capsys.readouterr().out.split("\n\n")
    for table, registry in zip(tables, (BASELINES, AUTHORS_NETWORKS), strict=True):
        for row, record in zip(table.splitlines()[2:], registry.values(), strict=True):
            name, *cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert name == f"`{record.name}`"
            assert all(cells)


def test_a_new_baseline_is_one_record(blurred, monkeypatch):
    """Evaluated by name with options of every kind, before it was tuned."""

    def scale(y, kernel, *, noise=0.01, family="any", factor: float | None = None,
              whole: int = 0, flipped: bool = False):  # fmt: skip
        return (-1 if flipped else 1) * (y * factor + whole)

    tuning = Tuning("scale", "factor", (0.5, 1.0))
    record = Baseline("scale", scale, ("wrap",), tuning, "scales", "a test", {"file": lambda: "7"})
    monkeypatch.setitem(BASELINES, "scale", record)
    (method,) = collect(["scale:factor=0.25,whole=2,flipped=true"], [], noise=0.1)
    assert method.about == {
        "options": {"noise": 0.1, "factor": 0.25, "whole": 2, "flipped": True}, "file": "7"
    }  # fmt: skip
    y, kernel = np.asarray(blurred), np.asarray(KERNEL)
    np.testing.assert_allclose(method.restore(y, kernel), -(0.25 * y + 2), rtol=1e-6)
    with pytest.raises(ValueError, match="'scale': scale was never tuned: give its factor"):
        collect(["scale"], [], noise=0.1)
    with pytest.raises(ValueError, match="flipped must be true or false, got 'False'"):
        collect(["scale:flipped=False"], [], noise=0.1)
