"""Training that is asked to stop: by signals, once and twice, and in the middle of a run."""

import os
import signal
import threading

import pytest
from training_program_helpers import FOLDER, TINY

import experiments.train as program
from experiments.training_runs.stopping import stop_on_request


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_does_what_it_did_before(number, capsys):
    seen = []
    before = signal.signal(number, lambda *_: seen.append("earlier handler"))
    try:
        with stop_on_request() as stop:
            assert not stop.made
            os.kill(os.getpid(), number)
            assert stop.made
            assert seen == []
            assert "finishing this step and saving" in capsys.readouterr().out
            os.kill(os.getpid(), number)
            assert seen == ["earlier handler"]
        with stop_on_request() as stop:
            pass
        os.kill(os.getpid(), number)
        assert seen == ["earlier handler"] * 2
        assert not stop.made
    finally:
        signal.signal(number, before)


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_request() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop.made
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_signals_stay_as_they_are():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def run():
        with stop_on_request() as stop:
            seen.extend([stop.made, signal.getsignal(signal.SIGTERM) is before])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False, True]


@pytest.mark.usefixtures("basis_cache")
def test_a_run_that_is_asked_to_stop_finishes_its_step_and_saves(
    monkeypatch, tmp_path, images, capsys
):
    make, reports = program.make_train_step, []

    def make_train_step(*arguments, **options):
        inner = make(*arguments, **options)

        def train_step(*arguments):
            state, metrics = inner(*arguments)
            if state.step == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            return state, metrics

        return train_step

    monkeypatch.setattr(program, "make_train_step", make_train_step)
    monkeypatch.setattr(program, "report", lambda *_: reports.append(1))
    folder = tmp_path / "run"
    arguments = [*TINY, *FOLDER, str(images), "--steps", "9", "--workdir", str(folder)]
    program.main(arguments)
    assert "stopped at step 7 of 9; the same command resumes" in capsys.readouterr().out
    assert sorted(os.listdir(folder / "checkpoints")) == ["5", "7"]
    assert [int(row["step"]) for row in program.read_metrics(folder / "metrics.csv")][-1] == 7
    assert not reports
