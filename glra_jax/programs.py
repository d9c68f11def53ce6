"""What all programs share: one line for every mistake, and status lines that do no harm.

Status lines go to whatever the standard output is: one that knows ASCII only, or a pipe whose other
end is closed. The work goes on.
"""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

from PIL import Image

from glra_jax import starting

# What is of the user's making: files, values, extras that are missing, sizes that memory lacks.
MISTAKES = (
    *(OSError, ValueError, ImportError, MemoryError, OverflowError, RecursionError),
    Image.DecompressionBombError,
)
_LONGEST_LINE = 2000
_INTERRUPTED = 130  # as shells have it: 128 and the number of the signal


@contextlib.contextmanager
def program(name: str, *, hint: str = "", also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Runs a program's work; what goes wrong is said in one line on the error stream.

    Args:
      name: what the line begins with.
      hint: what to say when the user stops the program.
      also: what else counts as a mistake of the user's.

    Raises:
      SystemExit: with status 1 for a mistake, 130 where the user stopped the program.
    """
    starting.over()
    output = sys.stdout
    mistakes: tuple[type[Exception], ...] = (*MISTAKES, *also)
    try:
        with contextlib.redirect_stdout(_Tolerant(output)):
            yield
    except mistakes as error:
        said = str(error) or type(error).__name__
        raise SystemExit(one_line(f"{name}: {said}")) from error
    except KeyboardInterrupt:
        print(one_line(f"{name}: stopped" + f"; {hint}" * bool(hint)), file=sys.stderr)
        raise SystemExit(_INTERRUPTED) from None


def one_line(text: str) -> str:
    """One line of printable characters, cut in its middle if it is very long.

    Names of files may hold anything: what a terminal would obey is written as Python writes it.
    """
    text = re.sub(r"\s*[\r\n]+\s*", " ", text.strip())
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if len(text) > _LONGEST_LINE:
        half = _LONGEST_LINE // 2
        text = f"{text[:half]} … {text[-half:]}"
    return text


class _Tolerant(io.TextIOBase):
    """A stream whose writing never fails for its encoding, or because nobody reads it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._closed = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not self._closed:
            shown = "".join(c if c.isprintable() or c in "\n\t\r" else repr(c)[1:-1] for c in text)
            shown = shown.encode(self.encoding, "backslashreplace").decode(self.encoding, "replace")
            with self._unread():
                self._stream.write(shown)
                if "\n" in shown:
                    self._stream.flush()
        return len(text)

    def flush(self) -> None:
        if not self._closed:
            with self._unread():
                self._stream.flush()

    @contextlib.contextmanager
    def _unread(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # a closed pipe, a full disk, a closed stream
            self._closed = True
            # What the stream still holds would be written, and fail, when Python ends.
            with contextlib.suppress(Exception):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
