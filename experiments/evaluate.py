"""Scores methods and models on the same images: `python -m experiments.evaluate --help`."""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.benchmarks.machine import describe_machine
from experiments.evaluation.cases import Case, PendingCase, check_cases, scored_part
from experiments.evaluation.leaks import check_labels, describe_methods
from experiments.evaluation.methods import Method, collect
from experiments.evaluation.options import EvaluateOptions, load_cases, parse
from experiments.evaluation.progress import FOLDER, Progress, Scored, was_interrupted
from experiments.evaluation.report import write_results
from experiments.evaluation.results import NAMES, SHEET, Results, check_output
from experiments.evaluation.reuse import Earlier
from experiments.evaluation.scores import AS_IT_IS, Record, corrections, score_image
from experiments.evaluation.sheet import Example, choose_examples, draw_sheet
from glra_jax.atomic_files import write_atomically
from glra_jax.programs import program


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    with program("error", hint="the same command resumes"):
        print(evaluate(parse(arguments)))


def evaluate(options: EvaluateOptions) -> str:
    """Restores and scores everything, writes the results and returns the table.

    Scores are written to the output folder at once; the same options resume from them.

    Raises:
      OSError, ImportError: what is named cannot be read.
      ValueError: options that will not do; or restorations failed, after all others are written.
    """
    overwrite = options.overwrite or was_interrupted(options.output)
    check_output(options.output, overwrite=overwrite)
    methods = collect(
        options.methods,
        options.models,
        noise=options.noise_deviation,
        basis=options.basis,
        tell_models=options.tell_models,
        authors_weights=options.authors_weights,
        model_boundary=options.model_boundary,
    )
    check_labels(methods, options)
    cases = load_cases(options)
    supports = {method.label: method.support for method in methods if method.support}
    check_cases(cases, margin=options.scored_margin, supports=supports)
    for method in methods:
        method.check(cases[0].shape, cases[0].kernel_shape)

    config = options.describe() | {"methods": describe_methods(methods, options)}
    earlier = Earlier(options.reuse, config)
    progress = Progress(options.output, config)
    if len(progress):
        print(f"going on in {options.output}, where {len(progress)} restorations are scored")
    try:
        results, examples = score_all(cases, methods, options, config, progress, earlier)
        if examples:
            sheet = draw_sheet(examples)
            write_atomically(options.output / SHEET, sheet, overwrite=overwrite)
        elif overwrite:
            (options.output / SHEET).unlink(missing_ok=True)  # it would be of other results
        table = write_results(results, options.output, overwrite=overwrite)
    finally:
        progress.close()
    if failures := results.failures:
        shown = "; ".join(f"{f['method']} on {f['image']}: {f['error']}" for f in failures[:5])
        raise ValueError(
            f"{len(failures)} of {len(cases) * len(methods)} restorations failed, the others are "
            f"scored in {options.output}: {shown}{'; ...' if len(failures) > 5 else ''}. The same "
            f"command with --overwrite tries these again, and no others, as long as "
            f"{options.output / FOLDER} is there"
        )
    progress.remove()
    files = ", ".join(name for name in NAMES if examples or name != SHEET)
    taken = f"{sum(results.reused.values())} of {len(cases) * len(methods)}"
    reused = f"\nscores of {taken} restorations were taken over" if options.reuse else ""
    return f"\n{table}\n\nin {options.output}: {files}{reused}"


def score_all(
    cases: Sequence[PendingCase],
    methods: Sequence[Method],
    options: EvaluateOptions,
    config: dict[str, Any],
    progress: Progress,
    earlier: Earlier,
) -> tuple[Results, list[Example]]:
    """Scores every image restored by every method; with some of the restored images.

    Scores in `progress` or `earlier` are not computed again; new ones are added to the former.
    """
    shown = set(choose_examples(len(cases), options.sheet))
    compiled: set[tuple[str, tuple[int, ...], tuple[int, ...]]] = set()
    records: list[Record] = []
    about: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    reused: Counter[str] = Counter()
    examples = []
    bar = tqdm(total=len(cases) * len(methods), desc="restoring", unit="image")
    for index, pending in enumerate(cases):
        case = pending.make()
        about.append(_describe(pending, case))
        example = Example(case.name, case.kernel, scored_part(case.sharp, options.scored_margin))
        for method in methods:
            bar.set_postfix_str(f"{case.name}, {method.label}")
            scored = progress.find(case, method.label, with_image=index in shown)
            if scored is None and index not in shown:
                scored = earlier.find(about[-1], method.label)
                if scored is not None:
                    progress.add(case, method.label, scored)
            if scored is None:
                key = (method.label, case.blurred.shape, case.kernel.shape)
                try:
                    scored = score_case(
                        method, case, options, compiled=key in compiled, keep=index in shown
                    )
                except Exception as error:  # whatever one method does, the others are scored
                    error_line = (str(error).splitlines() or [""])[0] or type(error).__name__
                    failures.append(
                        {"image": case.name, "method": method.label, "error": error_line}
                    )
                    example.images[f"{method.title} failed"] = np.zeros_like(example.sharp)
                    bar.update()
                    continue
                compiled.add(key)
                progress.add(case, method.label, scored)
            records += scored.records
            if scored.reused:
                reused[method.label] += 1
            if scored.image is not None:
                example.images[method.title] = scored.image
                plain = next(r for r in scored.records if r.correction == AS_IT_IS)
                example.scores[method.title] = plain.psnr
            bar.update()
        if index in shown:
            examples.append(example)
    bar.close()
    return Results(config, describe_machine(), about, records, failures, dict(reused)), examples


def score_case(
    method: Method, case: Case, options: EvaluateOptions, *, compiled: bool, keep: bool
) -> Scored:
    """Restores an image and scores it under every correction; keeps the image if asked to.

    Raises:
      ValueError: see `restore_timed`; and whatever the method raises.
    """
    truth = scored_part(case.sharp, options.scored_margin)
    restored, seconds = restore_timed(method, case, compiled=compiled)
    if case.finish is not None:
        restored = case.finish(restored)
    restored = scored_part(restored, options.scored_margin)
    records = [
        Record(
            case.name,
            method.label,
            correction,
            *score_image(restored, truth, divisor=divisor, subtract=subtract),
            round(seconds, 4),
        )
        for correction, (divisor, subtract) in corrections(case.gain, options.subtract).items()
    ]
    return Scored(records, np.clip(restored, 0.0, 1.0) if keep else None)


def restore_timed(method: Method, case: Case, *, compiled: bool) -> tuple[np.ndarray, float]:
    """Restores an image, once more if the first time was spent on compiling; with the seconds.

    Raises:
      ValueError: the result has another shape, or NaN or infinite values.
    """
    told = () if case.noise is None else (case.noise,)
    for _ in range(1 if compiled else 2):
        started = time.perf_counter()
        restored = method.restore(case.blurred, case.kernel, *told)
        seconds = time.perf_counter() - started
    if restored.shape != case.blurred.shape:
        raise ValueError(
            f"the output is {restored.shape} and the image {case.blurred.shape}; an output must "
            f"have the shape of the image (take another boundary)"
        )
    if bad := int((~np.isfinite(restored)).sum()):
        raise ValueError(f"the output has {bad} NaN or infinite values")
    return restored, seconds


def _describe(pending: PendingCase, case: Case) -> dict[str, Any]:
    return {
        "image": case.name,
        "photograph": pending.photograph or case.name,
        "family": pending.family,
        "gain": case.gain,
        **({} if case.noise is None else {"noise": case.noise}),
        "shape": list(case.blurred.shape),
        "kernel": list(case.kernel.shape),
        "blurred_sha256": hashlib.sha256(case.blurred.tobytes()).hexdigest(),
        "sharp_sha256": hashlib.sha256(case.sharp.tobytes()).hexdigest(),
        "kernel_sha256": hashlib.sha256(case.kernel.tobytes()).hexdigest(),
    }


if __name__ == "__main__":
    main()
