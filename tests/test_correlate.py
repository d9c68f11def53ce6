"""Both ways of correlating against SciPy in float64, their derivatives against each other."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

import glra_jax as gx
from glra_jax.correlation.correlate import choose_method, correlate

# Images (N, H, W), filters (h, w, C, O).
SHAPES = {
    "square": ((2, 20, 23), (5, 5, 2, 3)),
    "even": ((1, 18, 15), (4, 6, 1, 2)),
    "column": ((2, 30, 9), (13, 1, 2, 3)),
    "row": ((3, 8, 33), (1, 16, 3, 2)),
    "one output": ((2, 7, 6), (7, 6, 2, 2)),
    "many tiles": ((1, 90, 70), (3, 3, 1, 1)),
    "one by one": ((2, 6, 7), (1, 1, 3, 4)),
}


def operands(shapes, seed=0):
    (n, height, width), filters = shapes
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, height, width, filters[2]))
    return np.float32(x), np.float32(rng.normal(size=filters))


def reference(x, filters, padding=((0, 0), (0, 0))):
    x, filters = np.float64(x), np.float64(filters)
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    return np.stack(
        [
            np.stack(
                [
                    sum(
                        scipy.signal.correlate(image[..., c], filters[..., c, o], mode="valid")
                        for c in range(x.shape[3])
                    )
                    for o in range(filters.shape[3])
                ],
                axis=-1,
            )
            for image in x
        ]
    )


def assert_close(actual, expected, tolerance=1e-5):
    """To a part of the largest value, as transforms spread their rounding over all."""
    np.testing.assert_allclose(actual, expected, atol=tolerance * np.abs(expected).max(), rtol=0)


@st.composite
def correlations(draw):
    """Shapes in which the window fits, with or without padding."""
    window = draw(
        st.one_of(
            st.tuples(st.integers(1, 9), st.integers(1, 9)),
            st.tuples(st.just(1), st.integers(2, 24)),
            st.tuples(st.integers(2, 24), st.just(1)),
        )
    )
    pads = tuple((draw(st.integers(0, 4)), draw(st.integers(0, 4))) for _ in range(2))
    height, width = (
        draw(st.integers(max(1, k - sum(p)), k + 24)) for k, p in zip(window, pads, strict=True)
    )
    n, c, o = (draw(st.integers(1, 3)) for _ in range(3))
    return ((n, height, width), (*window, c, o)), pads


@settings(max_examples=20)
@given(case=correlations(), seed=st.integers(0, 1000))
def test_both_ways_are_scipys_correlation(case, seed):
    shapes, pads = case
    x, filters = operands(shapes, seed)
    expected = reference(x, filters, pads)
    for method in ("direct", "spectral"):
        actual = jax.jit(partial(gx.correlate, padding=pads, method=method))(x, filters)
        assert actual.dtype == jnp.float32
        assert actual.shape == expected.shape
        assert_close(actual, expected)


@pytest.mark.parametrize("name", SHAPES)
def test_spectral_is_scipys_correlation(name):
    x, filters = operands(SHAPES[name])
    assert_close(gx.correlate(x, filters, method="spectral"), reference(x, filters))


@pytest.mark.parametrize("method", ["direct", "spectral"])
def test_forms_of_padding(method):
    x, filters = operands(SHAPES["square"])
    correlate = partial(gx.correlate, x, filters, method=method)
    assert_close(correlate(padding="valid"), reference(x, filters))
    assert_close(correlate(padding=2), reference(x, filters, ((2, 2), (2, 2))))
    assert_close(correlate(padding=((3, 0), (1, 4))), reference(x, filters, ((3, 0), (1, 4))))


@pytest.mark.parametrize("name", SHAPES)
def test_auto_is_one_of_both(name):
    x, filters = operands(SHAPES[name])
    method = choose_method(x.shape[:3], filters.shape, jax.default_backend())
    expected = gx.correlate(x, filters, method=method)
    np.testing.assert_array_equal(gx.correlate(x, filters), expected)


def test_the_choice_between_both():
    wide, tiny = ((2, 120, 120), (15, 15, 50, 128)), ((1, 8, 8), (2, 2, 1, 1))
    assert choose_method(*wide, "cpu") == "spectral"
    assert choose_method(*tiny, "cpu") == "direct"
    assert choose_method(*wide, "gpu") == "direct"
    assert choose_method(*wide, "tpu") == "direct"


GRADIENT_SHAPES = ("square", "even", "column", "row", "one output", "one by one")


@pytest.mark.parametrize("name", GRADIENT_SHAPES)
def test_gradients_of_both_ways_agree(name):
    x, filters = operands(SHAPES[name])
    pads = ((1, 0), (0, 2))

    @partial(jax.jit, static_argnums=2)
    def gradients(x, filters, method):
        def loss(x, filters):
            out = gx.correlate(x, filters, padding=pads, method=method)
            return jnp.sum(jnp.sin(out))

        return jax.grad(loss, argnums=(0, 1))(x, filters)

    for spectral, direct in zip(
        gradients(x, filters, "spectral"), gradients(x, filters, "direct"), strict=True
    ):
        assert_close(spectral, direct, 2e-5)


@pytest.mark.parametrize("name", ["square", "column"])
def test_gradient_with_respect_to_filters_is_scipys_correlation(name):
    """The gradient of `<out, weights>` is the image correlated with the weights."""
    x, filters = operands(SHAPES[name])
    weights = np.random.default_rng(1).normal(size=reference(x, filters).shape)

    @jax.jit
    @jax.grad
    def slope(filters):
        return jnp.vdot(gx.correlate(x, filters, method="spectral"), weights)

    expected = np.zeros(filters.shape)
    for c in range(filters.shape[2]):
        for o in range(filters.shape[3]):
            for image, weight in zip(np.float64(x), weights, strict=True):
                expected[..., c, o] += scipy.signal.correlate(
                    image[..., c], weight[..., o], mode="valid"
                )
    assert_close(slope(filters), expected)


def test_second_derivatives():
    x, filters = operands(((1, 9, 11), (3, 4, 2, 2)))

    @partial(jax.jit, static_argnums=2)
    def curvature(x, filters, method):
        def loss(x, filters):
            out = gx.correlate(x, filters, padding=1, method=method)
            return jnp.sum(jnp.sin(out))

        def slope(x, filters):
            return sum(jnp.sum(g**2) for g in jax.grad(loss, argnums=(0, 1))(x, filters))

        return jax.grad(slope, argnums=(0, 1))(x, filters)

    for mine, direct in zip(
        curvature(x, filters, "spectral"), curvature(x, filters, "direct"), strict=True
    ):
        assert_close(mine, direct, 2e-5)


@pytest.mark.parametrize("method", ["direct", "spectral"])
def test_vmap_over_images_and_filters(method):
    x, filters = operands(((6, 12, 13), (3, 5, 2, 2)))
    x = x.reshape(3, 2, *x.shape[1:])
    filters = np.stack([filters, 2 * filters, filters[::-1]])
    correlate = jax.jit(jax.vmap(partial(gx.correlate, method=method)))
    assert_close(
        correlate(x, filters), np.stack([reference(*pair) for pair in zip(x, filters, strict=True)])
    )

    @jax.jit
    def slopes(filters):
        together = jax.grad(lambda f: jnp.sum(correlate(x, f) ** 2))(filters)
        single = jax.grad(lambda f: jnp.sum(gx.correlate(x[2], f, method=method) ** 2))(filters[2])
        return together, single

    together, single = slopes(filters)
    assert_close(together[2], single, 2e-5)


@pytest.mark.parametrize(
    ("x", "filters", "options", "quoted"),
    [
        ((4, 4, 1), (2, 2, 1, 1), {}, r"\(4, 4, 1\)"),
        ((1, 4, 4, 1), (2, 2, 1), {}, r"\(2, 2, 1\)"),
        ((1, 4, 4, 3), (2, 2, 1, 1), {}, r"\(1, 4, 4, 3\).*\(2, 2, 1, 1\)"),
        ((1, 4, 4, 1), (5, 1, 1, 1), {}, r"\(5, 1\).*\(4, 4\)"),
        ((1, 4, 4, 1), (5, 7, 1, 1), {"padding": 1}, r"\(5, 7\).*\(6, 6\)"),
        ((1, 4, 4, 1), (2, 2, 1, 1), {"padding": "same"}, "'same'"),
        ((1, 4, 4, 1), (2, 2, 1, 1), {"padding": ((0, -1), (0, 0))}, "-1"),
        ((1, 4, 4, 1), (2, 2, 1, 1), {"method": "fft"}, "auto, direct, spectral, got 'fft'"),
    ],
)
def test_correlate_refuses(x, filters, options, quoted):
    with pytest.raises(ValueError, match=quoted):
        gx.correlate(jnp.ones(x), jnp.ones(filters), **options)


@pytest.mark.parametrize("method", ["direct", "spectral", "auto"])
def test_half_precision_and_mixed_dtypes(method):
    rng = np.random.default_rng(0)
    x, filters = rng.uniform(size=(1, 20, 20, 2)), rng.normal(size=(7, 7, 2, 3)) / 10
    halves = jnp.asarray(x, jnp.float16), jnp.asarray(filters, jnp.float16)
    expected = correlate(*(half.astype(jnp.float32) for half in halves), method="direct")
    found = correlate(*halves, method=method)
    assert found.dtype == jnp.float16
    np.testing.assert_allclose(found, expected, atol=5e-3)
    mixed = correlate(halves[0], halves[1].astype(jnp.float32), method=method)
    assert mixed.dtype == jnp.float32
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    slope = jax.jit(jax.grad(lambda f: correlate(halves[0], f, method=method).sum()))
    assert slope(halves[1]).dtype == jnp.float16


@pytest.mark.parametrize("method", ["direct", "spectral", "auto"])
def test_empty_batches_give_empty_results(method):
    out = correlate(jnp.zeros((0, 20, 20, 2)), jnp.zeros((7, 7, 2, 3)), method=method)
    assert out.shape == (0, 14, 14, 3)


@pytest.mark.parametrize("method", ["direct", "spectral"])
@pytest.mark.parametrize(("asked", "found"), [(None, "HIGHEST"), ("tensorfloat32", "HIGH")])
def test_products_are_in_full_precision_unless_asked_otherwise(method, asked, found):
    def slope(x, w):
        return jax.grad(lambda w: jnp.sum(correlate(x, w, method=method) ** 2))(w)

    x, w = jnp.ones((1, 40, 40, 2)), jnp.ones((3, 3, 2, 2))
    with jax.default_matmul_precision(asked):
        text = str(jax.make_jaxpr(slope)(x, w))
    precisions = set(re.findall(r"precision=\(?(?:Precision\.)?(\w+)", text))
    assert precisions == {found}
