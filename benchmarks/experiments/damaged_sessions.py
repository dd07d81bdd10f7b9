"""Judge healthy and damaged engines over several arms: the session verdict beside the single gates.

    python benchmarks/experiments/damaged_sessions.py healthy            # 200 sessions, resampled
    python benchmarks/experiments/damaged_sessions.py mutants MINUTES    # trains
    python benchmarks/experiments/damaged_sessions.py report             # writes session-engines.md

The healthy sessions take 20 arms at random from all stored arms of tier quick with at least 12
runs: two runs of each are judged by the others. The damaged engines are the mutants of the numpy
engine that the tests use, on ARMS with digits: every arm is judged by its gate at its share of
alpha, and the session verdict by the same runs. A further start skips the mutants that are stored.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from gate_shifts import figures

from dlsys_bench.data import load
from dlsys_bench.report.table import Table
from dlsys_bench.studies.registry import find
from dlsys_bench.verdicts.budget import ALPHA, SESSION_SHARE, share
from dlsys_bench.verdicts.gate import Terms, gate
from dlsys_bench.verdicts.judged_runs import JudgedRuns
from dlsys_bench.verdicts.session import judge_session, judge_sessions
from dlsys_bench.verdicts.stratum import Stratum

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports" / "gates"
HEALTHY, MUTANTS = REPORTS / "session-healthy.jsonl", REPORTS / "session-mutants.jsonl"
SESSIONS, ARMS_OF_SESSION, JUDGED, FEWEST, SEED = 200, 20, 2, 12, 20261129
ARMS = (
    "batch-size-sweep/64",
    "batch-size-sweep/256",
    "batch-size-sweep/1024",
    "cyclical-learning-rate/fixed",
    "cyclical-learning-rate/triangular2",
)
"""The arms whose runs take less than a second."""

FIRST_SEED = 60_000


def healthy() -> None:
    """Judge held-out reference runs."""
    pools = [
        (metric.higher_is_better, values)
        for (_, key), (metric, values) in figures().items()
        if key.tier == "quick" and len(values) >= FEWEST
    ]
    generator, lines = np.random.default_rng(SEED), []
    for _ in range(SESSIONS):
        strata = []
        for place in generator.choice(len(pools), ARMS_OF_SESSION, replace=False):
            better, values = pools[place]
            drawn = generator.permutation(values).tolist()
            strata.append(
                Stratum.of(JudgedRuns.of(drawn[JUDGED:], drawn[:JUDGED], better, one_sided=True))
            )
        lines.append(judge_session(strata, SESSION_SHARE * ALPHA, 0.01, "numpy").to_dict())
    HEALTHY.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def judged(engine: Any) -> dict[str, Any]:
    """Return the verdicts of the gates and of the session on an engine."""
    terms, digits, verdicts = Terms(share(len(ARMS)), first_seed=FIRST_SEED), load("digits"), []
    for name in ARMS:
        (case,) = find(name)
        verdicts.append(gate(case, engine, digits, tier="quick", terms=terms))
    strata = [(verdict.key, verdict.stratum) for verdict in verdicts if verdict.stratum]
    found = judge_sessions(strata, ALPHA, 0.01)
    return {
        "gates": {verdict.name: verdict.outcome.value for verdict in verdicts},
        "seeds": sum(len(verdict.seeds) for verdict in verdicts),
        "sessions": [one.to_dict() for one in found],
    }


def mutants(minutes: float) -> None:
    """Judge mutants until the time is over; the subtle ones first."""
    sys.path.insert(0, str(ROOT / "tests"))
    mutants_of_tests = import_module("mutants")
    table = mutants_of_tests.MUTANTS.values()
    started, known = monotonic(), {line["mutant"] for line in lines_of(MUTANTS)}
    numpy = [one for one in table if one.package == "numpy" and one.name not in known]
    for mutant in sorted(numpy, key=lambda one: (one.rung != "distribution", one.name)):
        if monotonic() - started > 60 * minutes:
            return
        found = judged(getattr(mutants_of_tests, mutant.name)())
        line = {"mutant": mutant.name, "what": mutant.what, **found}
        with MUTANTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the stored lines of a file."""
    return (
        [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    )


def damaged_table(damaged: list[dict[str, Any]]) -> Table:
    """One row per mutant: the gates that fail, and the session verdict."""
    cells = [
        (
            line["mutant"],
            line["what"],
            str(sum(outcome == "FAIL" for outcome in line["gates"].values())),
            str(line["seeds"]),
            ", ".join(f"{one['outcome']} ({one['shift']:+.2f})" for one in line["sessions"]),
        )
        for line in damaged
    ]
    by_session = [any(one["outcome"] == "FAIL" for one in line["sessions"]) for line in damaged]
    by_gates = ["FAIL" in line["gates"].values() for line in damaged]
    only = sum(session and not gate for session, gate in zip(by_session, by_gates, strict=True))
    title = (
        f"Damaged: {len(damaged)} mutants on {len(ARMS)} arms; {sum(by_gates)} fail a gate, "
        f"{sum(by_session)} the session verdict, {only} that alone"
    )
    heads = ("mutant", "mistake", ">gates that fail", ">runs", "session (shift)")
    return Table(title, heads, cells)


def report() -> None:
    """Write the tables."""
    found = lines_of(HEALTHY)
    failed = sum(line["outcome"] == "FAIL" for line in found)
    names = ("p_value", "tail_p_value", "spread_p_value")
    rows = [
        (name, *(str(sum(line[name] <= level for line in found)) for level in (0.001, 0.01, 0.05)))
        for name in names
    ]
    title = f"Healthy: {len(found)} sessions of {ARMS_OF_SESSION} arms, {failed} failed"
    tables = [Table(title, ("test", ">p <= 0.001", ">p <= 0.01", ">p <= 0.05"), rows)]
    if damaged := lines_of(MUTANTS):
        tables.append(damaged_table(damaged))
    text = "\n".join(table.markdown() for table in tables)
    (REPORTS / "session-engines.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Run what the command line asks for."""
    what, *rest = sys.argv[1:] or ["report"]
    if what == "mutants":
        mutants(float(rest[0]))
    else:
        {"healthy": healthy, "report": report}[what]()


if __name__ == "__main__":
    main()
