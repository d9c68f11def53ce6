"""Networks with their authors' weights, which are read from files and are no part of the project.

A network's function is `restore(y, kernel, *, weights, noise, boundary) -> x`, with images as in
`contract`; `weights` is what its `read` makes of the authors' file. Nothing is tuned here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from glra_jax import validation


@dataclass(frozen=True)
class AuthorsNetwork:
    """A published network.

    Attributes:
      name: on the command line and in tables.
      restore: the function, see the module.
      read: from the authors' file to the weights, a pytree of arrays.
      file: name of that file; README.md says what it is called where it comes from.
      boundaries: continuations that it offers, its default first, see `boundaries`.
      description: one line on what it is.
      reference: where it was published.
      license: of the weights.
      beside: names of further files in the same folder that `read` reads too.
    """

    name: str
    restore: Callable[..., jax.Array]
    read: Callable[[Path], Any]
    file: str
    boundaries: tuple[str, ...]
    description: str
    reference: str
    license: str
    beside: tuple[str, ...] = ()

    def find(self, folder: Path | None) -> Path:
        """Finds the authors' file, and sees that those beside it are there.

        Args:
          folder: where it lies; None where nobody said.

        Returns:
          Its path.

        Raises:
          FileNotFoundError: no such folder, or a file is missing in it.
          ValueError: no folder was given.
        """
        where = "experiments/baselines/README.md says where to get it"
        if folder is None:
            raise ValueError(
                f"{self.name!r} needs its authors' weights: give the folder that has {self.file} "
                f"with --authors-weights DIR; {where}"
            )
        if not folder.is_dir():
            raise FileNotFoundError(f"--authors-weights {folder}: no such folder")
        for file in (self.file, *self.beside):
            if not (folder / file).exists():
                raise FileNotFoundError(
                    f"--authors-weights {folder} has no {file}, which {self.name!r} needs; {where}"
                )
        return folder / self.file


class Layer(NamedTuple):
    """Weights of a layer, with leading axes such as that of a network's stages.

    Attributes:
      kernel: `(..., inputs, outputs)`, or `(..., h, w, inputs, outputs)` of a convolution.
      bias: `(..., outputs)`.
    """

    kernel: jax.Array
    bias: jax.Array


def apply_layers(
    layers: tuple[Layer, ...], x: jax.Array, *, activation: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Convolves by one layer after the other, among zeros, with an activation between them.

    Args:
      layers: convolutions without leading axes.
      x: `(N, H, W, inputs)`.
      activation: behind every layer but the last.

    Returns:
      `(N, H, W, outputs)`.
    """
    for index, layer in enumerate(layers):
        x = jax.lax.conv_general_dilated(
            x, layer.kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x + layer.bias
        if index < len(layers) - 1:
            x = activation(x)
    return x


def check_noise_range(noise: jax.typing.ArrayLike, name: str, levels: tuple[float, float]) -> None:
    """Raises ValueError for noise that a network was not trained for (looked at where known).

    Args:
      noise: standard deviation, of images in [0, 1].
      name: of the network.
      levels: smallest and largest standard deviation, of images in [0, 255].
    """
    if not validation.is_known(noise):
        return
    (low, high), level = levels, 255.0 * float(np.asarray(noise))
    # A level at the end of the range may lie outside by its rounding, as in the error below.
    if not low * 0.995 <= level <= high * 1.005:
        raise ValueError(
            f"these weights of {name} are for noise of {low:g}/255 to {high:g}/255, that is "
            f"{low / 255:.3g} to {high / 255:.3g}, got {level / 255:.3g}; the nearest is "
            f"noise={min(max(level, low), high) / 255:.3g}"
        )


def check_entries(path: Path, faults: list[str]) -> None:
    """Raises ValueError if there are any faults in a file of weights, and lists the first ones."""
    if faults:
        more = f"; and {len(faults) - 4} more" if len(faults) > 4 else ""
        raise ValueError(f"{path} does not fit the network: {'; '.join(faults[:4])}{more}")
