"""Reservations: each run is trained by one living process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from results import make_result as result
from test_database import HERE, PRELUDE, python

from dlsys_bench.runs.store import Store
from dlsys_bench.runs.store.owner import Owner


def test_run_is_reserved_by_one_process_at_a_time(tmp_path: Path) -> None:
    path, key = tmp_path / "runs.db", result(1).key
    with Store(path) as store:
        assert store.reserve(key)
        assert store.reserve(key)
        assert python("print(Store(path).reserve(result(1).key))", path).stdout == "False\n"
        store.release(key)
        assert python("print(Store(path).reserve(result(1).key))", path).stdout == "True\n"
        # That process has ended: its reservation is nobody's.
        assert store.reserve(key)
        assert store.reservations() == {key: Owner.this()}
        store.add(result(1))
        assert store.reservations() == {}
        assert not store.reserve(key)
        assert store.reserve(key, again=True)


def test_reservation_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    path, key = tmp_path / "runs.db", result(1).key
    script = "import time\nprint(Store(path).reserve(result(1).key), flush=True)\ntime.sleep(60)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    with Store(path) as store:
        assert not store.reserve(key)
        process.kill()
        time.sleep(0.2)
        # Not yet waited for, it is a zombie; waited for, it is gone.
        assert store.reserve(key)
        process.communicate()


def test_owner_is_distinguished_from_a_later_process_with_its_pid() -> None:
    this = Owner.this()
    assert this.lives()
    assert not this._replace(started=this.started - 100).lives()
    assert not this._replace(pid=2**22 + 1).lives()
    assert this._replace(host="elsewhere", pid=2**22 + 1).lives()
