"""Which photographs are restored with which kernel, and where they are written."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from glra_jax.atomic_files import check_writable
from glra_jax.commands.arrays import is_array
from glra_jax.commands.deblur_options import Deblur
from glra_jax.commands.file_kernels import SEVERAL
from glra_jax.commands.previews import is_preview, preview_path
from glra_jax.photo_writing import WRITABLE_SUFFIXES

_PACKED_FITS = (".fits.gz", ".fit.gz", ".fits.fz")
_ALSO_READ = (".avif", ".gif", ".jfif", ".jp2", ".jpe", ".mpo", ".pbm", ".pgm", ".pnm", ".tga")
_PHOTOGRAPHS = (*WRITABLE_SUFFIXES, *_ALSO_READ, *_PACKED_FITS)
_KERNELS = (".npy", SEVERAL, *_PHOTOGRAPHS)
_NAMED = 5  # of a longer list in an error


@dataclass(frozen=True)
class Job:
    """One photograph to restore.

    Attributes:
      photo: the file to read.
      kernel: the file of its blur kernel.
      output: the file to write.
      preview: that of the preview, or None.
    """

    photo: Path
    kernel: Path
    output: Path
    preview: Path | None


@dataclass(frozen=True)
class Plan:
    """What a command comes to.

    Attributes:
      jobs: the photographs.
      notes: what is to be said of how they were found.
    """

    jobs: tuple[Job, ...]
    notes: tuple[str, ...]


def plan(options: Deblur, folder: Path) -> Plan:
    """Finds photographs, kernels and names to write into a folder; reads and writes nothing.

    Raises:
      FileNotFoundError: a folder without photographs, a photograph without kernel, or no folder to
        make the output folder in.
      NotADirectoryError: a file in the place of the output folder.
      OSError: an output folder that may not be written in.
      ValueError: an array among the photographs, two photographs of one output, an output in the
        place of what is read, several kernels for one photograph, or a suffix that is not written.
    """
    _check_folder(folder)
    suffix = _checked_suffix(options.suffix)
    photos, notes = _photographs(options, folder)
    kernels = _kernels(options.kernel, photos)
    jobs = []
    for photo, kernel in zip(photos, kernels, strict=True):
        output = folder / _output_name(photo, suffix)
        preview = preview_path(output) if options.preview else None
        jobs.append(Job(photo, kernel, output, preview))
    _check_names(jobs, options.mask)
    return Plan(tuple(jobs), tuple(notes))


def make_folder(folder: Path) -> None:
    """Makes the output folder where it is missing."""
    folder.mkdir(exist_ok=True)


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        check_writable(folder / ".glra-jax.probe", overwrite=True)
    elif folder.is_symlink() and not folder.exists():
        raise FileNotFoundError(
            f"--output-dir {folder} is a link to {os.readlink(folder)}, which does not exist; make "
            f"that folder first"
        )
    elif folder.exists():
        raise NotADirectoryError(f"--output-dir {folder} is a file; choose the name of a folder")
    elif not folder.parent.is_dir():
        raise FileNotFoundError(
            f"--output-dir {folder}: there is no folder {folder.parent} to make it in; make that "
            f"first"
        )
    else:
        check_writable(folder, overwrite=False)


def _checked_suffix(suffix: str | None) -> str | None:
    if suffix is None:
        return None
    dotted = "." + suffix.removeprefix(".")
    if dotted.lower() not in WRITABLE_SUFFIXES:
        raise ValueError(f"--suffix must be one of {', '.join(WRITABLE_SUFFIXES)}, got {suffix!r}")
    return dotted


def _photographs(options: Deblur, folder: Path) -> tuple[list[Path], list[str]]:
    """All photographs, each once, and what is to be said of folders."""
    found: dict[str, Path] = {}
    notes = []
    for path in options.photos:
        if not path.is_dir():
            if is_array(path):
                raise ValueError(
                    f"{path} is an array, and arrays are restored one at a time; give -o OUT.npy "
                    f"in place of --output-dir"
                )
            found.setdefault(os.path.abspath(path), path)
            continue
        if folder.is_dir() and path.samefile(folder):
            raise ValueError(
                f"--output-dir {folder} is the folder of the photographs; choose another"
            )
        besides = (options.kernel,) if options.mask is None else (options.kernel, options.mask)
        files = [file for file in _files(path) if not any(_same(file, b) for b in besides)]
        photos = [file for file in files if _is_photograph(file)]
        if not photos:
            raise FileNotFoundError(f"the folder {path} holds no photographs")
        if others := len(files) - len(photos):
            notes.append(f"{path}: {others} files that are no photographs by name are left out")
        for file in photos:
            found.setdefault(os.path.abspath(file), file)
    return list(found.values()), notes


def _kernels(kernel: Path, photos: list[Path]) -> list[Path]:
    """Kernel of every photograph: the one there is, or that of the same name in a folder."""
    if not kernel.is_dir():
        return [kernel] * len(photos)
    by_stem: dict[str, list[Path]] = {}
    for file in _files(kernel):
        if _ending(file, _KERNELS):
            by_stem.setdefault(_stem(file), []).append(file)
    if lost := [photo for photo in photos if _stem(photo) not in by_stem]:
        raise FileNotFoundError(
            f"the folder {kernel} holds no kernel of the name of {_listed(lost)}; add it, as "
            f"{_stem(lost[0])}.npy or an image"
        )
    for photo in photos:
        if len(several := by_stem[_stem(photo)]) > 1:
            raise ValueError(f"{photo} has several kernels, {_listed(several)}; keep one of them")
    return [by_stem[_stem(photo)][0] for photo in photos]


def _check_names(jobs: list[Job], mask: Path | None) -> None:
    """Raises ValueError where a file would be written twice, or is one of those to read."""
    read = {os.path.realpath(path) for job in jobs for path in (job.photo, job.kernel)}
    read |= set() if mask is None else {os.path.realpath(mask)}
    taken: dict[str, Job] = {}
    for job in jobs:
        for path in (job.output, job.preview):
            if path is None:
                continue
            if os.path.realpath(path) in read:
                raise ValueError(
                    f"{job.photo} would be written to {path}, which is one of the files to read; "
                    f"choose another --output-dir"
                )
            other = taken.setdefault(os.path.normcase(path), job)
            if other is not job:
                raise ValueError(
                    f"{other.photo} and {job.photo} would both be written to {path}; rename one, "
                    f"or restore them into folders of their own"
                )


def _output_name(photo: Path, suffix: str | None) -> str:
    if suffix is None and _ending(photo, WRITABLE_SUFFIXES):
        return photo.name
    packed = _ending(photo, _PACKED_FITS)
    return _stem(photo) + (suffix or (".fits" if packed else ".png"))


def _is_photograph(path: Path) -> bool:
    """Whether a file is one by its name, and no preview of an earlier run."""
    return bool(_ending(path, _PHOTOGRAPHS)) and not is_preview(path)


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
    )


def _same(path: Path, other: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _ending(path: Path, endings: Iterable[str]) -> str:
    """The ending that a name has of some, or nothing."""
    return next((ending for ending in endings if path.name.lower().endswith(ending)), "")


def _stem(path: Path) -> str:
    ending = _ending(path, _PACKED_FITS)
    return path.name[: -len(ending)] if ending else path.stem


def _listed(paths: list[Path]) -> str:
    named = ", ".join(str(path) for path in paths[:_NAMED])
    more = len(paths) - _NAMED
    return named + f" and {more} more" * (more > 0)
