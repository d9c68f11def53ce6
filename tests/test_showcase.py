"""The picture of a model beside the best classical method."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

import glra_jax as gx
from experiments import showcase
from experiments.evaluation.camera import Camera, clipped_srgb
from experiments.showcase import Scene, ShowcaseOptions, degrade_scene, main, restore_scene
from glra_jax.datasets import embedded_photographs


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(showcase, "_PART", (90, 100))
    monkeypatch.setattr(showcase, "SCENES", (Scene("coffee", "disk", 9, corner=(60, 140)),))


def test_lights_are_blurred_before_they_are_clipped():
    scene = Scene("coffee", "gaussian", 9, exposure=3.0, corner=(60, 140))
    case = degrade_scene(scene, jax.random.key(0), 1e-6)
    sharp, blurred, kernel = case.sharp, case.blurred, case.kernel
    assert sharp.shape == blurred.shape == (82, 92, 3)
    assert sharp.max() == blurred.max() == 1.0
    # Blurring what is clipped already gives less light than clipping what is blurred.
    after = np.asarray(gx.blur(sharp, kernel, boundary="edge"))
    assert (blurred - after)[8:-8, 8:-8].min() > -1e-3
    assert (blurred - after)[8:-8, 8:-8].max() > 0.05


def test_the_best_baseline_is_shown_with_its_score(small_model, monkeypatch):
    monkeypatch.setattr(showcase, "_EDGE", 10)
    options = ShowcaseOptions(model="small", baselines=("wiener", "hl"))
    example = restore_scene(showcase.SCENES[0], jax.random.key(1), small_model, options)
    best = max(options.baselines, key=example.scores.__getitem__)
    assert list(example.images) == ["blurred", best, "small"]
    for name, image in example.images.items():
        error = np.mean((image.astype(np.float64) - example.sharp) ** 2)
        assert example.scores[name] == pytest.approx(-10 * np.log10(error), abs=1e-3)


def test_the_program_writes_a_picture_once(tmp_path, capsys):
    path = tmp_path / "new" / "show.png"
    arguments = ["--output", str(path), "--baselines", "wiener"]
    main(arguments)
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        assert picture.format == "PNG"
    assert "disk blur, 1% noise: PSNR in dB: blurred" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"show\.png exists"):
        main(arguments)


def test_what_a_camera_stores_is_restored_in_linear_light(small_model, monkeypatch):
    monkeypatch.setattr(showcase, "_EDGE", 10)
    scene = Scene("coffee", "motion", 9, corner=(60, 140), camera=Camera())
    case = degrade_scene(scene, jax.random.key(1), 0.5)
    assert case.noise < 0.02  # the camera's
    options = ShowcaseOptions(model="small", baselines=("wiener",))
    example = restore_scene(scene, jax.random.key(1), small_model, options)
    assert example.name == "shaken camera, 10000 electrons, read noise 5, 8 bits"
    np.testing.assert_allclose(
        example.images["blurred"], clipped_srgb(case.blurred)[10:-10, 10:-10], atol=1e-6
    )
    photograph = embedded_photographs("train") | embedded_photographs("test")
    part = photograph["coffee"][60:150, 140:240][4 + 10 : -4 - 10, 4 + 10 : -4 - 10]
    np.testing.assert_allclose(example.sharp, part / 255.0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        ({"baselines": ()}, "baselines is empty"),
        ({"baselines": ("magic",)}, "magic"),
        ({"noise": 0.0}, r"noise.*0\.0"),
    ],
)
def test_bad_options(arguments, quoted):
    with pytest.raises(ValueError, match=quoted):
        ShowcaseOptions(**arguments)
