"""Training in several processes: on loopback, each with virtual CPU devices."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from training_program_helpers import FOLDER, ROOT, TINY

from experiments.train import read_metrics
from experiments.training_runs import lock
from experiments.training_runs.options import parse
from experiments.training_runs.processes import Processes, ProcessesError, joined
from glra_jax.training.checkpoints import CheckpointError

WORD = "The same commands on all hosts resume from the last checkpoint"


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"coordinator": "host", "processes": 2, "process": 0}, "must be HOST:PORT, got 'host'"),
        ({"coordinator": "host:0", "processes": 2, "process": 0}, "HOST:PORT, got 'host:0'"),
        ({"coordinator": "host:99999", "processes": 2, "process": 0}, "got 'host:99999'"),
        ({"coordinator": "host:1234", "process": 0}, "host:1234 needs processes"),
        ({"coordinator": "host:1234", "processes": 2}, "host:1234 needs processes"),
        ({"coordinator": "host:1", "processes": 2, "process": 2}, "0 to 1, .* 2, got 2"),
        ({"coordinator": "host:1", "processes": 0, "process": 0}, "processes must be .* got 0"),
        ({"processes": 2}, "processes need coordinator"),
        ({"processes": 2, "process": 1}, "processes and process need coordinator"),
        ({"cluster": True, "processes": 2}, "cluster asks the cluster"),
    ],
)
def test_impossible_processes_are_refused_and_quoted(given, message):
    with pytest.raises(ValueError, match=message):
        Processes(**given)


def test_processes_are_options_of_the_program():
    options = parse(["--coordinator", "10.0.0.1:1234", "--processes", "3", "--process", "2"])
    assert options.hosts == Processes("10.0.0.1:1234", 3, 2)
    assert parse(["--cluster"]).hosts == Processes(cluster=True)
    assert parse([]).hosts == Processes()


def test_a_cluster_must_be_one_that_jax_knows(monkeypatch):
    def unknown(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", unknown)
    refused = pytest.raises(ProcessesError, match=r"no cluster .* give coordinator")
    with refused, joined(Processes(cluster=True)):
        pass


def test_a_process_that_does_not_see_the_work_directory_of_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "is_first", lambda: False)
    monkeypatch.setattr(lock, "_SEEN_SECONDS", 0.1)
    refused = pytest.raises(CheckpointError, match=r"does not see .*run.lock.*all hosts share")
    with refused, lock.only_run_in(tmp_path / "work"):
        pass
    assert not (tmp_path / "work").exists()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / lock.LOCK).touch()
    with lock.only_run_in(tmp_path / "work"):  # held by process 0, not by this one
        pass


# --- processes that meet -------------------------------------------------------------------------


def start(*command, devices=2):
    """Starts Python with so many virtual devices."""
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PLATFORMS": "cpu",
        "COLUMNS": "200",
    }
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends(*started, within=600):
    """What processes printed, and their exit statuses."""
    try:
        printed = [process.communicate(timeout=within) for process in started]
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return [
        (process.returncode, out, err) for process, (out, err) in zip(started, printed, strict=True)
    ]


def free_address():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def pair(*command, devices=2):
    """Starts two processes that meet, the options behind the command."""
    meet = ("--coordinator", free_address(), "--processes", "2", "--process")
    return [start(*command, *meet, str(index), devices=devices) for index in range(2)]


MEETING = """
import sys
import jax, jax.numpy as jnp, numpy as np
from experiments.training_runs import processes
from glra_jax.programs import program
from glra_jax.training.step import data_mesh, replicate

with processes.ended_at_once(), program("error"):
    with processes.joined(processes.Processes(sys.argv[2], int(sys.argv[4]), int(sys.argv[6]))):
        me = jax.process_index()
        assert processes.from_all(f"I am {me}") == ["I am 0", "I am 1"]
        assert jax.device_count() == 4, jax.devices()

        made = {"a": np.float32([1.5, -2e-30]), "n": np.int32(7)}
        like = jax.eval_shape(lambda: made)
        given = processes.from_first(lambda: made if me == 0 else 1 / 0, like)
        for name, values in made.items():
            assert given[name].dtype == values.dtype
            np.testing.assert_array_equal(given[name], values)

        mesh = data_mesh(4)
        everywhere = replicate(given, mesh)
        shared, whole = (jax.sharding.PartitionSpec(*names) for names in (["data"], []))
        part = lambda x, a: jax.lax.pmean(x.sum() * a, "data")
        specs = {"in_specs": (shared, whole), "out_specs": whole}
        mean = jax.shard_map(part, mesh=mesh, **specs, check_vma=False)
        found = jax.jit(lambda a: mean(jnp.arange(8.0), a))(everywhere["a"])
        np.testing.assert_allclose(found, 7 * made["a"], rtol=1e-6)

        processes.check_same("one run")
        try:
            processes.check_same(f"the run of {me}")
        except processes.ProcessesError as error:
            print("said:", error)

        def fail():
            if me == 1:
                raise OSError("the disk of process 1 is full")
        processes.together(fail)
"""


def test_processes_agree_and_fail_together():
    """The real thing but for training: what one says all hear, and what one lacks all refuse."""
    first, second = ends(*pair("-c", MEETING), within=120)
    assert first[0] == second[0] == 1, (first, second)
    assert first[2].strip().endswith("error: process 1 failed: the disk of process 1 is full")
    assert second[2].strip().endswith("error: the disk of process 1 is full")
    assert "said: process 1 has other options or photographs than process 0" in first[1]
    assert "said:" not in second[1]  # words are of process 0 alone
    assert WORD not in first[2] + second[2]


UNMET = """
import sys
from experiments.training_runs import processes
from glra_jax.programs import program

processes._MEETING_SECONDS = 1
with processes.ended_at_once(), program("error"):
    with processes.joined(processes.Processes(sys.argv[1], 2, int(sys.argv[2]))):
        pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("process", ["0", "1"])
def test_a_process_that_nobody_meets_says_so(process):
    address = free_address()
    [(status, _, err)] = ends(start("-c", UNMET, address, process))
    assert status != 0
    assert f"error: the processes did not meet at {address}; start all" in err


# --- training ------------------------------------------------------------------------------------

# Trains until process VICTIM has made STEP updates and is killed; without a victim, to the end.
DRIVER = """
import os, signal, sys
import jax
import experiments.train as program

victim, last, arguments = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]

def make_train_step(config, mesh, make=program.make_train_step, **options):
    inner = make(config, mesh, **options)
    def train_step(*given):
        new = jax.block_until_ready(inner(*given))
        if new[0].step == last and jax.process_index() == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return new
    return train_step

program.make_train_step = make_train_step
program.main(arguments)
"""


@pytest.fixture(scope="module")
def arguments(images, basis_cache):
    return [*TINY, "--batch", "4", *FOLDER, str(images)]


def program(arguments, folder, *more):
    return ["-m", "experiments.train", *arguments, "--workdir", str(folder), *more]


def killed(arguments, folder, victim, step):
    return ["-c", DRIVER, str(victim), str(step), *arguments, "--workdir", str(folder)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, arguments):
    """Work directories of one process with four devices and of two with two each; their words."""
    folder = tmp_path_factory.mktemp("undisturbed")
    [alone] = ends(start(*program(arguments, folder / "alone"), devices=4))
    both = ends(*pair(*program(arguments, folder / "both")))
    assert [alone[0], both[0][0], both[1][0]] == [0, 0, 0], (alone, both)
    return folder / "alone", folder / "both", both


def weights(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


def check_equal(folder, other, *, atol):
    for name, values in weights(other).items():
        np.testing.assert_allclose(weights(folder)[name], values, atol=atol, rtol=0, err_msg=name)


@pytest.mark.slow
def test_two_processes_train_as_one_with_as_many_devices(undisturbed):
    alone, both, words = undisturbed
    check_equal(both, alone, atol=1e-5)
    tables = [read_metrics(folder / "metrics.csv") for folder in (alone, both)]
    assert [row["step"] for row in tables[0]] == [row["step"] for row in tables[1]]
    for name in ("loss", "psnr"):
        found = [[float(row[name]) for row in table] for table in tables]
        np.testing.assert_allclose(*found, rtol=1e-5)
    names = [sorted(path.name for path in folder.iterdir()) for folder in (alone, both)]
    assert names[0] == names[1]
    (_, out, err), (_, silent, quiet) = words
    assert "4 of 4 cpu device(s)" in out
    assert "20/20" in err
    assert "device(s)" not in silent
    assert "20/20" not in quiet


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_killed_ends_the_other_and_the_run_resumes(
    undisturbed, arguments, tmp_path, victim
):
    _, both, _ = undisturbed
    started = pair(*killed(arguments, tmp_path / "run", victim, 13))
    other = started[1 - victim]
    started[victim].wait(timeout=300)
    began = time.monotonic()
    other.wait(timeout=120)
    assert time.monotonic() - began < 60
    words = ends(*started)
    assert words[victim][0] == -signal.SIGKILL
    assert words[1 - victim][0] != 0
    assert WORD in words[1 - victim][2]

    shutil.copytree(tmp_path / "run", tmp_path / "alone")
    again = ends(*pair(*program(arguments, tmp_path / "run")))
    assert [status for status, *_ in again] == [0, 0], again
    assert "step 10 of 20" in again[0][1]
    check_equal(tmp_path / "run", both, atol=0)

    [alone] = ends(start(*program(arguments, tmp_path / "alone"), devices=1))
    assert alone[0] == 0, alone
    assert "step 10 of 20" in alone[1]
    check_equal(tmp_path / "alone", both, atol=1e-5)


@pytest.mark.slow
def test_a_run_resumes_on_one_device_then_four_then_two(undisturbed, arguments, tmp_path):
    folder = tmp_path / "run"
    for devices, last in ((1, 7), (4, 13)):
        [done] = ends(start(*killed(arguments, folder, 0, last), devices=devices))
        assert done[0] == -signal.SIGKILL, done
    [done] = ends(start(*program(arguments, folder), devices=2))
    assert done[0] == 0, done
    assert "step 10 of 20" in done[1]
    check_equal(folder, undisturbed[0], atol=1e-5)


BROKEN = """
import sys
import jax
import experiments.train as program

class Log(program.MetricsLog):
    def write(self, step, metrics):
        if step == 8 and jax.process_index() == int(sys.argv[1]):
            raise OSError("no space left")
        return super().write(step, metrics)

program.MetricsLog = Log
program.main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("broken", [0, 1])
def test_an_error_in_one_process_ends_the_other(arguments, tmp_path, broken):
    folder = ("--workdir", str(tmp_path / "run"))
    words = ends(*pair("-c", BROKEN, str(broken), *arguments, *folder), within=120)
    assert words[broken][0] == 1
    assert words[broken][2].strip().endswith("error: no space left")
    assert words[1 - broken][0] != 0
    assert WORD in words[1 - broken][2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "seeds", "message"),
    [
        ("6", "00", "batch of 6 examples .* 4 devices in 2 processes; .* multiple of 4"),
        ("4", "01", "process 1 has other options or photographs than process 0"),
    ],
)
def test_what_processes_cannot_do_is_said_before_the_work(
    arguments, tmp_path, batch, seeds, message
):
    meet = ("--coordinator", free_address(), "--processes", "2", "--process")
    command = program(arguments, tmp_path / "run", "--batch", batch, *meet)
    started = [start(*command, str(i), "--seed", seed) for i, seed in enumerate(seeds)]
    for status, _, err in ends(*started):
        assert status == 1
        assert re.search(message, err.strip().splitlines()[-1]), err
    assert not (tmp_path / "run").exists()


# Trains, and says how many photographs this process has read.
COUNTING = """
import sys
import experiments.train as program
from glra_jax.datasets import streaming

read, count = streaming.read_photograph, []
streaming.read_photograph = lambda path: count.append(path) or read(path)
program.report = lambda *given: program.save_model(
    program.trained_model(given[0].config, *given[1:]), given[0].folder / "model.safetensors"
)
program.main(sys.argv[1:])
print(f"{len(count)} read", file=sys.stderr)
"""


@pytest.mark.slow
def test_processes_read_the_photographs_of_their_own_examples_alone(arguments, tmp_path):
    streamed = ["-c", COUNTING, *arguments, "--streaming", "--steps", "3", "--workdir"]
    [alone] = ends(start(*streamed, str(tmp_path / "alone"), devices=4))
    both = ends(*pair(*streamed, str(tmp_path / "both")))
    assert [alone[0], both[0][0], both[1][0]] == [0, 0, 0], (alone, both)
    assert "12 read" in alone[2]
    assert all(re.search(r"\b6 read", err) for _, _, err in both)
    assert "s for photographs" in both[0][1]
    check_equal(tmp_path / "both", tmp_path / "alone", atol=1e-5)
