"""The tables of results, verdicts and stored runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dlsys_bench.engines.history import Epoch
from dlsys_bench.report.layout import NONE
from dlsys_bench.report.table import Columns, Table
from dlsys_bench.runs.key import CALLABLE, Key
from dlsys_bench.runs.result import Result
from dlsys_bench.spec.inputs import VALUES
from dlsys_bench.spec.layers import Shape
from dlsys_bench.spec.model import Model
from dlsys_bench.studies.registry import superseded

if TYPE_CHECKING:
    from dlsys_bench.verdicts.comparison import Comparison, Side
    from dlsys_bench.verdicts.power import Power
    from dlsys_bench.verdicts.verdict import Verdict


def _mean_and_std(values: Iterable[float | None], digits: int = 4) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    mean = f"{np.mean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {np.std(known, ddof=1):.{digits}f}"


def _significant(values: Iterable[float | None]) -> str:
    """Return mean and standard deviation to a fixed number of significant digits."""
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    std = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    if not std and float(known[0]).is_integer():
        return f"{known[0]:.0f}"
    return f"{np.mean(known):.4g}" + (f" ± {std:.2g}" if std else "")


def _number(value: float | None, form: str = ".4f") -> str:
    return NONE if value is None or not isfinite(value) else format(value, form)


class _ArmRuns(NamedTuple):
    """The runs of an arm by one engine, and the last epochs of those that finished."""

    key: Key
    runs: Sequence[Result]
    last: Sequence[Epoch]

    def metric(self, name: str) -> str:
        return _mean_and_std(getattr(epoch, name) for epoch in self.last)

    @property
    def engine(self) -> str:
        on_cpu = self.key.device == "cpu"
        return self.key.engine if on_cpu else f"{self.key.engine} ({self.key.device})"

    @property
    def seconds_per_epoch(self) -> str:
        histories = [run.history for run in self.runs if run.history]
        return _mean_and_std([float(np.median([e.seconds for e in one])) for one in histories], 2)

    @property
    def remark(self) -> str:
        diverged = len(self.runs) - len(self.last)
        past = superseded(self.key.study, self.key.protocol)
        remarks = [
            f"{diverged} diverged" if diverged else "",
            f"superseded: {past.name}" if past else "",
        ]
        return "; ".join(filter(None, remarks))


RESULT_COLUMNS: Columns[_ArmRuns] = {
    "arm": lambda arm: arm.key.name,
    "dataset": lambda arm: arm.key.dataset,
    "tier": lambda arm: arm.key.tier,
    "engine": lambda arm: arm.engine,
    ">seeds": lambda arm: str(len(arm.runs)),
    ">running loss": lambda arm: arm.metric("running_loss"),
    ">running acc": lambda arm: arm.metric("running_accuracy"),
    ">train acc": lambda arm: arm.metric("train_accuracy"),
    ">val acc": lambda arm: arm.metric("validation_accuracy"),
    ">test acc": lambda arm: arm.metric("test_accuracy"),
    ">test loss": lambda arm: arm.metric("test_loss"),
    ">s/epoch": lambda arm: arm.seconds_per_epoch,
    "": lambda arm: arm.remark,
}


def results_table(results: Sequence[Result]) -> Table:
    """Return a table with one row per arm, engine and protocol: mean and standard deviation of its
    seeds. The remark on runs of a protocol that was corrected names the correction.

    Rows are sorted by name, except that the arms of a study keep the order in which they were run.
    """
    order: dict[tuple[str, str], int] = {}
    for run in results:
        order.setdefault((run.key.study, run.key.arm), len(order))
    ordered = sorted(results, key=lambda run: (order[run.key.study, run.key.arm], _place(run)))
    arms = []
    for _, group in groupby(ordered, _place):
        runs = list(group)
        last = [run.last for run in runs if run.status == "finished" and run.last is not None]
        arms.append(_ArmRuns(runs[0].key, runs, last))
    return Table.of("Results (mean ± std of the seeds, last epoch)", RESULT_COLUMNS, arms)


def _place(run: Result) -> tuple[str, ...]:
    key = run.key
    return key.study, key.arm, key.dataset, key.tier, key.engine, key.device, key.protocol


VERDICT_COLUMNS: Columns[Verdict] = {
    "arm": lambda verdict: verdict.name,
    # A user's own training may have several metrics, and has no engine.
    "metric": lambda verdict: verdict.metric if verdict.key.engine == CALLABLE else NONE,
    "dataset": lambda verdict: verdict.key.dataset or NONE,
    "engine": lambda verdict: NONE if verdict.key.engine == CALLABLE else verdict.key.engine,
    ">seeds": lambda verdict: str(len(verdict.seeds)),
    ">measured": lambda verdict: _number(verdict.measured),
    ">reference": lambda verdict: (
        f"{verdict.band.mean:.4f} ± {verdict.band.std:.4f}" if verdict.band else NONE
    ),
    ">runs": lambda verdict: str(verdict.band.n) if verdict.band else NONE,
    ">shift": lambda verdict: _number(verdict.shift, "+.4f"),
    ">p-value": lambda verdict: _number(verdict.p_value, ".1e"),
    ">MDE": lambda verdict: _number(verdict.smallest_shift),
    "verdict": lambda verdict: verdict.outcome.value,
}


def _obstacle(power: Power) -> str:
    """Return the reason why a gate has no power, "" if it has."""
    if power.healthy:
        return ""
    equal = power.std == 0.0
    return f"no power: {'equal' if equal else 'too few'} reference runs"


def verdict_table(verdicts: Sequence[Verdict], title: str = "Verdicts") -> Table:
    """Return a table with one row per verdict.

    `reference` is the mean and standard deviation of the reference runs, `runs` their number. MDE
    is the minimum detectable effect of the gate, in the units of the metric.
    """
    return Table.of(title, VERDICT_COLUMNS, verdicts)


POWER_COLUMNS: Columns[Power] = {
    "arm": lambda power: power.key.name,
    "dataset": lambda power: power.key.dataset,
    "tier": lambda power: power.key.tier,
    ">runs": lambda power: str(power.stored),
    ">mean": lambda power: _number(power.mean),
    ">std": lambda power: _number(power.std),
    ">alpha": lambda power: f"{power.alpha:.1e}",
    ">MDE": lambda power: _number(power.smallest_shift),
    ">seeds, median (mean)": lambda power: (
        f"{power.healthy.median_seeds:.0f} ({power.healthy.mean_seeds:.1f})"
        if power.healthy
        else NONE
    ),
    ">fixed": lambda power: NONE if power.fixed_seeds is None else str(power.fixed_seeds),
    ">s per run": lambda power: _number(power.seconds, ".1f"),
    ">min per gate": lambda power: _number(power.minutes, ".2f"),
    "": lambda power: power.unjudged or _obstacle(power),
}


def power_table(powers: Sequence[Power], title: str = "Power of the gates") -> Table:
    """Return a table with one row per arm: its reference runs, and the power and cost of its gate.

    `alpha` is the arm's share of the false-alarm rate, MDE the minimum detectable effect. `seeds`
    are what a gate takes if there is no shift, `fixed` what a test that is not sequential takes.
    """
    return Table.of(title, POWER_COLUMNS, powers)


def _side(side: Side | None) -> str:
    if side is None or side.mean is None:
        return NONE if side is None else f"{side.runs} {side.engine}"
    std = "" if side.std is None else f" ± {side.std:.2g}"
    return f"{side.mean:.5g}{std}, {side.runs} {side.engine}"


COMPARISON_COLUMNS: Columns[Comparison] = {
    "arm": lambda one: one.key.name,
    "dataset, tier": lambda one: " ".join(filter(None, (one.key.dataset, one.key.tier))),
    "metric": lambda one: one.metric,
    ">A, runs": lambda one: _side(one.a),
    ">B, runs": lambda one: _side(one.b),
    ">B - A (95%)": lambda one: (
        f"{one.difference.mean:+.3g} [{one.difference.low:.3g}, {one.difference.high:.3g}]"
        if one.difference
        else NONE
    ),
    ">p (Holm)": lambda one: NONE if one.adjusted is None else f"{one.adjusted:.2g}",
    "verdict": lambda one: one.relation.value,
    "reason": lambda one: one.reason,
}


def comparison_table(comparisons: Sequence[Comparison], title: str = "Comparison") -> Table:
    """Return a table with one row per compared metric: mean and standard deviation of A and of B.

    The difference has its 95% confidence interval, and the p-value is adjusted after Holm.
    """
    return Table.of(title, COMPARISON_COLUMNS, comparisons)


def figures_table(results: Sequence[Result]) -> Table:
    """Return a table of the numbers in the figures of runs that trained many networks.

    There is one row per arm, engine and protocol, with mean and standard deviation of its seeds.
    The protocol of a user's own training is shown as its version.
    """
    versions = any(run.key.engine == CALLABLE for run in results)
    names = dict.fromkeys(
        name
        for run in results
        for name, value in run.figures.items()
        if isinstance(value, int | float)
    )
    groups: dict[tuple[str, ...], list[Result]] = {}
    for run in results:
        *place, _, protocol = _place(run)
        groups.setdefault((*place, protocol), []).append(run)
    rows = []
    for (study, arm, *place, protocol), runs in groups.items():
        cells = [_significant([_numeric(run.figures.get(name)) for run in runs]) for name in names]
        version = (protocol[:6] or "of gates",) if versions else ()
        rows.append((Key(study, arm).name, *place, *version, str(len(runs)), *cells))
    labels = ("arm", "dataset", "tier", "engine", *["version"] * versions)
    columns = (*labels, ">seeds", *(f">{name}" for name in names))
    return Table("Figures (mean ± std of the seeds)", columns, rows)


def _numeric(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def tables(results: Sequence[Result]) -> list[Table]:
    """Return the tables of results: one of single trainings, and one per study of many networks."""
    single = [run for run in results if not run.figures]
    many = [run for run in results if run.figures]
    studies = dict.fromkeys(run.key.study for run in many)
    by_study = [[run for run in many if run.key.study == study] for study in studies]
    return [results_table(single)] * bool(single) + list(map(figures_table, by_study))


def summary_table(model: Model) -> Table:
    """Return the summary of a model, as Keras prints it: layers, output shapes and parameters.

    If the model branches, a column has the inputs of each layer. Named inputs come first.
    """
    branches = model.connections is not None
    columns = ("layer", "options", *(["inputs"] if branches else []), *SUMMARY_COLUMNS)
    rows: list[tuple[str, ...]] = [
        (each.name, f"input of {VALUES[each.dtype]}", "", _batch_shape(each.shape), "0")
        for each in model.inputs
    ]
    for row in model.table:
        count = sum(tensor.size for tensor in model.tensors_of(row.place))
        shape = _batch_shape(row.output_shape)
        inputs = [", ".join(row.inputs)] if branches else []
        rows.append((row.name, row.layer.title(), *inputs, shape, f"{count:,}"))
    counts = model.counts
    title = (
        f"{model.name}: {counts.total:,} parameters, {counts.trainable:,} trainable, "
        f"{counts.non_trainable:,} non-trainable"
    )
    return Table(title, columns, rows)


def _batch_shape(shape: Shape) -> str:
    return "(None, " + ", ".join(map(str, shape)) + ")"


SUMMARY_COLUMNS = (">output shape", ">parameters")
