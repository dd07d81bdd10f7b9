"""Judge healthy and damaged engines over several arms: the session verdict beside the single gates.

    python benchmarks/experiments/damaged_sessions.py healthy            # 200 sessions, resampled
    python benchmarks/experiments/damaged_sessions.py trained MINUTES    # healthy sessions, trained
    python benchmarks/experiments/damaged_sessions.py mutants MINUTES    # damaged sessions, trained
    python benchmarks/experiments/damaged_sessions.py report             # writes session-engines.md

There are three kinds of sessions. Each is stored as it ends, and a further start continues.

- *Healthy, resampled*: 20 arms at random from all stored arms of tier quick with at least 12 runs.
  Two runs of each are judged by the others, so that no run is new.
- *Healthy, trained*: the numpy engine trains QUICKEST_ARMS with seeds that nothing else uses. The
  reference runs are those of the stored files in all sessions.
- *Damaged*: the mutants of the numpy engine that the tests use, on ARMS, in an order that depends
  on their names alone. A mutant that trains the first seed of every arm as the healthy engine does,
  but for rounding, has no effect here, and is not judged; nor is one that raises an error.

Every arm is judged by its gate at its share of alpha, and the session verdict by the same runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib import import_module
from math import nan
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from gate_shifts import figures

from dlsys_bench.data import Dataset, load
from dlsys_bench.engines.registry import create
from dlsys_bench.report.table import Table
from dlsys_bench.runs.run import run
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import find
from dlsys_bench.verdicts.budget import ALPHA, SESSION_SHARE, share
from dlsys_bench.verdicts.gate import Terms, gate
from dlsys_bench.verdicts.judged_runs import JudgedRuns
from dlsys_bench.verdicts.session import judge_session, judge_sessions
from dlsys_bench.verdicts.stratum import Stratum

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports" / "gates"
HEALTHY, TRAINED, MUTANTS = (
    REPORTS / f"session-{name}.jsonl" for name in ("healthy", "trained", "mutants")
)
SESSIONS, ARMS_OF_SESSION, JUDGED, FEWEST, SEED = 200, 20, 2, 12, 20261129
QUICKEST_ARMS = (
    "eggholder/64",
    "eggholder/128",
    "initialization/relu/glorot_normal",
    "initialization/tanh/glorot_normal",
    "initialization/sigmoid/normal(0.05)",
    "perceptron/nb2/hinge",
    "perceptron/nb4/perceptron",
    "two-layer-backprop/sigmoid-mse",
)
"""Arms of four studies whose runs take less than 0.2 seconds."""

ARMS = (
    *QUICKEST_ARMS,
    "eggholder/16-16",
    "dying-relu/relu",
    "batch-size-sweep/256",
    "cyclical-learning-rate/fixed",
    "learning-rate-sweep/0.1",
)
"""Arms of eight studies whose runs take less than a second."""

FIRST_SEED, SEEDS_OF_SESSION = 60_000, 100
ROUNDING = 1e-6
"""The relative difference of a figure that rounding explains."""


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


def judged(engine: Any, arms: Sequence[str], first_seed: int) -> dict[str, Any]:
    """Return the verdicts of the gates and of the session on an engine."""
    terms, verdicts = Terms(share(len(arms)), first_seed=first_seed), []
    for name in arms:
        (case,) = find(name)
        verdicts.append(gate(case, engine, data_of(case), tier="quick", terms=terms))
    strata = [(verdict.key, verdict.stratum) for verdict in verdicts if verdict.stratum]
    found = judge_sessions(strata, ALPHA, 0.01)
    return {
        "gates": {verdict.name: verdict.outcome.value for verdict in verdicts},
        "seeds": sum(len(verdict.seeds) for verdict in verdicts),
        "sessions": [one.to_dict() for one in found],
    }


def data_of(case: Case) -> Dataset:
    """Return the digits in place of images, and the dataset of the study otherwise."""
    name = case.study.dataset
    return load("digits" if name in ("mnist", "fashion_mnist") else name)


def trained(minutes: float) -> None:
    """Judge the healthy engine until the time is over."""
    started, engine = monotonic(), create("numpy")
    for session in range(len(lines_of(TRAINED)), SESSIONS):
        if monotonic() - started > 60 * minutes:
            return
        first_seed = FIRST_SEED + SEEDS_OF_SESSION * (session + 1)
        found = judged(engine, QUICKEST_ARMS, first_seed)
        add(TRAINED, {"first_seed": first_seed, **found})


def first_figures(engine: Any) -> list[float]:
    """Return the figure of the first seed of each arm, nan if it diverged."""
    found = []
    for name in ARMS:
        (case,) = find(name)
        metric = case.study.metric
        one = run(case, engine, data_of(case), tier="quick", seed=FIRST_SEED, only=metric)
        value = one.metric(metric.name)
        found.append(nan if value is None else value)
    return found


def mutants(minutes: float) -> None:
    """Judge mutants until the time is over."""
    sys.path.insert(0, str(ROOT / "tests"))
    mutants_of_tests = import_module("mutants")
    started, known = monotonic(), {line["mutant"] for line in lines_of(MUTANTS)}
    healthy_figures = first_figures(create("numpy"))
    table = [one for one in mutants_of_tests.MUTANTS.values() if one.package == "numpy"]
    for mutant in sorted(table, key=lambda one: sha256(one.name.encode()).digest()):
        if mutant.name in known:
            continue
        if monotonic() - started > 60 * minutes:
            return
        line = {"mutant": mutant.name, "what": mutant.what, "effect": "none"}
        engine = getattr(mutants_of_tests, mutant.name)()
        try:
            if not np.allclose(first_figures(engine), healthy_figures, rtol=ROUNDING, atol=0.0):
                line |= {"effect": "judged", **judged(engine, ARMS, FIRST_SEED)}
        except Exception as error:  # A damaged engine may raise anything.
            line["effect"] = f"raised {type(error).__name__}"
        add(MUTANTS, line)


def add(path: Path, line: dict[str, Any]) -> None:
    """Append a line to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the stored lines of a file."""
    return (
        [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    )


def damaged_table(found: list[dict[str, Any]]) -> Table:
    """One row per mutant that has an effect: the gates that fail, and the session verdict."""
    damaged = [line for line in found if line["effect"] == "judged"]
    raised = sum(line["effect"].startswith("raised") for line in found)
    cells = [
        (
            line["mutant"],
            line["what"],
            str(sum(outcome == "FAIL" for outcome in line["gates"].values())),
            str(sum(outcome == "INCONCLUSIVE" for outcome in line["gates"].values())),
            str(line["seeds"]),
            ", ".join(f"{one['outcome']} ({one['shift']:+.2f})" for one in line["sessions"]),
        )
        for line in damaged
    ]
    by_session = [any(one["outcome"] == "FAIL" for one in line["sessions"]) for line in damaged]
    by_gates = ["FAIL" in line["gates"].values() for line in damaged]
    only = sum(session and not gate for session, gate in zip(by_session, by_gates, strict=True))
    title = (
        f"Damaged: of {len(found)} mutants, {len(damaged)} have an effect on {len(ARMS)} arms and "
        f"{raised} raise an error; {sum(by_gates)} fail a gate, {sum(by_session)} the session "
        f"verdict, {only} that alone"
    )
    heads = ("mutant", "mistake", ">FAIL", ">INCONCLUSIVE", ">runs", "session (shift)")
    return Table(title, heads, cells)


def healthy_table(title: str, sessions: list[dict[str, Any]]) -> Table:
    """The numbers of healthy session verdicts with small p-values, by test."""
    names = ("p_value", "tail_p_value", "spread_p_value")
    levels = (0.001, 0.01, 0.05)
    rows = [
        (name, *(str(sum(line[name] <= level for line in sessions)) for level in levels))
        for name in names
    ]
    return Table(title, ("test", *(f">p <= {level}" for level in levels)), rows)


def report() -> None:
    """Write the tables."""
    found, fresh = lines_of(HEALTHY), lines_of(TRAINED)
    failed = sum(line["outcome"] == "FAIL" for line in found)
    title = f"Healthy, resampled: {len(found)} sessions of {ARMS_OF_SESSION} arms, {failed} failed"
    tables = [healthy_table(title, found)]
    if fresh:
        sessions = [one for line in fresh for one in line["sessions"]]
        failed = sum(one["outcome"] == "FAIL" for one in sessions)
        by_gate = sum("FAIL" in line["gates"].values() for line in fresh)
        title = (
            f"Healthy, trained: {len(fresh)} sessions of {len(QUICKEST_ARMS)} arms, {failed} "
            f"session verdicts failed, a gate failed in {by_gate}"
        )
        tables.append(healthy_table(title, sessions))
    if damaged := lines_of(MUTANTS):
        tables.append(damaged_table(damaged))
    text = "\n".join(table.markdown() for table in tables)
    (REPORTS / "session-engines.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Run what the command line asks for."""
    what, *rest = sys.argv[1:] or ["report"]
    {
        "healthy": healthy,
        "trained": lambda: trained(float(rest[0])),
        "mutants": lambda: mutants(float(rest[0])),
        "report": report,
    }[what]()


if __name__ == "__main__":
    main()
