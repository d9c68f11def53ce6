"""The pictures of the documentation's gallery."""

import io
import re

import jax
import numpy as np
import pytest
from PIL import Image

import glra_jax as gx
from experiments import gallery, showcase
from experiments.evaluation.camera import Camera
from experiments.gallery import GalleryOptions, main, restore_strip, title
from experiments.showcase import Scene, degrade_scene

COFFEE = Scene("coffee", "disk", 9, corner=(60, 140))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(showcase, "_PART", (70, 80))
    monkeypatch.setattr(gallery, "_SHOWN", 60)
    monkeypatch.setattr(gallery, "SCENES", {"lens": COFFEE})


def test_what_is_shown_is_what_is_scored(small_model):
    strip = restore_strip(COFFEE, jax.random.key(1), small_model, 0.01)
    case = degrade_scene(COFFEE, jax.random.key(1), 0.01)
    restored = np.clip(gx.deconvolve(case.blurred, case.kernel, small_model), 0.0, 1.0)
    middle = np.s_[1:61, 6:66]  # of 62x72
    row = np.asarray(Image.open(io.BytesIO(strip.picture)), np.float64) / 255
    assert row.shape == (60, 3 * 60 + 2 * 4, 3)
    for image, score in ((case.blurred, strip.blurred), (restored, strip.restored)):
        error = np.mean((image - case.sharp)[middle].astype(np.float64) ** 2)
        assert score == pytest.approx(-10 * np.log10(error), abs=1e-3)
    for image, start in ((restored, 64), (case.sharp, 128)):
        losses = row[:, start : start + 60] - image[middle]  # JPEG's
        assert np.sqrt(np.mean(losses**2)) < 0.05
    blurred = row[:, :60]
    kernel = blurred[1:19, 1:19].mean(axis=2)
    assert kernel[9, 9] > 0.9 > 0.1 > kernel[0, 0]


def test_the_program_writes_a_page_once(tmp_path, random_model_file, capsys):
    arguments = ["--output", str(tmp_path / "new"), "--model", random_model_file, "--noise", "0.02"]
    main(arguments)
    page = (tmp_path / "new" / "README.md").read_text()
    assert "## Disk blur, 2 % noise\n\n[![coffee: blurred, restored and sharp](lens.jpg)]" in page
    assert re.search(r"^Blurred \d\d\.\d dB, restored -?\d+\.\d dB\.$", page, re.M)
    assert f"`python -m experiments.gallery --model {random_model_file} --noise 0.02`" in page
    with Image.open(tmp_path / "new" / "lens.jpg") as picture:
        assert picture.format == "JPEG"
    with pytest.raises(SystemExit, match=r"README\.md exists"):
        main(arguments)


def test_titles_say_what_has_become_of_a_photograph():
    assert title(COFFEE, 0.005) == "Disk blur, 0.5 % noise"
    lights = Scene("rocket", "gaussian", 9, exposure=1.5)
    assert title(lights, 0.01) == "Gaussian blur, 1 % noise, lights blown out"
    shaken = Scene("chelsea", "motion", 9, camera=Camera(quality=95))
    assert title(shaken, 0.01) == "Shaken camera, JPEG of quality 95"


def test_bad_options():
    with pytest.raises(ValueError, match=r"noise.*0\.0"):
        GalleryOptions(noise=0.0)
