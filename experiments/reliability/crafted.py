"""Files that were made to harm: bombs, pickles that run code, headers that promise too much."""

import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial

# Bytes, or what makes them, where that takes a while.
Content = bytes | Callable[[], bytes]

RAN = "code-was-run"  # the file that appears where a file has run code


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (f"touch {RAN}",)


def _png(width: int, height: int, colour: int = 2, depth: int = 8) -> bytes:
    """A PNG file of an announced size whose pixels are a few zeros."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 10_000)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def _text_bomb() -> bytes:
    """A PNG file with text that unpacks a thousandfold."""
    good = _png(8, 8)
    return good[:33] + _chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(200_000_000))) + good[33:]


def _fits_bomb() -> bytes:
    """400 MB of zeros, packed."""
    return gzip.compress(_fits(20_000, 20_000) + bytes(400_000_000), 1, mtime=0)


def _npy(header: str) -> bytes:
    text = header.encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text


def _objects() -> bytes:
    """An array of objects, which are pickled."""
    return _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + pickle.dumps(
        [_Runs()]
    )


def _npz(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def _zip_bomb(name: str) -> bytes:
    """300 MB of zeros in an array, packed."""
    header = _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (75000000,), }")
    return _npz(name, header + bytes(300_000_000))


def _torch_zip(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def _safetensors(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _tensor(shape: list[int], dtype: str = "F32", length: int = 0) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, length]}


def _model(architecture: str, config: str) -> bytes:
    metadata = {
        "format": "glra_jax-model-3", "architecture": architecture, "config": config
    }  # fmt: skip
    return _safetensors({"__metadata__": metadata})


def _tiff(width: int, height: int, *, compression: int = 1, bits: int = 16) -> bytes:
    """A TIFF file of an announced size with hardly any data."""
    tags = (
        *((256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, compression), (262, 3, 1)),
        *((273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, 64)),
    )
    fields = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = struct.pack("<2sHI", b"II", 42, 8 + 64) + zlib.compress(b"\0" * 1000).ljust(64, b"\0")
    return head + struct.pack("<H", len(tags)) + fields + b"\0" * 4


def _fits(width: int, height: int) -> bytes:
    """The header of a FITS file of bytes."""
    numbers = {"BITPIX": 8, "NAXIS": 2, "NAXIS1": width, "NAXIS2": height}
    cards = [f"{name:8}= {value:>20}" for name, value in numbers.items()]
    text = "".join(card.ljust(80) for card in ("SIMPLE  =                    T", *cards, "END"))
    return text.encode().ljust(2880)


def _cycle() -> bytes:
    """A TIFF file whose only directory is followed by itself."""
    data = bytearray(_tiff(8, 8))
    data[-4:] = struct.pack("<I", 72)
    return bytes(data)


PHOTOS: dict[str, Content] = {
    "huge.png": _png(60_000, 60_000),
    "large.png": _png(16_000, 10_000),
    "large16.png": _png(12_000, 14_000, depth=16),
    "wide.png": _png(2**31 - 1, 1),
    "empty.png": _png(0, 5),
    "text.png": _text_bomb,
    "huge.tif": _tiff(200_000, 200_000),
    "packed.tif": _tiff(60_000, 40_000, compression=8),
    "large.tif": _tiff(20_000, 9_000, compression=8, bits=32),
    "cycle.tif": _cycle(),
    "huge.fits": _fits(100_000, 100_000),
    "negative.fits": _fits(-5, 7),
    "bomb.fits.gz": _fits_bomb,
    "huge.ppm": b"P6\n99999 99999\n255\n" + bytes(100),
    "long.ppm": b"P6\n" + b"9" * 5000 + b" 1\n255\n",
    "plain.ppm": b"P3\n8 8\n255\n" + b"9" * 5000,
    "huge.bmp": b"BM" + struct.pack("<IHHI", 100, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "huge.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(3)
    + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x08\x01\0\0;",
}  # fmt: skip
KERNELS: dict[str, Content] = {
    "archive.npy": _npz("one.npy", _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (), }")),
    "huge.npy": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
    "overflow.npy": _npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**30}, 1), }}"),
    "negative.npy": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-5, -5), }"),
    "objects.npy": _objects(),
    "nothing.npy": _npy("{'descr': '|V0', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
    "call.npy": _npy(f"__import__('os').system('touch {RAN}')"),
    "deep.npy": _npy("(" * 5000 + ")" * 5000),
    "dates.npy": _npy("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1, 1), }") + bytes(8),
    "complex.npy": _npy("{'descr': '<c16', 'fortran_order': False, 'shape': (1, 1), }") + bytes(16),
    "nan.npy": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1), }")
    + struct.pack("<d", float("nan")),
}  # fmt: skip
ARCHIVES: dict[str, Content] = {
    "bomb.npz": partial(_zip_bomb, "left.npy"),
    "objects.npz": _npz("left.npy", _objects()),
    "huge.npz": _npz(
        "left.npy", _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (100000000, 9000), }")
    ),
    "empty.npz": b"PK\x05\x06" + bytes(18),
    "pickle.npz": pickle.dumps(_Runs()),
    "array.npz": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1), }") + bytes(8),
}
PICKLES: dict[str, Content] = {
    "runs.pt": pickle.dumps(_Runs()),
    "runs2.pt": pickle.dumps({"weight": _Runs()}, protocol=2),
    "runs-zip.pt": _torch_zip(pickle.dumps(_Runs(), protocol=2)),
    "memo.pt": b"\x80\x02}r\xff\xff\xff\x7f.",
    "bytearray.pt": _torch_zip(b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\0\0\0\0\x01\x85R."),
    "bomb.pt": partial(_zip_bomb, "archive/data.pkl"),
    "frame.pt": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
}
TENSORS: dict[str, Content] = {
    "huge-header.safetensors": (10**8).to_bytes(8, "little") + b"{" + b" " * 100,
    "huge.safetensors": _safetensors({"params.vertical.kernel": _tensor([2**40, 2**40])}),
    "overflow.safetensors": _safetensors({"a": _tensor([2**63, 4], length=8)}, bytes(8)),
    "negative.safetensors": _safetensors(
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'
    ),
    "deep.safetensors": _safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "list.safetensors": _safetensors([1, 2]),
    "float4.safetensors": _safetensors({"a": _tensor([2, 2], "F4", 2)}, bytes(2)),
    "float8.safetensors": _safetensors({"a": _tensor([2, 2], "F8_E4M3", 4)}, bytes(4)),
    "complex.safetensors": _safetensors({"a": _tensor([1], "C64", 8)}, bytes(8)),
    "name.safetensors": _safetensors({"\x1b[31m\n" * 5: _tensor([1], length=4)}, bytes(4)),
    "names.safetensors": _safetensors({"n" * 300_000: _tensor([1], length=4)}, bytes(4)),
}
MODELS: dict[str, Content] = {
    "deep-config.safetensors": _model("glra", "[" * 100_000),
    "big-number.safetensors": _model("glra", '{"support": 1' + "0" * 400 + "}"),
    "huge-support.safetensors": _model("glra", '{"support": 1000000001, "rank": 1000000}'),
    "huge-stages.safetensors": _model("unrolled", '{"stages": 1000000000}'),
    "huge-blocks.safetensors": _model("unrolled", '{"blocks": 100000000}'),
    "huge-features.safetensors": _model("unrolled", '{"features": 1000000000000}'),
    "nan.safetensors": _model("glra", '{"support": NaN}'),
    "text.safetensors": _model("glra", '{"support": "151"}'),
    "list.safetensors": _model("glra", "[[1, 2]]"),
    "unknown.safetensors": _model("\x1b]0;x\x07", "{}"),
    "nested.safetensors": _model("glra", '{"inverse": {"inverse": {}}}'),
}
JSON: dict[str, Content] = {
    "null": b"null",
    "text": b'"text"',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"format":' * 50_000 + b"1" + b"}" * 50_000,
    "latin-1": "{'ä': 1}".encode("latin-1"),
    "utf-16": '{"format": 1}'.encode("utf-16"),
    "digits": b'{"format": 1' + b"0" * 5000 + b"}",
    "nulls": bytes(1000),
}  # fmt: skip
JSON_LINES: dict[str, Content] = {
    name: data + b"\n" for name, data in JSON.items() if isinstance(data, bytes)
}
TABLES: dict[str, Content] = {
    "wide field": b"step,loss,psnr,learning_rate,seconds\n1," + b"2" * 200_000 + b",3,4,5\n",
    "quote": b'step,loss,psnr,learning_rate,seconds\n1,"2,3,4,5\n',
    "null": b"step,loss,psnr,learning_rate,seconds\n1,\0,3,4,5\n",
    "words": b"step,loss,psnr,learning_rate,seconds\none,two,3,4,5\n",
    "infinite": b"step,loss,psnr,learning_rate,seconds\ninf,nan,3,4,5\n",
    "digits": b"step,loss,psnr,learning_rate,seconds\n1" + b"0" * 5000 + b",2,3,4,5\n",
    "latin-1": b"step,loss,psnr,learning_rate,seconds\n\xe4,2,3,4,5\n",
    "backwards": b"step,loss,psnr,learning_rate,seconds\n5,1,2,3,4\n2,1,2,3,4\n",
    "below one": b"step,loss,psnr,learning_rate,seconds\n-5,1,2,3,4\n0,1,2,3,4\n",
    "other columns": b"a,b\n1,2\n",
    "more columns": b"step,loss,psnr,learning_rate,seconds\n1,2,3,4,5,6,7\n",
}
