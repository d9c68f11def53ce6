"""A first look at a model: photographs that it was not trained on, one blur of each family."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

import glra_jax as gx
from glra_jax.datasets import embedded_photographs
from glra_jax.degradation import degraded_pair
from glra_jax.kernel_families import blur_family
from glra_jax.training.config import TrainConfig

LINEAR = "linear (eq. 8)"


@dataclass(frozen=True)
class Example:
    """One restored photograph; images are NumPy `(H, W)` or `(H, W, C)`, cut to the scored centre.

    Attributes:
      photograph: its name.
      family: of the blur kernel.
      kernel: `(k, k)`.
      sharp: what is compared with.
      images: by method, clipped to [0, 1].
      scores: by method, PSNR in dB and SSIM.
    """

    photograph: str
    family: str
    kernel: np.ndarray
    sharp: np.ndarray
    images: dict[str, np.ndarray]
    scores: dict[str, tuple[float, float]]


def restore_held_out(model: gx.Model, config: TrainConfig) -> list[Example]:
    """Degrades the held-out photographs by the run's own protocol and restores them.

    Scores are of the centre, without what the network's margins take off each side: of the
    faithful network half the support, as in the paper's own scoring.
    """
    architecture = model.architecture
    inverse = architecture.default_inverse
    border = max(*(max(margin) for margin in config.margins), config.kernels.max_size)
    noise = sum(config.noise) / 2
    examples = []
    for index, (name, photograph) in enumerate(embedded_photographs("test").items()):
        x = jnp.asarray(photograph, jnp.float32) / 255.0
        if x.ndim == 2 and 1 not in architecture.joint_channels:
            x = jnp.repeat(x[..., None], max(architecture.joint_channels), axis=2)
        for family in dict.fromkeys(config.kernels.families):
            kernel = blur_family(family).example(config.kernels.max_size)
            key = jax.random.key(index)
            protocol = config.protocols[0]
            y, sharp, *_ = degraded_pair(key, x, kernel, protocol=protocol, noise=noise)
            images = {"blurred": y}
            if inverse is not None and isinstance(model.constants, gx.Basis):
                images[LINEAR] = gx.deconvolve_linear(y, kernel, model.constants, inverse=inverse)
            images["network"] = gx.deconvolve(y, kernel, model)
            inner = (slice(border, -border),) * 2
            images = {method: jnp.clip(image[inner], 0, 1) for method, image in images.items()}
            truth = sharp[inner]
            scores = {
                method: (float(gx.psnr(image, truth)), float(gx.ssim(image, truth)))
                for method, image in images.items()
            }
            examples.append(
                Example(
                    name,
                    family,
                    np.asarray(kernel),
                    np.asarray(truth),
                    {method: np.asarray(image) for method, image in images.items()},
                    scores,
                )
            )
    return examples


def score_table(examples: list[Example]) -> str:
    """Markdown table of PSNR (dB) and SSIM, with the mean in the last row."""
    methods = list(examples[0].scores)
    lines = [
        "| photograph | blur | " + " | ".join(f"{m}, PSNR / SSIM" for m in methods) + " |",
        "| --- | --- | " + " | ".join("---" for _ in methods) + " |",
    ]
    for example in examples:
        cells = (f"{p:.2f} / {s:.3f}" for p, s in (example.scores[m] for m in methods))
        lines.append(f"| {example.photograph} | {example.family} | " + " | ".join(cells) + " |")
    means = (np.mean([e.scores[m] for e in examples], axis=0) for m in methods)
    cells = (f"{p:.2f} / {s:.3f}" for p, s in means)
    lines.append("| **mean** | | " + " | ".join(cells) + " |")
    return "\n".join(lines)
