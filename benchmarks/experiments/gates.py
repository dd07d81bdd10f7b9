"""Measure how often gates on healthy and on damaged engines fail.

    python benchmarks/experiments/gates.py healthy    # appends 210 verdicts on the numpy engine
    python benchmarks/experiments/gates.py damaged    # appends verdicts on four damaged engines
    python benchmarks/experiments/gates.py report     # writes README.md

The files are in reports/gates; verdicts that are stored already are skipped. Every gate has
separate seeds, with alpha 1e-3 and beta 1e-2. The shift of a damaged engine is measured first, with
12 seeds that no gate uses.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from dlsys_bench.data import Dataset, Samples
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.report.table import Table
from dlsys_bench.report.tables import comparison_table
from dlsys_bench.runs.run import choose_dataset, run
from dlsys_bench.runs.store import find_reference, read
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import find
from dlsys_bench.verdicts.compare import compare
from dlsys_bench.verdicts.comparison import Relation
from dlsys_bench.verdicts.gate import Terms, gate, gate_for, value_of

REPORTS = Path(__file__).parents[2] / "reports" / "gates"
# Fast arms of several kinds: dense and convolutional, with batch norm and dropout.
HEALTHY = [
    ("regularization/fashion/ffn", "fashion_mnist"),
    ("regularization/fashion-mlp/vanilla", "fashion_mnist"),
    ("regularization/fashion-mlp/bn", "fashion_mnist"),
    ("regularization/fashion-mlp/bn+dropout", "fashion_mnist"),
    ("regularization/lenet5-tanh/standard+bn", "mnist"),
    ("regularization/lenet5-tanh/dropout", "mnist"),
    ("regularization/lenet5-sigmoid/standard+bn", "mnist"),
    ("regularization/fashion-mlp/vanilla", "digits"),
    ("regularization/fashion-mlp/dropout", "digits"),
    ("regularization/lenet5-tanh/bn+bn", "digits"),
]
GATES_PER_ARM, GATES_PER_DAMAGE = 21, 5
SHIFT_SEED, SHIFT_RUNS = 40_000, 12
"""The first seed and the number of runs that measure the shift of a damaged engine."""

DAMAGED = [
    ("regularization/lenet5-tanh/standard+bn", "mnist"),
    ("regularization/fashion-mlp/bn", "fashion_mnist"),
]


class LabelNoise(NumpyEngine):
    """A quarter of the labels are drawn at random."""

    name = "label-noise"

    def fit(self, net: Any, samples: Samples, recipe: Any, plan: Any) -> Any:
        generator = np.random.default_rng(plan.seed)
        wrong = generator.random(len(samples.y)) < 0.25
        y = np.where(wrong, generator.integers(0, 10, len(samples.y)), samples.y)
        return super().fit(net, Samples(samples.x, y), recipe, plan)


class HalvedRate(NumpyEngine):
    """The learning rate is half that of the recipe."""

    name = "halved-rate"

    def fit(self, net: Any, samples: Samples, recipe: Any, plan: Any) -> Any:
        optimizer = replace(recipe.optimizer, learning_rate=recipe.optimizer.learning_rate / 2)
        return super().fit(net, samples, replace(recipe, optimizer=optimizer), plan)


class FrozenStatistics(NumpyEngine):
    """The moving statistics of batch norm keep their initial values."""

    name = "frozen-statistics"

    def fit(self, net: Any, samples: Samples, recipe: Any, plan: Any) -> Any:
        initial = net.state.copy()
        for epoch in super().fit(net, samples, recipe, plan):
            net.state[...] = initial
            yield epoch


class OneClassDropped(NumpyEngine):
    """The samples of the last class are not trained on."""

    name = "one-class-dropped"

    def fit(self, net: Any, samples: Samples, recipe: Any, plan: Any) -> Any:
        kept = samples.y != 9
        return super().fit(net, Samples(samples.x[kept], samples.y[kept]), recipe, plan)


def lines(path: Path) -> list[dict[str, Any]]:
    """The stored records of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add(path: Path, values: dict[str, Any]) -> None:
    """Append a record to a file."""
    with path.open("a") as file:
        file.write(json.dumps(values) + "\n")
    fields = ("engine", "study", "arm", "outcome")
    print(path.name, *(values.get(name) for name in fields), flush=True)


def place(verdict: dict[str, Any]) -> tuple[str, str, str, int]:
    """The identity of a verdict of one engine."""
    return verdict["engine"], verdict["study"], verdict["arm"], verdict["first_seed"]


def healthy() -> None:
    """Store the verdicts of the numpy engine."""
    path = REPORTS / "healthy.jsonl"
    known = {(v["study"], v["arm"], v["dataset"], v["first_seed"]) for v in lines(path)}
    engine = NumpyEngine()
    for number in range(GATES_PER_ARM):
        for name, dataset in HEALTHY:
            (case,) = find(name)
            first = 20_000 + 100 * number
            if (case.study.name, case.arm.name, dataset, first) in known:
                continue
            data, _ = choose_dataset(case, dataset, None)
            found = gate(case, engine, data, tier="quick", terms=Terms(first_seed=first))
            add(path, found.to_dict() | {"first_seed": first})


def damaged() -> None:
    """Store the shift and the verdicts of every damaged engine."""
    path = REPORTS / "damaged.jsonl"
    known = {place(verdict) for verdict in lines(path)}
    for make in (LabelNoise, HalvedRate, FrozenStatistics, OneClassDropped):
        engine = make()
        engine.origin = f"gates:{make.__name__}"
        for name, dataset in DAMAGED:
            (case,) = find(name)
            data, _ = choose_dataset(case, dataset, None)
            identity = engine.name, case.study.name, case.arm.name
            if (*identity, SHIFT_SEED) not in known:
                add(path, shift_of(case, engine, data))
            for number in range(GATES_PER_DAMAGE):
                first = 50_000 + 100 * number
                if (*identity, first) not in known:
                    found = gate(case, engine, data, tier="quick", terms=Terms(first_seed=first))
                    add(path, found.to_dict() | {"first_seed": first})


def shift_of(case: Case, engine: Engine, data: Dataset) -> dict[str, Any]:
    """The difference of means between a damaged engine and the reference runs."""
    sequential, stored = gate_for(case, data, "quick", Terms())
    metric = case.study.metric
    runs = [
        run(case, engine, data, tier="quick", seed=SHIFT_SEED + seed) for seed in range(SHIFT_RUNS)
    ]
    values = [value_of(one, metric) for one in runs]
    return {
        "engine": engine.name,
        "study": case.study.name,
        "arm": case.arm.name,
        "first_seed": SHIFT_SEED,
        "true_shift": float(np.mean(values) - np.mean([value_of(one, metric) for one in stored])),
        "values": values,
        "smallest_shift": sequential.shift,
    }


def counts(verdicts: Sequence[dict[str, Any]], *outcomes: str) -> list[str]:
    """The number of verdicts, and of those with each outcome."""
    return [
        str(len(verdicts)),
        *(str(sum(v["outcome"] == outcome for v in verdicts)) for outcome in outcomes),
    ]


def healthy_table() -> Table:
    """One row per arm: the verdicts on a healthy engine."""
    verdicts = lines(REPORTS / "healthy.jsonl")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for verdict in verdicts:
        arm = f"{verdict['study']}/{verdict['arm']}"
        groups.setdefault((arm, verdict["dataset"]), []).append(verdict)
    rows = []
    for key, group in groups.items():
        seeds = [len(verdict["seeds"]) for verdict in group]
        numbers = counts(group, "PASS", "INCONCLUSIVE", "FAIL")
        rows.append((*key, *numbers, f"{np.median(seeds):.0f} ({np.mean(seeds):.1f})"))
    failed = sum(verdict["outcome"] == "FAIL" for verdict in verdicts)
    most = binomtest(failed, len(verdicts)).proportion_ci(0.95, "exact").high
    return Table(
        f"Healthy: {len(verdicts)} gates of the numpy engine, {failed} failed "
        f"(95%: at most {most:.3f}; nominal 0.001)",
        ("arm", "dataset", ">gates", ">PASS", ">INCONCLUSIVE", ">FAIL", ">seeds, median (mean)"),
        rows,
    )


def damaged_table() -> Table:
    """One row per damage and arm: the shift, and the verdicts on the damaged engine."""
    verdicts = lines(REPORTS / "damaged.jsonl")
    rows = []
    for shift in (verdict for verdict in verdicts if "true_shift" in verdict):
        gates = [v for v in verdicts if "outcome" in v and place(v)[:3] == place(shift)[:3]]
        if not gates:
            continue
        error = np.std(shift["values"], ddof=1) / SHIFT_RUNS**0.5
        rows.append(
            (
                shift["engine"],
                f"{shift['study']}/{shift['arm']}",
                gates[0]["dataset"],
                f"{shift['true_shift']:+.4f} ± {error:.4f}",
                f"{shift['smallest_shift']:.4f}",
                *counts(gates, "FAIL", "INCONCLUSIVE", "PASS"),
            )
        )
    figures = (">true shift", ">MDE", ">gates", ">FAIL", ">INCONCLUSIVE", ">PASS")
    return Table(
        f"Damaged: the shift, measured with {SHIFT_RUNS} separate seeds (± its standard error), "
        "and the gates",
        ("damage", "arm", "dataset", *figures),
        rows,
    )


def report() -> None:
    """Write the README of the folder."""
    tables = [healthy_table(), damaged_table(), *agreement()]
    text = HEAD + "\n".join(table.markdown() for table in tables)
    (REPORTS / "README.md").write_text(text, encoding="utf-8")


def agreement() -> list[Table]:
    """Comparisons of the reference runs of the numpy engine with runs of torch and keras."""
    reference = read(find_reference("regularization/lenet5-tanh", "mnist", "quick"))
    others = read(REPORTS / "agreement.jsonl")
    tables = []
    for engine in ("torch", "keras"):
        found = compare(reference, [run for run in others if run.key.engine == engine])
        title = f"Agreement: numpy (A) and {engine} (B), difference of means with 95% interval"
        compared = [one for one in found if one.relation is not Relation.LEFT_OUT]
        tables.append(comparison_table(compared, title))
    return tables


HEAD = """# Gates: their power, and how often they are right

`quick.md` and `full.md` list the minimum detectable effect and the cost of the gate of each
regularization arm (`dlsys-bench power`). The tables below count verdicts of gates at tier quick,
with alpha 1e-3 and beta 1e-2 each and seeds that nothing else uses (`healthy.jsonl` and
`damaged.jsonl`). These gates had two sides, which was the default then; a gate with one side takes
fewer seeds. The last two tables compare ten runs of each arm of LeNet-5 tanh in torch and in keras
(`agreement.jsonl`) with the reference runs of numpy: no difference is significant, and the
intervals bound its size. `python benchmarks/experiments/gates.py healthy`, `damaged` and `report`
write these files.

`rates.md` and `session.md` have simulations of gates and of verdicts over all arms
(`gate_rates.py`, `session_verdicts.py`), `budget.md` those of whole sessions (`session_budget.py`),
`session-engines.md` verdicts over all arms of healthy and damaged engines (`damaged_sessions.py`),
`documented.md` tests of what the documentation states (`documented_claims.py`), and `shifts.md` the
default shift of each arm with and without outliers (`gate_shifts.py`).

"""

if __name__ == "__main__":
    {"healthy": healthy, "damaged": damaged, "report": report}[sys.argv[1]]()
