"""Scores of earlier evaluations, which need not be computed again.

Changes of programs and libraries since are not detected.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.evaluation.progress import Scored
from experiments.evaluation.results import Results, find_results, read_results
from experiments.evaluation.scores import Record

# What a score depends on besides the image, its kernel and the method.
_SETTINGS = ("data", "kernel", "protocol", "noise", "seed", "margin", "subtract", "camera")
# By these, and its name, an image is known to be the same; triplets with another truth or kernel
# have another factor too, which is fitted to them.
_OF_AN_IMAGE = ("blurred_sha256", "gain", "shape", "kernel")
_HASHES = ("sharp_sha256", "kernel_sha256")  # older files do not have these
_TOLERANCE = 1e-3  # of scores of the same on two machines, dB
# What may differ in the descriptions of methods that restore alike; files have their hashes.
_OF_A_RUN = ("leak", "random_start", "shipped", "source", "basis_of")


class _Known(NamedTuple):
    """Scores of an image by a method, what was recorded of the image, and the file."""

    case: dict[str, Any]
    records: list[Record]
    path: Path


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
        self._known: dict[tuple[str, str], list[_Known]] = {}
        reasons = []
        for path in find_results(paths):
            results = read_results(path)
            former = results.config
            if differ := [key for key in _SETTINGS if former.get(key) != config.get(key)]:
                first = differ[0]
                reasons.append(
                    f"{path}: {first} was {former.get(first)!r} and is {config.get(first)!r}"
                )
                continue
            if not self._add(results, path):
                reasons.append(f"{path}: its methods, their options or files, or images are others")
        if reasons and not self._known:
            more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            raise ValueError(
                f"--reuse: nothing there is of this evaluation: {'; '.join(reasons[:3])}{more}"
            )

    def find(self, about: dict[str, Any], label: str) -> Scored | None:
        """Scores of a method, every correction of them.

        Args:
          about: what is recorded of the image, see `Results.cases`.
          label: of the method.

        Returns:
          The scores, or None if the same method did not restore the very same image.
        """
        known = self._find(about, label)
        return None if known is None else Scored(known.records, None, reused=True)

    def _find(self, about: dict[str, Any], label: str) -> _Known | None:
        known = self._known.get((about["image"], label), [])
        return next((one for one in known if _same_image(one.case, about)), None)

    def _add(self, results: Results, path: Path) -> bool:
        """Adds the scores of methods that are the same now; tells whether there are any."""
        records: dict[tuple[str, str], list[Record]] = {}
        for record in results.records:
            records.setdefault((record.image, record.method), []).append(record)
        former = {method["label"]: _plain(method) for method in results.config["methods"]}
        same = [label for label, about in former.items() if self._methods.get(label) == about]
        cases = [case for case in results.cases if all(key in case for key in _OF_AN_IMAGE)]
        found = [
            (case, label, records[case["image"], label])
            for case in cases
            for label in same
            if (case["image"], label) in records
        ]
        for case, label, scores in found:
            known = self._find(case, label)
            if known is not None and _differ(known.records, scores):
                raise ValueError(
                    f"--reuse: {path} and {known.path} have different scores of {label} on "
                    f"{case['image']}; give one of the two"
                )
            self._known.setdefault((case["image"], label), []).append(_Known(case, scores, path))
        return bool(found)


def _same_image(former: dict[str, Any], about: dict[str, Any]) -> bool:
    hashes = [name for name in _HASHES if name in former and name in about]
    return all(former[key] == about[key] for key in (*_OF_AN_IMAGE, *hashes))


def _plain(method: dict[str, Any]) -> dict[str, Any]:
    about = json.loads(json.dumps(method))  # tuples are lists in a file
    return {key: value for key, value in about.items() if key not in _OF_A_RUN}


def _differ(some: list[Record], others: list[Record]) -> bool:
    return any(
        abs(getattr(a, score) - getattr(b, score)) > _TOLERANCE
        for a, b in zip(some, others, strict=True)
        for score in ("psnr", "ssim", "ssim_volume")
    )
