"""Optimisers and learning rates of a training run."""

from collections.abc import Mapping
from typing import Any

import jax
import optax
import optax.contrib

from glra_jax.training.config import TrainConfig
from glra_jax.training.soap import scale_by_soap

# Layers with fewer inputs or outputs enter and leave a network, whose scales are not alike.
_SMALL = 16


def learning_rate_schedule(config: TrainConfig) -> optax.Schedule:
    """Learning rate as a function of the step."""
    peak = config.learning_rate
    if config.schedule == "halving":
        return optax.exponential_decay(peak, config.halve_every, 0.5, staircase=True)
    if config.schedule == "polynomial":
        return optax.polynomial_schedule(peak, 0.0, power=2, transition_steps=config.steps)
    warmup = min(config.warmup, config.steps // 2)
    return optax.warmup_cosine_decay_schedule(peak / 10, peak, warmup, config.steps)


def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Adam (0.9, 0.999), AdamW (0.9, 0.99), SOAP or Muon, with clipping and weight decay."""
    scale = {
        "adam": lambda: optax.scale_by_adam(0.9, 0.999),
        "adamw": lambda: optax.scale_by_adam(0.9, 0.99),
        "soap": scale_by_soap,
        "muon": _scale_by_muon,
    }
    stages = [scale[config.optimizer]()]
    if config.weight_decay:
        # Caffe adds it to the gradient; AdamW (Loshchilov and Hutter 2019) to the update.
        place = 1 if config.optimizer in ("adamw", "muon") else 0
        stages.insert(place, optax.add_decayed_weights(config.weight_decay))
    if config.clip_norm:
        stages.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if config.layer_rates == "tuned" and config.architecture.layer_rates:
        stages.append(_scale_layers(config.architecture.layer_rates))
    return optax.chain(*stages, optax.scale_by_learning_rate(learning_rate_schedule(config)))


def _scale_by_muon() -> optax.GradientTransformation:
    """Muon, whose updates of matrices and of filters are as large as AdamW's; NAdam for the rest.

    See Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the size of
    the updates: Liu et al., "Muon is Scalable for LLM Training" (2025), eq. 4.
    """
    muon = optax.contrib.muon(
        1.0, adam_b2=0.99, consistent_rms=0.2, muon_weight_dimension_numbers=_as_matrices
    )
    return optax.chain(muon, optax.scale(-1.0))  # a step of the rate 1 goes downhill


def _as_matrices(params: optax.Params) -> Any:
    """How weights `(..., inputs, outputs)` are matrices; None for vectors and small matrices."""

    def axes(weights: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        if weights.ndim < 2 or min(weights.shape[-2:]) <= _SMALL:
            return None
        outputs = weights.ndim - 1
        return optax.contrib.MuonDimensionNumbers(tuple(range(outputs)), outputs)

    return jax.tree.map(axes, params)


def _scale_layers(rates: Mapping[str, float]) -> optax.GradientTransformation:
    def update(updates: optax.Updates, params: optax.Params | None = None) -> optax.Updates:
        del params
        return {
            layer: optax.tree.scale(rates.get(layer, 1.0), weights)
            for layer, weights in updates.items()
        }

    return optax.stateless(update)
