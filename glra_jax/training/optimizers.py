"""Optimisers and learning rates of a training run."""

from collections.abc import Mapping

import optax

from glra_jax.training.config import TrainConfig
from glra_jax.training.soap import scale_by_soap


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
    """Adam (0.9, 0.999) or SOAP, with L2 weight decay in the gradient, as Caffe has it."""
    soap = config.optimizer == "soap"
    stages = [scale_by_soap() if soap else optax.scale_by_adam(0.9, 0.999)]
    if config.weight_decay:
        stages.insert(0, optax.add_decayed_weights(config.weight_decay))
    if config.layer_rates == "tuned" and config.architecture.layer_rates:
        stages.append(_scale_layers(config.architecture.layer_rates))
    return optax.chain(*stages, optax.scale_by_learning_rate(learning_rate_schedule(config)))


def _scale_layers(rates: Mapping[str, float]) -> optax.GradientTransformation:
    def update(updates: optax.Updates, params: optax.Params | None = None) -> optax.Updates:
        del params
        return {
            layer: optax.tree.scale(rates.get(layer, 1.0), weights)
            for layer, weights in updates.items()
        }

    return optax.stateless(update)
