"""How far the work on many files has come, and how long the rest will take."""

import sys
from typing import Any

# Files are counted by their bytes, which go with the pixels in them.
_FORMAT = "{desc} |{bar}| {percentage:3.0f} %, {elapsed} gone, {remaining} left"


class Progress:
    """A bar on a terminal's error stream; lines that are printed do not break it.

    Args:
      sizes: of all files.
    """

    def __init__(self, sizes: list[int]) -> None:
        from tqdm import tqdm

        self._count, self._started = len(sizes), 0
        # Without a terminal no bar, which would be lines in a log.
        self._bar: Any = tqdm(total=sum(sizes), bar_format=_FORMAT, disable=None, file=sys.stderr)

    def start(self, name: str) -> str:
        """Shows the file that is begun; returns which of how many it is."""
        self._started += 1
        place = f"{self._started} of {self._count}"
        self._bar.set_description_str(f"{place}, {name}")
        return place

    def done(self, size: int, *, worked: bool) -> None:
        """Counts a file; one that took no work says nothing of how long the others take."""
        if worked:
            self._bar.update(size)
        elif self._bar.total is not None:
            self._bar.total -= size
            self._bar.refresh()

    def say(self, text: str) -> None:
        """Prints a line."""
        self._bar.write(text, file=sys.stdout)

    def complain(self, text: str) -> None:
        """Prints a line on the error stream."""
        self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()
