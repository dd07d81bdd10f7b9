"""Others at work are seen, and what was timed beside them says nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dlsys_bench.timing.load import BUSY, Others
from dlsys_bench.timing.ratio import Speed
from dlsys_bench.timing.stored import compare_benchmarks

BURN = "import time\nend = time.perf_counter() + 30\nprint(flush=True)\nwhile time.perf_counter() < end: pass"


def test_what_this_process_does_is_not_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of a machine with two cores, of which this process takes one and others a quarter of the other."""
    now = {"wall": 0.0, "user": 10.0, "steal": 1.0, "own": 3.0}
    monkeypatch.setattr(time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    monkeypatch.setattr("dlsys_bench.timing.load._busy", lambda: now["user"] + now["steal"])
    monkeypatch.setattr("dlsys_bench.timing.load._own", lambda: now["own"])
    with Others() as others:
        now = {"wall": 4.0, "user": 14.5, "steal": 1.5, "own": 7.0}
    assert others.share == pytest.approx(1 / 8)


def test_a_process_beside_is_seen() -> None:
    beside = subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE)
    try:
        assert beside.stdout is not None
        beside.stdout.readline()
        with Others() as others:
            time.sleep(1.0)
    finally:
        beside.kill()
        beside.wait()
        assert beside.stdout is not None
        beside.stdout.close()
    # Half a core at least, even where others than this one want it too.
    assert others.share > 0.5 / (psutil.cpu_count() or 1) * 0.5


@pytest.mark.parametrize(
    ("shares", "said"),
    [((0.0, 0.0), Speed.FASTER), ((BUSY, 0.0), Speed.FASTER), ((BUSY + 0.01, 0.0), Speed.AMBIGUOUS),
     ((0.0, BUSY + 0.01), Speed.AMBIGUOUS), ((None, None), Speed.FASTER), ((None, 0.5), Speed.AMBIGUOUS)],
)  # fmt: skip
def test_a_benchmark_beside_others_is_ambiguous(
    shares: tuple[float | None, float | None], said: Speed, tmp_path: Path
) -> None:
    paths = []
    for side, (share, seconds) in enumerate(zip(shares, (1.0, 0.5), strict=True)):
        rounds = [seconds + 0.001 * number for number in range(20)]
        info = {} if share is None else {"others_share": share}
        one = {"fullname": "t", "stats": {"data": rounds, "median": seconds}, "extra_info": info}
        paths.append(tmp_path / f"{side}.json")
        paths[-1].write_text(json.dumps({"benchmarks": [one]}))
    ((change,), _) = compare_benchmarks(*paths)
    assert change.speed is said
    assert change.to_dict()["speed"] == said
