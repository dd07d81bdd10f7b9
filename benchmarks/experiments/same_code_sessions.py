"""Compare real sessions of unchanged code, in which every FASTER or SLOWER is false.

    python benchmarks/experiments/same_code_sessions.py measure MINUTES  # appends sessions
    python benchmarks/experiments/same_code_sessions.py report           # writes same-code.md

A session is a process of pytest-benchmark, and takes about ten seconds. Sessions are measured on a
quiet machine alone: the command ends with exit code 3 before each session for which other processes
use more than a quarter of the cores. No session is started that would end after the time. Each is
stored as it ends, and a further start appends to them. The report compares successive groups of 1,
3 and 5 sessions as `bench compare` does, and single ones as
`--benchmark-compare-fail=median:10%` does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
from bench_compare import SESSIONS

from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table
from dlsys_bench.timing.benchmark_file import read_benchmarks
from dlsys_bench.timing.comparison import MARGIN, SESSION_SPREAD
from dlsys_bench.timing.load import BackgroundLoad
from dlsys_bench.timing.ratio import Speed
from dlsys_bench.timing.sessions import session_ratio

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports" / "speed"
STORED = REPORTS / "same-code.jsonl"
TRAINING = "benchmarks/test_training.py::test_training_steps"
TESTS = (
    f"{TRAINING}[numpy-lenet5-tanh-standard+bn-32]",
    f"{TRAINING}[numpy-fashion-mlp-bn+dropout-8]",
    "benchmarks/test_startup.py",
)
QUIET, LISTENED = 0.25, 2.0
"""The fraction of the cores that other processes use at most on a quiet machine, and the seconds
over which it is measured."""


def measure(minutes: float) -> None:
    """Store sessions until the time is over."""
    started, longest = monotonic(), 0.0
    while monotonic() - started + longest < 60 * minutes:
        begun = monotonic()
        with BackgroundLoad() as background:
            sleep(LISTENED)
        load = background.fraction or 0.0
        if load > QUIET:
            print(f"other processes use {load:.0%} of the cores: no session was measured")
            sys.exit(3)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "session.json"
            command = ["-m", "pytest", "-q", "-n0", "--benchmark-only", *TESTS]
            command.append(f"--benchmark-json={path}")
            subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
            found = read_benchmarks(path).benchmarks
        line = {
            "load": load,
            "seconds": {name: one.seconds for name, one in found.items()},
            "others": {name: one.load for name, one in found.items()},
            "provenance": provenance(),
        }
        with STORED.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        longest = max(longest, monotonic() - begun)


def row(name: str, sessions: list[list[float]], count: int) -> tuple[str, ...]:
    """Return the verdicts on successive groups of sessions of one benchmark."""
    verdicts: Counter[Speed] = Counter()
    covered = failed = 0
    starts = range(0, len(sessions) - 2 * count + 1, count)
    for start in starts:
        middle = start + count
        a, b = sessions[start:middle], sessions[middle : middle + count]
        ratio = session_ratio(a, b, SESSION_SPREAD)
        verdicts[ratio.within(MARGIN)] += 1
        covered += ratio.low <= 1.0 <= ratio.high
        failed += bool(np.median(b[0]) > (1 + MARGIN) * np.median(a[0]))
    spread = float(np.std(np.log([np.median(one) for one in sessions]), ddof=1))
    return (
        name,
        f"{spread:.1%}",
        f"{count} and {count}",
        str(len(starts)),
        *(str(verdicts[speed]) for speed in Speed),
        str(covered),
        str(failed) if count == 1 else "-",
    )


def report() -> None:
    """Write the table."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in STORED.read_text().splitlines()]
    heads = (
        *("benchmark", ">spread between sessions", ">sessions", ">comparisons"),
        *(f">{speed}" for speed in Speed),
        *(">intervals with 1", ">pytest-benchmark fails"),
    )
    rows = [
        row(name, [line["seconds"][name] for line in lines], count)
        for name in lines[0]["seconds"]
        for count in SESSIONS
        if 2 * count <= len(lines)
    ]
    title = f"{len(lines)} sessions of unchanged code (margin {MARGIN:.0%})"
    (REPORTS / "same-code.md").write_text(Table(title, heads, rows).markdown(), encoding="utf-8")


if __name__ == "__main__":
    what, *rest = sys.argv[1:] or ["report"]
    if what == "measure":
        measure(float(rest[0]))
    else:
        report()
