"""Photographs that are blurred here, by a family or a file of kernels and a protocol.

A degraded image follows from the seed and its case's name alone, to the bit: neither the other
photographs nor the methods matter.
"""

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np

from experiments.evaluation.camera import SHAKE, Camera, draw_shake
from experiments.evaluation.cases import Case, PendingCase
from experiments.evaluation.protocols import protocol_named
from glra_jax.kernel_families import FAMILIES, KernelFamilies, sample_kernel
from glra_jax.numpy_files import read_archive, read_array


def synthetic_cases(
    photographs: dict[str, np.ndarray],
    *,
    kernel: str,
    protocol: str,
    noise: float,
    seed: int,
    limit: int | None = None,
    camera: Camera | None = None,
) -> list[PendingCase]:
    """Cases of degraded photographs.

    Args:
      photographs: integer arrays by name.
      kernel: name of a family, of which one kernel is drawn for each photograph; or a file, each
        kernel of which blurs every photograph; or `"shake"`, the camera's own.
      protocol: see `experiments.evaluation.protocols`.
      noise: see `glra_jax.degrade`; a standard deviation for `"valid"`.
      seed: of kernels, factors and noise.
      limit: how many photographs, the first in order; None takes all.
      camera: of protocol `"camera-file"`, whose noise is the camera's; None takes the usual one.

    Returns:
      The cases.

    Raises:
      FileNotFoundError: `kernel` is neither a family nor a file.
      ValueError: a file that does not hold kernels, or an unknown protocol.
    """
    chosen = dict(list(photographs.items())[:limit])
    record = protocol_named(protocol)
    camera = Camera() if camera is None else camera
    by_camera = record.noise_deviation is None
    how = partial(record.make, camera=camera) if by_camera else partial(record.make, noise=noise)
    cases = []
    if kernel in FAMILIES or (by_camera and kernel == SHAKE):
        draw: Callable[[jax.Array], jax.Array]
        if kernel in FAMILIES:
            families = KernelFamilies(families=(kernel,))
            family, size, draw = kernel, families.max_size, partial(_draw, families=families)
        else:
            family, size, draw = "motion", camera.shake, partial(_draw_shake, size=camera.shake)
        shape = (size, size)
        for name, pixels in chosen.items():
            make = partial(_make_drawn, how, draw, name, pixels, case_key(seed, name))
            blurred = record.blurred_shape(pixels.shape, shape)
            cases.append(PendingCase(name, blurred, shape, make, family=family))
        return cases
    kernels = read_kernels(Path(kernel))
    for photograph, pixels in chosen.items():
        for label, values in kernels.items():
            name = f"{photograph}+{label}"
            make = partial(how, name, pixels, values, case_key(seed, name))
            blurred = record.blurred_shape(pixels.shape, values.shape)
            cases.append(PendingCase(name, blurred, values.shape, make, photograph))
    return cases


def case_key(seed: int, name: str) -> jax.Array:
    """The PRNG key of a case."""
    return jax.random.fold_in(jax.random.key(seed), np.uint32(zlib.crc32(name.encode())))


def read_kernels(path: Path) -> dict[str, np.ndarray]:
    """Reads blur kernels from a `.npy` or `.npz` file and divides each by its sum.

    Args:
      path: a file of two-dimensional arrays, or of stacks `(n, h, w)` of them.

    Returns:
      float32 `(h, w)` by name, in the file's order.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not such a file, no kernel in it, two of one name, or one without a finite,
        positive sum.
    """
    if path.suffix.lower() not in (".npy", ".npz") or not path.is_file():
        raise FileNotFoundError(
            f"kernel {str(path)!r} is neither a family ({', '.join(FAMILIES)}) nor a file of "
            f"kernels (.npy, .npz)"
        )
    packed = path.suffix.lower() == ".npz"
    arrays = read_archive(path) if packed else {path.stem: read_array(path)}
    kernels = {}
    for name, array in arrays.items():
        if array.ndim not in (2, 3) or array.dtype.kind not in "fiu" or array.size == 0:
            raise ValueError(
                f"{path}: {name} is {array.dtype}{array.shape}; kernels are real, (h, w) or "
                f"(n, h, w)"
            )
        stack = array[None] if array.ndim == 2 else array
        for index, values in enumerate(stack):
            label = name if array.ndim == 2 else f"{name}{index}"
            total = float(values.sum(dtype=np.float64))
            if not (np.isfinite(total) and total > 0):
                raise ValueError(f"{path}: kernel {label} has the sum {total}; it must be positive")
            if label in kernels:
                raise ValueError(
                    f"{path} holds two kernels named {label!r}, one of them in the stack "
                    f"{label.rstrip('0123456789')!r}; rename an array"
                )
            kernels[label] = (values / total).astype(np.float32)
    if not kernels:
        raise ValueError(f"{path} holds no kernel")
    return kernels


def _make_drawn(
    make: Callable[..., Case],
    draw: Callable[[jax.Array], jax.Array],
    name: str,
    pixels: np.ndarray,
    key: jax.Array,
) -> Case:
    kernel_key, key = jax.random.split(key)
    return make(name, pixels, np.asarray(draw(kernel_key)), key)


_draw = jax.jit(sample_kernel, static_argnames="families")
_draw_shake = jax.jit(draw_shake, static_argnames="size")
