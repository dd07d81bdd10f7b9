"""The background load, and timings under load."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from dlsys_bench.timing import load
from dlsys_bench.timing.comparison import compare_benchmarks
from dlsys_bench.timing.load import BUSY, BackgroundLoad
from dlsys_bench.timing.ratio import Speed

BURN = "import time\nend = time.perf_counter() + 30\nwhile time.perf_counter() < end: pass"


def test_the_load_excludes_this_process_and_its_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine with two cores and a simulated clock: a child continues, one ends, one is new."""
    now: dict[str, Any] = {
        "wall": 0.0,
        "busy": 10.0,
        "own": 3.0,
        "children_seconds": {7: 1.0, 8: 2.0},
    }
    monkeypatch.setattr(time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    for name in ("busy", "own", "children_seconds"):
        monkeypatch.setattr(f"dlsys_bench.timing.load._{name}", lambda name=name: now[name])
    with BackgroundLoad() as background:
        # The process took 1.0, the child that ended 0.5 of the 2.5 that it ever took, the other
        # 1.5, the new one 0.5.
        now = {
            "wall": 4.0,
            "busy": 14.5,
            "own": 3.0 + 1.0 + 2.5,
            "children_seconds": {7: 2.5, 9: 0.5},
        }
    assert background.fraction == pytest.approx((4.5 - 1.0 - 0.5 - 1.5 - 0.5) / 8)


def test_a_short_measurement_waits_for_the_clock_of_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = {"wall": 0.0}
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        now["wall"] += seconds

    monkeypatch.setattr(load, "LEAST_SECONDS", 1.0)
    monkeypatch.setattr(time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    # One of the two cores is busy with other processes.
    monkeypatch.setattr(load, "_busy", lambda: now["wall"])
    monkeypatch.setattr(load, "_own", lambda: 0.0)
    monkeypatch.setattr(load, "_children_seconds", dict)
    with BackgroundLoad() as background:
        now["wall"] += 0.25
    assert waited == [0.75]
    assert background.fraction == pytest.approx(0.5)
    interrupted = BackgroundLoad()
    with pytest.raises(ValueError, match="interrupted"), interrupted:
        raise ValueError("interrupted")
    assert waited == [0.75]
    assert interrupted.fraction is None


def test_the_load_of_a_child_is_not_counted() -> None:
    with BackgroundLoad() as idle:
        time.sleep(1.1)
    child = subprocess.Popen([sys.executable, "-c", BURN])
    try:
        with BackgroundLoad() as background:
            time.sleep(1.5)
    finally:
        child.kill()
        child.wait()
    assert idle.fraction is not None
    assert background.fraction is not None
    # The child, which would use at least half a core, adds nothing to the load of other processes.
    assert background.fraction < idle.fraction + 0.4 / (psutil.cpu_count() or 1) + 0.3 * (
        idle.fraction > 0.1
    )


@pytest.mark.parametrize(
    ("loads", "verdict"),
    [
        ((0.0, 0.0), Speed.FASTER),
        ((BUSY, 0.0), Speed.FASTER),
        ((BUSY + 0.01, 0.0), Speed.AMBIGUOUS),
        ((0.0, BUSY + 0.01), Speed.AMBIGUOUS),
        ((None, None), Speed.FASTER),
        ((None, 0.5), Speed.AMBIGUOUS),
    ],
)
def test_a_benchmark_under_load_is_ambiguous(
    loads: tuple[float | None, float | None], verdict: Speed, tmp_path: Path
) -> None:
    paths = []
    for side, (fraction, seconds) in enumerate(zip(loads, (1.0, 0.5), strict=True)):
        rounds = [seconds + 0.001 * number for number in range(20)]
        info = {} if fraction is None else {"others_share": fraction}
        one = {"fullname": "t", "stats": {"data": rounds, "median": seconds}, "extra_info": info}
        paths.append(tmp_path / f"{side}.json")
        paths[-1].write_text(json.dumps({"benchmarks": [one]}))
    ((change,), _) = compare_benchmarks(*paths)
    assert change.speed is verdict
    assert change.to_dict()["speed"] == verdict
