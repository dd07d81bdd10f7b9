"""Results and verdicts as tables, for a terminal or for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dlsys_bench.runs.result import Result
from dlsys_bench.spec.model import Model

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from dlsys_bench.runs.store import Record
    from dlsys_bench.verdicts.compare import Comparison, Side
    from dlsys_bench.verdicts.power import Power
    from dlsys_bench.verdicts.verdict import Verdict

NONE = "-"


class Table(NamedTuple):
    """A title, the column heads and the rows, all text. A head that starts with ">" is of
    numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """A Markdown table under its title."""
        heads = [column.lstrip(">") for column in self.columns]
        rule = ["--:" if column.startswith(">") else "---" for column in self.columns]
        lines = [heads, rule, *([cell.replace("|", "\\|") for cell in row] for row in self.rows)]
        return f"### {self.title}\n\n" + "".join("| " + " | ".join(line) + " |\n" for line in lines)

    def rich(self) -> RichTable:
        """A table for a terminal."""
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(title=self.title, title_justify="left", title_style="bold")
        for column in self.columns:
            table.add_column(
                column.lstrip(">"),
                justify="right" if column.startswith(">") else "left",
                overflow="fold",
            )
        colours = {
            "PASS": "green",
            "FAIL": "bold red",
            "INCONCLUSIVE": "yellow",
            "UNJUDGED": "dim",
            "SAME": "green",
            "DIFFERS": "bold red",
            "UNDECIDED": "yellow",
            "FASTER": "green",
            "SLOWER": "bold red",
            "AMBIGUOUS": "yellow",
        }
        for row in self.rows:
            table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
        return table


def _figure(values: Iterable[float | None], digits: int = 4) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    mean = f"{np.mean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {np.std(known, ddof=1):.{digits}f}"


def _significant(values: Iterable[float | None]) -> str:
    """Mean and spread of figures of any size, to four digits."""
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    if not spread and float(known[0]).is_integer():
        return f"{known[0]:.0f}"
    return f"{np.mean(known):.4g}" + (f" ± {spread:.2g}" if spread else "")


def results_table(results: Sequence[Result]) -> Table:
    """A row an arm and engine: the mean of its seeds, and their spread where there are several."""

    def key(run: Result) -> tuple[str, ...]:
        return (
            run.key.study,
            run.key.arm,
            run.key.dataset,
            run.key.tier,
            run.key.engine,
            run.key.device,
        )

    # Sorted by name but for the arms, which keep the order in which they were run.
    places = {key(run)[:2]: place for place, run in reversed(list(enumerate(results)))}
    ordered = sorted(results, key=lambda run: (places[key(run)[:2]], key(run)))
    rows = []
    for (study, arm, dataset, tier, engine, device), group in groupby(ordered, key):
        runs = list(group)
        good = [run.last for run in runs if run.status == "finished" and run.last is not None]
        seconds = [
            float(np.median([epoch.seconds for epoch in run.history]))
            for run in runs
            if run.history
        ]
        rows.append(
            (
                f"{study}/{arm}",
                dataset,
                tier,
                engine if device == "cpu" else f"{engine} ({device})",
                str(len(runs)),
                _figure(epoch.running_loss for epoch in good),
                _figure(epoch.running_accuracy for epoch in good),
                _figure(epoch.train_accuracy for epoch in good),
                _figure(epoch.validation_accuracy for epoch in good),
                _figure(epoch.test_accuracy for epoch in good),
                _figure(epoch.test_loss for epoch in good),
                _figure(seconds, 2),
                "" if len(good) == len(runs) else f"{len(runs) - len(good)} diverged",
            )
        )
    columns = (
        "arm",
        "dataset",
        "tier",
        "engine",
        ">seeds",
        ">running loss",
        ">running acc",
        ">train acc",
        ">val acc",
        ">test acc",
        ">test loss",
        ">s/epoch",
        "",
    )
    return Table("Results (mean ± spread of the seeds, last epoch)", columns, rows)


def verdict_table(verdicts: Sequence[Verdict], title: str = "Verdicts") -> Table:
    """A row a verdict: measured, stored, how far apart, and what the gate can see."""
    rows = []
    for verdict in verdicts:
        band = verdict.band
        rows.append(
            (
                verdict.name,
                verdict.key.dataset or NONE,
                verdict.key.engine,
                str(len(verdict.seeds)),
                _digits(verdict.measured),
                f"{band.mean:.4f} ± {band.spread:.4f}" if band else NONE,
                str(band.n) if band else NONE,
                _digits(verdict.shift, "+.4f"),
                _digits(verdict.chance, ".1e"),
                _digits(verdict.smallest_shift),
                verdict.outcome.value,
            )
        )
    columns = (
        "arm",
        "dataset",
        "engine",
        ">seeds",
        ">measured",
        ">stored",
        ">runs",
        ">shift",
        ">chance",
        ">sees from",
        "verdict",
    )
    return Table(title, columns, rows)


def power_table(powers: Sequence[Power], title: str = "What the gates see") -> Table:
    """A row an arm: its stored runs, its share of alpha, the smallest shift it sees, and what a
    gate costs."""
    rows = []
    for one in powers:
        healthy = one.healthy
        rows.append(
            (
                f"{one.key.study}/{one.key.arm}",
                one.key.dataset,
                one.key.tier,
                str(one.stored),
                _digits(one.mean),
                _digits(one.spread),
                f"{one.alpha:.1e}",
                _digits(one.smallest_shift),
                NONE
                if healthy is None
                else f"{healthy.median_seeds:.0f} ({healthy.mean_seeds:.1f})",
                NONE if one.fixed_seeds is None else str(one.fixed_seeds),
                _digits(one.seconds, ".1f"),
                _digits(one.minutes, ".2f"),
                one.unjudged or ("" if healthy else "sees nothing: too few stored runs"),
            )
        )
    columns = (
        "arm",
        "dataset",
        "tier",
        ">runs",
        ">mean",
        ">spread",
        ">alpha",
        ">sees from",
        ">seeds, median (mean)",
        ">fixed",
        ">s a run",
        ">min a gate",
        "",
    )
    return Table(title, columns, rows)


def _digits(value: float | None, form: str = ".4f") -> str:
    return NONE if value is None or not isfinite(value) else format(value, form)


def comparison_table(comparisons: Sequence[Comparison], title: str = "Comparison") -> Table:
    """A row a figure of an arm in two sets of runs: mean and spread of each, B minus A, what
    becomes of it and why."""

    def side(of: Side | None) -> str:
        if of is None or of.mean is None:
            return NONE if of is None else f"{of.runs} {of.engine}"
        spread = "" if of.spread is None else f" ± {of.spread:.2g}"
        return f"{of.mean:.5g}{spread}, {of.runs} {of.engine}"

    rows = []
    for one in comparisons:
        gap = one.difference
        rows.append(
            (
                "/".join(filter(None, (one.key.study, one.key.arm))),
                " ".join(filter(None, (one.key.dataset, one.key.tier))),
                one.metric,
                side(one.a),
                side(one.b),
                f"{gap.mean:+.3g} [{gap.low:.3g}, {gap.high:.3g}]" if gap else NONE,
                NONE if one.adjusted is None else f"{one.adjusted:.2g}",
                one.relation.value,
                one.reason,
            )
        )
    columns = (
        "arm",
        "on",
        "figure",
        "A, runs",
        "B, runs",
        ">B - A (95%)",
        ">p (Holm)",
        "verdict",
        "why",
    )
    return Table(title, columns, rows)


def figures_table(results: Sequence[Result]) -> Table:
    """A row an arm and engine of a study of many networks: its figures that are single numbers,
    mean and spread."""

    def key(run: Result) -> tuple[str, ...]:
        return run.key.study, run.key.arm, run.key.dataset, run.key.tier, run.key.engine

    names = list(
        dict.fromkeys(
            name
            for run in results
            for name, value in run.figures.items()
            if isinstance(value, int | float)
        )
    )
    rows = []
    for group in dict.fromkeys(map(key, results)):
        runs = [run for run in results if key(run) == group]
        cells = [_significant([_number(run.figures.get(name)) for run in runs]) for name in names]
        rows.append((f"{group[0]}/{group[1]}", *group[2:], str(len(runs)), *cells))
    columns = ("arm", "dataset", "tier", "engine", ">seeds", *(f">{name}" for name in names))
    return Table("Figures (mean ± spread of the seeds)", columns, rows)


def runs_table(records: Sequence[Record], title: str = "Stored runs") -> Table:
    """A row an arm, engine and protocol: how many runs are stored, and since when."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        run = record.result
        place = f"{run.key.study}/{run.key.arm}" if run.key.arm else run.key.study
        key = (
            place,
            run.key.dataset or NONE,
            run.key.tier or NONE,
            run.key.engine,
            run.key.device or NONE,
            run.key.protocol or NONE,
        )
        groups.setdefault(key, []).append(record)
    rows = [
        (
            *key[:5],
            str(len(group)),
            str(len({record.result.seed for record in group})),
            str(sum(record.result.status != "finished" for record in group)),
            min(record.time for record in group),
            max(record.time for record in group),
            key[5],
        )
        for key, group in groups.items()
    ]
    columns = (
        "arm",
        "dataset",
        "tier",
        "engine",
        "device",
        ">runs",
        ">seeds",
        ">diverged",
        "first",
        "last",
        "protocol",
    )
    return Table(title, columns, rows)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def tables(results: Sequence[Result]) -> list[Table]:
    """What there is to say of results: of those that trained one network each, and of each study
    that measured many."""
    found = (
        [results_table(single)] if (single := [run for run in results if not run.figures]) else []
    )
    many = [run for run in results if run.figures]
    studies = dict.fromkeys(run.key.study for run in many)
    return found + [
        figures_table([run for run in many if run.key.study == study]) for study in studies
    ]


def summary_table(model: Model) -> Table:
    """A model as Keras's users know it: layer, output shape, parameters."""
    rows = [
        (name, title, "(None, " + ", ".join(map(str, shape)) + ")", f"{count:,}")
        for name, title, shape, count in model.rows()
    ]
    counts = model.counts
    title = (
        f"{model.name}: {counts.total:,} parameters, {counts.trainable:,} trainable, "
        f"{counts.non_trainable:,} non-trainable"
    )
    return Table(title, ("layer", "options", ">output shape", ">parameters"), rows)
