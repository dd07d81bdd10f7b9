"""Judge healthy and damaged engines over several arms: the session verdict beside the single gates.

    python benchmarks/experiments/damaged_sessions.py trained MINUTES    # healthy sessions, trained
    python benchmarks/experiments/damaged_sessions.py mutants MINUTES    # damaged sessions, trained
    python benchmarks/experiments/damaged_sessions.py report             # writes session-engines.md

There are three kinds of sessions. Each that is trained is stored as it ends, and a further start
continues.

- *Healthy, resampled*: 20 arms at random from those of tier quick with at least 12 stored runs, in
  half of the sessions with the digits in place of images. The runs of two seeds, the same in all
  arms, are judged by the others, so that no run is new.
- *Healthy, trained*: the numpy engine trains QUICKEST_ARMS with seeds that nothing else uses. The
  reference runs are those of the stored files in all sessions.
- *Damaged*: the mutants of the numpy engine that the tests use, on ARMS, in the order of the
  SHA-256 of their names: the first ones are a random sample, whatever they do. A mutant that trains
  the first seed of every arm as the healthy engine does, but for rounding, has no effect here, and
  is not judged; nor is one that raises an error.

Every arm is judged by its gate at its share of alpha, and the session verdict by the same runs. The
ranks of the runs are stored, and the session verdict is computed when they are read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib import import_module
from math import nan
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from held_out_sessions import ARMS_OF_SESSION, IMAGES, SESSIONS, resampled
from scipy.stats import binomtest

from dlsys_bench.data import Dataset, load
from dlsys_bench.engines.registry import create
from dlsys_bench.report.table import Table
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.run import run
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import find
from dlsys_bench.verdicts.budget import ALPHA, share
from dlsys_bench.verdicts.gate import Terms, gate
from dlsys_bench.verdicts.session import SessionVerdict, judge_sessions
from dlsys_bench.verdicts.stratum import Stratum

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports" / "gates"
TRAINED, MUTANTS = (REPORTS / f"session-{name}.jsonl" for name in ("trained", "mutants"))
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

ARM = ("study", "arm", "dataset", "tier", "engine")

FIRST_SEED, SEEDS_OF_SESSION = 60_000, 100
ROUNDING = 1e-6
"""The relative difference of a figure that rounding explains."""


def sessions_of(line: dict[str, Any]) -> list[SessionVerdict]:
    """Return the session verdicts on a stored session."""
    strata = [
        (Key(**{name: one[name] for name in ARM}), Stratum.from_dict(one)) for one in line["strata"]
    ]
    return judge_sessions(strata, ALPHA, 0.01)


def judged(engine: Any, arms: Sequence[str], first_seed: int) -> dict[str, Any]:
    """Return the verdicts of the gates on an engine, and the runs for that of the session."""
    terms = Terms(share(len(arms)), first_seed=first_seed, together=True)
    verdicts = []
    for name in arms:
        (case,) = find(name)
        verdicts.append(gate(case, engine, data_of(case), tier="quick", terms=terms))
    strata = [(verdict.key, verdict.stratum) for verdict in verdicts if verdict.stratum]
    return {
        "gates": {verdict.name: verdict.outcome.value for verdict in verdicts},
        "seeds": sum(len(verdict.seeds) for verdict in verdicts),
        "strata": [{**key.to_dict(*ARM), **stratum.to_dict()} for key, stratum in strata],
    }


@cache
def digits_or(name: str) -> Dataset:
    """Return the digits in place of images."""
    return load("digits" if name in IMAGES else name)


def data_of(case: Case) -> Dataset:
    """Return the digits in place of images, and the dataset of the study otherwise."""
    return digits_or(case.study.dataset)


def trained(minutes: float) -> None:
    """Judge the healthy engine until the time is over."""
    started, engine = monotonic(), create("numpy")
    for session in range(len(lines_of(TRAINED)), SESSIONS):
        if monotonic() - started > 60 * minutes:
            return
        first_seed = FIRST_SEED + SEEDS_OF_SESSION * (session + 1)
        found = judged(engine, QUICKEST_ARMS, first_seed)
        add(TRAINED, {"first_seed": first_seed, **found})


def first_figure(engine: Any, name: str) -> float:
    """Return the figure of the first seed of an arm, nan if it diverged."""
    (case,) = find(name)
    metric = case.study.metric
    one = run(case, engine, data_of(case), tier="quick", seed=FIRST_SEED, only=metric)
    value = one.metric(metric.name)
    return nan if value is None else value


def has_effect(engine: Any, expected: dict[str, float]) -> bool:
    """Return True if an engine trains the first seed of some arm in another way."""
    return not all(
        np.isclose(first_figure(engine, name), value, rtol=ROUNDING, atol=0.0)
        for name, value in expected.items()
    )


def mutants(minutes: float) -> None:
    """Judge mutants until the time is over."""
    sys.path.insert(0, str(ROOT / "tests"))
    mutants_of_tests = import_module("mutants")
    started, known = monotonic(), {line["mutant"] for line in lines_of(MUTANTS)}
    healthy_engine = create("numpy")
    expected = {name: first_figure(healthy_engine, name) for name in ARMS}
    table = [one for one in mutants_of_tests.MUTANTS.values() if one.package == "numpy"]
    for mutant in sorted(table, key=lambda one: sha256(one.name.encode()).digest()):
        if mutant.name in known:
            continue
        if monotonic() - started > 60 * minutes:
            return
        line = {"mutant": mutant.name, "what": mutant.what, "effect": "none"}
        engine = getattr(mutants_of_tests, mutant.name)()
        try:
            if has_effect(engine, expected):
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


def damaged_tables(found: list[dict[str, Any]]) -> list[Table]:
    """One row per mutant that has an effect: the gates that fail, and the session verdict."""
    damaged = [line for line in found if line["effect"] == "judged"]
    raised = sum(line["effect"].startswith("raised") for line in found)
    verdicts = [sessions_of(line) for line in damaged]
    cells = [
        (
            line["mutant"],
            line["what"],
            str(sum(outcome == "FAIL" for outcome in line["gates"].values())),
            str(sum(outcome == "INCONCLUSIVE" for outcome in line["gates"].values())),
            str(line["seeds"]),
            ", ".join(f"{one.outcome} ({one.shift:+.2f})" for one in sessions),
        )
        for line, sessions in zip(damaged, verdicts, strict=True)
    ]
    by_session = [any(one.outcome == "FAIL" for one in sessions) for sessions in verdicts]
    by_gates = ["FAIL" in line["gates"].values() for line in damaged]
    both = list(zip(by_session, by_gates, strict=True))
    counts = {
        "a gate fails": sum(by_gates),
        "the session verdict fails": sum(by_session),
        "only a gate": sum(gate and not session for session, gate in both),
        "only the session verdict": sum(session and not gate for session, gate in both),
        "neither": sum(not session and not gate for session, gate in both),
    }
    title = (
        f"Damaged: of {len(found)} mutants, {len(damaged)} have an effect on {len(ARMS)} arms and "
        f"{raised} raise an error"
    )
    heads = ("mutant", "mistake", ">FAIL", ">INCONCLUSIVE", ">runs", "session (shift)")
    rows = [(what, *fraction(count, len(damaged))) for what, count in counts.items()]
    return [Table(title, ("found by", ">mutants", ">95%"), rows), Table("Each", heads, cells)]


def fraction(count: int, of: int) -> tuple[str, str]:
    """Return a count, and the exact interval of the fraction (Clopper & Pearson 1934)."""
    interval = binomtest(count, of).proportion_ci(method="exact")
    return f"{count} of {of}", f"{interval.low:.1%} to {interval.high:.1%}"


def healthy_table(title: str, sessions: list[SessionVerdict]) -> Table:
    """The numbers of healthy session verdicts with small p-values, by test."""
    names = ("p_value", "tail_p_value", "spread_p_value")
    levels = (0.001, 0.01, 0.05)
    rows = [
        (name, *(str(sum(getattr(one, name) <= level for one in sessions)) for level in levels))
        for name in names
    ]
    return Table(title, ("test", *(f">p <= {level}" for level in levels)), rows)


def report() -> None:
    """Write the tables."""
    found = resampled()
    failed = sum(one.outcome == "FAIL" for one in found)
    title = f"Healthy, resampled: {len(found)} sessions of {ARMS_OF_SESSION} arms, {failed} failed"
    tables = [healthy_table(title, found)]
    if fresh := lines_of(TRAINED):
        sessions = [one for line in fresh for one in sessions_of(line)]
        failed = sum(one.outcome == "FAIL" for one in sessions)
        by_gate = sum("FAIL" in line["gates"].values() for line in fresh)
        title = (
            f"Healthy, trained: {len(fresh)} sessions of {len(QUICKEST_ARMS)} arms, {failed} "
            f"session verdicts failed, a gate failed in {by_gate}"
        )
        tables.append(healthy_table(title, sessions))
    if damaged := lines_of(MUTANTS):
        tables += damaged_tables(damaged)
    text = "\n".join(table.markdown() for table in tables)
    (REPORTS / "session-engines.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Run what the command line asks for."""
    what, *rest = sys.argv[1:] or ["report"]
    {
        "trained": lambda: trained(float(rest[0])),
        "mutants": lambda: mutants(float(rest[0])),
        "report": report,
    }[what]()


if __name__ == "__main__":
    main()
