"""Draws a model beside the best classical method: `python -m experiments.showcase`.

Five photographs: Gaussian, disk and motion blur, motion blur of overexposed lights, and what a
camera stores of a shaken photograph.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

import glra_jax as gx
from experiments.baselines import BASELINES, baseline_named
from experiments.evaluation.camera import Camera, draw_shake, make_camera_file
from experiments.evaluation.cases import Case
from experiments.evaluation.sheet import Example, draw_sheet
from glra_jax import validation
from glra_jax.atomic_files import write_atomically
from glra_jax.datasets import embedded_photographs
from glra_jax.kernel_families import blur_family
from glra_jax.model_files import DEFAULT_MODEL
from glra_jax.programs import program


@dataclass(frozen=True)
class Scene:
    """A photograph and its degradation.

    Attributes:
      photograph: name of one that comes with scikit-image.
      family: of the blur kernel.
      size: side of the blur kernel.
      exposure: factor on the brightness; above 1, lights leave the sensor's range.
      corner: top and left of the part that is taken.
      camera: what takes the photograph and is shaken; blur and noise are plain if not given.
    """

    photograph: str
    family: str
    size: int
    exposure: float = 1.0
    corner: tuple[int, int] = (0, 0)
    camera: Camera | None = None


SCENES = (
    Scene("astronaut", "gaussian", 23, corner=(0, 60)),
    Scene("coffee", "disk", 25, corner=(60, 100)),
    Scene("chelsea", "motion", 27, corner=(0, 40)),
    Scene("rocket", "motion", 27, exposure=1.6, corner=(100, 120)),
    Scene("chelsea", "motion", 25, corner=(0, 40), camera=Camera(quality=95)),
)
_PART = (300, 400)  # rows and columns
_EDGE = 16  # not shown and not scored: it depends on the continuation outside the frame


@dataclass(frozen=True)
class ShowcaseOptions:
    """Restores five degraded photographs by a model and by classical methods, and draws the best.

    Attributes:
      output: PNG file.
      model: name or file of the model.
      baselines: classical methods; of each photograph the one of highest PSNR is shown.
      noise: standard deviation of the noise, above 0, where it is not a camera's. All methods know
        the level.
      overwrite: allow the file to be replaced.
    """

    output: Path = Path("runs/showcase.png")
    model: str = DEFAULT_MODEL
    baselines: tuple[str, ...] = tuple(BASELINES)
    noise: float = 0.01
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False

    def __post_init__(self) -> None:
        validation.check_positive(self.noise, "noise")
        if not self.baselines:
            raise ValueError("baselines is empty; name at least one of " + ", ".join(BASELINES))
        for baseline in self.baselines:
            baseline_named(baseline)


def degrade_scene(scene: Scene, key: jax.Array, noise: float) -> Case:
    """Blurs light before the sensor clips it, so that bright lights smear white."""
    photographs = embedded_photographs("train") | embedded_photographs("test")
    (top, left), (height, width) = scene.corner, _PART
    part = photographs[scene.photograph][top : top + height, left : left + width]
    if scene.camera is not None:
        kernel_key, key = jax.random.split(key)
        shake = np.asarray(draw_shake(kernel_key, size=scene.size))
        return make_camera_file(scene.photograph, part, shake, key, camera=scene.camera)
    light = scene.exposure * jnp.asarray(part, jnp.float32) / 255.0
    kernel = blur_family(scene.family).example(scene.size)
    blurred = gx.blur(light, kernel, boundary="valid")
    blurred = blurred + noise * jax.random.normal(key, blurred.shape)
    edge = scene.size // 2
    sharp = light[edge:-edge, edge:-edge]
    return Case(
        scene.photograph,
        np.asarray(jnp.clip(blurred, 0.0, 1.0)),
        np.asarray(jnp.clip(sharp, 0.0, 1.0)),
        np.asarray(kernel),
        gain=None,
        noise=noise,
    )


def describe(scene: Scene, noise: float) -> str:
    """The heading of a photograph."""
    if scene.camera is not None:
        return f"shaken camera, {scene.camera.words}"
    lights = ", lights blown out" if scene.exposure > 1 else ""
    return f"{scene.family} blur, {noise:.0%} noise{lights}"


def restore_scene(
    scene: Scene, key: jax.Array, model: gx.Model, options: ShowcaseOptions
) -> Example:
    """Restores one photograph by all methods; blurred, best baseline and model are shown."""
    case = degrade_scene(scene, key, options.noise)
    blurred, kernel = jnp.asarray(case.blurred), jnp.asarray(case.kernel)
    restored = {"blurred": blurred}
    for name in tqdm(options.baselines, desc=scene.photograph, unit="method"):
        restored[name] = BASELINES[name].restore(
            blurred, kernel, noise=case.noise, family=scene.family
        )
    restored[options.model] = gx.deconvolve(blurred, kernel, model, noise=case.noise)
    inner = (slice(_EDGE, -_EDGE),) * 2
    finish = case.finish or (lambda image: np.clip(image, 0.0, 1.0))
    images = {name: finish(np.asarray(image))[inner] for name, image in restored.items()}
    scores = {
        name: float(gx.psnr(jnp.asarray(image), jnp.asarray(case.sharp[inner])))
        for name, image in images.items()
    }
    best = max(options.baselines, key=scores.__getitem__)
    shown = ("blurred", best, options.model)
    return Example(
        name=describe(scene, options.noise),
        kernel=case.kernel,
        sharp=case.sharp[inner],
        images={name: images[name] for name in shown},
        scores=scores,
    )


def restore_all(options: ShowcaseOptions) -> Iterator[Example]:
    """Restores the photographs, one by one."""
    model = gx.load_model(options.model)
    for index, scene in enumerate(SCENES):
        yield restore_scene(scene, jax.random.key(index), model, options)


def main(arguments: list[str] | None = None) -> None:
    """Runs the program."""
    with program("error"):
        options = tyro.cli(ShowcaseOptions, args=arguments, prog="python -m experiments.showcase")
        if options.output.exists() and not options.overwrite:
            raise FileExistsError(
                f"{options.output} exists; choose another --output or allow --overwrite"
            )
        if options.output.is_dir():
            raise IsADirectoryError(f"{options.output} is a folder; name a file in it")
        options.output.parent.mkdir(parents=True, exist_ok=True)
        examples = []
        for example in restore_all(options):
            examples.append(example)
            scores = ", ".join(f"{name} {score:.2f}" for name, score in example.scores.items())
            print(f"{example.name}: PSNR in dB: {scores}", flush=True)
        write_atomically(options.output, draw_sheet(examples), overwrite=options.overwrite)
        print(f"written: {options.output}")


if __name__ == "__main__":
    main()
