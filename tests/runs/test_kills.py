"""Commands are killed at random moments: no stored run is lost, and nothing is left behind.

The moment is drawn anew in each test, and is part of the message of a failure: the number of runs
that were stored, and the seconds that had passed since then.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from started_processes import end_processes_of, processes_of

from dlsys_bench.runs.store import Store, is_text, read

TRIALS = 21
"""The trials of each command, with and without its process group: 126 in all."""

CODE = """
import time
from dlsys_bench.spec.layers import Dense, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies import Arm, Study

SMALL = Model("small", (28, 28, 1), (Flatten(), Dense(10)))
ARMS = Study("arms", "one", "mine", "digits", (
    Arm("a", SMALL, {"quick": Recipe(SGD(0.1), batch_size=64, steps=20)}),))

def train(seed):
    time.sleep(0.1)
    return {"accuracy": 0.9 + seed * 7919 % 1009 / 1e5}
"""


class Command(NamedTuple):
    """A command, the file of its runs, and the least number of runs that it stores."""

    arguments: str
    file: str
    runs: int


COMMANDS = {
    "run": Command("run killed:ARMS --seeds 8 --output runs.db --resume", "runs.db", 8),
    "gate": Command(
        "gate killed:train --reference reference.jsonl --output gate.jsonl", "gate.jsonl", 2
    ),
    "calibrate": Command(
        "calibrate killed:train --seeds 8 --workers 2 --resume --store store.db", "store.db", 8
    ),
}
FAST = ("calibrate", False, 0)
"""The trial of the fast tier."""

KILLS = [
    pytest.param(name, group, trial, marks=[pytest.mark.slow] * ((name, group, trial) != FAST))
    for name in COMMANDS
    for group in (False, True)
    for trial in range(TRIALS)
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "killed.py").write_text(CODE)
    accuracies = {seed: 0.9 + seed * 7919 % 1009 / 1e5 for seed in range(20)}
    lines = [REFERENCE.format(seed=seed, accuracy=value) for seed, value in accuracies.items()]
    (tmp_path / "reference.jsonl").write_text("".join(lines))
    try:
        yield tmp_path
    finally:
        end_processes_of(tmp_path)
        for process in STARTED:
            process.wait()
        STARTED.clear()


REFERENCE = (
    '{{"study": "killed:train", "arm": "", "dataset": "", "tier": "", "engine": "callable", '
    '"device": "", "dtype": "", "convention": "", "seed": {seed}, "protocol": "", "recipe": {{}}, '
    '"history": [], "seconds": 1.0, "figures": {{"accuracy": {accuracy}}}}}\n'
)

STARTED: list[subprocess.Popen[bytes]] = []


def start(folder: Path, command: Command) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "dlsys_bench", *command.arguments.split()],
        cwd=folder,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
    )
    STARTED.append(process)
    return process


def seeds(path: Path) -> list[int]:
    """Return the seeds in a file; a line that is not a run, or a damaged store, is an error."""
    if not path.exists():
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [run.seed for run in read(path)]


@pytest.mark.parametrize(("name", "group", "trial"), KILLS)
def test_a_killed_command_loses_no_stored_run_and_leaves_nothing_behind(
    folder: Path, name: str, group: bool, trial: int
) -> None:
    command, draw = COMMANDS[name], random.SystemRandom()
    runs, seconds = draw.randrange(command.runs), draw.uniform(0.0, 0.3)
    if trial % 3 == 0 and trial:
        # Before there is a run: while modules are imported, and files are created.
        runs, seconds = 0, draw.uniform(0.0, 3.0)
    moment = f"killed {seconds:.3f} s after {runs} runs were stored"
    path = folder / command.file
    process = start(folder, command)
    while len(seeds(path)) < runs and process.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    before = seeds(path)
    with suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while processes_of(folder):
        assert time.monotonic() < deadline, f"{moment}: a process was left behind"
        time.sleep(0.02)
    after = seeds(path)
    assert set(before) <= set(after), moment
    assert start(folder, command).wait(120) == 0, f"{moment}: the command could not be repeated"
    final = seeds(path)
    assert set(after) <= set(final), moment
    assert len(final) == len(set(final)) >= command.runs, moment
    assert [file.name for file in folder.rglob("*.lock")] == [], moment
    assert list(folder.rglob("*.damaged*")) == [], moment
    if not is_text(path):
        with Store(path) as store:
            assert store.reservations() == {}, moment
            assert len(store.runs(every=True)) == len(final), moment
