"""The readers of files that the fuzzer tries, each with a good file to begin with.

A reader more is a record more in `READERS`.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from experiments.reliability import crafted, model_seeds, photo_seeds, record_seeds
from experiments.reliability.crafted import Content

_NOTHING: Mapping[str, Content] = MappingProxyType({})


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes:
      name: what it reads.
      file: name of the file, with folders where the reader expects some.
      write: writes a good file.
      read: reads it; raises for a bad one.
      crafted: files made to harm, by name; the suffix is the reader's own.
      needs: module without which it is left out.
      command: arguments for Python that have a program read the file, and write to a second path;
        None where no program takes just this file.
    """

    name: str
    file: str
    write: Callable[[Path], None]
    read: Callable[[Path], object]
    crafted: Mapping[str, Content] = field(default_factory=lambda: _NOTHING)
    needs: str | None = None
    command: Callable[[Path, Path], list[str]] | None = None


def available() -> list[Reader]:
    """The readers whose libraries are there."""
    return [r for r in READERS if r.needs is None or importlib.util.find_spec(r.needs) is not None]


def _photo(path: Path) -> object:
    from glra_jax.photo_files import read_photo

    return read_photo(path)


def _kernel(path: Path) -> object:
    from glra_jax.kernels import normalize_kernel
    from glra_jax.photo_files import read_kernel

    values = read_kernel(path)
    try:
        return normalize_kernel(values, subtract_background=True)
    except ValueError as error:  # as the command line has it
        raise ValueError(f"{path}: {error}") from error


def _mask(path: Path) -> object:
    from glra_jax.photo_files import read_mask

    return read_mask(path)


def _kernels(path: Path) -> object:
    from experiments.evaluation.synthetic import read_kernels

    return read_kernels(path)


def _model(path: Path) -> object:
    from glra_jax.model_files import load_model

    return load_model(path)


def _state_dict(path: Path) -> object:
    from glra_jax.interop import load_torch_model

    return load_torch_model(path)


def _caffe(path: Path) -> object:
    from glra_jax.interop.caffe import load_caffemodel

    left, right = model_seeds.small_model().constants
    return load_caffemodel(path, left=left, right=right)


def _basis(path: Path) -> object:
    from glra_jax.interop.caffe import read_basis

    return read_basis(path)


def _mat(path: Path) -> object:
    from experiments.baselines.mat_files import read_mat

    return read_mat(path)


def _hdf5(path: Path) -> object:
    from experiments.baselines.hdf5_files import open_hdf5

    with open_hdf5(path) as found:
        return {name: entry[()] for name, entry in found.items()}


def _patch_prior(path: Path) -> object:
    from experiments.baselines.patch_prior import load_patch_prior

    return load_patch_prior(path)


def _results(path: Path) -> object:
    from experiments.evaluation.results import read_results

    return read_results(path)


def _records(path: Path) -> object:
    from experiments.evaluation.progress import Progress

    progress = Progress(path.parent.parent, record_seeds.RECORDS_CONFIG)
    progress.close()
    return len(progress)


def _metrics(path: Path) -> object:
    from experiments.train import read_metrics

    return read_metrics(path)


def _curve(path: Path) -> object:
    from experiments.curves import read_run

    return read_run(path.parent, points=5)


def _reference(path: Path) -> object:
    from experiments.curves import read_reference

    return read_reference(path, points=5)


def _config(path: Path) -> object:
    from experiments.train import check_unused
    from glra_jax.training.presets import PRESETS

    check_unused(path.parent, PRESETS["smoke"])
    return None


def _deblur(photo: Path, kernel: Path, output: Path, *more: str) -> list[str]:
    arguments = ["deblur", str(photo), str(kernel), "-o", str(output), "--noise", "0.01", *more]
    return ["-m", "glra_jax.cli", *arguments]


def _deblur_photo(path: Path, good: Path) -> list[str]:
    return _deblur(path, good / "kernel.npy", path.parent / "output.tif")  # which holds all kinds


def _deblur_kernel(path: Path, good: Path) -> list[str]:
    return _deblur(good / "photo.png", path, path.parent / "output.png")


def _deblur_mask(path: Path, good: Path) -> list[str]:
    output = path.parent / "output.png"
    return _deblur(good / "photo.png", good / "kernel.npy", output, "--mask", str(path))


def _deblur_model(path: Path, good: Path) -> list[str]:
    output = path.parent / "output.png"
    return _deblur(good / "photo.png", good / "kernel.npy", output, "--model", str(path))


def _evaluate(path: Path, good: Path) -> list[str]:
    output = ("--output", str(path.parent / "output"))
    kernel = ("--kernel", str(good / "kernel.npy"))
    options = ("--limit", "1", "--methods", "blurred", "--models", str(path), *kernel, *output)
    basis = ("--basis", str(good / "basis.npz"))
    return [
        "-m",
        "experiments.evaluate",
        *options,
        *(basis if path.suffix == ".caffemodel" else ()),
    ]


def _evaluate_kernels(path: Path, good: Path) -> list[str]:
    del good
    output = ("--output", str(path.parent / "output"))
    return [
        *("-m", "experiments.evaluate", "--limit", "1", "--methods", "blurred"),
        *("--kernel", str(path), *output),
    ]


def _evaluate_basis(path: Path, good: Path) -> list[str]:
    output = ("--output", str(path.parent / "output"))
    return [
        *("-m", "experiments.evaluate", "--limit", "1", "--methods", "blurred"),
        *("--kernel", str(good / "kernel.npy"), *output),
        *("--models", str(good / "model.caffemodel"), "--basis", str(path)),
    ]


def _tables(path: Path, good: Path) -> list[str]:
    del good
    return ["-m", "experiments.tables", str(path), "-o", str(path.parent / "output.md")]


def _curves(path: Path, good: Path) -> list[str]:
    del good
    output = str(path.parent / "output.png")
    return ["-m", "experiments.curves", "--runs", str(path.parent), "-o", output]


def _curves_reference(path: Path, good: Path) -> list[str]:
    output = str(path.parent / "output.png")
    return [
        *("-m", "experiments.curves", "--runs", str(good / "run"), "-o", output),
        *("--reference", str(path)),
    ]


def _photo_reader(name: str, suffix: str, write: Callable[[Path], None], **options: str) -> Reader:
    # FITS files have suffixes of two parts.
    harmful = {
        key: data
        for key, data in crafted.PHOTOS.items()
        if key.partition(".")[2] == suffix.removeprefix(".")
    }
    return Reader(
        f"photograph, {name}",
        f"photo{suffix}",
        write,
        _photo,
        harmful,
        options.get("needs"),
        _deblur_photo,
    )


READERS: tuple[Reader, ...] = (
    _photo_reader("PNG", ".png", photo_seeds.by_pillow),
    _photo_reader("PNG with a palette", ".png", photo_seeds.palette_png),
    _photo_reader("PNG of 16 bits", ".png", photo_seeds.deep),
    _photo_reader("JPEG", ".jpg", photo_seeds.by_pillow),
    _photo_reader("TIFF", ".tif", photo_seeds.by_pillow),
    _photo_reader("TIFF of 16 bits", ".tif", photo_seeds.deep),
    _photo_reader("TIFF of floats", ".tif", photo_seeds.float_tiff),
    _photo_reader("BigTIFF", ".tif", photo_seeds.big_tiff),
    _photo_reader("WebP", ".webp", photo_seeds.by_pillow),
    _photo_reader("BMP", ".bmp", photo_seeds.by_pillow),
    _photo_reader("GIF", ".gif", photo_seeds.by_pillow),
    _photo_reader("PPM", ".ppm", photo_seeds.by_pillow),
    _photo_reader("PGM of 16 bits", ".pgm", photo_seeds.deep_pgm),
    _photo_reader("FITS", ".fits", photo_seeds.fits, needs="astropy"),
    _photo_reader("FITS in gzip", ".fits.gz", photo_seeds.packed_fits, needs="astropy"),
    Reader("kernel, .npy", "kernel.npy", photo_seeds.kernel_npy, _kernel, crafted.KERNELS,
           command=_deblur_kernel),
    Reader("kernel, PNG", "kernel.png", photo_seeds.kernel_png, _kernel, command=_deblur_kernel),
    Reader("kernels, .npz", "kernels.npz", photo_seeds.kernels_npz, _kernels, crafted.ARCHIVES,
           command=_evaluate_kernels),
    Reader("mask, .npy", "mask.npy", photo_seeds.mask_npy, _mask, crafted.KERNELS,
           command=_deblur_mask),
    Reader("model glra", "model.safetensors", model_seeds.model, _model,
           {**crafted.MODELS, **crafted.TENSORS}, command=_deblur_model),
    Reader("model unrolled", "model.safetensors", model_seeds.unrolled, _model,
           command=_deblur_model),
    Reader("state dict, safetensors", "state.safetensors", model_seeds.state_dict, _state_dict,
           crafted.TENSORS, command=_evaluate),
    Reader("state dict, .pt", "state.pt", model_seeds.state_dict, _state_dict, crafted.PICKLES,
           "torch", _evaluate),
    Reader("state dict, .pt of the former format", "state.pt", model_seeds.former_state_dict,
           _state_dict, needs="torch", command=_evaluate),
    Reader("Caffe", "net.caffemodel", model_seeds.caffe, _caffe, needs="google.protobuf",
           command=_evaluate),
    Reader("basis, .npz", "basis.npz", model_seeds.basis, _basis, crafted.ARCHIVES,
           command=_evaluate_basis),
    Reader("weights, MATLAB", "weights.mat", model_seeds.mat, _mat),
    Reader("weights, HDF5", "weights.hdf5", model_seeds.hdf5, _hdf5, needs="h5py"),
    Reader("patch prior, .npz", "prior.npz", model_seeds.patch_prior, _patch_prior,
           crafted.ARCHIVES),
    Reader("losses, .npz", "losses.npz", record_seeds.reference, _reference, crafted.ARCHIVES,
           command=_curves_reference),
    Reader("results.json", "results.json", record_seeds.results, _results, crafted.JSON,
           command=_tables),
    Reader("records.jsonl", "unfinished/records.jsonl", record_seeds.records, _records,
           crafted.JSON_LINES),
    Reader("metrics.csv", "metrics.csv", record_seeds.metrics, _metrics, crafted.TABLES),
    Reader("metrics.csv, drawn", "metrics.csv", record_seeds.metrics, _curve, crafted.TABLES,
           command=_curves),
    Reader("config.json", "config.json", record_seeds.config, _config, crafted.JSON),
)  # fmt: skip
