"""What is compiled, and how memory grows, where every image has another size.

`python -m experiments.benchmarks.sizes MODEL COUNT` restores in this process and prints JSON.
"""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

import glra_jax as gx

_TILE = (256, 256)
_SMALLEST, _LARGEST = 64, 257
_MODELS = ("unrolled", "glra")
_WARM = 20  # images after which memory ought to stay


def restore_sizes(model: str, count: int) -> list[dict[str, float]]:
    """Restores images of as many sizes by one `Restorer`, the noise in each estimated.

    Returns:
      After each image `programs` compiled so far, and `mib`, memory held by the process.
    """
    programs = 0

    def note(event: str, duration_secs: float, **_: str | int) -> None:
        nonlocal programs
        del duration_secs
        programs += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(note)
    inverse = gx.Inverse(0.005, noise_weight=60.0) if model == "glra" else None
    restorer = gx.prepare(
        gx.load_model(model), gx.gaussian_kernel(sigma=1.0, size=7), tile=_TILE, inverse=inverse
    )
    generator = np.random.default_rng(0)
    found = []
    sizes = generator.permutation((_LARGEST - _SMALLEST) ** 2)[:count]
    for place in sizes.tolist():
        height, width = (_SMALLEST + part for part in divmod(place, _LARGEST - _SMALLEST))
        restorer(generator.random((height, width), np.float32))
        found.append({"programs": programs, "mib": _held_mib()})
    return found


def _held_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(dict(line.split(":", 1) for line in lines)["VmRSS"].split()[0]) / 1024


def sizes_table(count: int) -> str:
    """Programs and memory by model, each in its own process."""
    lines = [
        f"| {count} sizes, grey | programs, first image | after {_WARM} | after {count} "
        f"| MiB after {_WARM} | after {count} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for model in _MODELS:
        command = [sys.executable, "-m", "experiments.benchmarks.sizes", model, str(count)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout)
        first, warm, last = found[0], found[_WARM - 1], found[-1]
        lines.append(
            f"| {model} | {first['programs']} | {warm['programs']} | {last['programs']} "
            f"| {warm['mib']:.0f} | {last['mib']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    json.dump(restore_sizes(sys.argv[1], int(sys.argv[2])), sys.stdout)
