"""Scores of earlier evaluations, so that what was restored before need not be restored again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.evaluation.results import Results, find_results, read_results
from experiments.evaluation.scores import Record

# What a score depends on besides the image, its kernel and the method.
_SETTINGS = ("data", "kernel", "protocol", "noise", "seed", "margin", "subtract")
# What may differ in the description of a method that restores alike.
_OF_A_RUN = ("leak",)


class Earlier:
    """Scores found in results.json files.

    Attributes:
      used: the machine that measured the times, by the label of each method of which scores were
        taken over.
    """

    def __init__(self, paths: Sequence[Path], config: dict[str, Any]) -> None:
        """Reads them.

        Args:
          paths: results.json files, or folders that hold some.
          config: of the evaluation that asks.

        Raises:
          FileNotFoundError: no such file, or none in a folder.
          ValueError: a file that is not a whole results.json, or of which no method's scores are
            of this evaluation's settings.
        """
        self.used: dict[str, dict[str, Any]] = {}
        self._methods = {method["label"]: _plain(method) for method in config["methods"]}
        self._found: dict[tuple[str, str, str], tuple[list[Record], dict[str, Any]]] = {}
        for path in find_results(paths) if paths else ():
            results = read_results(path)
            self._check(path, results.config, config)
            self._add(results)

    def find(self, about: dict[str, Any], label: str) -> list[Record] | None:
        """Scores of a method, every correction of them.

        Args:
          about: what is recorded of the image, see `Results.cases`.
          label: of the method.

        Returns:
          The scores, or None if the same method did not restore the very same image.
        """
        found = self._found.get((about["image"], about["blurred_sha256"], label))
        if found is None:
            return None
        records, self.used[label] = found
        return records

    def _check(self, path: Path, former: dict[str, Any], config: dict[str, Any]) -> None:
        for key in _SETTINGS:
            if former[key] != config[key]:
                raise ValueError(
                    f"--reuse {path}: its {key} is {former[key]!r} and here it is {config[key]!r}, "
                    f"so that its scores are of something else; leave it out"
                )

    def _add(self, results: Results) -> None:
        """Takes in the scores of the methods that are the same now."""
        former = {method["label"]: _plain(method) for method in results.config["methods"]}
        same = {label for label, about in former.items() if self._methods.get(label) == about}
        hashes = {case["image"]: case.get("blurred_sha256") for case in results.cases}
        for record in results.records:
            digest = hashes[record.image]
            if digest is not None and record.method in same:
                machine = results.reused.get(record.method, results.machine)
                key = (record.image, digest, record.method)
                self._found.setdefault(key, ([], machine))[0].append(record)


def _plain(method: dict[str, Any]) -> dict[str, Any]:
    about = json.loads(json.dumps(method))  # tuples are lists in a file
    return {key: value for key, value in about.items() if key not in _OF_A_RUN}
