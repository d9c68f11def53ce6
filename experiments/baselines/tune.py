"""Tunes one parameter of every baseline, by noise level and kernel family.

    python -m experiments.baselines.tune --dataset folder --data-dir DIR -o FILE

Patches of photographs are blurred by random kernels and degraded by protocol "paper" (see
`glra_jax.degradation`); every candidate on a grid restores them, and the one of best mean PSNR is
chosen, for every kernel family alone and for all together ("any"). Use training images only,
never those that the methods are compared on. The file holds the scores of all candidates too;
the baselines read their defaults from the one named `tuned.json` in this package.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

from experiments.baselines import BASELINES, baseline_named
from experiments.baselines.tuned import ANY_FAMILY, Tuning
from glra_jax import validation
from glra_jax.atomic_files import write_atomically
from glra_jax.datasets import (
    PackedPhotographs,
    load_training_photographs,
    pack_photographs,
    random_patch,
)
from glra_jax.degradation import degrade, sharp_target
from glra_jax.input_files import check_is_file
from glra_jax.kernel_families import KernelFamilies, sample_kernel
from glra_jax.metrics import psnr
from glra_jax.programs import program


@dataclass(frozen=True)
class TuneOptions:
    """Tune the baselines on training images.

    Attributes:
      dataset: training photographs: embedded, bsds500 or folder, see glra_jax.datasets.
      output: file to write (.json); must not exist, or be that of the same run, unfinished.
      data_dir: where the dataset lies, see experiments.train; for folder, the folder.
      splits: of the dataset; those meant for training if not given.
      noise: noise levels, standard deviations, rising.
      examples: patches, and kernels of every family.
      size: side of the blurred patches; their middle is scored, a kernel's size off each side.
      seed: of patches, kernels and noise.
      methods: which baselines.
      allow_leak: take on purpose what methods are scored on: BSD100 (BSDS500's split val, folders
        of that name, triplets) or the embedded test photographs.
    """

    dataset: str
    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))]
    data_dir: Path | None = None
    splits: tuple[str, ...] | None = None
    noise: tuple[float, ...] = (0.003, 0.01, 0.02, 0.03)
    examples: int = 16
    size: int = 160
    seed: int = 0
    methods: tuple[str, ...] = tuple(BASELINES)
    allow_leak: tyro.conf.FlagCreatePairsOff[bool] = False


class Example(NamedTuple):
    """A blurred patch `(size, size)`, its kernel, and the truth for the patch."""

    blurred: jax.Array
    kernel: jax.Array
    truth: jax.Array


@partial(jax.jit, static_argnames=("family", "size"))
def make_example(
    key: jax.Array,
    packed: PackedPhotographs,
    *,
    family: str,
    noise: float,
    size: int,
) -> Example:
    """Draws a patch, a kernel and noise; the same patch for all families and noise levels."""
    families = KernelFamilies(families=(family,))
    patch_key, kernel_key, noise_key = jax.random.split(key, 3)
    patch = random_patch(patch_key, packed, size + families.max_size - 1)[..., 0]
    kernel = sample_kernel(kernel_key, families)
    blurred = degrade(noise_key, patch, kernel, protocol="paper", noise=noise, boundary="valid")
    margin = families.max_size // 2
    truth = sharp_target(patch, protocol="paper")[margin:-margin, margin:-margin]
    return Example(blurred, kernel, truth)


def score(restored: jax.Array, example: Example) -> float:
    """PSNR of the clipped middle of a restored patch, in dB."""
    margin = example.kernel.shape[0]
    middle = slice(margin, -margin)
    clipped = jnp.clip(restored, 0.0, 1.0)[middle, middle]
    return float(psnr(clipped, example.truth[middle, middle]))


def score_grid(method: str, examples: list[Example], noise: float) -> np.ndarray:
    """Mean PSNR over examples of every candidate of a method, `(candidates,)`."""
    baseline = baseline_named(method)
    restore, tuning = partial(baseline.restore, noise=noise), baseline.tuning
    scores = [
        [
            score(restore(example.blurred, example.kernel, **{tuning.parameter: value}), example)
            for value in tuning.candidates
        ]
        for example in examples
    ]
    return np.mean(scores, axis=0)


def score_by_case(
    method: str, examples: dict[tuple[str, float], list[Example]]
) -> dict[str, dict[str, list[float]]]:
    """Scores a method's candidates for every family, for all together, and every noise level.

    Args:
      method: a name in `BASELINES`.
      examples: by family and noise level.

    Returns:
      By family (or "any"), then by noise level as text, the mean PSNR of every candidate.
    """
    rows = {
        case: score_grid(method, examples[case], case[1]) for case in tqdm(examples, desc=method)
    }
    levels = dict.fromkeys(level for _, level in rows)
    families = list(dict.fromkeys(family for family, _ in rows))
    return {
        name: {
            str(level): np.mean([rows[family, level] for family in members], axis=0)
            .round(3)
            .tolist()
            for level in levels
        }
        for name, members in [(ANY_FAMILY, families), *((f, [f]) for f in families)]
    }


def choose(
    scores: dict[str, dict[str, list[float]]], tuning: Tuning
) -> dict[str, dict[str, float]]:
    """Chooses the candidate of best score for every family and noise level.

    Args:
      scores: by family, then by noise level, a score for every candidate.
      tuning: with the candidates.

    Returns:
      By family, then by noise level, the chosen value.
    """
    return {
        family: {level: tuning.candidates[int(np.argmax(row))] for level, row in levels.items()}
        for family, levels in scores.items()
    }


def as_text(record: dict[str, Any]) -> str:
    """JSON with every list on one line."""
    lists = re.compile(r"\[[^\[\]]*\]")
    return lists.sub(lambda m: " ".join(m[0].split()), json.dumps(record, indent=1)) + "\n"


def hash_photographs(photographs: list[np.ndarray]) -> str:
    """SHA-256 of decoded photographs, whatever their order and their files' names."""
    each = sorted(
        hashlib.sha256(f"{p.dtype}{p.shape}".encode() + p.tobytes()).hexdigest()
        for p in photographs
    )
    return hashlib.sha256("".join(each).encode()).hexdigest()


def _check_output(path: Path) -> None:
    """Raises OSError if the output cannot be written at the end."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}; make it before {path.name}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file")


def _start_or_resume(options: TuneOptions, made_by: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """An empty record, or the unfinished one of the same run."""
    if not options.output.exists():
        return {"made_by": made_by, "chosen": {}, "scores": {}}
    fix = "remove it or choose another name"
    check_is_file(options.output)
    try:
        record = json.loads(options.output.read_text(encoding="utf-8"))
        former, chosen = record["made_by"], record["chosen"].keys()
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{options.output} is not a file of a tuning run; {fix}") from error
    if former != made_by or set(options.methods) <= chosen:
        other = [key for key in made_by if former.get(key) != made_by[key]]
        why = f", of a run that differs in {', '.join(other)}" if other else ""
        raise FileExistsError(f"{options.output} exists{why}; {fix}")
    for method in chosen:
        baseline, scores = BASELINES.get(method), record.get("scores", {}).get(method, {})
        if baseline is None or scores.get("candidates") != list(baseline.tuning.candidates):
            raise FileExistsError(
                f"{options.output} has {method} tuned on other candidates than today's; {fix}"
            )
    print(f"going on with {options.output}, which has {', '.join(chosen)}")
    return record


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    with program("error", hint="the same command resumes"):
        tune(tyro.cli(TuneOptions, args=arguments, prog="python -m experiments.baselines.tune"))


def tune(options: TuneOptions) -> None:
    """Tunes, writes the file, and reports choices at the end of their grid.

    The file is written after every method; the same options again resume after the last, on the
    same photographs.

    Raises:
      OSError: the output is there already, of another run or finished, or cannot be written; or the
        photographs are not there.
      ValueError: an unknown dataset or method, a noise level that is not above 0, levels that
        do not rise, sizes that will not do, or photographs that methods are scored on.
    """
    for method in options.methods:
        baseline_named(method)
    for level in options.noise:
        validation.check_positive(level, "noise")
    if list(options.noise) != sorted(set(options.noise)) or not options.noise:
        raise ValueError(f"noise levels must rise, got {options.noise}")
    validation.check_size(options.examples, "examples")
    widest = KernelFamilies().max_size
    validation.check_size(options.size, "size", minimum=3 * widest)
    _check_output(options.output)
    photographs = list(
        load_training_photographs(
            options.dataset,
            options.splits,
            data_dir=options.data_dir,
            allow_leak=options.allow_leak,
        ).values()
    )
    packed = pack_photographs(photographs, min_side=options.size + widest - 1)
    keys = jax.random.split(jax.random.key(options.seed), options.examples)

    made_by = {
        "command": "python -m experiments.baselines.tune",
        "protocol": "paper",
        "photographs": len(photographs),
        "photographs_sha256": hash_photographs(photographs),
        "noise": list(options.noise),
        "examples": options.examples,
        "size": options.size,
        "seed": options.seed,
    }
    record = _start_or_resume(options, made_by)
    examples = {
        (family, level): [
            make_example(key, packed, family=family, noise=level, size=options.size) for key in keys
        ]
        for family in KernelFamilies().families
        for level in options.noise
    }
    record["scores"]["blurred"] = {
        family: {
            str(level): round(
                float(np.mean([score(e.blurred, e) for e in examples[family, level]])), 3
            )
            for level in options.noise
        }
        for family in KernelFamilies().families
    }
    for method in options.methods:
        if method in record["chosen"]:
            continue
        tuning = baseline_named(method).tuning
        scores = score_by_case(method, examples)
        chosen = choose(scores, tuning)
        record["chosen"][method] = chosen
        record["scores"][method] = {
            "parameter": tuning.parameter,
            "candidates": list(tuning.candidates),
            "psnr": scores,
        }
        for family, by_level in chosen.items():
            for name, value in by_level.items():
                ends = tuning.candidates[0], tuning.candidates[-1]
                end = " (end of the grid)" if value in ends else ""
                best = max(scores[family][name])
                print(f"{method} {family} {name}: {tuning.parameter} {value:g}, {best:.2f} dB{end}")
        write_atomically(options.output, as_text(record).encode(), overwrite=True)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
