"""Scores of earlier evaluations, so that what was restored before need not be restored again.

Whether a program, or a library that it uses, has changed since is not looked at.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.evaluation.results import Results, find_results, read_results
from experiments.evaluation.scores import Record

# What a score depends on besides the image, its kernel and the method.
_SETTINGS = ("data", "kernel", "protocol", "noise", "seed", "margin", "subtract")
# By these, and its name, an image is told to be the same; triplets with another truth or kernel
# have another factor too, which is fitted to them.
_OF_AN_IMAGE = ("blurred_sha256", "gain", "shape", "kernel")
_HASHES = ("sharp_sha256", "kernel_sha256")  # older files do not have these
_TOLERANCE = 1e-3  # of scores of the same on two machines, dB
# What may differ in the descriptions of methods that restore alike; files have their hashes.
_OF_A_RUN = ("leak", "random_start", "shipped", "source", "basis_of")

_Key = tuple[str, str, str]


class Earlier:
    """Scores found in results.json files."""

    def __init__(self, paths: Sequence[Path], config: dict[str, Any]) -> None:
        """Reads them.

        Args:
          paths: results.json files, or folders that hold some; those that have nothing of this
            evaluation are passed over.
          config: of the evaluation that asks.

        Raises:
          FileNotFoundError: no such file, or none in a folder.
          ValueError: a file that is not a whole results.json; two that have different scores of
            the same; or none that has any of this evaluation.
        """
        self._methods = {method["label"]: _plain(method) for method in config["methods"]}
        self._found: dict[_Key, list[Record]] = {}
        self._hashes: dict[_Key, dict[str, str]] = {}
        sources: dict[_Key, Path] = {}
        reasons = []
        for path in find_results(paths):
            results = read_results(path)
            former = results.config
            if differ := [key for key in _SETTINGS if former[key] != config[key]]:
                first = differ[0]
                reasons.append(f"{path}: {first} was {former[first]!r} and is {config[first]!r}")
                continue
            found = self._scores(results)
            if not found:
                reasons.append(f"{path}: its methods, their options or files, or images are others")
            for key, records in found.items():
                if _differ(self._found.get(key, records), records):
                    raise ValueError(
                        f"--reuse: {path} and {sources[key]} have different scores of {key[1]} on "
                        f"{key[0]}; give one of the two"
                    )
                self._found.setdefault(key, records)
                sources.setdefault(key, path)
        if reasons and not self._found:
            more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            raise ValueError(
                f"--reuse: nothing there is of this evaluation: {'; '.join(reasons[:3])}{more}"
            )

    def find(self, about: dict[str, Any], label: str) -> list[Record] | None:
        """Scores of a method, every correction of them.

        Args:
          about: what is recorded of the image, see `Results.cases`.
          label: of the method.

        Returns:
          The scores, or None if the same method did not restore the very same image.
        """
        key = (about["image"], label, _fingerprint(about))
        former = self._hashes.get(key, {})
        if any(former[name] != about[name] for name in _HASHES if name in former):
            return None
        return self._found.get(key)

    def _scores(self, results: Results) -> dict[_Key, list[Record]]:
        """Scores of the methods that are the same now."""
        former = {method["label"]: _plain(method) for method in results.config["methods"]}
        same = {label for label, about in former.items() if self._methods.get(label) == about}
        cases = {
            case["image"]: case
            for case in results.cases
            if all(key in case for key in _OF_AN_IMAGE)
        }
        found: dict[_Key, list[Record]] = {}
        for record in results.records:
            if record.method in same and record.image in cases:
                case = cases[record.image]
                key = (record.image, record.method, _fingerprint(case))
                self._hashes.setdefault(key, {name: case[name] for name in _HASHES if name in case})
                found.setdefault(key, []).append(record)
        return found


def _fingerprint(about: dict[str, Any]) -> str:
    return json.dumps([about[key] for key in _OF_AN_IMAGE])


def _plain(method: dict[str, Any]) -> dict[str, Any]:
    about = json.loads(json.dumps(method))  # tuples are lists in a file
    return {key: value for key, value in about.items() if key not in _OF_A_RUN}


def _differ(some: list[Record], others: list[Record]) -> bool:
    return any(
        abs(getattr(a, score) - getattr(b, score)) > _TOLERANCE
        for a, b in zip(some, others, strict=True)
        for score in ("psnr", "ssim", "ssim_volume")
    )
