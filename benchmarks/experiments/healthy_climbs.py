"""Put healthy engines through the ladder on an idle and on a loaded machine: none may fail.

    python benchmarks/experiments/healthy_climbs.py loaded numpy torch --climbs 20
    python benchmarks/experiments/healthy_climbs.py quiet numpy torch --climbs 20
    python benchmarks/experiments/healthy_climbs.py report    # writes healthy-climbs.md

Each climb is `dlsys-bench conform` with another seed, in an empty directory, which has to stay
empty. `loaded` keeps eight programs busy on the machine beside a climb: it starts as many as the
load average lacks. With `--together 5`, five climbs run at once, and each is the load of the
others. A climb is stored as it ends, in reports/conformance/healthy-climbs.json; one that is
stored already, of the same version of the package, is skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from dlsys_bench.report.table import Table

REPORTS = Path(__file__).parents[2] / "reports" / "conformance"
CLIMBS = REPORTS / "healthy-climbs.json"
TABLE = REPORTS / "healthy-climbs.md"
BUSY = 8
"""The number of programs that keep a loaded machine busy."""
WORKERS = len(os.sched_getaffinity(0))
"""The number of processes of one climb."""


def stored() -> list[dict[str, Any]]:
    """Return the climbs that are stored."""
    climbs: list[dict[str, Any]] = json.loads(CLIMBS.read_text()) if CLIMBS.exists() else []
    return climbs


def store(climb: dict[str, Any]) -> None:
    """Add a climb to the file, which is replaced as a whole."""
    new = CLIMBS.with_suffix(".new")
    new.write_text(json.dumps([*stored(), climb], indent=1) + "\n", encoding="utf-8")
    os.replace(new, CLIMBS)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep a number of programs busy while the context lasts."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def version() -> str:
    """Return the latest commit that has changed the package."""
    command = ["git", "log", "-1", "--format=%h", "--", "dlsys_bench"]
    done = subprocess.run(command, cwd=REPORTS.parents[1], capture_output=True, text=True)
    return done.stdout.strip()


def climb(condition: str, engine: str, seed: int, together: int = 1) -> dict[str, Any]:
    """Put an engine through the ladder, and return what came of it."""
    before = os.getloadavg()[0]
    others = max(int(before), WORKERS * (together - 1))
    started = max(0, BUSY - others) if condition == "loaded" else 0
    command = [sys.executable, "-m", "dlsys_bench", "conform", "--engine", engine, "--json"]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, busy(started):
        done = subprocess.run(
            [*command, "--seed", str(seed)], cwd=folder, capture_output=True, text=True
        )
        left = sorted(path.name for path in Path(folder).iterdir())
    report = json.loads(done.stdout) if done.returncode in (0, 1, 3) else {}
    outcomes = report.get("outcomes", [])
    return {
        "engine": engine,
        "condition": condition,
        "version": version(),
        "seed": seed,
        "exit_code": done.returncode,
        "counts": report.get("counts", {}),
        "drawn": sum(result.get("drawn", 0) for result in outcomes),
        "findings": [result for result in outcomes if "finding" in result],
        "files_left": left,
        "seconds": round(time.perf_counter() - began, 1),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
        "busy_programs": started,
        "together": together,
        "error": "" if report else done.stderr[-2000:],
        "provenance": report.get("provenance", {}),
    }


def measure(condition: str, engines: list[str], seeds: range, together: int) -> None:
    """Store the climbs that are missing, each seed of every engine before the next seed."""
    fields = ("condition", "version", "engine", "seed")
    known = {tuple(one[field] for field in fields) for one in stored()}
    missing = [
        (engine, seed)
        for seed in seeds
        for engine in engines
        if (condition, version(), engine, seed) not in known
    ]
    with ThreadPoolExecutor(together) as pool:
        running = [pool.submit(climb, condition, *one, together) for one in missing]
        for ended in as_completed(running):
            found = ended.result()
            store(found)
            counts = {name: count for name, count in found["counts"].items() if count}
            print(
                *(found[field] for field in ("condition", "engine", "seed")),
                counts,
                f"{found['seconds']:.0f} s",
                flush=True,
            )


def table() -> Table:
    """Return one row per engine, condition and version."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in stored():
        key: tuple[str, ...] = (one["engine"], one["condition"], one["version"])
        groups.setdefault(key, []).append(one)
    rows = []
    for key, climbs in groups.items():
        codes = [one["exit_code"] for one in climbs]
        most = binomtest(codes.count(1), len(codes)).proportion_ci(0.95, "exact").high
        loads = sorted(max(one["load"]) for one in climbs)
        seconds = sorted(one["seconds"] for one in climbs)
        rows.append(
            (
                *key,
                *map(str, (len(codes), codes.count(1), codes.count(3))),
                str(sum(code not in (0, 1, 3) for code in codes)),
                str(sum(bool(one["files_left"]) for one in climbs)),
                f"{most:.2f}",
                f"{sum(one['drawn'] for one in climbs):,}",
                f"{loads[0]:.0f} to {loads[-1]:.0f}",
                f"{seconds[0]:.0f}, {seconds[len(seconds) // 2]:.0f}, {seconds[-1]:.0f}",
            )
        )
    heads = (
        "engine",
        "machine",
        "commit",
        ">climbs",
        ">failed",
        ">timed out",
        ">errors",
        ">left files",
        ">failing at most (95%)",
        ">examples",
        ">load average",
        ">seconds: minimum, median, maximum",
    )
    return Table("Climbs of healthy engines", heads, rows)


def main() -> None:
    """Measure, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("condition", choices=("loaded", "quiet", "report"))
    parser.add_argument("engines", nargs="*", default=["numpy", "torch"])
    parser.add_argument("--climbs", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--together", type=int, default=1, help="climbs that run at once")
    options = parser.parse_args()
    if options.condition != "report":
        seeds = range(options.first_seed, options.first_seed + options.climbs)
        measure(options.condition, options.engines, seeds, options.together)
    TABLE.write_text(table().markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
