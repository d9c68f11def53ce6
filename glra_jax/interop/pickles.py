"""What a pickle would call when it is opened, found without calling or importing it."""

import io
import pickle
import zipfile
from typing import Any

_TYPES = "BFloat16 Bool Byte Char ComplexDouble ComplexFloat Double Float Half Int Long Short"
_QUANTIZED = "QInt8 QInt32 QUInt8 QUInt2x4 QUInt4x2"
_CONSTANTS = """
    bfloat16 bool complex32 complex64 complex128 float16 float32 float64
    float4_e2m1fn_x2 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu
    int1 int2 int3 int4 int5 int6 int7 int8 int16 int32 int64
    uint1 uint2 uint3 uint4 uint5 uint6 uint7 uint8 uint16 uint32 uint64
    bits8 bits16 bits1x8 bits2x4 bits4x2 qint8 qint32 quint8 quint2x4 quint4x2
    per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric
    per_channel_affine_float_qparams
"""
_REBUILDERS = """
    parameter parameter_with_state qtensor tensor tensor_v2 tensor_v3 sparse_tensor
    meta_tensor_no_storage nested_tensor wrapper_subclass device_tensor_from_numpy
    device_tensor_from_cpu_tensor
"""
# All that PyTorch itself allows in a file that it opens with `weights_only=True`.
ALLOWED = frozenset(
    {
        *("collections.OrderedDict", "collections.Counter", "builtins.set", "builtins.complex"),
        *("builtins.bytearray", "_codecs.encode"),
        *("torch.Size", "torch.Tensor", "torch.device", "torch.nn.parameter.Parameter"),
        *("torch.storage.TypedStorage", "torch.storage.UntypedStorage"),
        *("torch.serialization._get_layout", "torch._tensor._rebuild_from_type_v2"),
        *(f"torch._utils._rebuild_{name}" for name in _REBUILDERS.split()),
        *(f"torch.{name}" for name in _CONSTANTS.split()),
        *(f"torch.{name}Storage" for name in (_TYPES + " " + _QUANTIZED).split()),
        *(f"torch.cuda.{name}Storage" for name in _TYPES.split()),
        *(
            f"torch.{place}{name}Tensor"
            for place in ("", "cuda.", "sparse.", "cuda.sparse.")
            for name in _TYPES.split()
        ),
    }
)


class _ForeignNameError(Exception):
    """A pickle asked for a function or class that a file of tensors has no use for."""


class _StandIn(dict):
    """Takes the place of whatever a file of tensors may call, and does nothing."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # may be a member of a set

    def __init__(self, *arguments: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        del state


class _Inspector(pickle.Unpickler):
    """Walks through a pickle without importing or calling anything that it names."""

    def find_class(self, module: str, name: str) -> Any:
        """Gives a stand-in for what PyTorch allows; raises for all else."""
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if full not in ALLOWED:
            raise _ForeignNameError(full)
        return _StandIn

    def persistent_load(self, pid: Any) -> Any:
        """Gives nothing for a tensor's values."""
        del pid


def pickle_of(data: bytes) -> bytes:
    """The pickle in a file of PyTorch's, zip or older; of another zip archive, nothing."""
    if not data.startswith(b"PK"):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
        for entry in entries[:1]:
            del entry.CRC  # not to be checked: PyTorch can be told to write none
            return archive.read(entry)
    return b""


def foreign_name(data: bytes) -> str | None:
    """The first function or class that a file of PyTorch's would call, and PyTorch does not allow.

    Args:
      data: the file, whole or cut short.
    """
    try:
        stream = io.BytesIO(pickle_of(data))
        for _ in range(5):  # the old format is five pickles, then raw values
            _Inspector(stream).load()
    except _ForeignNameError as error:
        return str(error)
    except Exception:  # damaged: nothing more to learn
        return None
    return None
