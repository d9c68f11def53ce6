"""Peak memory above that of the imports, each task in its own process.

`python -m experiments.benchmarks.memory TASK [VALUE]` runs one task and prints JSON.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

import glra_jax as gx
from experiments.benchmarks.network import (
    example_model,
    jax_step,
    lax_forward,
    library_forward,
)
from glra_jax.large_images import let_go
from glra_jax.model_files import DEFAULT_MODEL


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        # Unlike ru_maxrss this does not start at the peak of the process that launched this one.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return float(lines["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def _restore(megapixels: float) -> float:
    """Restores one RGB photograph of aspect 3 to 4 and returns the seconds."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(height * 4 / 3)
    kernel = gx.gaussian_kernel(sigma=2.5, size=23)
    restorer = gx.prepare(example_model(), kernel, tile=gx.even_tile(height, width), noise=0.01)
    y = np.random.default_rng(0).random((height, width, 3), np.float32)
    restorer(y[:8, :8])  # compiles
    started = time.perf_counter()
    restorer(y, progress=True)
    return time.perf_counter() - started


def _restore_large(megapixels: float, model: gx.Model) -> float:
    """Restores one RGB photograph of 8 bits from a file into a file and returns the seconds."""
    side = round((megapixels * 1e6) ** 0.5)
    largest = model.architecture.tile_side
    kernel = gx.gaussian_kernel(sigma=2.5, size=23)
    tile = gx.even_tile(side, side, largest=largest)
    restorer = gx.prepare(model, kernel, tile=tile)
    restorer(np.full((8, 8, 3), 0.5, np.float32))  # compiles
    with tempfile.TemporaryDirectory() as folder:
        names = (Path(folder) / name for name in ("blurred.npy", "restored.npy"))
        y, out = (np.lib.format.open_memmap(n, "w+", np.uint8, (side, side, 3)) for n in names)
        generator = np.random.default_rng(0)
        for row in range(0, side, 500):
            y[row : row + 500] = generator.integers(30, 220, y[row : row + 500].shape, np.uint8)
            let_go(y)
        started = time.perf_counter()
        gx.restore_large(restorer, y, out, progress=True)
        return time.perf_counter() - started


def _small_network() -> gx.Model:
    """Untrained, and of much less work than the default one."""
    network = gx.Unrolled(stages=1, features=8, blocks=1)
    return gx.initial_model(jax.random.key(0), network, {})


def main() -> None:
    """Runs one task in this process."""
    task, value = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    jax.block_until_ready(jax.numpy.zeros(1))
    baseline, seconds = _peak_mib(), 0.0
    if task == "restore":
        seconds = _restore(float(value))
    elif task == "large":
        seconds = _restore_large(float(value), _small_network())
    elif task == "large-default":
        seconds = _restore_large(float(value), gx.load_model(DEFAULT_MODEL))
    else:
        model = example_model()
        lax = value == "lax"
        step = jax_step(model, lax_forward if lax else library_forward(model, value))
        for _ in range(3):
            step()
    json.dump({"mib": _peak_mib() - baseline, "seconds": seconds}, sys.stdout)


def measure(task: str, value: str) -> dict[str, float]:
    """Runs a task in a new process.

    Args:
      task: "step", "restore", or "large" and "large-default", from a file into a file.
      value: method of correlating, or megapixels.

    Returns:
      `mib`, peak memory above the baseline; `seconds`, of a restoration without compiling.
    """
    command = [sys.executable, "-m", "experiments.benchmarks.memory", task, value]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
