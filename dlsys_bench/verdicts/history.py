"""The history of figures over commits: of stored runs, and of sessions of pytest-benchmark."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from dlsys_bench.errors import StoreWarning, UserError
from dlsys_bench.runs.key import CALLABLE
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import read
from dlsys_bench.studies.registry import studies
from dlsys_bench.text import one_line
from dlsys_bench.timing.benchmark_file import read_benchmarks, value_at
from dlsys_bench.verdicts.change_points import ChangePoint, change_points

SHORT, MINUTE = 12, 16
"""The numbers of characters of a commit and of a time that tables show."""

SECONDS = "s"
"""The unit of benchmarks; the figures of runs have none."""


class Moment(NamedTuple):
    """A commit, the time of its first figure, and all its figures of one series."""

    commit: str
    time: str
    values: tuple[float, ...]

    @property
    def value(self) -> float:
        """The median of the figures."""
        return median(self.values)

    @property
    def label(self) -> str:
        """The beginning of the commit; without one, the time to the minute."""
        return self.commit[: MINUTE if self.commit == self.time else SHORT]


@dataclass(frozen=True)
class FigureSeries:
    """A series: its name, its unit, its moments in order, and its changes."""

    name: str
    unit: str
    moments: Sequence[Moment]
    changes: Sequence[ChangePoint]


class _Figure(NamedTuple):
    name: str
    unit: str
    commit: str
    time: str
    value: float


def read_histories(paths: Iterable[Path], metric: str | None, alpha: float) -> list[FigureSeries]:
    """Return the series of all figures in files of runs and of pytest-benchmark.

    The false-alarm rate `alpha` is shared equally over the series (Bonferroni). A file that cannot
    be read is left out with a warning. Raises UserError if no file can be, or for no values.
    """
    paths, figures, errors = list(paths), list[_Figure](), list[UserError]()
    for path in paths:
        try:
            figures += _figures(path, metric)
        except UserError as error:
            errors.append(error)
    if len(errors) == len(paths):
        raise errors[0]
    for reason in errors:
        warnings.warn(f"left out: {reason}", StoreWarning, stacklevel=2)
    if not figures:
        what = f"metric {metric!r}" if metric else "metrics"
        raise UserError(f"no {what} in {', '.join(map(str, paths))}: there is no history")
    series: dict[tuple[str, str], list[_Figure]] = defaultdict(list)
    for figure in figures:
        series[figure.name, figure.unit].append(figure)
    each = alpha / len(series)
    found = []
    for (name, unit), group in series.items():
        moments = _moments(group)
        changes = change_points([one.value for one in moments], each)
        found.append(FigureSeries(name, unit, moments, changes))
    return found


def _moments(figures: Sequence[_Figure]) -> list[Moment]:
    """Return the moments of a series, in the order of their first figures."""
    by_commit: dict[str, list[_Figure]] = defaultdict(list)
    for figure in sorted(figures, key=lambda one: one.time):
        by_commit[figure.commit].append(figure)
    return [
        Moment(commit, group[0].time, tuple(one.value for one in group))
        for commit, group in by_commit.items()
    ]


def _figures(path: Path, metric: str | None) -> list[_Figure]:
    if path.suffix == ".json":
        return _benchmark_figures(path)
    return [figure for run in read(path) for figure in _run_figures(run, metric)]


def _run_figures(run: Result, metric: str | None) -> list[_Figure]:
    key, provenance = run.key, run.provenance
    time = str(provenance.get("time", ""))
    place = " ".join(filter(None, (key.name, key.dataset, key.tier, key.engine, key.device)))
    names = [metric] if metric else _metrics(run)
    found = []
    for name in names:
        value = run.metric(name)
        if value is not None:
            commit = _commit(provenance, time)
            found.append(_Figure(f"{place}: {name}", "", commit, time, value))
    return found


def _metrics(run: Result) -> list[str]:
    """The metric of the study; of a user's own training each of its figures."""
    if run.key.engine == CALLABLE:
        return [name for name, value in run.figures.items() if isinstance(value, int | float)]
    known = studies().get(run.key.study)
    return [known.metric.name if known else "test_accuracy"]


def _commit(provenance: Any, time: str) -> str:
    """The commit of the user's training or of the package; without one, the time."""
    own = value_at(provenance, "training.commit") or provenance.get("commit")
    return one_line(own or time)


def _benchmark_figures(path: Path) -> list[_Figure]:
    """The median of each benchmark of a session."""
    file = read_benchmarks(path)
    time = one_line(file.content.get("datetime") or "")
    commit = one_line(value_at(file.content, "commit_info.id") or path.stem)
    return [
        _Figure(f"{name}: median", SECONDS, commit, time, median(one.seconds))
        for name, one in file.benchmarks.items()
    ]
