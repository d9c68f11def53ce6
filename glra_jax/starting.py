"""Ctrl-C while a program of this project is still being imported: one line, and no traceback.

Importing takes seconds, and no program is there yet to say that it was stopped. This holds only
where Python was started for such a program: whoever imports the library finds signals as they were.
"""

import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130  # as shells have it: 128 and the number of the signal
_SCRIPT = "glra-jax"
_PACKAGES = ("glra_jax", "experiments")


def _is_program() -> bool:
    """Tells whether Python was started for a program of this project."""
    started = sys.argv[0] if sys.argv else ""
    if started == "-m":  # until the module is found, which is after its package is imported
        _, _, rest = " ".join(sys.orig_argv).partition(" -m ")
        return rest.split(" ")[0].split(".")[0] in _PACKAGES
    return os.path.splitext(os.path.basename(started))[0].removesuffix("-script") == _SCRIPT


def _stop(number: int, frame: FrameType | None) -> None:
    """Ends the process at once: what is half imported would raise anything, and nothing is done."""
    del number, frame
    os.write(2, b"stopped\n")
    os._exit(_INTERRUPTED)


def over() -> None:
    """Gives Ctrl-C back its usual meaning; from here on the program says that it was stopped."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if _is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)
