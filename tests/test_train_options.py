"""The training program before it trains: its options, its photographs, its description of a run."""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import skimage.metrics
from PIL import Image
from training_program_helpers import FOLDER, TINY

import glra_jax as gx
from experiments.train import main
from experiments.training_runs.options import TrainOptions, describe_run, parse
from experiments.training_runs.photographs import load_packed, load_photographs
from experiments.training_runs.processes import Processes
from glra_jax.datasets import dataset_named
from glra_jax.model_files import architecture_from
from glra_jax.training.config import TrainConfig
from glra_jax.training.presets import PRESETS

BSDS500 = ("--dataset", "bsds500", "--data-dir")


def test_defaults_are_the_smoke_preset():
    options = parse([])
    assert options.config == PRESETS["smoke"]
    assert (options.preset, options.folder) == ("smoke", Path("runs/smoke"))
    assert (options.checkpoint_every, options.log_every) == (50, 10)


@pytest.mark.parametrize("name", ["paper", "release"])
def test_a_preset_changes_the_defaults_that_options_override(name):
    options = parse(["--preset", name])
    assert options.config == PRESETS[name]
    assert options.folder == Path("runs") / name
    options = parse(["--steps", "7", "--preset", name, "--noise", "0", "0.03", "--workdir", "w"])
    changed = {**vars(PRESETS[name]), "steps": 7, "noise": (0.0, 0.03)}
    assert vars(options.config) == changed
    assert options.folder == Path("w")


@pytest.mark.parametrize("spelling", [["--preset=paper"], ["--preset", "paper"]])
def test_both_spellings_of_an_option(spelling):
    assert parse(spelling).config == PRESETS["paper"]


def test_an_unknown_preset_is_refused():
    with pytest.raises(SystemExit, match=r"preset.*'n'") as raised:
        parse(["--preset", "n"])
    assert all(name in str(raised.value) for name in PRESETS)


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        (["--stepz", "3"], "--stepz"),
        (["--steps", "many"], "many"),
        (["--protocols", "papre"], "papre"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--checkpoint-every", "0"], "checkpoint_every must be at least 1, got 0"),
        (["--architecture.rank", "152"], "rank 152 is above the support 151"),
    ],
)
def test_bad_options_are_quoted(arguments, quoted, capsys):
    with pytest.raises((SystemExit, ValueError)) as raised:
        main(arguments)
    shown = f"{raised.value}{capsys.readouterr().err}"
    assert quoted in shown
    if isinstance(raised.value, SystemExit):
        assert raised.value.code not in (0, None)


@pytest.mark.parametrize("record", [TrainOptions, TrainConfig, Processes, gx.Glra, gx.Inverse])
def test_every_option_is_explained(record):
    """What the help shows is the docstring of each record of options."""
    explained = re.findall(r"^ +(\w+): \w", record.__doc__.split("Attributes:")[1], re.M)
    assert explained == [field.name for field in dataclasses.fields(record)]


@pytest.mark.parametrize(
    ("preset", "shown"),
    [
        ("smoke", ["--architecture.rank", "--kernels.max-sigma", "--dataset"]),
        ("release", ["200000", "polynomial", "1e-06"]),
        ("glra", ["--architecture.inverse.noise-weight", "least-squares", "7000"]),
    ],
)
def test_help_shows_the_options_and_defaults_of_the_preset(preset, shown, capsys):
    with pytest.raises(SystemExit) as raised:
        parse(["--preset", preset, "--help"])
    assert raised.value.code == 0
    text = capsys.readouterr().out
    assert [word for word in shown if word not in text] == []


def test_a_run_is_described_by_its_configuration_and_its_pixels(images, tmp_path):
    options = parse([*TINY, *FOLDER, str(images)])
    packed = load_packed(options)
    description = describe_run(options.config, packed)
    written = dict(description["config"])
    name = written["architecture"].pop("architecture")
    rebuilt = TrainConfig(
        **written
        | {
            "architecture": architecture_from(name, written["architecture"]),
            "kernels": gx.KernelFamilies(**written["kernels"]),
        }
    )
    assert rebuilt == options.config
    description = describe_run(options.config, packed)
    assert describe_run(options.config, load_packed(options)) == description

    pixels = np.asarray(Image.open(images / "cat.png")).copy()
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    Image.open(images / "man.png").save(tmp_path / "man.png")
    other = load_packed(parse([*TINY, *FOLDER, str(tmp_path)]))
    assert describe_run(options.config, other)["images_sha256"] != description["images_sha256"]


@pytest.mark.parametrize(("licence", "end"), [("CC0", " (licence: CC0)"), ("", "")])
def test_a_licence_is_named_if_there_is_one(licence, end, images, monkeypatch, capsys):
    dataset = dataclasses.replace(dataset_named("folder"), licence=licence)
    monkeypatch.setattr("experiments.training_runs.photographs.dataset_named", lambda name: dataset)
    load_packed(parse([*TINY, *FOLDER, str(images)]))
    assert capsys.readouterr().out == f"2 photographs of dataset folder{end}\n"


def test_embedded_photographs_are_the_default_data():
    packed = load_packed(parse([]))
    assert len(packed.starts) == 3 * 3 + 4  # three photographs in colour and four in grey
    astronaut = skimage.data.astronaut()[..., 0].ravel()
    np.testing.assert_array_equal(packed.pixels[: astronaut.size], astronaut)


@pytest.fixture(scope="module")
def bsds500(tmp_path_factory):
    """A folder like the unpacked archive: 200, 200 and 100 tiny photographs of one grey each."""
    root = tmp_path_factory.mktemp("archive")
    for split, (count, grey) in {"train": (200, 10), "test": (200, 90), "val": (100, 200)}.items():
        folder = root / "BSR" / "BSDS500" / "data" / "images" / split
        folder.mkdir(parents=True)
        encoded = io.BytesIO()
        Image.new("RGB", (9, 7), (grey,) * 3).save(encoded, "JPEG")
        for index in range(count):
            (folder / f"{split}{index}.jpg").write_bytes(encoded.getvalue())
    return root


def test_bsds500_is_trained_on_without_what_is_scored(bsds500):
    photographs = load_photographs(parse([*TINY, *BSDS500, str(bsds500)]))
    assert {p.shape for p in photographs} == {(7, 9, 3)}
    greys = [round(float(p.mean()), -1) for p in photographs]
    assert greys == [10] * 200 + [90] * 200
    chosen = load_photographs(parse([*TINY, *BSDS500, str(bsds500), "--splits", "test"]))
    assert len(chosen) == 200


@pytest.mark.parametrize("split", ["val", "bsd100"])
def test_a_leak_must_be_meant(bsds500, split):
    asked = [*TINY, *BSDS500, str(bsds500), "--splits", "train", split]
    with pytest.raises(ValueError, match=f"{split}.*BSD100"):
        load_photographs(parse(asked))
    assert len(load_photographs(parse([*asked, "--allow-leak"]))) == 300

    images = str(bsds500 / "BSR" / "BSDS500" / "data" / "images")
    for folder in (images, f"{images}/val"):
        with pytest.raises(ValueError, match=r"val.*--allow-leak"):
            load_photographs(parse([*TINY, *FOLDER, folder]))
    assert len(load_photographs(parse([*TINY, *FOLDER, images, "--allow-leak"]))) == 500


def test_an_unknown_dataset_is_quoted_beside_those_there_are():
    with pytest.raises(ValueError, match="one of embedded, bsds500, folder, got 'imagenet'"):
        TrainOptions(config=PRESETS["smoke"], dataset="imagenet")
