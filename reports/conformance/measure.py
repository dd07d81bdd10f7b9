"""Healthy engines through the ladder with seed after seed: a right engine must never fail. Goes on where it stopped.

python reports/conformance/measure.py numpy 50      # healthy.jsonl: one line a run
python reports/conformance/measure.py report        # README.md
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from dlsys_bench.report.tables import Table

HERE = Path(__file__).parent
RUNS = HERE / "healthy.jsonl"


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RUNS.read_text().splitlines()] if RUNS.exists() else []


def measure(engine: str, runs: int) -> None:
    known = {(run["engine"], run["seed"]) for run in lines()}
    for seed in range(1, runs + 1):
        if (engine, seed) in known:
            continue
        done = subprocess.run(
            [sys.executable, "-m", "dlsys_bench", "conform", "--engine", engine, "--seed", str(seed), "--json"],
            capture_output=True, text=True,
        )  # fmt: skip
        report = json.loads(done.stdout)
        failed = [outcome for outcome in report["outcomes"] if outcome["status"] == "failed"]
        kept = {name: report[name] for name in ("engine", "seed", "conforms", "seconds", "counts")}
        kept["drawn"] = sum(outcome.get("drawn", 0) for outcome in report["outcomes"])
        with RUNS.open("a") as file:
            file.write(json.dumps(kept | {"failed": failed, "provenance": report["provenance"]}) + "\n")
        print(engine, seed, report["conforms"], report["seconds"], flush=True)


def report() -> None:
    rows = []
    for engine in dict.fromkeys(run["engine"] for run in lines()):
        mine = [run for run in lines() if run["engine"] == engine]
        broken = sum(not run["conforms"] for run in mine)
        most = binomtest(broken, len(mine)).proportion_ci(0.95, "exact").high
        seconds = sorted(run["seconds"] for run in mine)
        rows.append((
            engine, str(len(mine)), str(broken), f"{most:.3f}", f"{sum(run['drawn'] for run in mine):,}",
            f"{seconds[0]:.0f}, {seconds[len(seconds) // 2]:.0f}, {seconds[-1]:.0f}",
        ))  # fmt: skip
    heads = ("engine", ">runs", ">failed", ">at most (95%)", ">examples", ">seconds: least, median, most")
    table = Table("Healthy engines, another seed each run", heads, rows)
    (HERE / "README.md").write_text(HEAD + table.markdown(), encoding="utf-8")


HEAD = """# Does the ladder touch what is healthy, and catch what is not?

`NAME.md` and `NAME.json` are the compliance reports of the engines, by `dlsys-bench conform --engine NAME --output
reports/conformance`; `mutants.md` says which rung catches which broken engine, by
`python -m dlsys_bench.conformance.mutants`. Below, every healthy engine again and again, each run with examples of its
own, by `measure.py`. The times are those of two cores that often did other work too.

"""

if __name__ == "__main__":
    if sys.argv[1] == "report":
        report()
    else:
        measure(sys.argv[1], int(sys.argv[2]))
