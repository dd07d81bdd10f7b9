"""Worker processes of a calibration are all ended, whatever happens to one."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from started_processes import processes_of

from dlsys_bench.errors import ClusterError
from dlsys_bench.runs.calibration import jobs_of_training, local
from dlsys_bench.runs.calibration.local import LocalWorkers, local_workers
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import read


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


PARALLEL = """
import numpy as np

def square(number):
    return number * number

def with_loader_workers(seed):
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    loader = DataLoader(
        TensorDataset(torch.arange(64.0)), batch_size=8, shuffle=True, num_workers=2
    )
    batches = [x for (x,) in loader]
    assert sorted(torch.cat(batches).tolist()) == list(range(64))
    return batches[0].mean()

def with_joblib(seed):
    from joblib import Parallel, delayed

    assert sum(Parallel(n_jobs=2)(delayed(square)(n) for n in range(4))) == 14
    return np.random.default_rng(seed).standard_normal()

def with_executor(seed):
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2) as pool:
        assert sum(pool.map(square, range(4))) == 14
    return np.random.default_rng(seed).standard_normal()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module"),
    [("with_loader_workers", "torch"), ("with_joblib", "joblib"), ("with_executor", "numpy")],
)
def test_trainings_that_work_in_parallel_are_calibrated_by_several_workers(
    name: str, module: str, tmp_path: Path
) -> None:
    pytest.importorskip(module, reason=f"pip install {module}")
    (tmp_path / "parallel.py").write_text(PARALLEL)
    command = [sys.executable, "-m", "dlsys_bench", "calibrate", f"parallel:{name}"]
    done = subprocess.run(
        [*command, "--seeds", "4", "--workers", "2", "--output", "runs.jsonl"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert "4 requested, 4 trained" in done.stderr
    assert len({run.figures["metric"] for run in read(tmp_path / "runs.jsonl")}) == 4
    assert not processes_of(tmp_path)
