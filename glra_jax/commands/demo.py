"""Options of `glra-jax demo`, and its work: a page in the browser."""

import contextlib
import importlib.util
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glra_jax.model_files import DEFAULT_MODEL

_PORTS = 65535


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Opens a page in the browser to blur and restore photographs on.

    Nothing leaves this computer. Uploads and results are deleted when the program ends.

    Attributes:
      host: Address to listen on; 0.0.0.0 for all of this computer's, so that others, such as a
        phone, reach the page too.
      port: Port to listen on; the first free one from 7860 on if not given.
      browser: Whether to open the page in the browser.
      model: Model that the page begins with: a name or a model file.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    browser: bool = True
    model: str = DEFAULT_MODEL


def show_demo(options: Demo) -> None:
    """Serves the page until the user stops the program.

    Raises:
      ImportError: Gradio is missing.
      OSError: a port or a host that cannot be listened on, or no such model file.
      ValueError: a port that none can be, or an unknown model.
    """
    if options.port is not None and not 1 <= options.port <= _PORTS:
        raise ValueError(f"--port must be from 1 to {_PORTS}, got {options.port}")
    _check_gradio()
    _check_address(options)
    with _own_folder() as folder:
        from glra_jax.demo.restoring import model_named

        model_named(options.model)  # a wrong one is said at once: Gradio takes a while to import
        from glra_jax.demo.page import build, launched

        page = build(folder, model=options.model)
        with launched(page, options.host, options.port, browser=options.browser) as address:
            print(f"glra-jax demo: {address} (Ctrl-C to stop)")
            _wait_until_stopped()
    print("glra-jax demo: stopped; uploads and results are deleted", flush=True)
    # A photograph may still be in work in another thread, which Python's own end would crash in.
    os._exit(0)


def _wait_until_stopped() -> None:
    """Returns on Ctrl-C or SIGTERM, after which what was uploaded is deleted."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    while not stopped.wait(1.0):  # with a limit, or Windows hears no Ctrl-C
        pass


def _check_address(options: Demo) -> None:
    """Raises OSError for a host or a port that cannot be listened on; Gradio tries for long."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        socket.create_server((options.host, options.port or 0), family=family).close()
    except OSError as error:
        where = f"port {options.port} of {options.host}" if options.port else options.host
        raise OSError(
            f"{where} cannot be listened on ({error.strerror}); choose another by --port or --host"
        ) from error


def _check_gradio() -> None:
    """Raises ImportError unless Gradio is installed."""
    if importlib.util.find_spec("gradio") is None:
        raise ImportError(
            "the page needs Gradio, which comes with the extra demo: pip install 'glra-jax[demo]'"
        )


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """A folder for uploads and results, which Gradio is told of before it is imported."""
    with tempfile.TemporaryDirectory(prefix="glra-jax-demo-", ignore_cleanup_errors=True) as name:
        os.environ["GRADIO_TEMP_DIR"] = name
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        yield Path(name)
