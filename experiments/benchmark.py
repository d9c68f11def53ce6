"""Times this library against direct convolution, PyTorch and NumPy, side by side."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro

from experiments.benchmarks.accelerator import compare_precisions
from experiments.benchmarks.layers import compare_layers
from experiments.benchmarks.lowrank import compare_glra
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.memory import measure
from experiments.benchmarks.network import compare_photograph, compare_steps
from experiments.benchmarks.sizes import sizes_table
from experiments.benchmarks.timing import Comparison, format_table
from experiments.pictures.training_sheet import save_ratios
from glra_jax import validation
from glra_jax.programs import program

Section = Literal[
    "step", "photograph", "layers", "glra", "memory", "pixels", "large", "sizes", "accelerator"
]


@dataclass(frozen=True)
class BenchmarkOptions:
    """Runs every method of the same task side by side and prints ratios.

    Attributes:
      output: Folder for benchmark.json, benchmark.md and benchmark.png.
      sections: What to measure; "accelerator" needs a GPU or TPU.
      rounds: How often each method runs, at least 1.
      megapixels: Sizes of the photographs of the section "pixels".
      large: Megapixels of the images in files of the section "large".
      sizes: How many images, each of another size, the section "sizes" restores; at least 20.
      torch_compile: Whether to time torch.compile too; it needs a C++ compiler.
      overwrite: Allow the results in the folder to be replaced.
    """

    output: Path = Path("runs/benchmark")
    sections: tuple[Section, ...] = ("step", "photograph", "layers", "glra", "memory", "pixels")
    rounds: int = 5
    megapixels: tuple[float, ...] = (0.25, 1.0, 4.0, 12.0)
    large: tuple[float, ...] = (1.0, 4.0, 16.0, 100.0)
    sizes: int = 200
    torch_compile: bool = False
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False

    def __post_init__(self) -> None:
        validation.check_size(self.rounds, "rounds")
        validation.check_size(self.sizes, "sizes", minimum=20)


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    options = tyro.cli(BenchmarkOptions, args=arguments, prog="python -m experiments.benchmark")
    with program("error"):
        benchmark(options)


def benchmark(options: BenchmarkOptions) -> None:
    """Measures, and writes the report.

    Raises:
      FileExistsError: there is a report, which may not be replaced.
    """
    report = options.output / "benchmark.json"
    if report.exists() and not options.overwrite:
        raise FileExistsError(f"{report} exists; choose another --output or allow --overwrite")
    options.output.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    print(", ".join(f"{key}: {value}" for key, value in machine.items()))
    comparisons, tables = run(options)
    text = "\n\n".join([format_table(comparisons), *tables])
    print("\n" + text)
    results = {"machine": machine, "comparisons": [asdict(c) for c in comparisons],
               "tables": tables}  # fmt: skip
    report.write_text(json.dumps(results, indent=2) + "\n")
    (options.output / "benchmark.md").write_text(f"{machine}\n\n{text}\n")
    save_ratios(comparisons, options.output / "benchmark.png")


def run(options: BenchmarkOptions) -> tuple[list[Comparison], list[str]]:
    """Runs the sections asked for; comparisons and further tables."""
    comparisons: list[Comparison] = []
    tables: list[str] = []
    rounds = options.rounds
    for section in options.sections:
        print(f"measuring: {section}", flush=True)
        if section == "step":
            comparisons.append(compare_steps(rounds=rounds, torch_compile=options.torch_compile))
        elif section == "photograph":
            comparisons.append(compare_photograph(rounds=rounds))
        elif section == "layers":
            comparisons += compare_layers(rounds=rounds)
        elif section == "glra":
            comparisons.append(compare_glra(rounds=min(rounds, 3)))
        elif section == "memory":
            tables.append(memory_table())
        elif section == "pixels":
            tables.append(pixels_table(options.megapixels))
        elif section == "large":
            tables.append(large_table(options.large))
        elif section == "sizes":
            tables.append(sizes_table(options.sizes))
        else:
            comparisons.append(compare_precisions(rounds=rounds))
    return comparisons, tables


def memory_table() -> str:
    """Peak memory of a training step, by method."""
    lines = ["| training step | peak above imports, MiB |", "| --- | --- |"]
    for method in ("auto", "direct", "lax"):
        lines.append(f"| {method} | {measure('step', method)['mib']:.0f} |")
    return "\n".join(lines)


def pixels_table(megapixels: tuple[float, ...]) -> str:
    """Time and peak memory of restoring RGB photographs of growing size."""
    lines = ["| megapixels, RGB | s | s a megapixel | peak above imports, MiB |",
             "| --- | --- | --- | --- |"]  # fmt: skip
    for size in megapixels:
        found = measure("restore", str(size))
        lines.append(
            f"| {size:g} | {found['seconds']:.1f} | {found['seconds'] / size:.2f} "
            f"| {found['mib']:.0f} |"
        )
    return "\n".join(lines)


def large_table(megapixels: tuple[float, ...]) -> str:
    """Time and peak memory of restoring from a file into a file; a small network, and the default.

    The default network restores the smallest only.
    """
    lines = ["| megapixels, RGB, uint8 | network | s | s a megapixel | peak above imports, MiB |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    tasks = [("large", "small", size) for size in megapixels]
    for task, network, size in [*tasks, ("large-default", "default", min(megapixels))]:
        found = measure(task, str(size))
        lines.append(
            f"| {size:g} | {network} | {found['seconds']:.1f} | {found['seconds'] / size:.2f} "
            f"| {found['mib']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
