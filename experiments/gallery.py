"""Draws the gallery of the documentation: `python -m experiments.gallery`.

The photographs that come with scikit-image, blurred, restored by a model and sharp, one JPEG each,
and a page that shows them with their scores.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

import glra_jax as gx
from experiments.evaluation.camera import Camera
from experiments.pictures.drawing import FAMILY_NAMES
from experiments.showcase import Scene, degrade_scene
from glra_jax import validation
from glra_jax.atomic_files import write_atomically
from glra_jax.model_files import DEFAULT_MODEL
from glra_jax.programs import program

SCENES = {
    "shaken-camera": Scene("chelsea", "motion", 25, corner=(0, 40), camera=Camera(quality=95)),
    "motion": Scene("astronaut", "motion", 27, corner=(0, 60)),
    "disk": Scene("coffee", "disk", 25, corner=(60, 100)),
    "gaussian": Scene("chelsea", "gaussian", 23, corner=(0, 40)),
    "lights": Scene("rocket", "motion", 27, exposure=1.6, corner=(100, 120)),
    "grey-motion": Scene("camera", "motion", 27, corner=(60, 60)),
    "grey-disk": Scene("coins", "disk", 25),
}
_SHOWN = 240  # pixels on a side, from the middle: borders depend on what is outside the frame
_GAP = 4
_ZOOM = 2  # of the kernel in the corner
_QUALITY = 85
_PAGE = "README.md"


@dataclass(frozen=True)
class GalleryOptions:
    """Restores photographs that come with scikit-image, and writes a page with a picture of each.

    Attributes:
      output: Folder for the page, README.md, and its pictures.
      model: Name or file of the model.
      noise: Standard deviation of the noise, above 0, where it is not a camera's. The model
        estimates it.
      overwrite: Allow files to be replaced.
    """

    output: Path = Path("runs/gallery")
    model: str = DEFAULT_MODEL
    noise: float = 0.01
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False

    def __post_init__(self) -> None:
        validation.check_positive(self.noise, "noise")


@dataclass(frozen=True)
class Strip:
    """One photograph: JPEG file of blurred, restored and sharp, with PSNR of the first two."""

    picture: bytes
    blurred: float
    restored: float


def restore_strip(scene: Scene, key: jax.Array, model: gx.Model, noise: float) -> Strip:
    """Degrades and restores a photograph; the part that is shown is scored."""
    case = degrade_scene(scene, key, noise)
    restored = gx.deconvolve(jnp.asarray(case.blurred), jnp.asarray(case.kernel), model)
    finish = case.finish or (lambda image: np.clip(image, 0.0, 1.0))
    panels = [middle(finish(np.asarray(image))) for image in (case.blurred, restored)]
    sharp = middle(case.sharp)
    blurred_score, restored_score = (
        float(gx.psnr(jnp.asarray(panel), jnp.asarray(sharp))) for panel in panels
    )
    panels = [with_kernel(panels[0], case.kernel), panels[1], sharp]
    return Strip(_jpeg(side_by_side(panels)), blurred_score, restored_score)


def middle(image: np.ndarray) -> np.ndarray:
    """The part of an image that is shown."""
    top, left = (max(side - _SHOWN, 0) // 2 for side in image.shape[:2])
    return image[top : top + _SHOWN, left : left + _SHOWN]


def with_kernel(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """An image with its blur kernel, enlarged, in the upper left corner."""
    inset = (kernel / kernel.max()).repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)
    inset = np.pad(inset, 1, constant_values=1.0)
    height, width = (min(pair) for pair in zip(inset.shape, image.shape, strict=False))
    image = image.copy()
    corner = inset[:height, :width]
    image[:height, :width] = corner if image.ndim == 2 else corner[..., None]
    return image


def side_by_side(images: list[np.ndarray]) -> np.ndarray:
    """Images of one height in a row, with white between them."""
    height, *channels = np.delete(images[0].shape, 1)
    gap = np.ones((height, _GAP, *channels), images[0].dtype)
    row = [images[0]]
    for image in images[1:]:
        row += [gap, image]
    return np.concatenate(row, axis=1)


def title(scene: Scene, noise: float) -> str:
    """What has become of a photograph."""
    if scene.camera is not None:
        return f"Shaken camera, JPEG of quality {scene.camera.quality}"
    lights = ", lights blown out" if scene.exposure > 1 else ""
    words = f"{FAMILY_NAMES[scene.family]} blur, {noise:.1%} noise{lights}".replace(".0%", "%")
    return words[0].upper() + words[1:].replace("%", " %")


def page(strips: dict[str, Strip], options: GalleryOptions) -> str:
    """The page, in Markdown."""
    command = "python -m experiments.gallery"
    if options.model != DEFAULT_MODEL:
        command += f" --model {options.model}"
    if options.noise != GalleryOptions.noise:
        command += f" --noise {options.noise:g}"
    lines = [
        "# Gallery",
        "",
        f"From left to right: a photograph that comes with scikit-image, blurred, with the kernel "
        f"in the corner; restored by the model `{options.model}`; and sharp.",
        "The model is told the kernel and estimates the noise. PSNR is of the part that is shown.",
    ]
    for name, strip in strips.items():
        scene = SCENES[name]
        heading = title(scene, options.noise)
        alt = f"{scene.photograph}: blurred, restored and sharp"
        lines += [
            "",
            f"## {heading}",
            "",
            f"[![{alt}]({name}.jpg)]({name}.jpg)",
            "",
            f"Blurred {strip.blurred:.1f} dB, restored {strip.restored:.1f} dB.",
        ]
    lines += [
        "",
        "## Command",
        "",
        f"`{command}` writes this page and its pictures, here with `--output docs/gallery`. "
        f"`python -m experiments.showcase` compares with classical methods.",
    ]
    return "\n".join(lines) + "\n"


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    pixels = np.uint8(np.round(255.0 * np.clip(image, 0.0, 1.0)))
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    with program("error"):
        options = tyro.cli(GalleryOptions, args=arguments, prog="python -m experiments.gallery")
        paths = [options.output / _PAGE, *(options.output / f"{name}.jpg" for name in SCENES)]
        there = [path for path in paths if path.exists()]
        if there and not options.overwrite:
            raise FileExistsError(
                f"{there[0]} exists; choose another --output or allow --overwrite"
            )
        if options.output.exists() and not options.output.is_dir():
            raise NotADirectoryError(f"{options.output} is a file; name a folder")
        model = gx.load_model(options.model)
        strips = {
            name: restore_strip(scene, jax.random.key(index), model, options.noise)
            for index, (name, scene) in enumerate(tqdm(SCENES.items(), unit="photograph"))
        }
        options.output.mkdir(parents=True, exist_ok=True)
        for name, strip in strips.items():
            path = options.output / f"{name}.jpg"
            write_atomically(path, strip.picture, overwrite=options.overwrite)
        text = page(strips, options).encode()
        write_atomically(options.output / _PAGE, text, overwrite=options.overwrite)
        print(f"written: {options.output / _PAGE}")


if __name__ == "__main__":
    main()
