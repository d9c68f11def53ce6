"""SOAP against NumPy in float64, against Adam, and in rotated coordinates."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import glra_jax as gx
from glra_jax.training.checkpoints import Checkpoints, Saved
from glra_jax.training.soap import scale_by_soap
from glra_jax.training.step import TrainState

SHAPES = {
    "bank": (2, 3, 4, 5),
    "vertical": (5, 1, 1, 3),
    "matrix": (4, 4),
    "bias": (4,),
    "last": (1, 1, 6, 1),
    "single": (1,),
}


def random_gradients(seed, count, *, shapes=None):
    """Gradients of some steps whose scales differ from slice to slice, as real ones' do.

    One gradient does not fix the eigenbasis of a bias or of a long matrix, so that rounding decides
    on it: values can be compared for shapes without an axis longer than the others' product.
    """
    rng = np.random.default_rng(seed)
    shapes = SHAPES if shapes is None else shapes
    scales = {
        name: np.prod(
            np.meshgrid(*(rng.uniform(0.3, 3.0, n) for n in shape), indexing="ij"), axis=0
        )
        for name, shape in shapes.items()
    }
    return [
        {name: np.float32(scales[name] * rng.normal(size=shape)) for name, shape in shapes.items()}
        for _ in range(count)
    ]


def updates_of(tx, gradients):
    """Updates for a sequence of gradients, jitted, and the last state."""
    state, update, out = tx.init(jax.tree.map(jnp.asarray, gradients[0])), jax.jit(tx.update), []
    for gradient in gradients:
        step, state = update(gradient, state)
        out.append(step)
    return jax.device_get(out), state


def reference_updates(gradients, *, b1, b2, eps, refresh):
    """The same for one array, after the paper, in float64."""
    shape = gradients[0].shape
    if len(shape) == 4:
        shape = (shape[0] * shape[1], *shape[2:])
    shape = [n for n in shape if n > 1] or [1]
    axes = range(len(shape))
    mean, power = np.zeros(shape), np.zeros(shape)
    moments = [np.zeros((n, n)) for n in shape]
    out = []

    def turn(x, matrices):
        for axis, matrix in enumerate(matrices):
            x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
        return x

    for t, gradient in enumerate(gradients, start=1):
        g = np.float64(gradient).reshape(shape)
        for axis in axes:
            flat = np.moveaxis(g, axis, 0).reshape(shape[axis], -1)
            moments[axis] = b2 * moments[axis] + (1 - b2) * flat @ flat.T
        if t == 1:
            bases = [np.linalg.eigh(moment)[1][:, ::-1] for moment in moments]
        elif t % refresh == 0:
            bases = [np.linalg.qr(m @ q)[0] for m, q in zip(moments, bases, strict=True)]
        back = [basis.T for basis in bases]
        mean = b1 * mean + (1 - b1) * g
        power = b2 * power + (1 - b2) * turn(g, back) ** 2
        step = turn(mean, back) / (1 - b1**t) / (np.sqrt(power / (1 - b2**t)) + eps)
        out.append((turn(step, bases) if t > 1 else 0 * step).reshape(gradient.shape))
    return out


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"b1": 0.95, "b2": 0.95, "eps": 1e-8, "refresh": 10},
        {"b1": 0.8, "b2": 0.9, "eps": 0.1, "refresh": 3},
    ],
)
@pytest.mark.parametrize("name", ["bank", "matrix", "single"])
def test_updates_are_those_of_the_paper_in_float64(name, options):
    gradients = random_gradients(0, 25, shapes={name: SHAPES[name]})
    found, _ = updates_of(scale_by_soap(**options), gradients)
    expected = reference_updates([g[name] for g in gradients], **options)
    for step, update in enumerate(expected):
        np.testing.assert_allclose(found[step][name], update, atol=3e-4, err_msg=f"step {step}")
    assert np.abs(expected).max() > 0.5


def test_without_options_it_has_the_documented_ones():
    gradients = random_gradients(1, 12, shapes={"matrix": (4, 4)})
    plain, _ = updates_of(scale_by_soap(), gradients)
    named, _ = updates_of(scale_by_soap(b1=0.95, b2=0.95, eps=1e-8, refresh=10), gradients)
    jax.tree.map(np.testing.assert_array_equal, plain, named)


def test_the_first_update_is_zero_and_the_second_is_not():
    (first, second), state = updates_of(scale_by_soap(), random_gradients(2, 2))
    assert set(first) == set(SHAPES)
    for name, shape in SHAPES.items():
        np.testing.assert_array_equal(first[name], np.zeros(shape, np.float32))
        assert np.abs(second[name]).max() > 0.1
    assert state.made == 2


def test_gradients_along_the_axes_make_it_adam():
    """Their second moments are diagonal, so that nothing is turned but signs."""
    rng = np.random.default_rng(3)
    shapes = {"matrix": (4, 3), "bias": (5,), "single": (1,), "scalar": ()}
    gradients = []
    for step in range(25):
        gradient = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        for values in gradient.values():
            values[tuple(step % n for n in values.shape)] = rng.normal()
        gradients.append(gradient)
    found, _ = updates_of(scale_by_soap(b1=0.9, b2=0.97, eps=1e-3), gradients)
    expected, _ = updates_of(optax.scale_by_adam(0.9, 0.97, eps=1e-3), gradients)
    for step in range(1, 25):
        for name in shapes:
            np.testing.assert_allclose(found[step][name], expected[step][name], atol=1e-5)


def test_spatial_axes_of_a_filter_bank_count_as_one():
    gradients = random_gradients(4, 12, shapes={"bank": (2, 3, 4, 5)})
    folded = [{"bank": g["bank"].reshape(6, 4, 5)} for g in gradients]
    found, state = updates_of(scale_by_soap(refresh=4), gradients)
    expected, _ = updates_of(scale_by_soap(refresh=4), folded)
    np.testing.assert_allclose(found[-1]["bank"].reshape(6, 4, 5), expected[-1]["bank"], atol=1e-6)
    assert [rotation.shape for rotation in state.leaves[0].rotations] == [(6, 6), (4, 4), (5, 5)]


def test_rotations_are_orthogonal_and_come_to_be_the_eigenvectors():
    """The gradients' moments do not change but for chance, and a mean over many steps is taken."""
    rng = np.random.default_rng(5)
    left, right = rng.normal(size=(5, 5)), rng.normal(size=(4, 4))
    gradients = [{"matrix": np.float32(left @ rng.normal(size=(5, 4)) @ right)} for _ in range(400)]
    _, state = updates_of(scale_by_soap(b2=0.995, refresh=2), gradients)
    leaf = state.leaves[0]
    for moment, rotation in zip(leaf.moments, leaf.rotations, strict=True):
        moment, rotation = np.float64(moment), np.float64(rotation)
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(len(rotation)), atol=1e-5)
        assert correlation(moment) > 0.3
        assert correlation(rotation.T @ moment @ rotation) < 0.05


def correlation(moment):
    """Largest correlation of two of the axes."""
    scale = np.sqrt(np.diag(moment))
    return np.abs(moment / np.outer(scale, scale) - np.eye(len(moment))).max()


# --- what it is for ------------------------------------------------------------------------------


def descend(tx, loss, params, examples, *, rate):
    """Parameters after each step at one rate, on one example of a stack after another."""

    def step(carry, example):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, example), state)
        params -= rate * updates
        return (params, state), params

    walk = jax.jit(lambda start: jax.lax.scan(step, (start, tx.init(start)), examples)[1])
    return walk(params)


def test_a_rotated_problem_takes_the_rotated_path():
    rng = np.random.default_rng(6)
    curvature = rng.uniform(0.2, 3.0, (4, 4))
    targets = np.float32(rng.normal(size=(4, 4)) + 0.5 * rng.normal(size=(40, 4, 4)))
    left, right = (np.float32(np.linalg.qr(rng.normal(size=(4, 4)))[0]) for _ in range(2))

    def loss(weights, target):
        return jnp.sum(curvature * (weights - target) ** 2)

    def rotated(weights, target):
        return loss(left @ weights @ right.T, target)

    start = np.float32(rng.normal(size=(4, 4)))
    apart = {}
    for name, tx in (("soap", scale_by_soap()), ("adam", optax.scale_by_adam(0.95, 0.95))):
        path = descend(tx, loss, start, targets, rate=0.05)
        turned = descend(tx, rotated, left.T @ start @ right, targets, rate=0.05)
        apart[name] = float(jnp.abs(path - left @ turned @ right.T).max())
        assert float(jnp.abs(path[-1] - start).max()) > 0.5
    assert apart["soap"] < 1e-3
    assert apart["adam"] > 0.1


def test_strongly_correlated_inputs_are_learned_where_adam_is_far_behind():
    """Windows of a photograph are mostly their mean; here as a linear regression."""
    rng = np.random.default_rng(7)
    details = 0.03 * rng.normal(size=(400, 32, 12))
    inputs = np.float32(rng.normal(size=(400, 32, 1)) + 0.5 + details)
    truth = np.float32(rng.normal(size=(12, 4)))

    def loss(weights, windows):
        return 0.5 * jnp.mean((windows @ (weights - truth)) ** 2)

    start = jnp.zeros((12, 4))
    final = {
        name: float(loss(descend(tx, loss, start, inputs, rate=0.02)[-1], inputs))
        for name, tx in (("soap", scale_by_soap()), ("adam", optax.scale_by_adam()))
    }
    assert final["soap"] < 0.01 * final["adam"] < 0.01 * float(loss(start, inputs))


@pytest.mark.parametrize(
    ("options", "quoted"),
    [
        ({"b1": 1.0}, r"b1 must be at least 0 and below 1, got 1\.0"),
        ({"b2": -0.1}, r"b2 must be at least 0 and below 1, got -0\.1"),
        ({"b2": np.nan}, "b2 must be at least 0 and below 1, got nan"),
        ({"eps": 0.0}, r"eps must be .* above 0, got 0\.0"),
        ({"refresh": 0}, "refresh must be at least 1, got 0"),
    ],
)
def test_impossible_options_are_refused(options, quoted):
    with pytest.raises(ValueError, match=quoted):
        scale_by_soap(**options)


# --- state ---------------------------------------------------------------------------------------


def test_everything_stays_float32_and_in_shape():
    gradients = random_gradients(8, 11)
    tx = scale_by_soap()
    start = tx.init(jax.tree.map(jnp.asarray, gradients[0]))
    found, state = updates_of(tx, gradients)
    assert jax.tree.structure(state) == jax.tree.structure(start)
    for before, after in zip(jax.tree.leaves(start), jax.tree.leaves(state), strict=True):
        assert (before.dtype, before.shape) == (after.dtype, after.shape)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.leaves)} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    assert state.made.dtype == jnp.int32
    assert {name: update.shape for name, update in found[-1].items()} == SHAPES


@pytest.fixture
def float64():
    """JAX has float64 arrays."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.usefixtures("float64")
def test_jit_changes_nothing():
    """In float64: rotations amplify the rounding of float32, which differs between processors."""
    gradients = random_gradients(9, 4, shapes={"matrix": (4, 4)})
    gradients = jax.tree.map(np.float64, gradients)
    tx = scale_by_soap(refresh=2)
    found, _ = updates_of(tx, gradients)
    state = tx.init(gradients[0])
    for gradient, expected in zip(gradients, found, strict=True):
        updates, state = tx.update(gradient, state)
        assert updates["matrix"].dtype == np.float64
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-10), updates, expected)


def test_the_state_can_be_donated():
    """No two of its arrays share memory, and none outlives the update that takes it over."""
    gradients = jax.tree.map(jnp.asarray, random_gradients(10, 1)[0])
    tx = scale_by_soap()
    state = tx.init(gradients)
    places = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(places)) == len(places)
    update = jax.jit(tx.update, donate_argnums=1)
    for count in (1, 2, 3):
        before = state
        _, state = update(gradients, state)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
        assert state.made == count


def test_a_restored_state_goes_on_as_if_nothing_had_been(tmp_path):
    tx = optax.chain(scale_by_soap(refresh=3), optax.scale_by_learning_rate(0.1))
    gradients = random_gradients(11, 10, shapes={"bank": (2, 3, 4, 5), "bias": (5,)})
    basis = gx.Basis(jnp.eye(3), jnp.eye(3))

    @jax.jit
    def step(state, gradient):
        updates, opt_state = tx.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state, {})

    def start():
        params = jax.tree.map(lambda g: jnp.ones(g.shape, jnp.float32), gradients[0])
        return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), {})

    state = start()
    for gradient in gradients[:7]:
        state = step(state, gradient)
    with Checkpoints(tmp_path, description={}) as checkpoints:
        checkpoints.save(Saved(state, basis))
    with Checkpoints(tmp_path, description={}) as checkpoints:
        restored = checkpoints.restore(Saved(start(), basis)).state
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for gradient in gradients[7:]:
        state, restored = step(state, gradient), step(restored, gradient)
    assert restored.step == 10
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert np.abs(state.params["bank"] - 1).min() > 1e-4
