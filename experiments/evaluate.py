"""Scores methods and models on the same images: `python -m experiments.evaluate --help`."""

import hashlib
import time
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from experiments.benchmark import describe_machine
from experiments.evaluation.cases import Case, PendingCase, check_cases, scored_part
from experiments.evaluation.methods import Method, collect
from experiments.evaluation.options import (
    EvaluateOptions,
    check_leaks,
    leak_of,
    load_cases,
    parse,
)
from experiments.evaluation.report import NAMES, SHEET, Results, check_output, write_results
from experiments.evaluation.scores import AS_IT_IS, Record, corrections, score_image
from experiments.evaluation.sheet import Example, choose_examples, draw_sheet
from glra_jax.model import write_atomically


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    try:
        print(evaluate(parse(arguments)))
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"error: {error}") from error


def evaluate(options: EvaluateOptions) -> str:
    """Restores and scores everything, writes the results and returns the table."""
    check_output(options.output, overwrite=options.overwrite)
    methods = collect(
        options.methods, options.models, noise=options.noise_deviation, basis=options.basis
    )
    check_leaks(methods, options)
    cases = load_cases(options)
    supports = {method.label: method.support for method in methods if method.support}
    check_cases(cases, margin=options.scored_margin, supports=supports)
    for method in methods:
        method.check(cases[0].shape, cases[0].kernel_shape)
    options.output.mkdir(parents=True, exist_ok=True)

    records, about, examples = score_all(cases, methods, options)
    config = options.describe() | {
        "methods": [
            {"label": m.label, "kind": m.kind, "leak": leak_of(m, options), **m.about}
            for m in methods
        ]
    }
    results = Results(config, describe_machine(), about, records)
    if examples:
        sheet = draw_sheet(examples)
        write_atomically(options.output / SHEET, sheet, overwrite=options.overwrite)
    elif options.overwrite:
        (options.output / SHEET).unlink(missing_ok=True)  # it would be of other results
    table = write_results(results, options.output, overwrite=options.overwrite)
    files = ", ".join(name for name in NAMES if examples or name != SHEET)
    return f"\n{table}\n\nin {options.output}: {files}"


def score_all(
    cases: Sequence[PendingCase], methods: Sequence[Method], options: EvaluateOptions
) -> tuple[list[Record], list[dict[str, object]], list[Example]]:
    """Scores by image and method, what is known of the images, and some of them restored."""
    margin = options.scored_margin
    shown = set(choose_examples(len(cases), options.sheet))
    compiled: set[tuple[str, tuple[int, ...], tuple[int, ...]]] = set()
    records: list[Record] = []
    about: list[dict[str, object]] = []
    examples = []
    bar = tqdm(total=len(cases) * len(methods), desc="restoring", unit="image")
    for index, pending in enumerate(cases):
        case = pending.make()
        truth = scored_part(case.sharp, margin)
        example = Example(case.name, case.kernel, truth)
        for method in methods:
            bar.set_postfix_str(f"{case.name}, {method.label}")
            key = (method.label, case.blurred.shape, case.kernel.shape)
            restored, seconds = restore_timed(method, case, compiled=key in compiled)
            compiled.add(key)
            restored = scored_part(restored, margin)
            for correction, how in corrections(case.gain, options.subtract).items():
                scores = score_image(restored, truth, divisor=how[0], subtract=how[1])
                record = Record(case.name, method.label, correction, *scores, round(seconds, 4))
                records.append(record)
                if correction == AS_IT_IS:
                    example.scores[method.label] = record.psnr
            if index in shown:
                example.images[method.label] = np.clip(restored, 0.0, 1.0)
            bar.update()
        if index in shown:
            examples.append(example)
        about.append(
            {
                "image": case.name,
                "gain": case.gain,
                "shape": list(case.blurred.shape),
                "kernel": list(case.kernel.shape),
                "blurred_sha256": hashlib.sha256(case.blurred.tobytes()).hexdigest(),
            }
        )
    bar.close()
    return records, about, examples


def restore_timed(method: Method, case: Case, *, compiled: bool) -> tuple[np.ndarray, float]:
    """Restores an image, once more if the first time was spent on compiling; with the seconds.

    Raises:
      ValueError: the result has another shape, or NaN or infinite values.
    """
    for _ in range(1 if compiled else 2):
        started = time.perf_counter()
        restored = method.restore(case.blurred, case.kernel)
        seconds = time.perf_counter() - started
    if restored.shape != case.blurred.shape:
        raise ValueError(
            f"{method.label} made {restored.shape} of {case.name}, {case.blurred.shape}; an output "
            f"must have the shape of the image (take another boundary)"
        )
    if bad := int((~np.isfinite(restored)).sum()):
        raise ValueError(f"{method.label} gave {bad} NaN or infinite values on {case.name}")
    return restored, seconds


if __name__ == "__main__":
    main()
