"""Ending a run on request: by Ctrl-C, or as clusters ask (SIGTERM)."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether the run has been asked to stop."""

    def __init__(self) -> None:
        self.made = False


@contextlib.contextmanager
def stop_on_request() -> Iterator[StopRequest]:
    """Notes the first SIGINT or SIGTERM instead of dying of it; a second one ends the program.

    A signal that is ignored, as Ctrl-C is in a shell's background, stays so. Outside the main
    thread, where Python has no signals, nothing is changed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        del number, frame
        request.made = True
        restore()
        print("\nfinishing this step and saving; once more stops at once", flush=True)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
