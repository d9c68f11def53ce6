"""Files of results that are damaged are named, in an error that a program says in one line."""

import json

import pytest

from experiments.curves import read_run
from experiments.evaluation.progress import Progress, was_interrupted
from experiments.evaluation.results import read_results
from experiments.train import MetricsLog, read_metrics

HEAD = "step,loss,psnr,learning_rate,seconds\n"
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        '{"format": 1' + "0" * 400 + "}",
        "[]",
        '{"format": "glra_jax-evaluation-1", "config": 3}',
        '{"format": "glra_jax-evaluation-1", "config": {"methods": [3]}, "records": []}',
    ],
)
def test_results(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results\.json is not a whole results\.json") as caught:
        read_results(tmp_path / "results.json")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "row", ["1," + "2" * 200_000 + ",3,4,5\n", "one,2,3,4,5\n", "1,two,3,4,5\n", "1,2,3,4,x\n"]
)
def test_metrics(tmp_path, row):
    (tmp_path / "metrics.csv").write_text(HEAD + "1,2,3,4,5\n" + row)
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged .*move it away"):
        read_metrics(tmp_path / "metrics.csv")


def test_a_curve_without_its_columns(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"metrics\.csv is not a whole metrics\.csv"):
        read_run(tmp_path, points=3)


def test_metrics_are_rewritten_whole_and_follow_no_foreign_link(tmp_path):
    (tmp_path / "metrics.csv").write_text(HEAD + "1,2,3,4,5\n2,3,4,5,6\n3,4\n")
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "metrics.tmp").symlink_to("precious")
    with MetricsLog(tmp_path / "metrics.csv", first_step=1):
        pass
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [HEAD.strip(), "1,2,3,4,5"]
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize(
    "line",
    [
        {"image": "a", "method": "b"},
        {"image": "a", "method": "b", "case_sha256": "c", "records": [{"psnr": 1.0}]},
        {"image": "a", "method": "b", "case_sha256": "c", "records": {}},
        {"image": ["a"], "method": "b", "case_sha256": "c", "records": []},
        3,
    ],
)
def test_scores_of_an_unfinished_evaluation(tmp_path, line):
    folder = tmp_path / "unfinished"
    folder.mkdir()
    lines = [json.dumps({"config": {}}), json.dumps(line)]
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")
    assert was_interrupted(tmp_path)
    with pytest.raises(ValueError, match=r"records\.jsonl is damaged .*remove .* to start anew"):
        Progress(tmp_path, {})


def test_what_only_looks_like_an_unfinished_evaluation(tmp_path):
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "records.jsonl").write_text(DEEP)
    assert not was_interrupted(tmp_path)
