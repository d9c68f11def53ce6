"""The work of `glra-jax deblur`."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

from glra_jax.atomic_files import check_writable
from glra_jax.commands.arrays import deblur_array, is_array
from glra_jax.commands.claims import Claims
from glra_jax.commands.deblur_options import Deblur, check_numbers, check_outputs
from glra_jax.commands.file_kernels import FileKernel, file_kernel, read_kernels
from glra_jax.commands.one_photo import Bench, known_of, told_inverse, white_of
from glra_jax.commands.plan import Job, Plan, make_folder, plan
from glra_jax.commands.previews import preview_path, write_preview
from glra_jax.commands.progress import Progress
from glra_jax.model_files import load_model
from glra_jax.photo_files import check_output, read_mask, read_photo, write_photo
from glra_jax.programs import MISTAKES, one_line

# What one photograph may go wrong by, and the next need not.
_FAILURES = (*MISTAKES, TypeError, jax.errors.JaxRuntimeError)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def deblur(options: Deblur) -> None:
    """Restores one photograph into a file, or many into a folder.

    Raises:
      OSError: files that are missing, in the way, or may not be read or written.
      ValueError: what cannot be restored or written; some of many photographs failed.
    """
    check_outputs(options)
    if options.output is not None:
        if is_array(options.first):
            deblur_array(options, options.output)
        else:
            _deblur_one(options, options.output)
    elif options.output_dir is not None:
        _deblur_many(options, options.output_dir)


def _deblur_one(options: Deblur, output: Path) -> None:
    path = options.first
    photo = read_photo(path, page=options.page)
    check_output(photo, output, overwrite=options.overwrite)
    preview = preview_path(output) if options.preview else None
    if preview is not None:
        check_writable(preview, overwrite=options.overwrite)
    check_numbers(options)
    mask = _mask(options)
    known = known_of(options, path, photo, mask)
    white = white_of(options, path, photo, known)
    raw = read_kernels(options, options.kernel)
    model = load_model(options.model)
    bench = Bench(options, model, told_inverse(options, model), mask, many=False)
    kernel = file_kernel(options, options.kernel, raw, model.architecture)
    for line in (*photo.notes, f"{path}: {photo.colour.shape}, {photo.colour.dtype}"):
        print(line)
    for line in kernel.described:
        print(line)
    started = time.perf_counter()
    restored = bench.restore(path, photo, kernel, white=white, known=known, say=print)
    write_photo(restored, output, overwrite=options.overwrite)
    print(f"{output}: written after {time.perf_counter() - started:.1f} s")
    if preview is not None:
        write_preview(photo, restored, preview, white=white, overwrite=options.overwrite)
        print(f"{preview}: before and after")


def _mask(options: Deblur) -> np.ndarray | None:
    return None if options.mask is None else read_mask(options.mask)


@dataclass
class _Tally:
    """Numbers of photographs by what became of them."""

    restored: int = 0
    skipped: int = 0
    elsewhere: int = 0
    failed: list[Path] = field(default_factory=list)

    def __str__(self) -> str:
        said = f"{self.restored} restored, {self.skipped} skipped, {len(self.failed)} failed"
        if self.elsewhere:
            said += f", {self.elsewhere} left to another process"
        return said


def _deblur_many(options: Deblur, folder: Path) -> None:
    check_numbers(options)
    found = plan(options, folder)
    one_for_all = not options.kernel.is_dir()
    raw = read_kernels(options, options.kernel) if one_for_all else None
    mask = _mask(options)
    model = load_model(options.model)
    bench = Bench(options, model, told_inverse(options, model), mask, many=True)
    common = None
    if raw is not None:
        common = file_kernel(options, options.kernel, raw, model.architecture)
    make_folder(folder)

    for line in (*found.notes, *(common.described if common is not None else ())):
        print(line)
    tally = _Tally()
    with _said_at_the_end(tally), Claims(folder) as claims:
        _restore_all(bench, found, common, tally, claims)
    if tally.failed:
        count = len(found.jobs)
        names = ", ".join(str(path) for path in tally.failed)
        raise ValueError(f"{len(tally.failed)} of {count} photographs failed: {names}")


def _restore_all(
    bench: Bench, found: Plan, common: FileKernel | None, tally: _Tally, claims: Claims
) -> None:
    sizes = [_size(job.photo) for job in found.jobs]
    progress = Progress(sizes)
    try:
        for job, size in zip(found.jobs, sizes, strict=True):
            place, worked = progress.start(job.photo.name), False
            try:
                with claims.of(job.output) as mine:
                    if mine:
                        worked = _restore_job(bench, job, common, progress, place)
            except _FAILURES as error:
                if isinstance(error, OSError) and error.errno in _FULL:
                    raise  # nor will the others be written
                tally.failed.append(job.photo)
                said = str(error) or type(error).__name__
                about = "" if str(job.photo) in said else f"{job.photo}: "
                progress.complain(one_line(f"glra-jax: {about}{said}"))
            else:
                if not mine:
                    progress.say(f"{place}, {job.photo}: another process is at work on it")
                tally.restored += worked
                tally.skipped += mine and not worked
                tally.elsewhere += not mine
            progress.done(size, worked=worked)
    finally:
        progress.close()


def _restore_job(
    bench: Bench, job: Job, common: FileKernel | None, progress: Progress, place: str
) -> bool:
    """Restores a photograph, or skips it; returns whether it was restored."""
    options = bench.options
    done = os.path.lexists(job.output) and not job.output.is_dir()
    if done and not options.overwrite:
        progress.say(f"{place}, {job.output}: exists, skipped (--overwrite to restore it again)")
        if job.preview is not None and not os.path.lexists(job.preview):
            _preview_of_files(bench, job, job.preview)
            progress.say(f"{job.preview}: before, and what was found in {job.output}")
        return False
    started = time.perf_counter()
    photo = read_photo(job.photo, page=options.page)
    check_output(photo, job.output, overwrite=options.overwrite)
    if job.preview is not None:
        check_writable(job.preview, overwrite=options.overwrite)
    known = known_of(options, job.photo, photo, bench.mask)
    white = white_of(options, job.photo, photo, known)
    kernel = common
    if kernel is None:
        raw = read_kernels(options, job.kernel)
        kernel = file_kernel(options, job.kernel, raw, bench.model.architecture)
        for line in kernel.described:
            progress.say(line)
    for line in photo.notes:
        progress.say(line)
    restored = bench.restore(job.photo, photo, kernel, white=white, known=known, say=progress.say)
    write_photo(restored, job.output, overwrite=options.overwrite)
    if job.preview is not None:
        write_preview(photo, restored, job.preview, white=white, overwrite=options.overwrite)
    shape, took = "×".join(map(str, photo.colour.shape[:2])), time.perf_counter() - started
    progress.say(f"{place}, {job.output}: {shape} written after {took:.1f} s")
    return True


def _preview_of_files(bench: Bench, job: Job, preview: Path) -> None:
    """Writes the preview of a photograph that was restored before."""
    options = bench.options
    before, after = read_photo(job.photo, page=options.page), read_photo(job.output)
    if before.colour.shape != after.colour.shape or before.colour.dtype != after.colour.dtype:
        raise ValueError(
            f"{job.output} is no restoration of {job.photo}: it has other pixels, "
            f"{after.colour.dtype}{after.colour.shape}; allow it to be replaced by --overwrite"
        )
    known = known_of(options, job.photo, before, bench.mask)
    white = white_of(options, job.photo, before, known)
    write_preview(before, after, preview, white=white, overwrite=False)


@contextmanager
def _said_at_the_end(tally: _Tally) -> Iterator[None]:
    """Says what became of the photographs, also where the work is stopped."""
    try:
        yield
    finally:
        print(tally)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0
