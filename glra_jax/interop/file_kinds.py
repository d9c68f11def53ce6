"""Telling files apart by their first bytes, so that an error can say what a file is."""

from pathlib import Path

# What this library reads, as its errors call it.
PYTORCH, SAFETENSORS = "PyTorch file", "safetensors file"
CAFFE, NPZ = "Caffe model", ".npz archive of plain arrays"
HDF5 = "HDF5 file"
MATLAB = "MATLAB file"

_RENAMED = {
    PYTORCH: "a PyTorch file: give it the suffix .pt",
    SAFETENSORS: "a safetensors file: give it the suffix .safetensors",
    NPZ: "a NumPy archive (.npz)",
    HDF5: "an HDF5 file",
    MATLAB: "a MATLAB file: see docs/pytorch.md for how to make a .npz archive of it",
}
_ZIP = b"PK\x03\x04"
_SMALLEST_ZIP = 98  # with one member: its header, its entry in the directory, and the end of that
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # PyTorch's magic number, pickled
_LARGEST_HEADER = 100_000_000  # of a safetensors file, by its definition
_CAFFE_TAGS = b"\n\x12\x1a\xa2"  # a network's name, its layers (either format) or its inputs
_OTHERS = (  # small letters: what a file begins with is compared in small letters
    (b"<!doctype html", "a web page: download the file itself"),
    (b"<html", "a web page: download the file itself"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with git lfs pull"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"\x89png", "a PNG image"),
    (b"\x93numpy", "a single NumPy array (.npy)"),
    (b"\x89hdf", HDF5),
    (b"matlab ", MATLAB),
    (b"\x80", "a pickle that torch.save did not write: save module.state_dict() with torch.save"),
)


def unreadable(path: Path, data: bytes, wanted: str, reason: str) -> str:
    """Says of a file that cannot be read that it is cut short, or another kind of file.

    Args:
      path: of the file.
      data: what it holds, or at least its first 512 bytes.
      wanted: kind that it should have been, of those above.
      reason: why it could not be read; said only where the kind is right.
    """
    found = kind_of(data)
    if found == wanted or _is_cut_start(data, wanted):
        return f"{path} is not a whole {wanted} ({reason}); it may be truncated: copy it again"
    if found is not None:
        return f"{path} is not a {wanted} but {_RENAMED.get(found, found)}"
    return f"{path} is not a {wanted} (it begins with {data[:24]!r})"


def reason_of(error: Exception) -> str:
    """Gives the kind of an exception and the first sentence of what it says."""
    said = str(error).splitlines()[:1]
    return type(error).__name__ + "".join(f": {line.partition('. ')[0]}" for line in said)


def kind_of(data: bytes) -> str | None:
    """One of the kinds above, words for another kind, or None if it is not known."""
    if data.startswith(_ZIP):
        first_member = data[30 : 30 + int.from_bytes(data[26:28], "little")]
        if first_member.endswith(b".npy"):
            return NPZ
        return PYTORCH if first_member.endswith(b"data.pkl") else "a zip archive"
    if _LEGACY_TORCH[2:] in data[:32]:  # with any protocol
        return PYTORCH
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= _LARGEST_HEADER:
        return SAFETENSORS
    if data[257:262] == b"ustar":
        return "a tar archive: unpack it"
    start = data[:64].lstrip().lower()
    return next((words for magic, words in _OTHERS if start.startswith(magic)), None)


def _is_cut_start(data: bytes, wanted: str) -> bool:
    """Tells whether a file of the kind may begin so, which is too little for `kind_of`."""
    if not data:
        return True
    if wanted == SAFETENSORS:
        return len(data) < 9
    if wanted == CAFFE:
        return data[0] in _CAFFE_TAGS
    if len(data) < _SMALLEST_ZIP and data[: len(_ZIP)] == _ZIP[: len(data)]:
        return True
    return wanted == PYTORCH and _LEGACY_TORCH.startswith(data)
