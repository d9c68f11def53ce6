"""The malformed files: which reader gets which damage, drawn from a seed."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from experiments.reliability.damage import BYTES, NODES
from experiments.reliability.readers import Reader

_NODE_SHARE, _CRAFTED_SHARE, _OTHER_SHARE = 0.08, 0.25, 0.05


@dataclass(frozen=True)
class Case:
    """A malformed file.

    Attributes:
      number: of the case.
      reader: what reads it.
      damage: in words.
      place: makes it at a path.
    """

    number: int
    reader: Reader
    damage: str
    place: "partial[None]"

    def make(self, folder: Path) -> Path:
        """Makes it in a folder, which is made too."""
        path = folder / self.reader.file
        path.parent.mkdir(parents=True)
        self.place(path)
        return path


class Cases:
    """Malformed files without end, the same for the same seed and readers."""

    def __init__(self, readers: list[Reader], seed: int) -> None:
        self._readers, self._seed = readers, seed
        self._good: list[bytes] = []
        with tempfile.TemporaryDirectory() as folder:
            for index, reader in enumerate(readers):
                path = Path(folder) / str(index) / reader.file
                path.parent.mkdir(parents=True)
                reader.write(path)
                self._good.append(path.read_bytes())

    def __iter__(self) -> Iterator[Case]:
        """All readers in turn."""
        number = 0
        while True:
            yield self.case(number)
            number += 1

    def case(self, number: int) -> Case:
        """The case of a number, which depends on no other one."""
        rng = np.random.default_rng([self._seed, number])
        index = number % len(self._readers)
        reader, good = self._readers[index], self._good[index]
        make = partial(Case, number, reader)
        chance = rng.random()
        if chance < _NODE_SHARE:
            name = str(rng.choice(list(NODES)))
            return make(name, partial(_node, name))
        chance -= _NODE_SHARE
        if chance < _CRAFTED_SHARE and reader.crafted:
            names = list(reader.crafted)
            name = names[int(rng.integers(len(names)))]
            content = reader.crafted[name]
            data = content if isinstance(content, bytes) else content()
            return make(f"made to harm: {name}", partial(_bytes, data))
        if chance > 1 - _NODE_SHARE - _OTHER_SHARE:
            other = int(rng.integers(len(self._readers)))
            if self._readers[other].read is not reader.read:
                words = f"what belongs to {self._readers[other].name}"
                return make(words, partial(_bytes, self._good[other]))
        name = str(rng.choice(list(BYTES)))
        return make(name, partial(_bytes, BYTES[name](good, rng)))


def _bytes(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def _node(name: str, path: Path) -> None:
    NODES[name](path)


def everything_in(folder: Path) -> dict[str, int]:
    """Sizes of all files below a folder, and -1 for all else, by path."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root) / name
            with contextlib.suppress(OSError):
                found[str(path)] = path.lstat().st_size if path.is_file() else -1
    return found
