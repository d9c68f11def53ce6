"""Methods by name: the blurred image, the linear restoration, the baselines, models.

A method is written as in `experiments.evaluation.method_specs`; its options are those of the
function, see `experiments.baselines`. A model is written `NAME`, `FILE` or `LABEL=FILE`.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from experiments.baselines import AUTHORS_NETWORKS, AuthorsNetwork, baseline_named
from experiments.evaluation.method_specs import (
    BLURRED,
    LINEAR,
    method_title,
    parse_method,
    restore_linear,
)
from experiments.evaluation.model_files import is_caffe, lacks_basis, read_model
from glra_jax import validation
from glra_jax.interop import caffe
from glra_jax.inverses import CORES
from glra_jax.lowrank import Basis
from glra_jax.model import Model
from glra_jax.model_files import LINEAR_MODEL, available_models, model_file
from glra_jax.restorer import Restorer, even_tile, prepare

Restore = Callable[..., np.ndarray]
ModelBoundary = Literal["edge", "reflect", "wrap"]

OWN_NOISE = "each image's own"

_LARGEST_TILE = 512  # photographs of BSDS500 in one piece


@dataclass(frozen=True)
class Method:
    """A method of restoring.

    Attributes:
      label: name on the command line and in results.
      kind: "blurred", "linear", "model", or the name of a baseline or of an authors' network.
      restore: from a blurred image, its kernel and, where images differ in it, the standard
        deviation of the noise to the restored image, NumPy float32.
      about: further record: options, the model's file and its hash.
      support: largest side of a kernel that it takes; None takes any.
      check: raises what is wrong with the options, for the shapes of image and kernel; costs
        little.
    """

    label: str
    kind: str
    restore: Restore
    about: dict[str, Any]
    support: int | None = None
    check: Callable[[tuple[int, ...], tuple[int, ...]], None] = lambda image, kernel: None

    @property
    def title(self) -> str:
        """Name in tables and pictures."""
        return method_title(self.label, self.kind)


@dataclass(frozen=True)
class NamedModel:
    """A model as given on the command line.

    Attributes:
      label: its name in tables.
      source: file or name.
      model: what was loaded.
      released: whether it is the authors' network, which takes photographs transposed.
      basis_sha256: of the basis that was given for it, if it came without one.
    """

    label: str
    source: str
    model: Model
    released: bool
    basis_sha256: str | None = None

    @property
    def shipped(self) -> bool:
        """Tells whether it comes with the package."""
        return self.source in available_models()

    @property
    def about(self) -> dict[str, Any]:
        """Name of the model or its file, and the hashes of what was read."""
        file = model_file(self.source)
        found: dict[str, Any] = {
            "source": file.stem if self.shipped else file.name,
            "shipped": self.shipped,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        return found | ({"basis_sha256": self.basis_sha256} if self.basis_sha256 else {})


def collect(
    methods: Sequence[str],
    models: Sequence[str],
    *,
    noise: float | None,
    basis: Path | None = None,
    tell_models: bool = False,
    authors_weights: Path | None = None,
    model_boundary: ModelBoundary = "edge",
) -> list[Method]:
    """Methods and models in the order given, methods first.

    Args:
      methods: see the module.
      models: see the module.
      noise: standard deviation of the noise, for the baselines; None where each image has its own.
      basis: file with `left` and `right`, for weights that come without them: `.caffemodel` files,
        and PyTorch files that hold no basis.
      tell_models: whether models are told the noise too; if not, they estimate it.
      authors_weights: folder of the files of `AUTHORS_NETWORKS`.
      model_boundary: how models continue images, see `glra_jax.deconvolve`.

    Returns:
      The methods, each of another label.

    Raises:
      ImportError: a library for a file is missing: protobuf for a `.caffemodel`, PyTorch for its
        own, h5py for HDF5.
      OSError: a model that does not exist, or authors' weights.
      ValueError: nothing to evaluate, unknown names or options, two of one label, weights without
        a basis or a basis without such weights, an authors' network without the folder of its
        weights or the reverse, or a file that is not a model.
    """
    validation.check_choice(model_boundary, "model_boundary", get_args(ModelBoundary))
    names = [parse_method(spec)[0] for spec in methods]  # before any file is read
    networks = [AUTHORS_NETWORKS[name] for name in names if name in AUTHORS_NETWORKS]
    for network in networks:
        network.find(authors_weights)
    if authors_weights is not None and not networks:
        raise ValueError(
            f"--authors-weights {authors_weights} is for the methods {', '.join(AUTHORS_NETWORKS)};"
            f" none is given"
        )
    labels = [*methods, *(_label(spec)[0] for spec in models)]
    if not labels:
        raise ValueError("name at least one method (--methods) or model (--models)")
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(
            f"two methods or models are called {twice[0]!r}; give a model another label with "
            f"--models LABEL=FILE"
        )
    named = _load_all([_label(spec) for spec in models], basis)
    known = {model.label: model for model in named}
    found = [_method(spec, known, noise, authors_weights) for spec in methods]
    return found + [
        _model_method(model, noise, tell=tell_models, boundary=model_boundary) for model in named
    ]


def _label(spec: str) -> tuple[str, str]:
    """Label and source of a model."""
    label, separator, source = spec.partition("=")
    if separator and label and source and not Path(spec).exists():
        return label, source
    return (spec if spec in available_models() else Path(spec).stem), spec


def _load_all(labelled: Sequence[tuple[str, str]], basis: Path | None) -> list[NamedModel]:
    """Models by label and source; the basis goes to those that come without one."""
    if basis is None:
        return [_load(label, source, None) for label, source in labelled]
    bare = {source for _, source in labelled if lacks_basis(source)}
    if not bare:
        raise ValueError(
            f"--basis {basis} is for weights that come without one: .caffemodel files, and PyTorch "
            f"files that hold none; none is given"
        )
    read = caffe.read_basis(basis)
    return [_load(label, source, read if source in bare else None) for label, source in labelled]


def _load(label: str, source: str, basis: Basis | None) -> NamedModel:
    model = read_model(source, basis)
    digest = basis and hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in basis)).hexdigest()
    return NamedModel(label, source, model, is_caffe(source), digest)


def _method(
    spec: str, models: dict[str, NamedModel], noise: float | None, authors_weights: Path | None
) -> Method:
    name, options = parse_method(spec)
    if name == BLURRED:
        return Method(spec, name, lambda y, kernel, noise=None: y, {})
    if name == LINEAR:
        return _linear_method(spec, options, models)
    tell = noise is None and "noise" not in options
    options = options if noise is None else {"noise": noise, **options}
    restore: Callable[..., jax.Array]
    if name in AUTHORS_NETWORKS:
        restore, about = _with_weights(spec, AUTHORS_NETWORKS[name], authors_weights)
    else:
        restore = baseline_named(name).restore
        try:
            about = baseline_named(name).learned(options)
        except ValueError as error:
            raise ValueError(f"{spec!r}: {error}") from error
    about = {"options": options, **about} | ({"noise": OWN_NOISE} if tell else {})
    function = partial(restore, **options)
    return Method(spec, name, _on_host(function, tell=tell), about, check=_checker(spec, function))


def _with_weights(
    spec: str, network: AuthorsNetwork, folder: Path | None
) -> tuple[Callable[..., jax.Array], dict[str, Any]]:
    """Gives an authors' network its weights; with the record of their files."""
    path = network.find(folder)
    try:
        weights = network.read(path)
    except ValueError as error:
        raise ValueError(f"{spec!r}: {error}") from error
    first, *others = (
        hashlib.sha256((path.parent / file).read_bytes()).hexdigest()
        for file in (network.file, *network.beside)
    )
    about: dict[str, Any] = {"source": path.name, "sha256": first}
    if others:
        about["beside"] = dict(zip(network.beside, others, strict=True))
    return partial(network.restore, weights=weights), about


def _linear_method(spec: str, options: dict[str, Any], models: dict[str, NamedModel]) -> Method:
    wanted = options.pop("model", None)
    if wanted is not None and wanted not in models:
        raise ValueError(
            f"{spec!r}: no model is called {wanted!r}; --models gives: "
            f"{', '.join(models) or 'none'}"
        )
    if wanted is not None:
        chosen = models[wanted]
    else:
        suited = [named for named in models.values() if isinstance(named.model.constants, Basis)]
        chosen = suited[0] if suited else _load(LINEAR_MODEL, LINEAR_MODEL, None)
    if "core" in options:
        validation.check_choice(options["core"], f"{spec!r}: core", CORES)
    about = {"options": options, "basis_of": chosen.label, **chosen.about}
    function: Callable[..., jax.Array] = partial(restore_linear, model=chosen.model, **options)
    if chosen.released:
        function = partial(_restore_transposed, function)
    support = chosen.model.architecture.largest_kernel
    return Method(spec, LINEAR, _on_host(function), about, support, _checker(spec, function))


def _restore_transposed(
    function: Callable[..., jax.Array], y: jax.Array, kernel: jax.Array
) -> jax.Array:
    """Restores the transposed photograph, which is what the authors' network sees."""
    return jnp.swapaxes(function(jnp.swapaxes(y, 0, 1), jnp.swapaxes(kernel, 0, 1)), 0, 1)


def _on_host(function: Callable[..., jax.Array], *, tell: bool = False) -> Restore:
    """Takes and gives NumPy arrays; hands the noise of an image on if told to."""

    def restore(y: np.ndarray, kernel: np.ndarray, noise: float | None = None) -> np.ndarray:
        told = {"noise": noise} if tell and noise is not None else {}
        return np.asarray(function(jnp.asarray(y), jnp.asarray(kernel), **told))

    return restore


def _checker(
    spec: str, function: Callable[..., jax.Array]
) -> Callable[[tuple[int, ...], tuple[int, ...]], None]:
    def check(image: tuple[int, ...], kernel: tuple[int, ...]) -> None:
        try:
            jax.eval_shape(
                function,
                jax.ShapeDtypeStruct(image, jnp.float32),
                jax.ShapeDtypeStruct(kernel, jnp.float32),
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{spec!r}: {error}") from error

    return check


def _model_method(
    named: NamedModel, noise: float | None, *, tell: bool, boundary: ModelBoundary
) -> Method:
    """Restores the whole image, continued at its borders; the scores cut their part out of it.

    A model that is not told the noise estimates it.

    The authors' programs restore without a continuation (`boundary="valid"`) and score all of that:
    layers 4 and 6 pad with zeros at the edge of the scored part, while here they see the continued
    image. With support 151 the two differ within 10 pixels of that edge and nowhere else, by up to
    0.077, which was 0.08 dB on one crop of 230×230 pixels.
    """
    restore: Restore
    noise, own = noise if tell else None, tell and noise is None
    if named.released:
        function = partial(
            caffe.deconvolve_as_released, model=named.model, noise=noise, boundary=boundary
        )
        restore = _on_host(function, tell=own)
    else:
        restore = _ByTiles(named.model, noise, own=own, boundary=boundary)
    about = named.about | ({"noise": OWN_NOISE if noise is None else noise} if tell else {})
    if boundary != "edge":
        about["boundary"] = boundary
    return Method(named.label, "model", restore, about, named.model.architecture.largest_kernel)


class _ByTiles:
    """Restores with a model; transforms of its filters are kept for each size of tile."""

    def __init__(
        self, model: Model, noise: float | None, *, own: bool, boundary: ModelBoundary
    ) -> None:
        self._model = model
        self._noise = noise
        self._boundary = boundary
        self._own = own
        self._ready: dict[tuple[int, int], Restorer] = {}

    def __call__(self, y: np.ndarray, kernel: np.ndarray, noise: float | None = None) -> np.ndarray:
        told = noise if self._own else self._noise
        tile = even_tile(*y.shape[:2], largest=_LARGEST_TILE)
        k = jnp.asarray(kernel)
        if tile in self._ready:
            return self._ready[tile].with_kernel(k, noise=told)(y, boundary=self._boundary)
        self._ready[tile] = prepare(self._model, k, tile=tile, noise=told)
        return self._ready[tile](y, boundary=self._boundary)
