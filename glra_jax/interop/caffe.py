"""The authors' released network: weights from a Caffe `.caffemodel` file.

Caffe stores blobs as `(outputs, inputs, height, width)` and correlates, as PyTorch does, so that
the conventions of `glra_jax.interop` hold. Two things are the authors' own:

* **Axes.** Their MATLAB programs hand images to Caffe as they are, and MATLAB stores columns where
  Caffe expects rows: their network sees every photograph transposed. Its "vertical" first layer
  runs along the rows of the picture. The weights are kept as Caffe has them; restore with
  `deconvolve_as_released`, which transposes image and kernel on the way in and the result on the
  way out.
* **Basis.** The core of a kernel is computed with their matrices `L` and `R`, which are not in the
  file. The weights of `conv1` in it are the core of whichever kernel came last, and are ignored;
  its bias counts.

The released file itself could not be had when this was written: the reader follows Caffe's public
message definitions and is tested on files written with the same ones.
"""

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glra_jax import validation
from glra_jax.deprecated.keywords import loose_inverse
from glra_jax.input_files import UnusableFileError, check_is_file
from glra_jax.interop import LAYERS, model_from_state_dict
from glra_jax.interop.entries import check_basis, dtype_of, faults_of_weights, to_numpy
from glra_jax.interop.file_kinds import CAFFE, NPZ, reason_of, unreadable
from glra_jax.inverses import Inverse
from glra_jax.lowrank import Basis
from glra_jax.model import Model
from glra_jax.numpy_files import read_archive
from glra_jax.restoration import deconvolve

# What the authors' network definition calls the six layers.
CAFFE_NAMES = {layer: f"conv{index}" for index, layer in enumerate(LAYERS)}

# How the older format writes the shape of a blob.
_SIZES = ("num", "channels", "height", "width")

# The part of Caffe's message definitions that weights need: name, number, type of each field.
_MESSAGES = {
    # `layers`, of the older format, is declared to be told apart; names are bytes to be checked.
    "NetParameter": (("layers", 2, "repeated bytes"), ("layer", 100, "repeated LayerParameter")),
    "LayerParameter": (("name", 1, "bytes"), ("blobs", 7, "repeated BlobProto")),
    "BlobProto": (
        ("shape", 7, "BlobShape"),
        ("data", 5, "packed float"),
        ("double_data", 8, "packed double"),
        *((name, index, "int32") for index, name in enumerate(_SIZES, start=1)),
    ),
    "BlobShape": (("dim", 1, "packed int64"),),
}


@loose_inverse
def load_caffemodel(
    path: str | os.PathLike[str],
    *,
    left: np.ndarray | jax.Array,
    right: np.ndarray | jax.Array,
    inverse: Inverse | None = None,
) -> Model:
    """Reads the authors' network, Ren et al. 2018, from a Caffe snapshot.

    Args:
      path: a `.caffemodel` file with the layers `conv0` to `conv5`.
      left: `(d, m)`, orthonormal columns, the authors' `L` (151×50); any floating dtype.
      right: `(d, m)`, the authors' `R`.
      inverse: how cores are computed; None takes `Inverse()`, which is theirs.

    Returns:
      A model, float32, for `deconvolve_as_released`.

    Raises:
      ImportError: the protobuf library is missing.
      OSError: no such file, a folder, or one that may not be read.
      ValueError: a basis that is not of real numbers, misshapen, NaN or not orthonormal, before the
        file is looked at; a file that is truncated, no Caffe model or one of the older format;
        layers or blobs that are missing, unknown, there twice, misshapen or hold NaN, all of which
        are listed; a basis of other sizes than the weights.
    """
    path = Path(path)
    try:
        basis = _float32_basis({"left": left, "right": right})
    except ValueError as error:
        raise ValueError(f"left and right are no basis (the authors' L and R): {error}") from error
    blobs = read_blobs(path)
    state: dict[str, np.ndarray] = {}
    for name, arrays in blobs:
        for index, array in enumerate(arrays):
            kind = ("weight", "bias")[index] if index < 2 else f"blob{index}"
            if (name, kind) != (CAFFE_NAMES["core"], "weight"):
                state[f"{name}.{kind}"] = array
    faults, _ = faults_of_weights(state, CAFFE_NAMES, basis=basis)
    counts = Counter(name for name, _ in blobs)
    faults += [f"{count} layers are called {name}" for name, count in counts.items() if count > 1]
    if faults:
        raise ValueError(
            f"{path} is not the authors' network, or is truncated (it has weights for the layers "
            f"{', '.join(counts)}): " + "; ".join(faults)
        )
    # What is refused from here on is what was handed in beside the file.
    return model_from_state_dict(state, basis=basis, inverse=inverse, names=CAFFE_NAMES)


def read_basis(path: str | os.PathLike[str]) -> Basis:
    """Reads a low-rank basis from a NumPy `.npz` archive with the arrays `left` and `right`.

    Args:
      path: a file; other arrays in it are left alone.

    Returns:
      The basis, float32.

    Raises:
      OSError: no such file, a folder, or one that may not be read.
      ValueError: not a whole `.npz` archive; one without both arrays, `(d, m)` each, of real
        numbers, finite, with orthonormal columns.
    """
    path = Path(path)
    check_is_file(path)
    with path.open("rb") as file:
        start = file.read(512)
    try:
        arrays = read_archive(path, ("left", "right"))
    except UnusableFileError as error:
        reason = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise ValueError(unreadable(path, start, NPZ, reason_of(reason))) from error
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(shapes) != 2 or len(shapes["left"]) != 2 or shapes["left"] != shapes["right"]:
        raise ValueError(
            f"{path} must hold the arrays left and right, both (d, m); it holds {shapes or 'none'}"
        )
    try:
        return _float32_basis(arrays)
    except ValueError as error:
        raise ValueError(f"{path} holds no basis: {error}") from error


def _float32_basis(sides: Mapping[str, Any]) -> Basis:
    """Makes the basis of `left` and `right`, float32; raises ValueError for what is none."""
    arrays = {name: to_numpy(side) for name, side in sides.items()}
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name} is {dtype_of(array)}, expected floating point numbers")
    with np.errstate(over="ignore"):  # what becomes infinite is refused next
        basis = Basis(*(jnp.asarray(np.asarray(a, np.float32)) for a in arrays.values()))
    check_basis(basis)
    return basis


def deconvolve_as_released(
    y: jax.Array, kernel: jax.Array, model: Model, **options: Any
) -> jax.Array:
    """Restores with a model of the authors, whose network sees photographs transposed.

    Args:
      y: `(H, W)`, `(H, W, C)` or `(N, H, W, C)` float in [0, 1].
      kernel: blur kernel, `(h, w)`, sum 1.
      model: from `load_caffemodel`.
      **options: of `glra_jax.deconvolve`; the authors score with `boundary="valid"`.

    Returns:
      The restored image, see `glra_jax.deconvolve`.

    Raises:
      TypeError: no model, or as `glra_jax.deconvolve`.
      ValueError: as `glra_jax.deconvolve`.
    """
    if not isinstance(model, Model):
        raise TypeError(
            f"model must be the one that load_caffemodel returned, got {type(model).__name__}; the "
            f"package's own models see photographs as they are: use glra_jax.deconvolve"
        )
    validation.check_image(y, "y")
    validation.check_kernel(kernel, support=model.architecture.largest_kernel)
    rows = 1 if jnp.ndim(y) == 4 else 0
    transposed = deconvolve(
        jnp.swapaxes(y, rows, rows + 1), jnp.swapaxes(kernel, 0, 1), model, **options
    )
    return jnp.swapaxes(transposed, rows, rows + 1)


def read_blobs(path: str | os.PathLike[str]) -> list[tuple[str, list[np.ndarray]]]:
    """Reads the blobs of every layer of a Caffe model that has any.

    Args:
      path: a `.caffemodel` file in Caffe's present format (its field `layer`, not `layers`).

    Returns:
      Name and float32 arrays of each layer; a convolution has weights, OIHW, and a bias.

    Raises:
      ImportError: the protobuf library is missing.
      OSError: no such file, a folder, or one that may not be read.
      ValueError: a file that is truncated, no Caffe model or one of the older format, or a blob
        whose number of values is not that of its shape, or whose shape has an axis of size 0 or
        less.
    """
    path = Path(path)
    net_class, error_class = _net_class()
    check_is_file(path)
    data = path.read_bytes()
    try:
        net = net_class.FromString(data)
    except error_class as error:
        raise ValueError(unreadable(path, data, CAFFE, reason_of(error))) from error
    if net.layers:
        raise ValueError(
            f"{path} is of Caffe's older format (its layers are in the field `layers`): convert it "
            f"with Caffe's upgrade_net_proto_binary"
        )
    blobs = []
    for layer in net.layer:
        if layer.blobs:
            name = layer.name.decode("utf-8", "backslashreplace")
            blobs.append((name, list(_arrays(path, name, layer.blobs))))
    if not blobs:
        raise ValueError(unreadable(path, data, CAFFE, "it holds no layer with weights"))
    return blobs


def _arrays(path: Path, name: str, blobs: Any) -> Iterator[np.ndarray]:
    for index, blob in enumerate(blobs):
        values = np.array(blob.data or blob.double_data, np.float32)
        shape = tuple(blob.shape.dim)
        if not shape and blob.HasField(_SIZES[0]):  # kept so by upgrade_net_proto_binary
            shape = tuple(getattr(blob, size) for size in _SIZES)
            shape = shape[3:] if index and shape[:3] == (1, 1, 1) else shape  # of a bias
        # In Python's integers, which do not overflow; two negative sizes have a good product.
        if not shape or min(shape) < 1 or values.size != math.prod(shape):
            raise ValueError(
                f"{path}: blob {index} of layer {name} has {values.size} values for the shape "
                f"{shape}; the file is damaged"
            )
        yield values.reshape(shape)


def _net_class() -> tuple[Any, type[Exception]]:
    """Builds the class of Caffe's `NetParameter`, at run time, and what it raises for bad data."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
    except ImportError as error:
        raise ImportError(
            "Caffe models need the protobuf library: pip install 'glra-jax[caffe]'"
        ) from error
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="glra_jax_caffe.proto", package="caffe", syntax="proto2"
    )
    for message_name, fields in _MESSAGES.items():
        entry = file.message_type.add(name=message_name)
        for name, number, declared in fields:
            rule, _, kind = declared.rpartition(" ")
            field = entry.field.add(name=name, number=number)
            field.label = kinds.LABEL_REPEATED if rule else kinds.LABEL_OPTIONAL
            if kind in _MESSAGES:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
            if rule == "packed":
                field.options.packed = True
    pool = descriptor_pool.DescriptorPool()  # of our own: Caffe itself may have filled the default
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("caffe.NetParameter")
    return message_factory.GetMessageClass(descriptor), message.DecodeError
