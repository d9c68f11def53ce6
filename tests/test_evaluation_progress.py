"""Evaluations that were stopped, or where restorations failed, go on."""

import json

import numpy as np
import pytest

from experiments import evaluate
from experiments.evaluation.methods import Method
from experiments.evaluation.results import read_results
from experiments.evaluation.triplets import triplet_cases

MARGIN = 10


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


def timeless(path):
    """A results.json without its times."""
    content = json.loads(path.read_text())
    for row in content["records"]:
        del row["seconds"]
    return content


@pytest.fixture
def arguments(triplets):
    return ["--triplets", str(triplets), "--margin", str(MARGIN), "--sheet", "2",
            "--methods", "blurred", "wiener:noise_to_signal=0.01", "--models"]  # fmt: skip


@pytest.fixture
def restored(monkeypatch):
    """The names of what is restored; a number in `stop` kills the run before that one."""
    done, stop = [], []
    original = evaluate.restore_timed

    def restore(method, case, *, compiled):
        if stop and len(done) == stop[0]:
            raise Killed
        done.append((case.name, method.kind))
        return original(method, case, compiled=compiled)

    monkeypatch.setattr(evaluate, "restore_timed", restore)
    return done, stop


def test_goes_on_where_it_stopped(arguments, restored, tmp_path, capsys):
    done, stop = restored
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    evaluate.main([*arguments, "--output", str(whole)])
    everything = list(done)
    assert len(everything) == 6
    done.clear()
    for stop[:] in ([1], [4]):
        with pytest.raises(Killed):
            evaluate.main([*arguments, "--output", str(parts)])
    assert [path.name for path in parts.iterdir()] == ["unfinished"]
    assert len((parts / "unfinished" / "records.jsonl").read_text().splitlines()) == 5
    with (parts / "unfinished" / "records.jsonl").open("a") as file:
        file.write('{"image": "c", "method": "blu')  # killed in the middle of a line
    stop.clear()
    evaluate.main([*arguments, "--output", str(parts)])
    assert "where 4 restorations are scored" in capsys.readouterr().out
    assert done == everything  # nothing twice
    assert sorted(path.name for path in parts.iterdir()) == [
        "results.csv", "results.json", "results.md", "sheet.png",
    ]  # fmt: skip
    assert timeless(parts / "results.json") == timeless(whole / "results.json")
    assert (parts / "sheet.png").read_bytes() == (whole / "sheet.png").read_bytes()


def stop_after(count, arguments, restored):
    restored[1][:] = [count]
    with pytest.raises(Killed):
        evaluate.main(arguments)
    restored[1].clear()


def test_a_folder_of_that_name_that_is_not_its_own_is_left_alone(arguments, tmp_path):
    notes = tmp_path / "out" / "unfinished" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    (tmp_path / "out" / "results.md").write_text("mine too")
    arguments = [*arguments, "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=r"holds results\.md; choose another"):
        evaluate.main(arguments)
    records = notes.parent / "records.jsonl"
    for text in ("[1]\n", '"config"\n', "my own notes"):
        records.write_text(text)
        with pytest.raises(SystemExit, match=r"holds results\.md; choose another"):
            evaluate.main(arguments)
    with pytest.raises(SystemExit, match=r"records\.jsonl is not of an evaluation"):
        evaluate.main([*arguments, "--overwrite"])
    assert records.read_text() == "my own notes"
    assert notes.read_text() == "mine"
    assert (tmp_path / "out" / "results.md").read_text() == "mine too"


def test_a_file_in_place_of_its_folder(arguments, tmp_path):
    (tmp_path / "unfinished").write_text("mine")
    with pytest.raises(SystemExit, match=r"unfinished is a file.*choose another --output"):
        evaluate.main([*arguments, "--output", str(tmp_path)])
    assert (tmp_path / "unfinished").read_text() == "mine"


def test_other_files_in_its_folder_stay(arguments, restored, tmp_path):
    arguments = [*arguments, "--output", str(tmp_path / "out")]
    stop_after(3, arguments, restored)
    folder = tmp_path / "out" / "unfinished"
    (folder / "notes.txt").write_text("mine")
    (folder / f".{'0' * 64}.npy.abc").write_bytes(b"half written")
    evaluate.main(arguments)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    evaluate.main([*arguments, "--overwrite"])
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_another_configuration_is_refused(arguments, restored, tmp_path):
    arguments = [*arguments, "--output", str(tmp_path / "out")]
    stop_after(3, arguments, restored)
    kept = (tmp_path / "out" / "unfinished" / "records.jsonl").read_bytes()
    with pytest.raises(SystemExit, match=r"margin was 10 and is 12; .*remove .*unfinished"):
        evaluate.main([*arguments, "--margin", "12"])
    other = ["wiener:noise_to_signal=0.1" if "wiener" in a else a for a in arguments]
    with pytest.raises(SystemExit, match=r"were blurred, .*=0\.01 and are blurred, .*=0\.1;"):
        evaluate.main([*other, "--overwrite"])
    assert (tmp_path / "out" / "unfinished" / "records.jsonl").read_bytes() == kept


def test_another_image_of_the_name_is_refused(arguments, restored, triplets, tmp_path):
    arguments = [*arguments, "--output", str(tmp_path / "out")]
    stop_after(3, arguments, restored)
    (triplets / "a_batch.png").write_bytes((triplets / "b_batch.png").read_bytes())
    with pytest.raises(SystemExit, match=r"a is not the image that .* has scores of"):
        evaluate.main(arguments)


def test_damaged(arguments, restored, tmp_path):
    arguments = [*arguments, "--output", str(tmp_path / "out")]
    stop_after(3, arguments, restored)
    path = tmp_path / "out" / "unfinished" / "records.jsonl"
    path.write_text(path.read_text().replace('"image"', '"imag', 1))
    with pytest.raises(SystemExit, match=r"records\.jsonl is damaged .*to start anew"):
        evaluate.main(arguments)


def test_killed_while_it_wrote_the_results(arguments, restored, monkeypatch, tmp_path):
    arguments = [*arguments, "--output", str(tmp_path / "out")]

    def write(*_, **__):
        (tmp_path / "out" / "results.csv").write_text("half")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "write_results", write)
        with pytest.raises(Killed):
            evaluate.main(arguments)
    evaluate.main(arguments)
    assert len(restored[0]) == 6
    assert len(read_results(tmp_path / "out" / "results.json").records) == 18
    assert (tmp_path / "out" / "results.csv").read_text() != "half"


def test_a_failure_costs_no_other_record(arguments, monkeypatch, triplets, tmp_path):
    where = tmp_path / "out"
    arguments = [*arguments, "--output", str(where)]
    original, fails = evaluate.collect, [True]
    third = triplet_cases(triplets)[2].make().blurred

    def collect_failing(*args, **options):
        blurred, wiener = original(*args, **options)

        def restore(y, kernel):
            if fails and np.array_equal(y, third):
                return np.full_like(y, np.nan)
            return wiener.restore(y, kernel)

        broken = Method("broken", "tv", lambda y, k: 1 // 0, {})
        failing = Method(wiener.label, "wiener", restore, {})
        return [failing, *([broken] if fails else []), blurred]

    monkeypatch.setattr(evaluate, "collect", collect_failing)
    message = (
        r"4 of 9 restorations failed.*broken on a: .*by zero.*"
        r"wiener:noise_to_signal=0\.01 on c: .*7920 NaN"
    )
    with pytest.raises(SystemExit, match=message):
        evaluate.main(arguments)
    results = read_results(where / "results.json")
    assert len(results.records) == 3 * (2 + 3)
    assert results.failed == {"broken": 3, "wiener:noise_to_signal=0.01": 1}
    assert {record.method for record in results.comparable} == {"blurred"}
    text = (where / "results.md").read_text()
    assert "| wiener:noise_to_signal=0.01 |  | failed on 1 of 3 images |" in text
    assert "broken failed on b: integer division" in text
    assert (where / "sheet.png").exists()
    fails.clear()  # without the broken method it is another evaluation
    with pytest.raises(SystemExit, match=r"the methods were .*broken"):
        evaluate.main([*arguments, "--overwrite"])


def test_failures_are_tried_again(arguments, monkeypatch, restored, tmp_path):
    where = tmp_path / "out"
    arguments = [*arguments, "--output", str(where)]
    whole = evaluate.restore_timed

    def fail(method, case, *, compiled):
        if (case.name, method.kind) == ("b", "wiener"):
            raise RuntimeError("out of memory\ndetails")
        return whole(method, case, compiled=compiled)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "restore_timed", fail)
        with pytest.raises(SystemExit, match=r"1 of 6 .* on b: out of memory\. The same"):
            evaluate.main(arguments)
    assert len(restored[0]) == 5
    evaluate.main([*arguments, "--overwrite"])
    assert restored[0][5:] == [("b", "wiener")]
    assert read_results(where / "results.json").failures == []
    assert not (where / "unfinished").exists()
