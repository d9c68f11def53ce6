"""The results of an evaluation, and the file that holds all of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments.evaluation.method_specs import LINEAR, method_title
from experiments.evaluation.scores import Record, corrections
from glra_jax.input_files import check_is_file

FORMAT = "glra_jax-evaluation-1"
# Methods by their names in older files; labels begin with them.
_FORMER_NAMES = {"eq8": LINEAR}
SHEET = "sheet.png"
NAMES = ("results.json", "results.csv", "results.md", SHEET)
_NUMBER, _NAME = (int, float), (str, type(None))
_LEVEL = (*_NUMBER, type(None))  # none where the noise is a camera's
_CONFIG = {
    "data": str, "kernel": _NAME, "protocol": str, "noise": _LEVEL, "seed": int, "margin": int,
    "subtract": _NUMBER, "methods": list, "triplets": _NAME, "dataset": _NAME, "split": _NAME,
}  # fmt: skip
_CASE = {"image": str, "photograph": _NAME, "family": _NAME}
_METHOD = {"label": str, "kind": str, "leak": str, "sha256": _NAME}
_RECORD = {
    "image": str, "method": str, "correction": str, "psnr": _NUMBER, "ssim": _NUMBER,
    "ssim_volume": _NUMBER, "seconds": _NUMBER,
}  # fmt: skip


@dataclass(frozen=True)
class Results:
    """An evaluation.

    Attributes:
      config: all that it depends on.
      machine: what its times belong to.
      cases: what is known of every image: its photograph, its kernel's family, its factor, its
        noise where that is its own, its size
        and its kernel's, and the hashes of both and of the truth, by which two evaluations can be
        compared.
      records: the scores.
      failures: image, method and error of every restoration that failed.
      reused: of how many images the scores, and the times, were taken over from earlier
        evaluations, by label; methods of which none were are left out.
    """

    config: dict[str, Any]
    machine: dict[str, Any]
    cases: list[dict[str, Any]]
    records: list[Record]
    failures: list[dict[str, str]] = field(default_factory=list)
    reused: dict[str, int] = field(default_factory=dict)

    @property
    def photographs(self) -> dict[str, str]:
        """The photograph of every image; the image itself in older files, which do not say."""
        return {case["image"]: case.get("photograph") or case["image"] for case in self.cases}

    @property
    def titles(self) -> dict[str, str]:
        """Names of the methods in tables, by label."""
        methods = self.config["methods"]
        return {
            method["label"]: method_title(method["label"], method["kind"]) for method in methods
        }

    @property
    def failed(self) -> dict[str, int]:
        """Number of images that a method failed on, by label; without those that never did."""
        labels = [failure["method"] for failure in self.failures]
        return {label: labels.count(label) for label in dict.fromkeys(labels)}

    @property
    def comparable(self) -> list[Record]:
        """The scores of the methods that restored every image: their means compare."""
        failed = self.failed
        return [record for record in self.records if record.method not in failed]


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Raises FileExistsError if a folder has results in it that may not be replaced."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose another --output")
    found = [name for name in NAMES if (folder / name).exists()]
    if found and not overwrite:
        raise FileExistsError(
            f"{folder} holds {', '.join(found)}; choose another --output or allow --overwrite"
        )


def format_json(results: Results) -> str:
    """Everything, as `read_results` takes it."""
    return json.dumps({"format": FORMAT, **asdict(results)}, indent=1, ensure_ascii=False) + "\n"


def find_results(paths: Sequence[Path]) -> list[Path]:
    """Files of results: those given, and all `results.json` in and below the folders given.

    Raises:
      FileNotFoundError: a path that does not exist, or a folder without results.
    """
    found: list[Path] = []
    for path in paths:
        here = sorted(path.rglob("results.json")) if path.is_dir() else [path]
        if not here or not path.exists():
            raise FileNotFoundError(f"{path} is not a results.json, nor a folder that holds any")
        known = {file.resolve() for file in found}
        found += [file for file in here if file.resolve() not in known]
    return found


def read_results(path: Path) -> Results:
    """Reads a results.json.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file that is truncated, of another kind, or lacks scores or settings.
    """
    check_is_file(path)
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        content = _with_current_names(content)
        records = [Record(**record) for record in content["records"]]
        results = Results(
            _with_dataset(content["config"]),
            content["machine"],
            content["cases"],
            records,
            content["failures"],
            content["reused"],
        )
        _check_kinds("config", results.config, _CONFIG)
        for method in results.config["methods"]:
            _check_kinds("a method in config", {"sha256": None, **method}, _METHOD)
        for record in content["records"]:
            _check_kinds("a record", record, _RECORD)
        for case in results.cases:
            _check_kinds("a case", {"photograph": None, "family": None, **case}, _CASE)
        _check_reused(results)
        _check_scores(results)
    except RecursionError as error:
        raise ValueError(
            f"{path} is not a whole results.json of an evaluation: it is nested too deep"
        ) from error
    except KeyError as error:
        raise ValueError(
            f"{path} is not a whole results.json of an evaluation: it lacks {error}"
        ) from error
    except (AttributeError, IndexError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a whole results.json of an evaluation: {error}") from error
    return results


def _check_kinds(name: str, found: dict[str, Any], kinds: dict[str, Any]) -> None:
    """Raises ValueError unless every value is there, and of its kind."""
    if missing := [key for key in kinds if key not in found]:
        raise ValueError(f"{name} lacks {', '.join(map(repr, missing))}; evaluate anew")
    for key, kind in kinds.items():
        value = found[key]
        bad_number = kind in (_NUMBER, _LEVEL) and (isinstance(value, bool) or value != value)
        if bad_number or not isinstance(value, kind):
            raise ValueError(f"{name}: {key} is {value!r}; evaluate anew")


def _with_current_names(content: dict[str, Any]) -> dict[str, Any]:
    """Renames the methods of an older file that have another name now."""
    labels = {}
    methods = []
    for method in content["config"]["methods"]:
        name = _FORMER_NAMES.get(method["kind"])
        if name is not None:
            labels[method["label"]] = method["label"].replace(method["kind"], name, 1)
            method = {**method, "label": labels[method["label"]], "kind": name}
        methods.append(method)

    def renamed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [line | {"method": labels.get(line["method"], line["method"])} for line in lines]

    reused = content.get("reused", {})
    if isinstance(reused, dict):
        reused = {labels.get(label, label): count for label, count in reused.items()}
    return {
        **content,
        "config": {**content["config"], "methods": methods},
        "records": renamed(content["records"]),
        "failures": renamed(content.get("failures", [])),
        "reused": reused,
    }


def _with_dataset(config: dict[str, Any]) -> dict[str, Any]:
    """Adds dataset and split to the settings of older files, which have an option a dataset."""
    if "dataset" in config or not {"triplets", "bsds500", "images"} <= set(config):
        return config
    if config["triplets"]:
        dataset, split = None, None
    elif config["bsds500"]:
        dataset, split = "bsds500", config["bsds500"]
    else:
        dataset, split = ("folder", "all") if config["images"] else ("embedded", "test")
    return config | {"dataset": dataset, "split": split}


def _check_reused(results: Results) -> None:
    """Raises ValueError unless scores of known methods were taken over, of 1 to all images."""
    if not isinstance(results.reused, dict):
        raise ValueError(f"reused is {results.reused!r}; evaluate anew")
    labels = {method["label"] for method in results.config["methods"]}
    for label, count in results.reused.items():
        whole = isinstance(count, int) and 0 < count <= len(results.cases)
        if label not in labels or not whole:
            raise ValueError(f"reused: {label!r} is {count!r}; evaluate anew")


def _check_scores(results: Results) -> None:
    """Raises ValueError unless every method has every score of every image, once."""
    failed = {(failure["image"], failure["method"]) for failure in results.failures}
    expected = {
        (case["image"], method["label"], correction)
        for case in results.cases
        for method in results.config["methods"]
        for correction in corrections(case["gain"], 0.0)
        if (case["image"], method["label"]) not in failed
    }
    found = [(record.image, record.method, record.correction) for record in results.records]
    if missing := sorted(expected - set(found)):
        image, method, correction = missing[0]
        raise ValueError(
            f"{len(missing)} of {len(expected)} scores are missing, among them that of {method} on "
            f"{image}, {correction}; evaluate anew"
        )
    if len(found) != len(expected):
        raise ValueError(f"{len(found)} scores for {len(expected)} that there can be")
