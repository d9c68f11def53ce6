"""Scores of earlier evaluations are taken over, and only those."""

import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_helpers import record_restorations
from PIL import Image

import glra_jax as gx
from experiments import evaluate
from experiments.evaluation.results import read_results
from experiments.evaluation.sheet import choose_examples

MARGIN = 10
NAMES = ("a", "b", "c")


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


@pytest.fixture
def start(triplets, tmp_path):
    common = ["--triplets", str(triplets), "--margin", str(MARGIN), "--sheet", "0"]

    def start(name, *methods, **options):
        more = [item for key, value in options.items() for item in (f"--{key}", str(value))]
        output = tmp_path / name
        arguments = ["--methods", *methods, "--models", *more, "--output", str(output)]
        evaluate.main([*common, *arguments])
        return output / "results.json"

    return start


@pytest.fixture
def restored(monkeypatch):
    return record_restorations(monkeypatch)


def test_only_new_methods_are_run(start, restored, capsys):
    wiener, other = "wiener:noise_to_signal=0.01", "wiener:noise_to_signal=0.02"
    former = start("former", "blurred", wiener)
    restored.clear()
    new = start("new", wiener, other, reuse=former.parent)
    assert restored == [(name, other) for name in NAMES]
    assert "3 of 6 restorations" in capsys.readouterr().out
    results = read_results(new)
    assert results.reused == {wiener: 3}
    rows = [row for row in results.records if row.method == wiener]
    assert rows == [row for row in read_results(former).records if row.method == wiener]
    text = (new.parent / "results.md").read_text()
    assert f"{wiener} (3)" in text
    lines = [line for line in text.splitlines() if "| as it is |" in line]
    assert lines[0].startswith(f"| {wiener} ")
    assert lines[0].endswith(" |  |")  # no times
    assert not lines[1].endswith(" |  |")

    restored.clear()
    again = read_results(start("again", wiener, other, reuse=new))
    assert restored == []
    assert again.reused == {wiener: 3, other: 3}
    assert again.records == results.records


def test_images_on_the_sheet_are_restored_again(start, restored):
    former = start("former", "blurred")
    restored.clear()
    results = read_results(start("new", "blurred", reuse=former, sheet=1))
    assert [name for name, _ in restored] == [NAMES[choose_examples(3, 1)[0]]]
    assert results.reused == {"blurred": 2}


@pytest.mark.parametrize("part", ["batch", "gt", "kernel"])
def test_other_images_are_not_taken_for_the_same(start, restored, triplets, part):
    former = start("former", "blurred")
    path = triplets / f"b_{part}.png"
    pixels = np.array(Image.open(path))
    pixels[4, 4] ^= 9
    Image.fromarray(pixels).save(path)
    restored.clear()
    start("new", "blurred", reuse=former)
    assert restored == [("b", "blurred")]


def test_hashes_count_where_a_file_has_them(start, restored, tmp_path):
    content = json.loads(start("former", "blurred").read_text())
    for case in content["cases"]:
        del case["kernel_sha256"], case["sharp_sha256"]
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(content))
    for case in content["cases"]:
        case["sharp_sha256"] = "another"
    new.write_text(json.dumps(content))
    restored.clear()
    start("by_the_rest", "blurred", reuse=old)
    assert restored == []
    start("by_all", "blurred", reuse=new)
    assert restored == [(name, "blurred") for name in NAMES]


def test_other_weights_are_not_taken_for_the_same(triplets, tmp_path, random_model, restored):
    path = tmp_path / "m.safetensors"
    common = [
        *("--triplets", str(triplets), "--margin", str(MARGIN), "--sheet", "0"),
        *("--methods", "blurred", "--models", f"m={path}"),
    ]
    gx.save_model(random_model, path)
    evaluate.main([*common, "--output", str(tmp_path / "former")])
    basis = gx.Basis(random_model.constants.left, -random_model.constants.right)
    gx.save_model(replace(random_model, constants=basis), path, overwrite=True)
    restored.clear()
    reuse = ["--reuse", str(tmp_path / "former")]
    evaluate.main([*common, "--output", str(tmp_path / "new"), *reuse])
    assert restored == [(name, "m") for name in NAMES]


def test_several_files(start, restored, tmp_path):
    wiener = "wiener:noise_to_signal=0.01"
    first, second = start("first", "blurred"), start("second", "blurred", wiener)
    start("other", "blurred", margin=8)  # passed over
    restored.clear()
    new = start("new", "blurred", wiener, reuse=tmp_path)
    assert restored == []
    assert read_results(new).reused == {"blurred": 3, wiener: 3}
    content = json.loads(second.read_text())
    content["records"][0]["psnr"] += 1e-6  # another machine
    second.write_text(json.dumps(content))
    assert read_results(start("newer", "blurred", reuse=tmp_path)).reused == {"blurred": 3}
    content["records"][0]["psnr"] += 0.5
    second.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=r"(?s)second.*first.*different scores of blurred on a"):
        start("newest", "blurred", reuse=tmp_path)
    assert first.exists()


def test_a_killed_run_knows_what_it_took_over(start, restored, monkeypatch):
    wiener = "wiener:noise_to_signal=0.01"
    former = start("former", "blurred")
    counted = evaluate.restore_timed

    def killed(*_, **__):
        raise Killed

    monkeypatch.setattr(evaluate, "restore_timed", killed)
    with pytest.raises(Killed):
        start("new", "blurred", wiener, reuse=former)
    monkeypatch.setattr(evaluate, "restore_timed", counted)
    restored.clear()
    assert read_results(start("new", "blurred", wiener)).reused == {"blurred": 1}
    assert restored == [("a", wiener), ("b", "blurred"), ("b", wiener), ("c", "blurred"),
                        ("c", wiener)]  # fmt: skip


def test_what_does_not_fit_is_refused(start, tmp_path):
    former = start("former", "blurred")
    with pytest.raises(SystemExit, match=r"former.*margin was 10 and is 8"):
        start("new", "blurred", reuse=former, margin=8)
    with pytest.raises(SystemExit, match=r"former.*its methods.* are others"):
        start("new", "wiener", reuse=former)
    with pytest.raises(SystemExit, match="nowhere"):
        start("new", "blurred", reuse="nowhere")
    for bad in ("x", {"blurred": "x"}, None, {"blurred": 4}, {"blurred": 0}, {"wiener": 1}):
        content = json.loads(former.read_text()) | {"reused": bad}
        damaged = tmp_path / "damaged.json"
        damaged.write_text(json.dumps(content))
        with pytest.raises(SystemExit, match=r"damaged\.json is not a whole results.json"):
            start("new", "blurred", reuse=damaged)
    assert not (tmp_path / "new").exists()
