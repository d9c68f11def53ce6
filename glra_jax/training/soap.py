"""SOAP, an optimiser: Adam in the eigenbasis of the gradients.

After Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam" (2024).

The gradient of a filter that slides over photographs is far larger along the mean of its window
than along details. Adam scales the pixels of the window one by one and cannot tell the two apart;
in the eigenbasis of the gradients' second moments it can.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from glra_jax import validation

_contract = partial(jnp.tensordot, precision=jax.lax.Precision.HIGHEST)


class _Leaf(NamedTuple):
    """What is kept for one array of weights, itself of shape `_folded(...)`.

    Attributes:
      mean: of the gradients.
      power: mean of their squares, in the eigenbasis.
      moments: mean of the gradients' outer products, along each axis.
      rotations: orthogonal, the eigenvectors of `moments` in their columns, nearly.
    """

    mean: jax.Array
    power: jax.Array
    moments: tuple[jax.Array, ...]
    rotations: tuple[jax.Array, ...]


class SoapState(NamedTuple):
    """State of `scale_by_soap`; a pytree.

    Attributes:
      made: int32 scalar, number of updates made.
      leaves: one entry for each array of weights, in the order of `jax.tree.leaves`.
    """

    made: jax.Array
    leaves: tuple[_Leaf, ...]


def scale_by_soap(
    *, b1: float = 0.95, b2: float = 0.95, eps: float = 1e-8, refresh: int = 10
) -> optax.GradientTransformation:
    """Adam's update, computed in a slowly turning eigenbasis.

    The spatial axes of a filter bank `(h, w, C, O)` count as one. The first update is zero: it only
    finds the first basis.

    Args:
      b1: decay of the mean of the gradients.
      b2: decay of the means of their squares and of their outer products.
      eps: added to the root of the mean square.
      refresh: updates between two power iterations that bring the eigenbasis up to date.

    Returns:
      The transformation; its updates are to be multiplied by minus the learning rate.

    Raises:
      TypeError: `refresh` is not an int.
      ValueError: a decay outside of [0, 1), `eps` not above 0 or `refresh` below 1.
    """
    for name, decay in (("b1", b1), ("b2", b2)):
        if not 0 <= decay < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {decay}")
    validation.check_positive(eps, "eps")
    validation.check_size(refresh, "refresh")

    def init(params: optax.Params) -> SoapState:
        def leaf(weights: jax.Array) -> _Leaf:
            shape = _folded(weights.shape)
            mean, power = (jnp.zeros(shape, weights.dtype) for _ in range(2))
            moments = tuple(jnp.zeros((n, n), weights.dtype) for n in shape)
            rotations = tuple(jnp.eye(n, dtype=weights.dtype) for n in shape)
            return _Leaf(mean, power, moments, rotations)

        leaves = tuple(leaf(weights) for weights in jax.tree.leaves(params))
        return SoapState(jnp.zeros((), jnp.int32), leaves)

    def update(
        updates: optax.Updates, state: SoapState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, SoapState]:
        del params
        count = state.made + 1
        gradients, structure = jax.tree.flatten(updates)
        stepped = [
            _update_leaf(gradient, leaf, count, b1=b1, b2=b2, eps=eps, refresh=refresh)
            for gradient, leaf in zip(gradients, state.leaves, strict=True)
        ]
        out = jax.tree.unflatten(structure, [update for update, _ in stepped])
        return out, SoapState(count, tuple(leaf for _, leaf in stepped))

    return optax.GradientTransformation(init, update)


def _folded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape in which an array is preconditioned: one spatial axis, none of size 1."""
    if len(shape) == 4:
        shape = (shape[0] * shape[1], *shape[2:])
    return tuple(size for size in shape if size > 1) or (1,)


def _update_leaf(
    gradient: jax.Array,
    leaf: _Leaf,
    count: jax.Array,
    *,
    b1: float,
    b2: float,
    eps: float,
    refresh: int,
) -> tuple[jax.Array, _Leaf]:
    g = gradient.reshape(leaf.mean.shape)
    moments = tuple(
        b2 * moment + (1 - b2) * _outer(g, axis) for axis, moment in enumerate(leaf.moments)
    )
    # First exactly, then one power iteration at a time (the paper's algorithm 4).
    rotations = jax.lax.switch(
        jnp.where(count == 1, 2, jnp.where(count % refresh == 0, 1, 0)),
        [
            lambda: leaf.rotations,
            lambda: tuple(
                jnp.linalg.qr(_contract(m, q, 1))[0]
                for m, q in zip(moments, leaf.rotations, strict=True)
            ),
            lambda: tuple(jnp.linalg.eigh(m)[1][:, ::-1] for m in moments),
        ],
    )
    mean = b1 * leaf.mean + (1 - b1) * g
    power = b2 * leaf.power + (1 - b2) * _turn(g, rotations) ** 2
    scale = jnp.sqrt(power / (1 - b2**count)) + eps
    step = _turn(_turn(mean, rotations) / (1 - b1**count) / scale, rotations, back=True)
    step = jnp.where(count == 1, 0.0, step).astype(gradient.dtype)
    return step.reshape(gradient.shape), _Leaf(mean, power, moments, rotations)


def _outer(g: jax.Array, axis: int) -> jax.Array:
    """Products of all slices along an axis with each other, `(n, n)`."""
    others = [a for a in range(g.ndim) if a != axis]
    return _contract(g, g, (others, others))


def _turn(x: jax.Array, rotations: tuple[jax.Array, ...], *, back: bool = False) -> jax.Array:
    """Takes an array into the basis of the columns, or back, along every axis."""
    for rotation in rotations:  # takes the first axis and puts the new one last
        x = _contract(x, rotation, ([0], [1 if back else 0]))
    return x
