"""One line for every mistake, and status lines that never end the work."""

import io
import os
import signal
import subprocess
import sys

import pytest

from glra_jax.programs import one_line, program


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("two\nlines\r\n\nthree", "two lines three"),
        ("name \x1b[31mred\x07", "name \\x1b[31mred\\x07"),
        ("tab\there \u202e rtl", "tab\\there \\u202e rtl"),
        ("\udcff of a name", "\\udcff of a name"),
        ("49×49 µ", "49×49 µ"),
    ],
)
def test_lines_hold_nothing_that_a_terminal_obeys(text, line):
    assert one_line(text) == line


def test_long_lines_keep_their_beginning_and_end():
    line = one_line("begin " + "x" * 200_000 + " end")
    assert len(line) < 2100
    assert line.startswith("begin x")
    assert line.endswith("x end")


@pytest.mark.parametrize(
    "error", [ValueError, OSError, ImportError, MemoryError, OverflowError, RecursionError]
)
def test_mistakes_are_one_line(error):
    with pytest.raises(SystemExit) as raised, program("name"):
        raise error("what\nwas wrong")
    assert raised.value.code == "name: what was wrong"
    with pytest.raises(SystemExit) as raised, program("name"):
        raise error
    assert raised.value.code == f"name: {error.__name__}"
    with pytest.raises(KeyError), program("name"):
        raise KeyError("a fault of the program")


def test_a_stop_is_one_line_and_the_status_of_shells(capsys):
    with pytest.raises(SystemExit) as raised, program("name", hint="run it again"):
        raise KeyboardInterrupt
    assert raised.value.code == 130
    assert capsys.readouterr().err == "name: stopped; run it again\n"


def test_status_lines_in_any_encoding(monkeypatch):
    for encoding, shown in (("ascii", b"3\\xd73 \\udcff\n"), ("utf-8", "3×3 \\udcff\n".encode())):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding, errors="strict"))
        with program("name"):
            print("3×3 \udcff")
        assert raw.getvalue() == shown


def test_a_closed_pipe_does_not_end_the_work(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    done = []
    with os.fdopen(write, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        with program("name"):
            for number in range(3):
                print("line", number)
                done.append(number)
        unread.flush()  # what Python does at its end
    assert done == [0, 1, 2]


def test_the_signal_of_a_terminal(capsys, request):
    # Programs that a shell starts in the background ignore it.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, former))
    with pytest.raises(SystemExit) as raised, program("name"):
        signal.raise_signal(signal.SIGINT)
    assert raised.value.code == 130
    assert capsys.readouterr().err == "name: stopped\n"


@pytest.mark.parametrize("module", ["experiments.tables", "glra_jax.cli"])
def test_a_stop_while_a_program_is_imported(module):
    command = [sys.executable, "-X", "importtime", "-m", module, "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = iter(process.stderr)
    assert any("glra_jax.starting" in line for line in lines)
    process.send_signal(signal.SIGINT)
    said = [line for line in lines if "import time:" not in line]
    assert process.wait() == 130
    assert said == ["stopped\n"]
    process.communicate()


def test_who_imports_the_library_finds_signals_as_they_were():
    script = "import signal, glra_jax, experiments; print(signal.getsignal(signal.SIGINT))"
    for command in (["-c", script], ["-c", script, "-m", "experiments.train"]):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
        assert "default_int_handler" in done.stdout
