"""Training: state, objective and the data-parallel step.

A step is one jitted function of `(state, photographs, constants)`: every device of a mesh makes its
own share of the batch (see `glra_jax.training.batches`) and its share of the gradient, the mean of
which updates the state, whose memory the step takes over. The devices may be those of several
processes. Photographs are either all of them, the same in every step, or the squares of its batch.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from glra_jax import validation
from glra_jax.datasets.packing import PackedPhotographs
from glra_jax.degradation import DrawnDegradation, degradation_named, noise_deviation
from glra_jax.light import traced_to_srgb
from glra_jax.model import Model
from glra_jax.networks.architecture import Constants, Params, without_margins
from glra_jax.training.batches import Batch, Photographs, example_keys, make_examples
from glra_jax.training.config import TrainConfig
from glra_jax.training.losses import LOSSES, squared_loss
from glra_jax.training.optimizers import learning_rate_schedule, optimizer

T = TypeVar("T")


class TrainState(NamedTuple):
    """State of a training run, all that changes; a pytree.

    Attributes:
      step: int32 scalar, number of updates made.
      params: weights of the network.
      opt_state: of the optimiser.
      average: running average of the weights; empty where the run keeps none.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    average: Params


class Metrics(NamedTuple):
    """Numbers that one step reports.

    Attributes:
      loss: ½‖·‖², mean over the examples.
      psnr: of the batch as a whole, dB.
      learning_rate: before the rates of the layers.
    """

    loss: jax.Array
    psnr: jax.Array
    learning_rate: jax.Array


def training_constants(config: TrainConfig) -> Constants:
    """The constants that a run starts from, fitted on its own kind of kernels."""
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    low, high = (noise_deviation(level, protocol=config.protocols[0]) for level in config.noise)
    return config.architecture.fit_constants(
        key, config.kernels, count=config.basis_kernels, noise=(low, high)
    )


def initial_params(config: TrainConfig, constants: Constants) -> Params:
    """Weights at step 0, unless a model is given to start from."""
    key = jax.random.fold_in(jax.random.key(config.seed), 2)
    gain, offset = mean_brightness(config.protocols[0], config.noise)
    return config.architecture.init(
        key, constants, initialization=str(config.initialization), gain=gain, offset=offset
    )


def mean_brightness(protocol: str, noise: tuple[float, float]) -> tuple[float, float]:
    """Factor and offset by which blurred images are brighter than the truth on the mean."""
    degradation = degradation_named(protocol)
    if isinstance(degradation, DrawnDegradation) or degradation.draw_gain is None:
        return 1.0, 0.0  # noise alone, of which weights that restore know nothing
    return degradation.mean_gain, sum(degradation.mean_offset(level) for level in noise) / 2


def create_state(config: TrainConfig, params: Params) -> TrainState:
    """The state at step 0 with some weights."""
    average = jax.tree.map(jnp.copy, params) if config.average else {}
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer(config).init(params), average)


def objective(
    params: Params, batch: Batch, constants: Constants, *, config: TrainConfig
) -> tuple[jax.Array, jax.Array]:
    """Loss that is minimised, and `squared_loss`, which is reported.

    Images in linear light are compared as they are shown, where errors in the dark count for more.
    """
    images = config.architecture.iterates(
        params,
        constants,
        batch.blurred,
        batch.condition,
        inside=batch.inside,
        precision=config.precision,
    )
    weights = without_margins(batch.inside, config.margins)
    linear = batch.linear[:, None, None, None]

    def shown(image: jax.Array) -> jax.Array:
        return jnp.where(linear, traced_to_srgb(image), image)

    sharp = shown(batch.sharp)
    loss = sum(
        weight * LOSSES[config.loss](shown(image), sharp, weights) for weight, image in images
    )
    return jnp.asarray(loss), squared_loss(images[-1][1], batch.sharp, weights)


def data_mesh(batch: int, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """A mesh with one axis `data` over as many devices as divide the batch evenly."""
    devices = list(jax.devices() if devices is None else devices)
    count = math.gcd(batch, len(devices))
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((count,), ("data",), axis_types=auto, devices=devices[:count])


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Sharding of what every device holds whole: state, photographs, constants."""
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def shared_out(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Sharding of what every device holds its share of, by the first axis: squares of a batch."""
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))


def replicate(tree: T, mesh: jax.sharding.Mesh) -> T:
    """Copies arrays to every device of a mesh, each process those that it has itself.

    Args:
      tree: arrays on this host or its devices, the same in all processes.
      mesh: from `data_mesh`.

    Returns:
      New arrays, replicated over the mesh.
    """
    sharding = replicated(mesh)
    if sharding.is_fully_addressable:
        # Copies: a step takes over its state's memory, a model's own among it.
        return jax.device_put(jax.tree.map(jnp.copy, tree), sharding)

    def everywhere(x: jax.Array) -> jax.Array:
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(everywhere, tree)


def check_accumulate(accumulate: int, config: TrainConfig, mesh: jax.sharding.Mesh) -> None:
    """Raises unless a device's share of a batch can be divided into so many parts."""
    validation.check_size(accumulate, "accumulate")
    share = config.batch // mesh.size // len(config.protocols)
    if share % accumulate:
        each = f" of each of {len(config.protocols)} protocols" * (len(config.protocols) > 1)
        raise ValueError(
            f"accumulate must divide the {share} examples{each} that a device has in a batch of "
            f"{config.batch} on {mesh.size} devices, got {accumulate}"
        )


def make_train_step(
    config: TrainConfig, mesh: jax.sharding.Mesh, *, accumulate: int = 1
) -> Callable[[TrainState, Photographs, Constants], tuple[TrainState, Metrics]]:
    """Builds the training step of a run.

    Args:
      config: of the run.
      mesh: from `data_mesh`; state, photographs and constants must be replicated over it, but for
        the squares of a batch, see `shared_out`.
      accumulate: parts that a device makes its share of the batch in, one after the other, to save
        memory. The gradient is that of the whole batch, to rounding.

    Returns:
      A jitted function `(state, photographs, constants) -> (state, metrics)`. The old state is
      donated: do not use it again.

    Raises:
      ValueError: the examples of a device cannot be divided into so many parts.
    """
    check_accumulate(accumulate, config, mesh)
    tx = optimizer(config)
    schedule = learning_rate_schedule(config)
    slope = jax.value_and_grad(partial(objective, config=config), has_aux=True)
    whole, shared = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("data")

    # Every device runs this on its own. Left to the compiler, every device would gather the whole
    # batch for each FFT, which XLA does not divide, and compute it whole; on CPUs it may then also
    # choose a layout of the gathered array that its own FFT refuses (RET_CHECK in fft_thunk.cc).
    def mean_slope(
        keys: jax.Array, params: Params, photographs: Photographs, constants: Constants
    ) -> tuple[Params, jax.Array, jax.Array]:
        """Gradient, reported loss and number of values an example; means over the batch."""
        squares = None if isinstance(photographs, PackedPhotographs) else photographs

        def of_examples(
            keys: jax.Array, squares: jax.Array | None
        ) -> tuple[Params, jax.Array, jax.Array]:
            source = photographs if squares is None else squares
            batch = make_examples(keys, config, source, constants)
            (_, loss), gradient = slope(params, batch, constants)
            count, _, _, channels = batch.sharp.shape
            counted = jnp.sum(without_margins(batch.inside, config.margins)) * channels / count
            return gradient, loss, counted

        if accumulate == 1:
            mean = of_examples(keys, squares)
        else:
            parts = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), (keys, squares))
            one = jax.tree.map(lambda x: x[0], parts)
            zero = jax.tree.map(
                lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_examples, *one)
            )
            total, _ = jax.lax.scan(
                lambda total, part: (jax.tree.map(jnp.add, total, of_examples(*part)), None),
                zero,
                parts,
            )
            mean = jax.tree.map(lambda x: x / accumulate, total)
        return jax.lax.pmean(mean, "data")

    @partial(jax.jit, donate_argnums=0, out_shardings=replicated(mesh))
    def train_step(
        state: TrainState, photographs: Photographs, constants: Constants
    ) -> tuple[TrainState, Metrics]:
        keys = example_keys(config, state.step)
        of_photographs = whole if isinstance(photographs, PackedPhotographs) else shared
        on_each_device = jax.shard_map(
            mean_slope,
            mesh=mesh,
            in_specs=(shared, whole, of_photographs, whole),
            out_specs=whole,
            check_vma=False,
        )
        gradient, loss, values = on_each_device(keys, state.params, photographs, constants)
        updates, opt_state = tx.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = Metrics(
            loss, -10.0 * jnp.log10(2.0 * loss / values), jnp.asarray(schedule(state.step))
        )
        average = state.average
        if config.average:
            # Young averages forget faster, or they would remember where the run started.
            step = state.step.astype(jnp.float32)
            decay = jnp.minimum(config.average, (1.0 + step) / (10.0 + step))
            average = optax.incremental_update(params, average, 1.0 - decay)
        return TrainState(state.step + 1, params, opt_state, average), metrics

    return train_step


@jax.jit
def is_finite(state: TrainState) -> jax.Array:
    """Whether all weights of a state are finite."""
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params)]))


def trained_model(config: TrainConfig, state: TrainState, constants: Constants) -> Model:
    """The model that a state stands for."""
    return Model(config.architecture, constants, state.average or state.params)
