"""Models from files of every kind, as the programs name them on the command line."""

from pathlib import Path

import safetensors

from glra_jax.interop import load_torch_model, read_state_dict
from glra_jax.interop.caffe import load_caffemodel
from glra_jax.lowrank import Basis
from glra_jax.model import Model
from glra_jax.model_files import load_model, model_file
from glra_jax.networks.glra import Glra
from glra_jax.networks.low_rank import LowRank


def read_model(source: str, basis: Basis | None) -> Model:
    """Reads a PyTorch or Caffe file, or one of the library's own models.

    Args:
      source: `.pt`, `.pth`, `.safetensors` (of `save_model` or a state dict), `.caffemodel`, or the
        name of a model that comes with the package. Cores of PyTorch weights that do not say how
        are computed with a regularisation of 0.01, as in the paper.
      basis: of weights that come without one, see `lacks_basis`.

    Raises:
      ImportError: PyTorch or protobuf is missing.
      OSError: neither a file nor the name of a model.
      ValueError: a basis too many or too few, or what the readers refuse.
    """
    if is_caffe(source):
        if basis is None:
            raise ValueError(f"{source} comes without its basis; give it with --basis FILE.npz")
        return load_caffemodel(Path(source), left=basis.left, right=basis.right)
    path = model_file(source)
    if _is_from_torch(path):
        return load_torch_model(path, basis=basis)
    if basis is not None:
        raise ValueError(f"the model {source} has a basis; leave --basis out")
    return load_model(source)


def low_rank(model: Model) -> LowRank:
    """The architecture of a model, if it is one on a low-rank basis.

    Raises:
      ValueError: it is another.
    """
    if not isinstance(model.architecture, LowRank):
        raise _refusal(model, "on a low-rank basis")
    return model.architecture


def faithful(model: Model) -> Glra:
    """The architecture of a model, if it is the faithful network's.

    Raises:
      ValueError: it is another.
    """
    if not isinstance(model.architecture, Glra):
        raise _refusal(model, "of the faithful network")
    return model.architecture


def _refusal(model: Model, needed: str) -> ValueError:
    name = model.architecture.name
    return ValueError(f"a model {needed} is needed, got architecture {name!r}")


def lacks_basis(source: str) -> bool:
    """Tells whether weights come without the basis that they were trained with."""
    if is_caffe(source):
        return True
    path = model_file(source)
    return _is_from_torch(path) and not {"basis.left", "basis.right"} & read_state_dict(path).keys()


def is_caffe(source: str) -> bool:
    """Tells whether weights are the authors', in a Caffe file."""
    return source.endswith(".caffemodel")


def _is_from_torch(path: Path) -> bool:
    """Tells whether a file holds a state dict, and not a model of `save_model`."""
    if path.suffix != ".safetensors":
        return True
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return not (file.metadata() or {}).get("format", "").startswith("glra_jax-model-")
    except (safetensors.SafetensorError, OSError):
        return True  # its reader says what is wrong
