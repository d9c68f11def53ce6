"""The two sides of `compare_torch`: the same outputs, gradients and training in JAX and PyTorch.

A side is a network with its starting weights in one precision. Batches are the library's own, in
NumPy; weights and gradients come back as NumPy arrays by PyTorch's state dict names.
"""

import copy
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.evaluation.model_files import faithful
from glra_jax.interop import model_to_state_dict, params_to_state_dict
from glra_jax.model import Model
from glra_jax.training.config import TrainConfig
from glra_jax.training.losses import squared_loss
from glra_jax.training.optimizers import optimizer

Weights = dict[str, np.ndarray]

# The two conventions of weight decay, by the name of PyTorch's optimiser: added to the gradient, as
# in Caffe and in `glra_jax.training.optimizers`, and decoupled from it, as in `optax.adamw`.
OPTIMIZERS = ("Adam", "AdamW")


class Examples(NamedTuple):
    """Examples that both sides restore, NumPy or JAX arrays.

    Attributes:
      blurred: `(N, H, W, 1)`.
      core: `(N, m, m)`.
      sharp: `(N, H', W', 1)`.
    """

    blurred: np.ndarray | jax.Array
    core: np.ndarray | jax.Array
    sharp: np.ndarray | jax.Array


class JaxSide:
    """The library's network, loss and optimisers in one precision."""

    def __init__(self, model: Model, config: TrainConfig, *, precision: str, method: str) -> None:
        self.precision, self.config = precision, config
        self.params = jax.tree.map(lambda w: jnp.asarray(np.asarray(w, precision)), model.params)
        network = faithful(model).module(method=method if precision == "float32" else "direct")

        def restored(params: Any, examples: Examples) -> jax.Array:
            return jnp.asarray(network.apply({"params": params}, examples.blurred, examples.core))

        def loss(params: Any, examples: Examples) -> jax.Array:
            return squared_loss(restored(params, examples), jnp.asarray(examples.sharp))

        self._restore, self._gradient = jax.jit(restored), jax.jit(jax.grad(loss))

    def _cast(self, batch: Examples) -> Examples:
        return Examples(*(jnp.asarray(np.asarray(array, self.precision)) for array in batch))

    def restore(self, batch: Examples) -> np.ndarray:
        """Output, `(N, H', W', 1)`."""
        return np.asarray(self._restore(self.params, self._cast(batch)))

    def gradient(self, batch: Examples) -> Weights:
        """Gradient of the loss by state dict name."""
        gradient = jax.block_until_ready(self._gradient(self.params, self._cast(batch)))
        return params_to_state_dict(gradient)

    def train(self, batches: list[Examples], name: str) -> Iterator[tuple[Weights, float]]:
        """Weights after each step, and the seconds that it took."""
        if name == "Adam":
            tx = optimizer(self.config)
        else:
            tx = optax.adamw(self.config.learning_rate, weight_decay=self.config.weight_decay)

        def update(gradient: Any, state: Any, params: Any) -> tuple[Any, Any]:
            updates, state = tx.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        params, state = self.params, tx.init(self.params)
        # Compiled outside of the clock, as the gradient was when it was first compared.
        update = jax.jit(update).lower(params, state, params).compile()
        for batch in map(self._cast, batches):
            started = time.perf_counter()
            gradient = self._gradient(params, batch)
            params, state = jax.block_until_ready(update(gradient, state, params))
            seconds = time.perf_counter() - started
            yield params_to_state_dict(params), seconds


class TorchSide:
    """The same in PyTorch."""

    def __init__(self, model: Model, config: TrainConfig, *, precision: str) -> None:
        import torch

        from experiments.torch_comparison.reference import DeconvNet

        self.precision, self.config = precision, config
        architecture = faithful(model)
        state = {name: torch.from_numpy(a) for name, a in model_to_state_dict(model).items()}
        self._start: Any = DeconvNet(
            state["basis.left"],
            state["basis.right"],
            features=architecture.features,
            regularization=architecture.inverse.regularization,
            noise_weight=architecture.inverse.noise_weight,
            kind_of_core=architecture.inverse.core,
        )
        self._start.load_state_dict(state)
        self._start.to(getattr(torch, precision))

    def _cast(self, batch: Examples) -> tuple[Any, Any, Any]:
        import torch

        blurred, core, sharp = (np.array(array, self.precision) for array in batch)
        images = (torch.from_numpy(x.transpose(0, 3, 1, 2)) for x in (blurred, sharp))
        return next(images), torch.from_numpy(core), next(images)

    def core(self, kernel: np.ndarray, noise: float) -> np.ndarray:
        """Core of a blur kernel at a noise level."""
        import torch

        tensor = torch.from_numpy(np.array(kernel, self.precision))
        return self._start.core_of(tensor, noise).numpy()

    def restore(self, batch: Examples) -> np.ndarray:
        """Output, `(N, H', W', 1)`."""
        import torch

        blurred, core, _ = self._cast(batch)
        with torch.no_grad():
            return self._start(blurred, core).numpy().transpose(0, 2, 3, 1)

    def _backward(self, network: Any, batch: tuple[Any, Any, Any]) -> None:
        blurred, core, sharp = batch
        network.zero_grad()
        loss = 0.5 * ((network(blurred, core) - sharp) ** 2).sum() / len(sharp)
        loss.backward()

    def gradient(self, batch: Examples) -> Weights:
        """Gradient of the loss by state dict name."""
        self._backward(self._start, self._cast(batch))
        return {name: w.grad.numpy().copy() for name, w in self._start.named_parameters()}

    def train(self, batches: list[Examples], name: str) -> Iterator[tuple[Weights, float]]:
        """Weights after each step, and the seconds that it took."""
        import torch

        network = copy.deepcopy(self._start)
        tx = getattr(torch.optim, name)(
            network.parameters(),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
        )
        for batch in map(self._cast, batches):
            started = time.perf_counter()
            self._backward(network, batch)
            tx.step()
            seconds = time.perf_counter() - started
            yield {n: w.detach().numpy().copy() for n, w in network.named_parameters()}, seconds
