"""Worker processes of a calibration are all ended, whatever happens to one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from dlsys_bench.errors import ClusterError
from dlsys_bench.runs.calibration import jobs_of_training, local
from dlsys_bench.runs.calibration.local import LocalWorkers, local_workers
from dlsys_bench.runs.result import Result


def test_a_worker_that_cannot_be_killed_does_not_keep_the_others_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "SECONDS_TO_END", 0.1)
    workers = LocalWorkers()
    workers.start(2)
    stubborn, other = (each._process for each in workers._processes)
    kill = stubborn.kill

    def refuse() -> Any:
        raise PermissionError("no")

    monkeypatch.setattr(stubborn, "kill", refuse)
    with pytest.raises(ClusterError, match="cannot end a worker process: no"):
        workers.kill()
    assert not other.is_alive()
    assert not other.daemon
    kill()
    stubborn.join()


FAMILY = """
import subprocess, sys
from multiprocessing import Pool
from pathlib import Path

LINUX = sys.platform == "linux"

def square(number):
    return number * number

def train(seed):
    with Pool(2) as pool:
        total = sum(pool.map(square, range(4)))
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    # One that is left in the group of the worker after its parent has ended, and one that is not.
    orphan = f"import subprocess; print(subprocess.Popen({sleep}, stdout=2).pid)"
    printed = subprocess.run([sys.executable, "-c", orphan], stdout=subprocess.PIPE, check=True)
    own = subprocess.Popen(sleep, start_new_session=True)
    # One that has left both the group and its parent, as a daemon does.
    daemon = orphan.replace("stdout=2", "stdout=2, start_new_session=True")
    left = subprocess.run([sys.executable, "-c", daemon], stdout=subprocess.PIPE, check=True)
    pids = [*printed.stdout.split(), own.pid, *(left.stdout.split() if LINUX else [])]
    Path("pids.txt").write_text(" ".join(str(int(pid)) for pid in pids))
    return total
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups")
def test_a_training_may_start_processes_which_end_with_the_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "family.py").write_text(FAMILY)
    pids: list[int] = []
    request.addfinalizer(lambda: _kill(pids))
    with local_workers(1) as workers:
        workers.submit(jobs_of_training("family:train", range(1))[0])
        ended: list[Any] = []
        while not ended:
            workers.wait(1.0)
            ended += [found for _, found in workers.collect()]
        pids += map(int, (tmp_path / "pids.txt").read_text().split())
        assert [psutil.pid_exists(pid) for pid in pids] == [True] * len(pids)
    assert isinstance(ended[0], Result), ended
    assert ended[0].figures == {"metric": 14.0}
    _, living = psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], 30)
    assert not [process for process in living if process.status() != psutil.STATUS_ZOMBIE]


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(psutil.Error):
            psutil.Process(pid).kill()
