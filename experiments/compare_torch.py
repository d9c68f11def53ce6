"""Compares the library with PyTorch, step by step: `python -m experiments.compare_torch --help`.

Both sides start from the same weights and see the same batches, made from real photographs, on the
CPU, in float32 and in float64. Compared are the outputs, the gradients of all weights, and the
weights after each of some Adam steps, with both conventions of weight decay: added to the gradient
(`torch.optim.Adam`; Caffe) and decoupled from it (`torch.optim.AdamW`; `optax.adamw`).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import jax
import numpy as np
import tyro
from tqdm import tqdm

from experiments.evaluation.model_files import faithful, low_rank, read_model
from experiments.torch_comparison.exact_cores import exact_core
from experiments.torch_comparison.report import Difference, Row, write_report
from experiments.torch_comparison.sides import OPTIMIZERS, Examples, JaxSide, TorchSide, Weights
from glra_jax.datasets import embedded_photographs, pack_photographs
from glra_jax.interop.caffe import read_basis
from glra_jax.kernel_families import sample_kernel
from glra_jax.lowrank import Basis
from glra_jax.model import Model, initial_model
from glra_jax.networks.glra import Glra
from glra_jax.programs import program
from glra_jax.training.batches import training_batch
from glra_jax.training.config import TrainConfig
from glra_jax.training.step import training_constants

Result = TypeVar("Result")

CORE, OUTPUT, GRADIENT = "cores of 8 kernels, relative", "output", "gradient, relative by layer"
# What differences must stay under.
BOUNDS = {
    "float32": {CORE: 1e-4, OUTPUT: 1e-5, GRADIENT: 1e-4},
    "float64": {CORE: 1e-10, OUTPUT: 1e-12, GRADIENT: 1e-10},
}
# Of cores by least squares, which either side's iterations leave within 1e-5 or so of the solution.
ITERATED_CORE_BOUND = 1e-4
# A difference in float32 is no rounding where PyTorch's is above so many bounds.
MOST_ROUNDING = 100

# By quantity, the results of JAX and of PyTorch for kernels and the first batch, by name.
Start = dict[str, tuple[Weights, Weights]]


@dataclass(frozen=True)
class CompareOptions:
    """Compares outputs, gradients and training steps of JAX and PyTorch on real photographs.

    Attributes:
      output: Folder for the table and the plot; must not exist.
      weights: Weights to start from: .pt, .pth, .safetensors, .caffemodel, or a model by name; a
        fresh network if not given.
      basis: Archive (.npz) with left and right, for weights that come without their basis.
      steps: Adam steps.
      batch: Examples a step.
      patch: Side of the blurred patches.
      support: Of a fresh network.
      rank: Of a fresh network.
      features: Of a fresh network.
      initialization: Of a fresh network.
      learning_rate: The same in every step.
      weight_decay: Large enough that the two conventions differ visibly.
      method: How JAX correlates in float32; in float64 it is direct.
      seed: Of the batches and a fresh network.
    """

    output: Path = Path("runs/compare_torch")
    weights: str | None = None
    basis: Path | None = None
    steps: int = 20
    batch: int = 1
    patch: int = 256
    support: int = 151
    rank: int = 50
    features: int = 128
    initialization: Literal["identity", "glra", "random"] = "glra"
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    method: Literal["auto", "direct", "spectral"] = "auto"
    seed: int = 0

    def train_config(self, architecture: Glra) -> TrainConfig[Glra]:
        """The training that both sides do with a network."""
        return TrainConfig(
            steps=self.steps,
            batch=self.batch,
            patch=self.patch,
            seed=self.seed,
            architecture=architecture,
            initialization=self.initialization,
            learning_rate=self.learning_rate,
            schedule="halving",
            halve_every=self.steps + 1,
            layer_rates="uniform",
            weight_decay=self.weight_decay,
        )


def compare(
    model: Model,
    batches: list[Examples],
    kernels: np.ndarray,
    config: TrainConfig,
    *,
    precision: str,
    method: str,
) -> tuple[list[Row], dict[str, list[Difference]], Start]:
    """Compares the two sides in one precision.

    Args:
      model: starting weights and basis.
      batches: one for each Adam step; outputs and gradients are compared on the first.
      kernels: blur kernels whose cores are compared, `(N, h, w)`.
      config: learning rate and weight decay.
      precision: "float32" or "float64".
      method: of the correlations, in float32.

    Returns:
      Rows of the table, the differences of the weights after each step, by optimiser, and the
      results of the two sides for the kernels and the first batch.
    """
    ours = JaxSide(model, config, precision=precision, method=method)
    theirs = TorchSide(model, config, precision=precision)
    cores, start = compare_cores(model, kernels, config, theirs)
    rows, more_start = compare_start(ours, theirs, batches[0])
    more, curves = compare_training(ours, theirs, batches)
    return [cores, *rows, *more], curves, start | more_start


def compare_cores(
    model: Model, kernels: np.ndarray, config: TrainConfig, theirs: TorchSide
) -> tuple[Row, Start]:
    """Compares the cores of blur kernels, at the noise level of the batches; returns them as well.

    The library computes cores in float32 always; in float64, NumPy takes its place.
    """
    noise = config.noise[1]
    if theirs.precision == "float32":
        condition = partial(low_rank(model).condition, model.constants, noise=noise)
        cores = np.asarray(jax.jit(jax.vmap(condition))(kernels).core)
    else:
        cores = np.stack([exact_core(model, kernel, noise) for kernel in kernels])
    named = {f"kernel {index}": core for index, core in enumerate(cores)}
    expected = {n: theirs.core(k, noise) for n, k in zip(named, kernels, strict=True)}
    row = Row(theirs.precision, CORE, largest_relative(named, expected))
    bound = BOUNDS[theirs.precision][CORE]
    if low_rank(model).inverse.core == "least-squares":
        bound = max(bound, ITERATED_CORE_BOUND)
    return replace(row, bound=bound), {CORE: (named, expected)}


def compare_start(ours: JaxSide, theirs: TorchSide, batch: Examples) -> tuple[list[Row], Start]:
    """Compares outputs and gradients of the starting weights; returns them as well."""
    precision = ours.precision
    output, *seconds = timed(partial(ours.restore, batch), partial(theirs.restore, batch))
    worst = float(np.abs(output[0] - output[1]).max())
    rows = [Row(precision, OUTPUT, worst, None, BOUNDS[precision][OUTPUT], *seconds)]
    gradient, *seconds = timed(partial(ours.gradient, batch), partial(theirs.gradient, batch))
    worst = largest_relative(*gradient)
    rows.append(Row(precision, GRADIENT, worst, None, BOUNDS[precision][GRADIENT], *seconds))
    return rows, {OUTPUT: ({OUTPUT: output[0]}, {OUTPUT: output[1]}), GRADIENT: gradient}


def distances_from_float64(start: Start, exact: Start) -> list[Row]:
    """Distances of either side, in float32, from JAX in float64: the rounding of each."""
    rows = []
    for quantity, sides in start.items():
        truth = exact[quantity][0]
        for library, found in zip(("JAX", "PyTorch"), sides, strict=True):
            if quantity == OUTPUT:
                worst = difference(found, truth).largest
            else:
                worst = largest_relative(found, truth)
            rows.append(Row("float32", f"{quantity}: {library} from float64", worst))
    return rows


def is_rounding(row: Row, rows: list[Row]) -> bool:
    """Tells whether a difference in float32 is rounding, and JAX's no more than PyTorch's.

    Weights that were trained long amplify rounding until no two programs agree to the bound. A
    difference is accepted where JAX is no further from float64 than PyTorch is, and PyTorch within
    `MOST_ROUNDING` times the bound. More than that is an error, not rounding.
    """
    found = {r.quantity: r.difference for r in rows if r.precision == "float32"}
    ours, theirs = (
        found.get(f"{row.quantity}: {side} from float64") for side in ("JAX", "PyTorch")
    )
    if row.precision != "float32" or row.bound is None or ours is None or theirs is None:
        return False
    return ours <= theirs <= MOST_ROUNDING * row.bound


def compare_training(
    ours: JaxSide, theirs: TorchSide, batches: list[Examples]
) -> tuple[list[Row], dict[str, list[Difference]]]:
    """Compares the weights after each Adam step, for both conventions of weight decay."""
    rows, curves = [], {}
    final: dict[str, Weights] = {}
    for name in OPTIMIZERS:
        curve, seconds = [], []
        pairs = zip(ours.train(batches, name), theirs.train(batches, name), strict=True)
        label = f"{ours.precision} {name}"
        for (weights, jax_time), (reference, torch_time) in tqdm(
            pairs, total=len(batches), unit="step", desc=label
        ):
            curve.append(difference(weights, reference))
            seconds.append((jax_time, torch_time))
            final[name] = weights
        quantity = f"weights after {len(batches)} steps of {name}"
        times = np.median(seconds, axis=0).tolist()
        rows.append(Row(ours.precision, quantity, *curve[-1], None, *times))
        curves[name] = curve
    apart = difference(final["Adam"], final["AdamW"])
    return [*rows, Row(ours.precision, "for scale: Adam from AdamW, both JAX", *apart)], curves


def difference(a: Weights, b: Weights) -> Difference:
    """Difference over all entries of two state dicts of the same names."""
    gaps = np.concatenate([(a[name] - b[name]).ravel().astype(np.float64) for name in b])
    return Difference(float(np.abs(gaps).max()), float(np.sqrt(np.mean(gaps**2))))


def relative_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, in units of the largest value of `b`; 0 if both are zero."""
    scale = float(np.abs(b).max())
    gap = float(np.abs(a - b).max())
    return gap / scale if scale else gap


def largest_relative(a: Weights, b: Weights) -> float:
    """The largest `relative_difference` of two sets of arrays by name; NaN where there is one."""
    return float(np.max([relative_difference(a[name], b[name]) for name in b]))


def timed(
    ours: Callable[[], Result], theirs: Callable[[], Result]
) -> tuple[tuple[Result, Result], float, float]:
    """The results of two functions, and their median times of three calls after a first one."""
    results = ours(), theirs()
    seconds = []
    for _ in range(3):
        ticks = [time.perf_counter()]
        for function in (ours, theirs):
            function()
            ticks.append(time.perf_counter())
        seconds.append(np.diff(ticks))
    jax_time, torch_time = np.median(seconds, axis=0).tolist()
    return results, jax_time, torch_time


def starting_model(options: CompareOptions) -> tuple[Model, TrainConfig]:
    """The model that both sides start from, and how they train it."""
    basis = None if options.basis is None else read_basis(options.basis)
    if options.weights is not None:
        model = read_model(options.weights, basis)
        return model, options.train_config(faithful(model))
    support, rank = (options.support, options.rank) if basis is None else basis.left.shape
    architecture = Glra(support, rank, options.features)
    config = options.train_config(architecture)
    if basis is None:
        basis = training_constants(config)
    key = jax.random.key(config.seed)
    model = initial_model(key, architecture, basis, initialization=config.initialization)
    return model, config


def photograph_batches(config: TrainConfig, basis: Basis) -> list[Examples]:
    """The batch of each step, from the embedded photographs, in NumPy."""
    photographs = list(embedded_photographs("train").values())
    packed = pack_photographs(photographs, min_side=config.crop)

    @jax.jit
    def make(step: jax.typing.ArrayLike) -> Examples:
        batch = training_batch(config, step, packed, basis)
        return Examples(batch.blurred, batch.condition.core, batch.sharp)

    return [jax.device_get(make(step)) for step in range(config.steps)]


def blur_kernels(config: TrainConfig) -> np.ndarray:
    """Eight kernels of the families that the batches are blurred with, in NumPy."""
    draw = jax.jit(jax.vmap(partial(sample_kernel, families=config.kernels)))
    return np.asarray(draw(jax.random.split(jax.random.key(config.seed), 8)))


@contextmanager
def precision_enabled(precision: str) -> Iterator[None]:
    """Lets JAX have float64 arrays inside the block, where that is the precision wanted."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", precision == "float64")
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def run(options: CompareOptions) -> list[Row]:
    """Compares in both precisions and writes the report; the output folder must be new."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ImportError("the comparison needs PyTorch: pip install 'glra-jax[torch]'") from error
    if options.output.exists():
        raise FileExistsError(f"{options.output} exists; choose another folder with --output")
    rows: list[Row] = []
    curves, starts = {}, {}
    with jax.default_device(jax.devices("cpu")[0]):
        model, config = starting_model(options)
        batches = photograph_batches(config, model.constants)
        kernels = blur_kernels(config)
        options.output.mkdir(parents=True)
        for precision in BOUNDS:
            print(f"comparing in {precision}")
            with precision_enabled(precision):
                more, curves[precision], starts[precision] = compare(
                    model, batches, kernels, config, precision=precision, method=options.method
                )
            rows += more
    rows += distances_from_float64(starts["float32"], starts["float64"])
    print(
        f"\n{write_report(options.output, rows, curves)}\n\nin {options.output}: "
        "comparison.md, comparison.csv, steps.csv, difference.png"
    )
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Runs the program; exits with an error where a difference is above its bound."""
    options = tyro.cli(CompareOptions, args=arguments, prog="python -m experiments.compare_torch")
    with program("error"):
        rows = run(options)
    above = [row for row in rows if row.bound is not None and not row.difference < row.bound]
    for row in [row for row in above if is_rounding(row, rows)]:
        print(f"{row.quantity}: above the bound, but JAX is no further from float64 than PyTorch")
        above.remove(row)
    if above:
        raise SystemExit(
            "error: above the bound: " + ", ".join(f"{r.precision} {r.quantity}" for r in above)
        )


if __name__ == "__main__":
    main()
