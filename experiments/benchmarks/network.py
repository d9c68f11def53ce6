"""The training step and the restoration of a photograph, against direct convolution and PyTorch."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import glra_jax as gx
from experiments.benchmarks.timing import Comparison, compare
from experiments.evaluation.model_files import faithful
from glra_jax.networks.glra import Params

PATCH = 256
PHOTOGRAPH = (321, 481, 3)
# Multiply-adds of one forward pass on a patch, the layers' definition taken literally.
FORWARD_MULTIPLY_ADDS = (
    106 * 256 * 151 * 50
    + 106 * 256 * 50 * 50
    + 106 * 106 * (151 * 50 * 50 + 225 * 50 * 128 + 128 * 128 + 49 * 128)
)

Forward = Callable[[Params, jax.Array, jax.Array], jax.Array]


def example_model() -> gx.Model:
    """A model of the faithful size."""
    return gx.load_model("glra-release")


def lax_forward(params: Params, y: jax.Array, core: jax.Array) -> jax.Array:
    """The same network with `lax.conv_general_dilated` in every layer."""

    def layer(x: jax.Array, name: str, padding: int = 0) -> jax.Array:
        pads = ((padding, padding),) * 2
        dims = ("NHWC", "HWIO", "NHWC")
        kernel = params[name]["kernel"]
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=dims)
        return x + params[name]["bias"]

    x = jnp.einsum("nhwi,ij->nhwj", layer(y, "vertical"), core) + params["core"]["bias"]
    x = nn.leaky_relu(layer(layer(x, "horizontal"), "refine_1", 7), 0.2)
    return nn.sigmoid(layer(nn.leaky_relu(layer(x, "refine_2"), 0.2), "refine_3", 3))


def library_forward(model: gx.Model, method: str) -> Forward:
    """The library's network with one method of correlating."""
    network = faithful(model).module(method=method)

    def forward(params: Params, y: jax.Array, core: jax.Array) -> jax.Array:
        return jnp.asarray(network.apply({"params": params}, y, core))

    return forward


def jax_step(model: gx.Model, forward: Forward, batch: int = 1) -> Callable[[], object]:
    """A training step: forward, backward, Adam; state kept between calls."""
    tx = optax.adam(1e-6)
    y = jax.random.uniform(jax.random.key(1), (batch, PATCH, PATCH, 1))
    sharp = jax.random.uniform(jax.random.key(2), (batch, PATCH - 150, PATCH - 150, 1))
    core = jnp.eye(faithful(model).rank)

    @jax.jit
    def step(params: Params, opt_state: optax.OptState) -> tuple[Params, optax.OptState]:
        def loss(params: Params) -> jax.Array:
            return 0.5 * jnp.sum((forward(params, y, core) - sharp) ** 2)

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params = jax.tree.map(jnp.array, dict(model.params))
    state = [(params, tx.init(params))]

    def run() -> None:
        state[0] = jax.block_until_ready(step(*state[0]))

    return run


def torch_network(model: gx.Model) -> Any:
    """The network as a PyTorch user would write it, with the same sizes; None without PyTorch."""
    try:
        import torch

        from experiments.torch_comparison.reference import DeconvNet
    except ImportError:
        return None
    left, right = (torch.from_numpy(np.array(b)) for b in model.constants)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return DeconvNet(left, right).to(device)


def torch_steps(model: gx.Model, *, compiled: bool) -> dict[str, Callable[[], object]]:
    """The same training step in PyTorch: eager, and through `torch.compile` if wanted."""
    network = torch_network(model)
    if network is None:
        return {}
    import torch

    device = next(network.parameters()).device
    y = torch.rand(1, 1, PATCH, PATCH, device=device)
    sharp = torch.rand(1, 1, PATCH - 150, PATCH - 150, device=device)
    core = torch.eye(faithful(model).rank, device=device)

    def stepper(forward: Any) -> Callable[[], object]:
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-6)

        def run() -> None:
            optimizer.zero_grad()
            (0.5 * ((forward(y, core) - sharp) ** 2).sum()).backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()

        return run

    steps = {"PyTorch, eager": stepper(network)}
    if compiled:
        steps["PyTorch, torch.compile"] = stepper(torch.compile(network))
    return steps


def compare_steps(*, rounds: int, torch_compile: bool) -> Comparison:
    """Training step at batch 1 on a 256×256 patch."""
    model = example_model()
    methods = {
        "glra_jax, auto": jax_step(model, library_forward(model, "auto")),
        "glra_jax, direct": jax_step(model, library_forward(model, "direct")),
        "lax.conv_general_dilated": jax_step(model, lax_forward),
        **torch_steps(model, compiled=torch_compile),
    }
    comparison = compare("training step", methods, rounds=rounds)
    done = 3 * 2 * FORWARD_MULTIPLY_ADDS / 1e9
    comparison.notes["GFLOP of the step done directly"] = round(done, 1)
    return comparison


def compare_photograph(*, rounds: int) -> Comparison:
    """Restoring one 481×321 RGB photograph."""
    model = example_model()
    image = jax.random.uniform(jax.random.key(3), PHOTOGRAPH)
    y = np.asarray(image)
    kernel = gx.gaussian_kernel(sigma=2.5, size=23)
    restorer = gx.prepare(model, kernel, tile=gx.even_tile(*PHOTOGRAPH[:2]), noise=0.01)
    methods: dict[str, Callable[[], object]] = {
        "glra_jax, prepared, tile by tile": lambda: restorer(y),
        "glra_jax, deconvolve": lambda: jax.block_until_ready(gx.deconvolve(image, kernel, model)),
    }
    network = torch_network(model)
    if network is not None:
        import torch

        device = next(network.parameters()).device
        assert restorer.condition is not None
        core = torch.from_numpy(np.array(restorer.condition.core)).to(device)

        def run() -> object:
            padded = np.pad(y, ((75, 75), (75, 75), (0, 0)), mode="edge").transpose(2, 0, 1)
            with torch.inference_mode():
                x = torch.from_numpy(np.ascontiguousarray(padded))[:, None].to(device)
                return network(x, core).cpu().numpy()

        methods["PyTorch, eager"] = run
    return compare("481×321 RGB photograph", methods, rounds=rounds)
