"""Worker processes of a calibration are all ended, whatever happens to one."""

from __future__ import annotations

from typing import Any

import pytest

from dlsys_bench.errors import ClusterError
from dlsys_bench.runs.calibration import local
from dlsys_bench.runs.calibration.local import LocalWorkers


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
