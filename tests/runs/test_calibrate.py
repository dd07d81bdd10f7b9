"""`dlsys-bench calibrate` in processes: every finished run is stored once, whatever is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from command_line import enter, invoke
from listening_sockets import listening
from started_processes import end_processes_of

from dlsys_bench.data import load
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import ClusterError, ClusterWarning
from dlsys_bench.extras import missing
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import run
from dlsys_bench.runs.store import Store, read
from dlsys_bench.runs.store.owner import Owner
from dlsys_bench.studies.registry import find

MINE = '''
import os
import signal
import time
from pathlib import Path
from types import MappingProxyType

from dlsys_bench.spec.layers import Dense, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies import Arm, Study

HERE = Path(__file__).parent
SMALL = Model("small", (28, 28, 1), (Flatten(), Dense(10)))
ARMS = Study("arms", "two", "mine", "digits", tuple(
    Arm(name, SMALL, {"quick": Recipe(SGD(rate), batch_size=64, steps=20)})
    for name, rate in (("b", 0.1), ("a", 0.2))))

def train(seed):
    """Half a training that says when it begins."""
    with (HERE / "log.txt").open("a") as log:
        log.write(f"{seed}\\n")
    time.sleep(0.2)
    return {"accuracy": 0.9 + seed / 1000}

def broken(seed):
    raise RuntimeError(f"no data for seed {seed}")

def slow(seed):
    train(seed)
    time.sleep(60)

class OddError(Exception):
    def __init__(self, one, two):
        super().__init__("made of two")

def troubled(seed):
    """One seed ends its worker three times, one always, one raises what cannot be sent."""
    deaths = HERE / "deaths.txt"
    if seed == 5 or (seed == 2 and len(deaths.read_text()) < 3):
        if seed == 2:
            deaths.write_text(deaths.read_text() + "x")
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 3:
        raise OddError(1, 2)
    return train(seed)
'''

LIMITED = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.argv[0] = "dlsys-bench"
runpy.run_module("dlsys_bench", run_name="__main__")
"""

# Permission bits do not bind root, unless it gives up the two capabilities that pass them over.
BOUND = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "dlsys_bench", *sys.argv[1:]])
"""


STARTED: list[subprocess.Popen[str]] = []
"""The commands that the test has started."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with trainings. What a test has started ends with it, also if it fails."""
    (tmp_path / "mine.py").write_text(MINE)
    try:
        yield tmp_path
    finally:
        end_processes_of(tmp_path)
        while STARTED:
            process = STARTED.pop()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def start(
    folder: Path,
    *arguments: str,
    how: tuple[str, ...] = ("-m", "dlsys_bench"),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[str]:
    # In a group of its own, which a signal can be sent to as a terminal does.
    process = subprocess.Popen(
        [sys.executable, *how, "calibrate", *arguments],
        cwd=folder,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), "DLSYS_BENCH_DATA": ""}
        | dict(environment),
    )
    STARTED.append(process)
    return process


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """Return its output on stderr, after checking that it contains no traceback."""
    out, said = process.communicate(timeout=900)
    assert process.returncode == code, out + said
    assert "Traceback" not in said
    return said


def call(
    folder: Path, *arguments: str, code: int = 0, how: tuple[str, ...] = ("-m", "dlsys_bench")
) -> str:
    return ended(start(folder, *arguments, how=how), code)


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def begun(folder: Path) -> Counter[int]:
    """Return how often the training of each seed has started."""
    log = folder / "log.txt"
    return Counter(map(int, log.read_text().split())) if log.exists() else Counter()


def stored(folder: Path) -> list[int]:
    """Return the seeds in the store, of every attempt."""
    path = folder / "reports" / "runs.db"
    if not path.exists():
        return []
    with Store(path) as store:
        return [run.seed for run in store.runs(every=True)]


def in_reference(folder: Path, name: str = "mine.train") -> list[int]:
    return [run.seed for run in read(folder / "reports" / "reference" / f"{name}.jsonl")]


def figures(result: Result) -> tuple[object, ...]:
    history = [
        (epoch.running_loss, epoch.train_loss, epoch.test_loss, epoch.test_accuracy)
        for epoch in result.history
    ]
    return (result.key.arm, result.seed, result.key.protocol, history)


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_workers(folder: Path) -> None:
    target = "regularization/fashion/ffn"
    for workers in ("1", "2"):
        call(
            folder,
            target,
            "--dataset",
            "digits",
            "--seeds",
            "2",
            "--workers",
            workers,
            "--store",
            f"{workers}.db",
            "--output",
            f"{workers}.jsonl",
        )
    one, two = (
        sorted(read(folder / f"{name}.db"), key=lambda run: run.seed) for name in ("1", "2")
    )
    assert [run.seed for run in one] == [0, 1]
    assert list(map(figures, one)) == list(map(figures, two))
    assert list(map(figures, read(folder / "1.jsonl"))) == list(map(figures, one))
    (case,) = find(target)
    path = folder / "here.db"
    with Store(path) as store:
        for seed in (0, 1):
            store.add(run(case, create("numpy"), load("digits"), tier="quick", seed=seed))
    assert list(map(figures, read(path))) == list(map(figures, one))


@pytest.mark.slow
def test_reference_file_is_in_the_order_of_the_arms(
    folder: Path,
) -> None:
    said = call(folder, "mine:ARMS", "--seeds", "3", "--workers", "1")
    with Store(folder / "reports" / "runs.db") as store:
        assert [(run.seed, run.key.arm) for run in store.runs()] == [
            (seed, arm) for seed in range(3) for arm in "ba"
        ]
    path = folder / "reports" / "reference" / "arms.digits.quick.jsonl"
    assert [(run.key.arm, run.seed) for run in read(path)] == [
        (arm, seed) for arm in "ba" for seed in range(3)
    ]
    assert "6 requested, 6 trained" in said
    assert "reports/reference/arms.digits.quick.jsonl: 6 new runs" in said
    assert ", 3 reference runs: 3 reference runs and at most 12 seeds are too few for a" in said
    assert "next: dlsys-bench gate mine:ARMS --engine numpy --device cpu --tier quick\n" in said
    # The reference file alone shows which runs exist, without the database.
    (folder / "reports" / "runs.db").unlink()
    before = path.read_bytes()
    assert "6 requested, 6 already stored, 0 trained" in call(folder, "mine:ARMS", "--seeds", "3")
    assert path.read_bytes() == before
    assert "6 requested, 6 trained" in call(
        folder, "mine:ARMS", "--seeds", "3", "--no-resume", "--no-reference"
    )
    assert path.read_bytes() == before


def test_failed_workers_and_trainings_do_not_affect_other_runs(folder: Path) -> None:
    (folder / "deaths.txt").touch()
    process = start(folder, "mine:troubled", "--seeds", "8", "--workers", "2", "--json")
    out, said = process.communicate(timeout=900)
    assert process.returncode == 2
    assert "failed: mine:troubled, seed 3: OddError: made of two" in said
    assert "failed: mine:troubled, seed 5: every worker that trained it died" in said
    found = json.loads(out)
    assert (found["trained"], found["failed"]) == (6, 2)
    assert {(failure["seed"], "OddError" in failure["trace"]) for failure in found["failures"]} == {
        (3, True),
        (5, False),
    }
    assert (folder / "deaths.txt").read_text() == "xxx"
    assert sorted(stored(folder)) == in_reference(folder, "mine.troubled") == [0, 1, 2, 4, 6, 7]


def test_a_training_that_always_fails_is_given_up(folder: Path) -> None:
    process = start(folder, "mine:broken", "--seeds", "20", "--workers", "1")
    out, said = process.communicate(timeout=900)
    assert process.returncode == 2, said
    assert said.count("Traceback") == said.count('raise RuntimeError(f"no data') == 1
    failed = [line for line in said.splitlines() if line.startswith("failed: ")]
    assert failed == [
        f"failed: mine:broken, seed {seed}: RuntimeError: no data for seed {seed}"
        for seed in range(3)
    ]
    assert "20 requested, 0 trained, 4 failed, 16 given up" in said
    assert out == ""
    files = {file.name for file in folder.rglob("*") if file.is_file()}
    assert {name for name in files if not name.endswith(".pyc")} == {"mine.py"}


def test_local_workers_accept_no_connections(folder: Path) -> None:
    process = start(folder, "mine:train", "--seeds", "8", "--workers", "2")
    found, looks = list[str](), 0
    while process.poll() is None:
        found += listening(process.pid)
        looks += len(begun(folder)) > 0
        time.sleep(0.05)
    assert looks > 2
    assert found == []
    assert in_reference(folder) == list(range(8))


def test_listening_sockets_are_found(tmp_path: Path) -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        assert listening(os.getpid()) == []
        tcp.bind(("127.0.0.1", 0))
        unix.bind(str(tmp_path / "unix"))
        tcp.listen()
        unix.listen()
        assert len(listening(os.getpid())) == 2


@contextmanager
def cluster(
    folder: Path, workers: int = 2, certificates: Sequence[str] = ()
) -> Iterator[tuple[str, subprocess.Popen[bytes], list[subprocess.Popen[bytes]]]]:
    """Start a scheduler and workers on this machine; return its address and the processes."""
    if error := missing("cluster"):
        pytest.skip(str(error))
    file, processes = folder / "scheduler.json", list[subprocess.Popen[bytes]]()
    common = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *arguments]
        processes.append(subprocess.Popen(command, **common))  # type: ignore[call-overload]
        return processes[-1]

    local = ("--host", "127.0.0.1", "--no-dashboard", *certificates)
    try:
        scheduler = begin(
            "distributed.cli.dask_scheduler",
            *local,
            "--port",
            "0",
            "--scheduler-file",
            str(file),
            *(("--protocol", "tls") if certificates else ()),
        )
        until(lambda: file.exists() and file.read_text().endswith("}"))
        address = json.loads(file.read_text())["address"]
        made = [
            begin("distributed.cli.dask_worker", address, *local, "--nthreads", "1", "--no-nanny")
            for _ in range(workers)
        ]
        yield address, scheduler, made
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_cluster_survives_a_lost_worker_and_a_lost_scheduler_can_be_resumed(
    folder: Path,
) -> None:
    arguments = ("mine:train", "--seeds", "20", "--resume")
    with cluster(folder) as (address, scheduler, workers):
        process = start(folder, *arguments, "--cluster", address)
        until(lambda: len(stored(folder)) > 2)
        workers[0].kill()
        until(lambda: len(stored(folder)) > 6)
        scheduler.kill()
        killed = time.monotonic()
        said = ended(process, 2)
        assert time.monotonic() - killed < 20
    assert said.count("\n") == 2
    assert "does not authenticate its clients" in said.splitlines()[0]
    kept = stored(folder)
    assert f"no longer answers; this command stored {len(kept)} runs in reports/runs.db" in said
    assert "--resume" in said
    assert f"20 requested, {len(kept)} already stored, {20 - len(kept)} trained" in call(
        folder, *arguments
    )
    assert sorted(stored(folder)) == in_reference(folder) == list(range(20))
    # What was in flight is made again, and nothing else.
    assert sum(begun(folder).values()) <= 20 + 1 + 2 * 2
    said = call(folder, "mine:train", "--seeds", "25", "--cluster", "nothing://x", code=2)
    assert "cannot use the cluster at nothing://x" in said


@pytest.mark.slow
def test_cluster_with_certificates(folder: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    request += ["-subj", "/CN=localhost", "-keyout", key, "-out", certificate]
    subprocess.run(request, check=True, capture_output=True)
    files = {"ca-file": certificate, "cert": certificate, "key": key}
    options = [text for name, file in files.items() for text in (f"--tls-{name}", file)]
    with cluster(folder, 1, options) as (address, _, _):
        assert address.startswith("tls://")
        tls = "DASK_DISTRIBUTED__COMM__TLS__"
        environment = {
            f"{tls}CA_FILE": certificate,
            f"{tls}CLIENT__CERT": certificate,
            f"{tls}CLIENT__KEY": key,
        }
        arguments = ("mine:train", "--seeds", "2", "--cluster", address)
        said = ended(start(folder, *arguments), 2)
        assert f"cannot use the cluster at {address}: " in said
        said = ended(start(folder, *arguments, environment=environment))
        assert "2 requested, 2 trained" in said
        assert "authenticate" not in said
    assert in_reference(folder) == [0, 1]


@pytest.mark.slow
def test_only_clusters_without_certificates_are_warned_of() -> None:
    cluster = pytest.importorskip("dlsys_bench.runs.calibration.cluster")
    assert cluster.is_authenticated("tls://10.0.0.1:8786")
    for address in ("tcp://10.0.0.1:8786", "10.0.0.1:8786", "ucx://10.0.0.1:8786"):
        assert not cluster.is_authenticated(address)
    with (
        pytest.warns(ClusterWarning, match="tcp://127.0.0.1:1 does not authenticate its clients"),
        pytest.raises(ClusterError, match="cannot use the cluster at tcp://127.0.0.1:1"),
        cluster.cluster_workers("tcp://127.0.0.1:1", "cpu"),
    ):
        pass


@pytest.mark.slow
def test_scheduler_lost_with_all_runs_in_flight_is_reported(folder: Path) -> None:
    with cluster(folder, 1) as (address, scheduler, _):
        process = start(folder, "mine:slow", "--seeds", "2", "--cluster", address)
        until(lambda: len(begun(folder)) > 0)
        scheduler.kill()
        killed = time.monotonic()
        assert "no longer answers; this command stored 0 runs" in ended(process, 2)
        assert time.monotonic() - killed < 20
    with Store(folder / "reports" / "runs.db") as store:
        assert store.reservations() == {}


@pytest.mark.usefixtures("heard_interrupts")
@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_killed_command_resumes(folder: Path, how: signal.Signals) -> None:
    arguments = ("mine:train", "--seeds", "12", "--workers", "2", "--resume")
    process = start(folder, *arguments)
    until(lambda: len(stored(folder)) > 3)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
        assert (
            ended(process, 130).strip() == "dlsys-bench: interrupted; "
            "every run that had finished is kept, and --resume uses it"
        )
    else:
        process.kill()
        process.communicate()
    kept = len(stored(folder))
    assert kept < 12
    assert f"12 requested, {kept} already stored, {12 - kept} trained" in call(folder, *arguments)
    assert sorted(stored(folder)) == in_reference(folder) == list(range(12))
    assert sum(begun(folder).values()) <= 12 + 2 * 2


@pytest.mark.slow
def test_two_commands_share_the_work(folder: Path) -> None:
    arguments = ("mine:train", "--seeds", "20", "--workers", "2", "--resume")
    processes = [start(folder, *arguments) for _ in range(2)]
    said = [ended(process) for process in processes]
    assert sorted(stored(folder)) == in_reference(folder) == list(range(20))
    assert begun(folder) == Counter(range(20)), (
        "a run that another command had taken on was trained"
    )
    assert all("20 requested" in line for line in said)


def test_reservations_of_a_killed_command_are_taken_over(folder: Path) -> None:
    arguments = ("mine:train", "--seeds", "12", "--workers", "1", "--resume")
    first, second = start(folder, *arguments), start(folder, *arguments)
    until(lambda: len(stored(folder)) > 2)
    first.kill()
    first.communicate()
    assert "12 requested" in ended(second)
    assert sorted(stored(folder)) == in_reference(folder) == list(range(12))


@pytest.mark.slow
def test_command_waits_for_runs_of_another_host(folder: Path) -> None:
    call(folder, "mine:train", "--seeds", "1", "--workers", "1")
    path = folder / "reports" / "runs.db"
    with Store(path) as store:
        (key,) = store.keys()
        assert store.reserve(replace(key, seed=1), Owner("elsewhere", 7, 0.0))
    process = start(folder, "mine:train", "--seeds", "3", "--workers", "1", "--resume")
    assert process.stderr is not None
    said = process.stderr.readline()
    assert "waiting for 1 run reserved by process 7 on elsewhere" in said
    assert said.strip().endswith("dlsys-bench runs release --store reports/runs.db")
    release = [sys.executable, "-m", "dlsys_bench", "runs", "release"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        release, cwd=folder, capture_output=True, text=True, check=True, env=environment
    )
    assert "1 run released, of elsewhere" in done.stderr
    ended(process)
    assert sorted(stored(folder)) == in_reference(folder) == [0, 1, 2]


@pytest.mark.slow
def test_full_disk_stops_the_command_and_keeps_its_runs(folder: Path) -> None:
    arguments = ("mine:train", "--seeds", "24", "--workers", "2", "--resume")
    said = call(folder, *arguments, code=2, how=("-c", LIMITED))
    assert "cannot write results to reports/runs.db" in said
    assert "the runs written before are kept" in said
    kept = len(stored(folder))
    assert 0 < kept < 24
    assert f"{kept} already stored" in call(folder, *arguments)
    assert sorted(stored(folder)) == in_reference(folder) == list(range(24))
    assert sum(begun(folder).values()) <= 24 + 1 + 2 * 2


@pytest.mark.slow
def test_unwritable_folder_is_reported_before_training(folder: Path) -> None:
    call(folder, "mine:train", "--seeds", "2", "--workers", "1")
    for place in (folder / "reports", folder / "reports" / "reference"):
        files = [place, *(file for file in place.iterdir() if file.is_file())]
        for file in files:
            file.chmod(0o555 if file.is_dir() else 0o444)
        said = call(
            folder, "mine:train", "--seeds", "4", "--workers", "1", code=2, how=("-c", BOUND)
        )
        assert said.startswith("dlsys-bench: cannot write results to reports/")
        assert said.count("\n") == 1
        for file in files:
            file.chmod(0o755 if file.is_dir() else 0o644)
    assert begun(folder) == Counter(range(2))
    assert sorted(stored(folder)) == in_reference(folder) == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mine:tarin",), 'did you mean "train"?'),
        (("mine:HERE",), "expected a callable of a seed"),
        (("regularisation",), 'did you mean "regularization"?'),
        (
            ("mine:train", "--no-reference", "--output", "x.jsonl"),
            "--output is the file of reference runs",
        ),
        (("mine:ARMS", "--tier", "full"), "has no tier 'full'"),
    ],
)
def test_mistakes_are_reported_in_one_line(
    folder: Path, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(folder, monkeypatch)
    found = invoke("calibrate", *arguments, code=2).stderr
    assert said in found
    assert found.count("\n") == 1
    assert not (folder / "reports").exists()
