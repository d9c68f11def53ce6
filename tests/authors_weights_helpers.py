"""Small files of random weights in the layouts of the authors' networks."""

from pathlib import Path

import numpy as np
import safetensors.numpy

from experiments.baselines import fdn, usrnet


def fdn_entries(stages: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of FDN by the names in its HDF5 files, near those that change nothing."""
    rng = np.random.default_rng(seed)
    found = {}
    for stage in range(stages):
        for (layer, part), shape in fdn._SHAPES.items():
            values = rng.standard_normal(shape) / max(np.prod(shape[:-1]), 1) ** 0.5
            if layer == "x_out":
                values = 0.5 * np.eye(24) + 0.1 * values
            elif layer == "lambda" and part == "bias":
                values = values + 4.0
            found[fdn._entry(stage, layer, part)] = np.float32(values)
    return found


def write_hdf5(path: Path, entries: dict[str, np.ndarray]) -> Path:
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in entries.items():
            file[name] = values
    return path


def usrnet_state(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of USRNet-tiny by PyTorch's names, of sizes that keep values near those of images."""
    rng = np.random.default_rng(seed)
    return {
        name: np.float32(rng.standard_normal(shape) * 0.6 / max(np.prod(shape[1:]), 1) ** 0.5)
        for name, shape in usrnet.SHAPES.items()
    }


def write_usrnet(path: Path) -> Path:
    safetensors.numpy.save_file(usrnet_state(), path)
    return path
