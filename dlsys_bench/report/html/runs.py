"""The sections about stored runs: figures, curves, changes between runs, and claims."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple, cast

from dlsys_bench.attributes import load_attribute
from dlsys_bench.errors import count_of
from dlsys_bench.report.html.curves import curve_sections
from dlsys_bench.report.html.page import Graphic, Section, Sheet
from dlsys_bench.report.html.strips import Strip, axis, draw, scale_of
from dlsys_bench.report.layout import NONE
from dlsys_bench.report.plots.groups import Group, groups
from dlsys_bench.report.plots.table import DEFAULT, plots
from dlsys_bench.report.sections import appendices, draws, engines_table, made, place_of, powers
from dlsys_bench.report.tables import figures_table
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import file_name, find_reference, read
from dlsys_bench.studies.base import Published
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.bands import FEWEST_RUNS, Band

BAND = 0.02
"""The probability that a new healthy run lies outside of the band that is drawn."""

PublishedFigures = Callable[[str], Sequence[Published]]
"""Returns the published figures of a study, given its name."""

DRAWN = "runs"
MOST_METRICS = 8
"""The number of figures of a user's own training that are shown."""


class ArmLine(NamedTuple):
    """A row of a table of runs: the runs of an arm, their strip, and the reference band."""

    group: Group
    strip: Strip
    band: Band | None

    @property
    def cells(self) -> tuple[str, ...]:
        """The text of the row before the strip."""
        run, values = self.group.runs[0], [value for _, value in self.strip.dots]
        spread = f" ± {stdev(values):.4g}" if len(values) > 1 else ""
        device = "" if run.key.device in ("", "cpu") else f" ({run.key.device})"
        return (
            run.key.arm or run.key.study,
            f"{run.key.engine}{device}",
            str(len(self.group.runs)),
            f"{mean(values):.5g}{spread}" if values else NONE,
            f"{self.band.mean:.5g} ± {self.band.std:.2g}" if self.band else NONE,
            ", ".join(f"{value:g}" for _, value in self.strip.marks) or NONE,
        )

    @property
    def remark(self) -> str:
        """The number of runs that have no dot."""
        lost = len(self.group.runs) - len(self.strip.dots)
        return f"{lost} diverged or without the figure" if lost else ""


def run_sections(
    results: Sequence[Result], folder: Path, on_study: Callable[[str], None] = lambda name: None
) -> list[Section]:
    """Return the sections about stored runs. Plots that are files are drawn in `folder`.

    `on_study` gets the name of each study whose sections are made.
    """
    names = list(dict.fromkeys(run.key.study for run in results))
    added = appendices(names, results)
    found: list[Section] = []
    for name in names:
        own = [run for run in results if run.key.study == name]
        for place, group in groupby(sorted(own, key=place_of), place_of):
            found += _place_sections(name, place, list(group), folder)
        known = studies().get(name)
        budget = [Sheet.of(table) for table in powers(known, own)] if known else []
        if budget:
            text = ("What the gates of the study can find, from its reference runs.",)
            found.append(Section(f"Error budget of {name}", text, budget))
        if added.get(name):
            sheets = [Sheet.of(table) for table in added[name]]
            found.append(Section(f"Claims about {name}", sheets=sheets))
        on_study(name)
    if engines := made("the comparison of engines", partial(engines_table, results)):
        found.append(Section("Engines over all arms", sheets=[Sheet.of(engines)]))
    return found


def _place_sections(
    study: str, place: tuple[str, str], runs: Sequence[Result], folder: Path
) -> list[Section]:
    """The sections about the runs of a study on one dataset and tier."""
    where = ", ".join(filter(None, place))
    title = f"{study} on {where}" if where else study
    known = studies().get(study)
    grouped = groups(runs)
    stored = read(path) if (path := find_reference(study, *place)).exists() else []
    found_sheets = [_sheet(metric, grouped, stored) for metric in _metrics(study, runs)]
    sheets = [sheet for sheet in found_sheets if sheet is not None]
    figures = figures_table(runs)
    if known is not None and figures.rows and len(figures.columns) > 5:
        sheets.append(Sheet.of(figures))
    text = (known.title,) if known else ()
    note = (
        "Each dot is a run. The band holds 98% of healthy runs, under a normal distribution of the "
        "reference runs, and a diamond is a published figure.",
    )
    found = [
        Section(
            title,
            (*text, *note),
            sheets,
            panels=_pictures(title, runs, folder),
            commands=_replays(runs),
            closed=True,
        )
    ]
    return [*found, *curve_sections(title, grouped)]


def _metrics(study: str, runs: Sequence[Result]) -> list[str]:
    """The metric of the study; of a user's own training each of its figures."""
    if study in studies():
        return [studies()[study].metric.name]
    numbers = dict.fromkeys(
        name
        for run in runs
        for name, value in run.figures.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )
    return list(numbers)[:MOST_METRICS] or ["test_accuracy"]


def _sheet(metric: str, grouped: Sequence[Group], stored: Sequence[Result]) -> Sheet | None:
    lines = [_arm_line(metric, group, stored) for group in grouped]
    if not any(line.strip.dots for line in lines):
        return None
    scale = scale_of([line.strip for line in lines])
    rows = [(*line.cells, draw(line.strip, scale), line.remark) for line in lines]
    columns = ("arm", "engine", ">runs", ">mean ± std", ">reference", ">published", DRAWN, "remark")
    return Sheet(metric, columns, rows, axis(scale), DRAWN)


def _arm_line(metric: str, group: Group, stored: Sequence[Result]) -> ArmLine:
    run = group.runs[0]
    found = [(f"seed {one.seed}", one.metric(metric)) for one in group.runs]
    dots = [(label, value) for label, value in found if value is not None]
    band = _band(run, metric, stored)
    strip = Strip(
        f"{metric}: {group.label}, {count_of(len(dots), 'run')}",
        dots,
        band=band.interval(BAND) if band else None,
        marks=[(one.source, one.value) for one in _published(run, metric)],
    )
    return ArmLine(group, strip, band)


def _band(run: Result, metric: str, stored: Sequence[Result]) -> Band | None:
    """The band of the reference runs of an arm by the same protocol; None if there are few."""
    place = run.key.arm, run.key.protocol
    values = [
        value
        for one in stored
        if (one.key.arm, one.key.protocol) == place and (value := one.metric(metric)) is not None
    ]
    return Band.of(values, "") if len(values) >= FEWEST_RUNS else None


def _published(run: Result, metric: str) -> list[Published]:
    known = studies().get(run.key.study)
    if known is None or not known.published or run.key.tier != "full":
        return []
    figures = cast(PublishedFigures, load_attribute(known.published, "published figures"))
    return [one for one in figures(known.name) if (one.arm, one.metric) == (run.key.arm, metric)]


def _pictures(title: str, runs: Sequence[Result], folder: Path) -> list[Graphic]:
    """The plots that the study registers, besides the curves, which the page draws itself."""
    known = studies().get(runs[0].key.study)
    found = []
    for plot in known.plots if known else ():
        if plot != DEFAULT and draws(plot, runs):
            path = folder / f"{file_name(runs[0].key.study, *place_of(runs[0]), plot)}.png"
            if drawn := made(f"the plot {plot} of {title}", partial(plots()[plot], runs, path)):
                found.append(Graphic(f"{title}: {plot}", drawn))
    return found


def _replays(runs: Sequence[Result]) -> list[tuple[str, str]]:
    """The command that repeats the runs of each arm and engine, of registered studies."""
    found: dict[str, list[Result]] = {}
    for run in runs:
        if run.key.study in studies():
            found.setdefault(f"{run.key.name}, {run.key.engine}", []).append(run)
    return [(label, _replay(group)) for label, group in found.items()]


def _replay(runs: Sequence[Result]) -> str:
    key, seeds = runs[0].key, [run.seed for run in runs]
    options = ["--engine", key.engine, "--device", key.device, "--dataset", key.dataset]
    options += ["--tier", key.tier, "--first-seed", str(min(seeds))]
    options += ["--seeds", str(max(seeds) - min(seeds) + 1)]
    return shlex.join(["dlsys-bench", "run", key.name, *options])
