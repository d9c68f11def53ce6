"""Scores of an unfinished evaluation, so that the same command resumes it.

The folder `unfinished` in the output folder holds `records.jsonl`: the configuration in its first
line, then a line for every image and method, written as soon as it is scored; and the restored
images that go on the sheet. They are removed when all is done.
"""

import hashlib
import io
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluation.cases import Case
from experiments.evaluation.scores import Record
from glra_jax.atomic_files import write_atomically
from glra_jax.input_files import check_is_file
from glra_jax.numpy_files import read_array

FOLDER = "unfinished"
_RECORDS = "records.jsonl"
# The images are named by a hash; a write that was killed leaves a hidden file of a longer name.
_OUR_IMAGES = re.compile(r"\.?[0-9a-f]{64}\.npy.*|\.[0-9a-f]{16}\.[0-9a-f]{16}\.tmp")


def was_interrupted(output: Path) -> bool:
    """Tells whether a run ended before all its results were written; results.json is the last."""
    records = output / FOLDER / _RECORDS
    if (output / "results.json").exists() or not records.is_file():
        return False
    with records.open("rb") as file:
        try:
            first = json.loads(file.readline())
        except (RecursionError, ValueError):  # not ours
            return False
    return isinstance(first, dict) and "config" in first


@dataclass(frozen=True)
class Scored:
    """One image restored by one method.

    Attributes:
      records: its scores, a record for each correction.
      image: the scored part, clipped to [0, 1], if it goes on the sheet.
      reused: whether the scores were taken over from an earlier evaluation.
    """

    records: list[Record]
    image: np.ndarray | None
    reused: bool = False


class Progress:
    """Scores that are written as they are made, and read by the next run."""

    def __init__(self, output: Path, config: dict[str, Any]) -> None:
        """Starts, or resumes what is in the output folder.

        Args:
          output: folder of the evaluation; made if it is not there.
          config: all that the scores depend on but the images; plain values.

        Raises:
          FileExistsError: a file of that name is not an evaluation's.
          ValueError: another configuration's scores are there, or a file that is damaged.
        """
        self._folder = output / FOLDER
        self._path = self._folder / _RECORDS
        if self._folder.exists() and not self._folder.is_dir():
            raise FileExistsError(
                f"{self._folder} is a file, and an evaluation keeps its scores in a folder of that "
                f"name; choose another --output, or move it away"
            )
        self._scored: dict[tuple[str, str], dict[str, Any]] = {}
        config = json.loads(json.dumps(config))
        whole = self._read(config) if self._path.exists() else 0
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab")
        self._file.truncate(whole)  # a line that was cut off when the run was killed
        if not whole:
            self._write({"config": config})

    def __len__(self) -> int:
        """Number of scored restorations."""
        return len(self._scored)

    def find(self, case: Case, method: str, *, with_image: bool) -> Scored | None:
        """Looks up an earlier score.

        Args:
          case: as it is now.
          method: label.
          with_image: whether the restored image is needed too.

        Returns:
          The scores; None if there are none, or the image is needed and was not kept.

        Raises:
          ValueError: the case was another one when it was scored.
        """
        line = self._scored.get((case.name, method))
        if line is None:
            return None
        if line["case_sha256"] != _hash_case(case):
            raise ValueError(
                f"{case.name} is not the image that {self._path} has scores of; take the former "
                f"images, choose another --output, or remove {self._folder} to start anew"
            )
        image = None
        if with_image:
            path = self._image_path(case.name, method)
            if not path.exists():
                return None
            image = read_array(path)
        records = [Record(**record) for record in line["records"]]
        return Scored(records, image, line.get("reused", False))

    def add(self, case: Case, method: str, scored: Scored) -> None:
        """Keeps scores, and the image if there is one."""
        if scored.image is not None:
            buffer = io.BytesIO()
            np.save(buffer, scored.image)
            path = self._image_path(case.name, method)
            write_atomically(path, buffer.getvalue(), overwrite=True)
        line = {
            "image": case.name,
            "method": method,
            "case_sha256": _hash_case(case),
            "records": [asdict(record) for record in scored.records],
            "reused": scored.reused,
        }
        self._write(line)
        self._scored[case.name, method] = line

    def close(self) -> None:
        """Closes the file; what was scored stays."""
        self._file.close()

    def remove(self) -> None:
        """Closes and removes what was kept; other files in the folder stay."""
        self.close()
        for path in self._folder.iterdir():
            if _OUR_IMAGES.fullmatch(path.name):
                path.unlink()
        self._path.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(_format_line(line))
        self._file.flush()

    def _read(self, config: dict[str, Any]) -> int:
        """Reads the lines that are whole; returns how many bytes they have."""
        check_is_file(self._path)
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if not whole and not _format_line({"config": config}).startswith(content):
            raise FileExistsError(
                f"{self._path} is not of an evaluation, which would keep its scores there; choose "
                f"another --output, or move it away"
            )
        try:
            lines = [json.loads(line) for line in content[:whole].splitlines()]
            former = lines[0]["config"] if lines else config
            for line in lines[1:]:
                _check_line(line)
            self._scored = {(line["image"], line["method"]): line for line in lines[1:]}
            changed = [
                _describe(key, former, config)
                for key in {**former, **config}
                if former.get(key) != config.get(key)
            ]
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self._path} is damaged ({error}); remove {self._folder} to start anew"
            ) from error
        if changed:
            raise ValueError(
                f"{self._folder} holds the scores of an unfinished evaluation of another "
                f"configuration: {', '.join(changed)}; give "
                f"that command again to finish it, choose another --output, or remove "
                f"{self._folder} to start anew"
            )
        return whole

    def _image_path(self, name: str, method: str) -> Path:
        return self._folder / (hashlib.sha256(f"{name}\n{method}".encode()).hexdigest() + ".npy")


def _check_line(line: dict[str, Any]) -> None:
    """Raises unless a line is of scores."""
    if not isinstance(line["case_sha256"], str) or not isinstance(line["records"], list):
        raise TypeError("a line without scores")
    for record in line["records"]:
        found = Record(**record)
        for value in (found.psnr, found.ssim, found.ssim_volume, found.seconds):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"a score is {value!r}")


def _format_line(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _describe(key: str, former: dict[str, Any], config: dict[str, Any]) -> str:
    if key != "methods":
        return f"{key} was {former.get(key)!r} and is {config.get(key)!r}"
    labels = [[method["label"] for method in which["methods"]] for which in (former, config)]
    if labels[0] != labels[1]:
        return f"the methods were {', '.join(labels[0])} and are {', '.join(labels[1])}"
    differ = [a["label"] for a, b in zip(former[key], config[key], strict=True) if a != b]
    return f"options, file or leak of {', '.join(differ)} changed"


def _hash_case(case: Case) -> str:
    digest = hashlib.sha256()
    for array in (case.blurred, case.sharp, case.kernel):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
