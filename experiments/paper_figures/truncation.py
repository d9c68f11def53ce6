"""Figure 1: a photograph restored linearly (eq. 8) with pseudo-inverses of growing rank.

The quality does not rise steadily with the rank. At a low rank, the sum of an inverse, a small part
of its norm, is wrong by up to a factor of two; dividing by it then changes the contrast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import glra_jax as gx
from experiments.paper_figures.inverses import (
    apply_inverse,
    blurred_photographs,
    invert,
    truncated_inverse,
    whole_inverse,
)
from experiments.pictures.drawing import (
    FAMILY_NAMES,
    Track,
    new_figure,
    show_image,
    show_kernel,
    silent,
)


@dataclass(frozen=True)
class Truncation:
    """Content of figure 1; images are clipped to [0, 1], `(H, W)` or `(H, W, 3)`.

    Attributes:
      families: of the blur kernels, one a row.
      ranks: of the truncated inverses; the whole inverse comes last.
      support: of the inverses, `d`.
      kernels: `(families, k, k)`.
      inverses: whole and of sum 1, `(families, d, d)`.
      sharp: the truth, brightened as the protocol has it.
      blurred: `(families, *image)`.
      restored: `(families, ranks + 1, *image)`.
      blurred_psnr: dB, `(families,)`.
      restored_psnr: dB, `(families, ranks + 1)`.
    """

    families: tuple[str, ...]
    ranks: tuple[int, ...]
    support: int
    kernels: np.ndarray
    inverses: np.ndarray
    sharp: np.ndarray
    blurred: np.ndarray
    restored: np.ndarray
    blurred_psnr: np.ndarray
    restored_psnr: np.ndarray


def compute_truncation(
    key: jax.Array,
    photograph: np.ndarray,
    kernels: Mapping[str, jax.Array],
    fitted_on: jax.Array,
    *,
    ranks: Sequence[int],
    regularization: float = 0.01,
    noise: float = 0.01,
    track: Track[int] = silent,
) -> Truncation:
    """Blurs one photograph with each kernel, and restores it with a basis of each rank.

    Args:
      key: PRNG key of the noise.
      photograph: `(H, W)` or `(H, W, 3)` float32 in [0, 1].
      kernels: one blur kernel a family, `(k, k)`.
      fitted_on: pseudo-inverses, `(n, d, d)`; a basis is fitted on them for every rank.
      ranks: of the bases, each at most `d`.
      regularization: of the pseudo-inverses.
      noise: standard deviation.
      track: shows progress over the ranks.

    Returns:
      Images and their PSNR against the truth.
    """
    support = fitted_on.shape[1]
    sharp = gx.sharp_target(jnp.asarray(photograph), protocol="paper")
    stack = jnp.stack(list(kernels.values()))
    inverses = invert(stack, support=support, regularization=regularization)
    blurred = [
        blurred_photographs(jax.random.fold_in(key, i), jnp.asarray(photograph), kernel, noise)
        for i, kernel in enumerate(stack)
    ]
    restored: list[list[jax.Array]] = [[] for _ in blurred]
    for rank in track(ranks):
        basis, _ = gx.fit_glra(fitted_on, rank=rank)
        for row, y, inverse in zip(restored, blurred, inverses, strict=True):
            row.append(apply_inverse(y, truncated_inverse(basis, inverse)))
    for row, y, inverse in zip(restored, blurred, inverses, strict=True):
        row.append(apply_inverse(y, whole_inverse(inverse)))
    return Truncation(
        families=tuple(kernels),
        ranks=tuple(ranks),
        support=support,
        kernels=np.asarray(stack),
        inverses=np.asarray(jax.vmap(whole_inverse)(inverses)),
        sharp=np.asarray(sharp),
        blurred=np.stack(blurred),
        restored=np.stack([np.stack(row) for row in restored]),
        blurred_psnr=np.array([gx.psnr(y, sharp) for y in blurred]),
        restored_psnr=np.array([[gx.psnr(x, sharp) for x in row] for row in restored]),
    )


def tabulate_truncation(data: Truncation) -> dict[str, np.ndarray]:
    """Arrays to keep; images as they are shown, in 8 bits."""
    arrays = {name: np.asarray(value) for name, value in vars(data).items()}
    for name in ("sharp", "blurred", "restored"):
        arrays[name] = np.rint(255.0 * arrays[name]).astype(np.uint8)
    return arrays


def draw_truncation(data: Truncation) -> Any:
    """A row a kernel: kernel, inverse, blurred, restored with growing rank, sharp."""
    from matplotlib.colors import SymLogNorm

    rows, columns = len(data.families), len(data.ranks) + 5
    figure = new_figure(1.62 * columns, 2.0 * rows, layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False)
    names = [f"m = {rank}" for rank in data.ranks] + [f"whole (m = {data.support})"]
    for i, family in enumerate(data.families):
        axis = axes[i, 0]
        show_kernel(axis, data.kernels[i])
        axis.set_title(f"{FAMILY_NAMES[family]} kernel", fontsize=9)
        inverse, axis = data.inverses[i], axes[i, 1]
        top = np.abs(inverse).max()
        norm = SymLogNorm(linthresh=1e-3 * top, vmin=-top, vmax=top)
        axis.imshow(inverse, cmap="RdBu_r", norm=norm, interpolation="nearest")
        axis.set_title("pseudo-inverse", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        show_image(axes[i, 2], data.blurred[i], f"blurred\n{data.blurred_psnr[i]:.2f} dB")
        for j, name in enumerate(names):
            score = data.restored_psnr[i, j]
            show_image(axes[i, 3 + j], data.restored[i, j], f"{name}\n{score:.2f} dB")
        show_image(axes[i, -1], data.sharp, "sharp")
    return figure
