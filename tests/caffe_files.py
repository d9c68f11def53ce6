"""Files like the authors' Caffe network, encoded byte by byte after Caffe's public definitions."""

import numpy as np

SUPPORT, RANK, FEATURES = 17, 3, 4


# Protocol buffers on the wire: a tag (field number and kind), then a number or a length and bytes.
def varint(value):
    value &= 2**64 - 1  # negative numbers are two's complements
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob_bytes(array, double=False):
    shape = field(7, field(1, b"".join(varint(size) for size in array.shape)))
    if double:
        return shape + field(8, array.astype("<f8").tobytes())
    return shape + field(5, array.astype("<f4").tobytes())


def layer_bytes(name, kind, blobs, **options):
    body = field(1, name) + field(2, kind) + field(3, "bottom") + field(4, "top") + field(10, 0)
    body += b"".join(field(7, blob_bytes(blob, **options)) for blob in blobs)
    return body + field(106, field(1, 50) + field(11, 15))  # convolution_param


def net_bytes(layers, **options):
    """A whole network, with the layers without weights that Caffe writes between."""
    net = field(1, "GLR") + field(100, layer_bytes("data", "Data", []))
    for name, blobs in layers.items():
        net += field(100, layer_bytes(name, "Convolution", blobs, **options))
        net += field(100, layer_bytes(f"relu of {name}", "ReLU", []))
    return net


def random_layers(support=SUPPORT, rank=RANK, features=FEATURES, seed=0):
    """Blobs as Caffe has them, `(outputs, inputs, height, width)`, without symmetries."""
    rng = np.random.default_rng(seed)
    shapes = {
        "conv0": (rank, 1, support, 1),
        "conv1": (rank, rank, 1, 1),
        "conv2": (rank, rank, 1, support),
        "conv3": (features, rank, 15, 15),
        "conv4": (features, features, 1, 1),
        "conv5": (1, features, 7, 7),
    }
    return {
        name: [
            np.float32(rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))),
            np.float32(rng.normal(size=shape[0])),
        ]
        for name, shape in shapes.items()
    }


def random_basis(support=SUPPORT, rank=RANK, seed=0):
    rng = np.random.default_rng(seed)
    return [np.linalg.qr(rng.normal(size=(support, rank)))[0] for _ in range(2)]
