"""Networks with random weights for the tests of PyTorch weights, and what they share."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glra_jax as gx


def kernel_shapes(support, rank, features):
    return {
        "vertical": (support, 1, 1, rank),
        "horizontal": (1, support, rank, rank),
        "refine_1": (15, 15, rank, features),
        "refine_2": (1, 1, features, features),
        "refine_3": (7, 7, features, 1),
    }


def random_params(values, support, rank, features):
    """Params of a network without any symmetry, biases included."""
    params = {
        name: {"kernel": values(*shape), "bias": values(shape[3])}
        for name, shape in kernel_shapes(support, rank, features).items()
    }
    return params | {"core": {"bias": values(rank)}}


def random_model(basis, seed=0, features=14):
    support, rank = basis.left.shape
    rng = np.random.default_rng(seed)
    params = random_params(
        lambda *shape: jnp.asarray(0.12 * rng.normal(size=shape), jnp.float32),
        support,
        rank,
        features,
    )
    return gx.Model(gx.Glra(support, rank, features), basis, params)


def random_basis(support, rank, seed=0):
    """Among whose sums are constants, so that it holds something of every inverse."""
    rng = np.random.default_rng(seed)

    def side():
        values = rng.normal(size=(support, rank))
        values[:, 0] = 1.0
        turn = np.linalg.qr(rng.normal(size=(rank, rank)))[0]
        return np.linalg.qr(values)[0] @ turn

    sides = side(), side()
    return gx.Basis(*(jnp.asarray(side, jnp.float32) for side in sides))


def bits(tree):
    return [np.asarray(leaf).view(np.uint32) for leaf in jax.tree.leaves(tree)]


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(bits(a), bits(b), strict=True):
        np.testing.assert_array_equal(x, y)


def with_inverse(model, inverse):
    return replace(model, architecture=replace(model.architecture, inverse=inverse))


def faults_of(call, *arguments, **options):
    with pytest.raises(ValueError, match="do not fit") as caught:
        call(*arguments, **options)
    return set(str(caught.value).partition("network: ")[2].split("; "))


def assert_faults(found, *expected):
    """As many faults as expected, one with all the words of each."""
    assert len(found) == len(expected), found
    for words in expected:
        assert any(all(word in fault for word in words) for fault in found), (words, found)


def torch_network(state):
    torch = pytest.importorskip("torch")
    from experiments.torch_comparison.reference import DeconvNet as TorchNet

    tensors = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
    network = TorchNet(tensors["basis.left"], tensors["basis.right"], features=14)
    network.load_state_dict(tensors)  # strict: the names are the documented ones
    return torch, network
