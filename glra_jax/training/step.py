"""Training: state, loss, optimiser and the data-parallel step.

A step is one jitted function of `(state, planes, basis)`: it makes its own batch (see
`glra_jax.training.batches`), shards it over the devices of a mesh and updates the state, whose
memory it takes over.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from glra_jax.datasets.planes import Planes
from glra_jax.degradation import RELEASE_GAINS, noise_deviation
from glra_jax.glra import fit_glra
from glra_jax.kernel_families import sample_inverses
from glra_jax.lowrank import Basis
from glra_jax.metrics import ssim
from glra_jax.model import Model, ModelConfig
from glra_jax.networks.glra import DeconvNet, Params, restore
from glra_jax.networks.initialization import PASSING_STARTS, init_params, undo_brightness
from glra_jax.networks.refinement import Refinement, low_rank_restoration, tie, untie
from glra_jax.training.batches import Batch, batch_key, make_batch
from glra_jax.training.config import TrainConfig
from glra_jax.training.soap import scale_by_soap


class TrainState(NamedTuple):
    """All that changes during training; a pytree.

    Attributes:
      step: int32 scalar, number of updates made.
      params: weights of the network.
      opt_state: of the optimiser.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState


class Metrics(NamedTuple):
    """What one step reports.

    Attributes:
      loss: ½‖·‖², mean over the examples.
      psnr: of the batch as a whole, dB.
      learning_rate: before the rates of the layers.
    """

    loss: jax.Array
    psnr: jax.Array
    learning_rate: jax.Array


def training_basis(config: TrainConfig) -> Basis:
    """The basis that a run starts from: GLRA of pseudo-inverses of its own kind of kernels."""
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    low, high = (noise_deviation(level, protocol=config.protocol) for level in config.noise)
    chunks = list(
        sample_inverses(
            key,
            config.kernels,
            count=config.basis_kernels,
            support=config.support,
            regularization=config.regularization,
            noise_weight=config.noise_weight,
            noise=(low, high),
        )
    )
    basis, _ = fit_glra(jnp.concatenate(chunks), rank=config.rank)
    return basis


def learning_rate_schedule(config: TrainConfig) -> optax.Schedule:
    """Learning rate as a function of the step."""
    peak = config.learning_rate
    if config.schedule == "halving":
        return optax.exponential_decay(peak, config.halve_every, 0.5, staircase=True)
    if config.schedule == "polynomial":
        return optax.polynomial_schedule(peak, 0.0, power=2, transition_steps=config.steps)
    warmup = min(config.warmup, config.steps // 2)
    return optax.warmup_cosine_decay_schedule(peak / 10, peak, warmup, config.steps)


# Adam moves every weight by about the learning rate, so that a layer's output moves by the rate
# times the number of products that it sums: 7,550 in layer 3, 11,250 in layer 4, 128 in layer 5,
# 6,272 in layer 6. Layers 1 to 3 hold orthonormal filters besides, which must not be thrown away.
_TUNED_RATES = {
    "vertical": 3e-4,
    "core": 3e-4,
    "horizontal": 3e-4,
    "refine_1": 3e-4,
    "refine_2": 3e-3,
    "refine_3": 5e-4,
}


# Layers 4 to 6 on eq. 8 sum 225, 128 and 6,272 products.
_REFINEMENT_RATES = {"refine_1": 0.3, "refine_2": 1.0, "refine_3": 0.3}


def _scale_layers(rates: dict[str, float]) -> optax.GradientTransformation:
    def update(updates: optax.Updates, params: optax.Params | None = None) -> optax.Updates:
        del params
        return {
            layer: optax.tree.scale(rates[layer], weights) for layer, weights in updates.items()
        }

    return optax.stateless(update)


def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Adam (0.9, 0.999) or SOAP, with L2 weight decay in the gradient, as Caffe has it."""
    soap = config.optimizer == "soap"
    stages = [scale_by_soap() if soap else optax.scale_by_adam(0.9, 0.999)]
    if config.weight_decay:
        stages.insert(0, optax.add_decayed_weights(config.weight_decay))
    if config.layer_rates == "tuned":
        rates = _TUNED_RATES if config.trained == "all" else _REFINEMENT_RATES
        stages.append(_scale_layers(rates))
    return optax.chain(*stages, optax.scale_by_learning_rate(learning_rate_schedule(config)))


def starting_params(config: TrainConfig, basis: Basis) -> dict[str, dict[str, jax.Array]]:
    """Weights of the whole network at step 0."""
    key = jax.random.fold_in(jax.random.key(config.seed), 2)
    params = init_params(key, basis, start=config.start, features=config.features)
    if config.protocol == "release" and config.start in PASSING_STARTS:
        # Its images are brighter than the truth, on the mean, by factor and noise.
        gain, offset = sum(RELEASE_GAINS) / 2, sum(config.noise) / 4
        params = undo_brightness(params, gain=gain, offset=offset)
    return params


def check_initial(config: TrainConfig, initial: Model) -> None:
    """Raises ValueError if a run cannot start from a model.

    All of the model's sizes must be those of the run if all layers are trained, with its own basis;
    the features alone if layers 4 to 6 are, which do not depend on the basis.
    """
    sizes = ("support", "rank", "features") if config.trained == "all" else ("features",)
    for size in sizes:
        found, wanted = getattr(initial.config, size), getattr(config, size)
        if found != wanted:
            raise ValueError(
                f"the initial model has {size} {found}, and the run {wanted}; give the run "
                f"--{size} {found}, or another model"
            )


def create_state(config: TrainConfig, basis: Basis, initial: Model | None = None) -> TrainState:
    """The state at step 0.

    Args:
      config: of the run.
      basis: of the run; that of `initial` if all layers are trained.
      initial: whose weights to start from in place of `config.start`, see `check_initial`.

    Returns:
      The state.
    """
    params: Params = starting_params(config, basis) if initial is None else initial.params
    if config.trained == "refinement":
        params = tie(params)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer(config).init(params))


def training_batch(
    config: TrainConfig, step: jax.typing.ArrayLike, planes: Planes, basis: Basis
) -> Batch:
    """The batch of a step: a pure function of the configuration's seed and the step."""
    return make_batch(
        batch_key(config.seed, step),
        planes,
        basis,
        size=config.batch,
        patch=config.patch,
        families=config.kernels,
        protocol=config.protocol,
        noise=config.noise,
        core=config.core,
        regularization=config.regularization,
        noise_weight=config.noise_weight,
    )


def trained_model(config: TrainConfig, state: TrainState, basis: Basis) -> Model:
    """The model that a state stands for."""
    params: Params = state.params
    if config.trained == "refinement":
        params = untie(params, starting_params(config, basis))
    sizes = ModelConfig(
        support=config.support,
        rank=config.rank,
        features=config.features,
        regularization=config.regularization,
        noise_weight=config.noise_weight,
        core=config.core,
    )
    return Model(basis, params, sizes)


def restored_batch(config: TrainConfig, params: Params, batch: Batch, basis: Basis) -> jax.Array:
    """What the network in training makes of a batch, of the shape of `batch.sharp`."""
    if config.trained == "all":
        network = DeconvNet(config.support, config.rank, config.features)
        return restore(network, params, batch.blurred, batch.core)
    linear = low_rank_restoration(batch.blurred, batch.core, basis)
    return jnp.asarray(Refinement(config.features).apply({"params": params}, linear))


def squared_loss(restored: jax.Array, sharp: jax.Array) -> jax.Array:
    """Half the squared error summed over pixels, mean over examples (Caffe's Euclidean loss)."""
    return 0.5 * jnp.sum((restored - sharp) ** 2) / sharp.shape[0]


def psnr_loss(restored: jax.Array, sharp: jax.Array) -> jax.Array:
    """Minus the mean PSNR of the examples in dB, which levels off above 50 dB."""
    error = jnp.mean((restored - sharp) ** 2, axis=(1, 2, 3))
    return jnp.mean(10.0 * jnp.log10(error + 1e-5))


def psnr_ssim_loss(restored: jax.Array, sharp: jax.Array) -> jax.Array:
    """`psnr_loss` minus the mean SSIM, of which 0.01 is worth 0.3 dB."""
    return psnr_loss(restored, sharp) - 30.0 * jnp.mean(ssim(restored, sharp))


_LOSSES = {"squared": squared_loss, "psnr": psnr_loss, "psnr-ssim": psnr_ssim_loss}


def loss_fn(network: DeconvNet, params: Params, batch: Batch) -> jax.Array:
    """`squared_loss` of a network on a batch."""
    return squared_loss(restore(network, params, batch.blurred, batch.core), batch.sharp)


def objective(
    params: Params, batch: Batch, basis: Basis, *, config: TrainConfig
) -> tuple[jax.Array, jax.Array]:
    """What is minimised, and `squared_loss`, which is reported."""
    restored = restored_batch(config, params, batch, basis)
    loss = _LOSSES[config.loss](restored, batch.sharp)
    return loss, squared_loss(restored, batch.sharp)


def data_mesh(batch: int, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """A mesh with one axis `data` over as many devices as divide the batch evenly."""
    devices = list(jax.devices() if devices is None else devices)
    count = math.gcd(batch, len(devices))
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((count,), ("data",), axis_types=auto, devices=devices[:count])


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Sharding of what every device holds whole: state, photographs, basis."""
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def make_train_step(
    config: TrainConfig, mesh: jax.sharding.Mesh
) -> Callable[[TrainState, Planes, Basis], tuple[TrainState, Metrics]]:
    """Builds the training step of a run.

    Args:
      config: of the run.
      mesh: from `data_mesh`; state, planes and basis must be replicated over it.

    Returns:
      A jitted function `(state, planes, basis) -> (state, metrics)`. The old state is donated: do
      not use it again.
    """
    tx = optimizer(config)
    schedule = learning_rate_schedule(config)
    slope = jax.value_and_grad(partial(objective, config=config), has_aux=True)
    over_data = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))

    @partial(jax.jit, donate_argnums=0, out_shardings=replicated(mesh))
    def train_step(state: TrainState, planes: Planes, basis: Basis) -> tuple[TrainState, Metrics]:
        batch = training_batch(config, state.step, planes, basis)
        batch = jax.lax.with_sharding_constraint(batch, over_data)
        (_, loss), gradient = slope(state.params, batch, basis)
        updates, opt_state = tx.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        pixels = batch.sharp.size // batch.sharp.shape[0]
        metrics = Metrics(
            loss, -10.0 * jnp.log10(2.0 * loss / pixels), jnp.asarray(schedule(state.step))
        )
        return TrainState(state.step + 1, params, opt_state), metrics

    return train_step
