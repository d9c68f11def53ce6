"""Small files of random weights in the layouts of the authors' networks."""

from pathlib import Path

import numpy as np
import safetensors.numpy
import scipy.io

from experiments.baselines import fcnn, fdn, usrnet


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


def csf_model(stages: int = 2, *, deblurring: int = 1) -> dict:
    """The structure in the authors' file of CSF: shrinkage near the identity."""
    rng = np.random.default_rng(0)
    means = np.arange(-260, 261, 10, dtype=np.int16)[:, None]
    shrink = np.empty((2, stages), [("precision", "O"), ("means", "O"), ("weights", "O")])
    filters = np.empty((2, stages), object)
    for direction, stage in np.ndindex(2, stages):
        heights = 0.4 * means * rng.uniform(0.7, 1.0, means.shape) + rng.standard_normal()
        shrink[direction, stage] = (np.array([[0.01]]), means, heights)
        values = np.array([1.0, -1.0, 0.1 * rng.standard_normal()])
        filters[direction, stage] = values[None] if direction == 0 else values[:, None]
    return {
        "nfilters": np.uint8(2),
        "sigma": 0.5,
        "is_deblurring": np.uint8(deblurring),
        "nstages": np.uint8(stages),
        "lambda": np.linspace(30.0, 2.0, stages)[None],
        "f": filters,
        "shrink": shrink,
    }


def fcnn_weights(level: int) -> tuple[np.ndarray, list[list[tuple[np.ndarray, np.ndarray]]]]:
    """The λ of a level, and filters and biases by step and layer."""
    rng = np.random.default_rng(level)
    steps = []
    for _ in range(3):
        layers = []
        for number, side in enumerate((5, 3, 3, 3, 3, 3), start=1):
            shape = (side, side, 1 if number == 1 else 64, 1 if number == 6 else 64)
            scale = (2.0 / np.prod(shape[:3])) ** 0.5
            filters = np.float32(scale * rng.standard_normal(shape))
            layers.append((filters, np.float32(0.01 * rng.standard_normal(shape[3]))))
        steps.append(layers)
    return np.array([200.0, 30.0, 6.0, 1.0]) / (1 + level), steps


def write_fcnn(folder: Path) -> None:
    """All files of FCNN; shapes of cells and biases differ between levels, as the authors' do."""
    for index, level in enumerate(fcnn.LEVELS):
        data, steps = fcnn_weights(index)
        scipy.io.savemat(folder / f"fcnn_noise{level}_lambda.mat", {"lambda": data[:, None]})
        for step, layers in enumerate(steps, start=1):
            cells = np.empty((1, 6), [("weights", "O")])
            for number, (filters, bias) in enumerate(layers):
                pair = np.empty((2, 1) if index < 2 else (1, 2), object)
                bias = bias[:, None] if index == 0 else bias[None, None, None]
                pair.flat[0] = filters[..., 0] if number == 5 else filters
                pair.flat[1] = bias
                cells[0, number]["weights"] = pair
            path = folder / f"fcnn_noise{level}_iter{step}.mat"
            scipy.io.savemat(path, {"weights": cells}, do_compression=True)
