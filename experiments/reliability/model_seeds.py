"""Good files of models and weights, for the fuzzer to damage."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import glra_jax as gx
from glra_jax.interop import save_torch_model

SUPPORT, RANK, FEATURES = 9, 2, 13


@functools.cache
def small_model() -> gx.Model:
    """The faithful network, small and untrained."""
    sides = np.linalg.qr(np.random.default_rng(0).normal(size=(2, SUPPORT, RANK)))[0]
    basis = gx.Basis(*(jnp.asarray(side, jnp.float32) for side in sides))
    return gx.initial_model(jax.random.key(0), gx.Glra(SUPPORT, RANK, FEATURES), basis)


@functools.cache
def complete_model() -> gx.Model:
    """The faithful network on a basis in which nothing is lost."""
    basis = gx.Basis(jnp.eye(SUPPORT), jnp.eye(SUPPORT))
    return gx.initial_model(jax.random.key(0), gx.Glra(SUPPORT, SUPPORT, FEATURES), basis)


@functools.cache
def small_unrolled() -> gx.Model:
    """The unrolled network, small and untrained."""
    architecture = gx.Unrolled(stages=1, features=2, blocks=1)
    return gx.initial_model(jax.random.key(0), architecture, {})


def model(path: Path) -> None:
    """A model of the faithful network."""
    gx.save_model(small_model(), path, overwrite=True)


def unrolled(path: Path) -> None:
    """A model of the unrolled network."""
    gx.save_model(small_unrolled(), path, overwrite=True)


def state_dict(path: Path) -> None:
    """A state dict, `.safetensors` or `.pt`."""
    save_torch_model(small_model(), path, overwrite=True)


def former_state_dict(path: Path) -> None:
    """A state dict in PyTorch's former format, one pickle after the other."""
    import torch

    state = {name: torch.from_numpy(values) for name, values in _state().items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)


def _state() -> dict[str, np.ndarray]:
    from glra_jax.interop import model_to_state_dict

    return model_to_state_dict(small_model())


def basis(path: Path) -> None:
    """A basis as `.npz`."""
    left, right = (np.asarray(side) for side in small_model().constants)
    np.savez(path, left=left, right=right)


def caffe(path: Path) -> None:
    """A network as Caffe's messages, by their definitions."""
    rng = np.random.default_rng(0)
    shapes = [
        *((RANK, 1, SUPPORT, 1), (RANK, RANK, 1, 1), (RANK, RANK, 1, SUPPORT)),
        *((FEATURES, RANK, 15, 15), (FEATURES, FEATURES, 1, 1), (1, FEATURES, 7, 7)),
    ]
    net = _field(1, b"GLR")
    for index, shape in enumerate(shapes):
        blobs = [rng.normal(size=shape), rng.normal(size=shape[0])]
        layer = _field(1, b"conv%d" % index) + _field(2, b"Convolution")
        net += _field(
            100, layer + b"".join(_field(7, _blob(np.asarray(b, np.float32))) for b in blobs)
        )
    path.write_bytes(net)


def _blob(values: np.ndarray) -> bytes:
    shape = b"".join(_varint(size) for size in values.shape)
    return _field(7, _field(1, shape)) + _field(5, values.tobytes())


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def mat(path: Path) -> None:
    """Arrays and a structure in a MATLAB file."""
    import scipy.io

    rng = np.random.default_rng(0)
    model = {"sigma": 0.5, "f": rng.normal(size=(2, 3))}
    scipy.io.savemat(path, {"model": model, "weights": rng.normal(size=(5, 5))})
    text = b"MATLAB 5.0 MAT-file".ljust(116)  # without the time that SciPy writes
    path.write_bytes(text + path.read_bytes()[len(text) :])


def hdf5(path: Path) -> None:
    """Arrays in groups of an HDF5 file."""
    import h5py

    with h5py.File(path, "w") as file:
        for name in ("stage/kernel", "stage/bias", "scale"):
            file[name] = np.random.default_rng(0).normal(size=(4, 4))


def patch_prior(path: Path) -> None:
    """A Gaussian mixture of patches."""
    from experiments.baselines.patch_prior import save_patch_prior

    path.unlink(missing_ok=True)
    covariances = np.stack([np.eye(16), 2 * np.eye(16)])
    save_patch_prior(path, np.array([0.5, 0.5]), covariances)
