"""Keeping back what C libraries write to the error stream."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_STDERR = 2


class _Held:
    """How many threads hold the stream back, and what it was before the first of them."""

    lock = threading.Lock()
    count = 0
    before: int | None = None


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """Holds back what is written to the error stream by its number, in all threads, meanwhile.

    Python's own `sys.stderr` goes the same way. Where there is no such stream, nothing is done.
    """
    with _Held.lock:
        if _Held.count == 0:
            _Held.before = _redirect()
        _Held.count += 1
    try:
        yield
    finally:
        with _Held.lock:
            _Held.count -= 1
            if _Held.count == 0 and _Held.before is not None:
                _flush()
                os.dup2(_Held.before, _STDERR)
                os.close(_Held.before)
                _Held.before = None


def _redirect() -> int | None:
    """Leads the stream to nowhere; returns where it led to."""
    try:
        _flush()
        before = os.dup(_STDERR)
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except OSError:  # closed, as services may have it
        return None
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
    return before


def _flush() -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
