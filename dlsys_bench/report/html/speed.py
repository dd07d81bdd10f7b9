"""The sections about speed: throughput, crossover, roofline, and time to accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlsys_bench.errors import UserError
from dlsys_bench.report.html.charts import Axes, Line, chart, legend
from dlsys_bench.report.html.page import Graphic, Section, Sheet
from dlsys_bench.report.html.strips import Strip, axis, draw, scale_of
from dlsys_bench.report.layout import NONE
from dlsys_bench.report.speed import (
    VARIABLES,
    SpeedPoint,
    Variable,
    crossover,
    series,
    speed_tables,
    workload,
)
from dlsys_bench.report.to_accuracy import EngineRuns
from dlsys_bench.timing.benchmark_file import BenchmarkFile, value_at
from dlsys_bench.timing.points import Measurement
from dlsys_bench.timing.roofline import ROOFLINE

THROUGHPUT = "samples per second"
DRAWN = "runs, s"
OF_PEAK = "of the peak"


def speed_sections(points: Sequence[SpeedPoint]) -> list[Section]:
    """Return the sections about points of a sweep."""
    drawn: list[tuple[str, list[Line], Axes]] = []
    for variable in VARIABLES:
        lines = _lines(points, variable)
        for name, group in lines.items():
            axes = Axes(variable.label, THROUGHPUT, log_x=True, log_y=True)
            drawn.append((f"{name} by {variable.label}", group, axes))
    styles = list(dict.fromkeys(line.name for _, group, _ in drawn for line in group))
    panels = [
        Graphic(caption, chart(caption, group, axes, styles)) for caption, group, axes in drawn
    ]
    remarks = [
        f"{name}: {crossover([p for p in points if workload(p) == name])}."
        for name in dict.fromkeys(map(workload, points))
    ]
    found = [
        Section(
            "Throughput",
            ("Medians, with their 95% intervals as ranges.", *remarks),
            [Sheet.of(table) for table in speed_tables(points)],
            legend(styles) if panels else None,
            panels,
        )
    ]
    return [*found, *_roofline(points)]


def _name(point: Mapping[str, Any]) -> str:
    device = "" if point["device"] == "cpu" else f" on {point['device']}"
    return f"{point['engine']}{device}, {point['dtype']}"


def _lines(points: Sequence[SpeedPoint], variable: Variable) -> dict[str, list[Line]]:
    """Return the series over a variable, by workload."""
    found: dict[str, list[Line]] = {}
    for key, group in series(points, variable).items():
        line = Line(
            _name(dict(key)),
            [float(point[variable.field]) for point in group],
            [point["samples_a_second"] for point in group],
            [point["samples_a_second_low"] for point in group],
            [point["samples_a_second_high"] for point in group],
        )
        found.setdefault(workload(dict(key)), []).append(line)
    return found


def _roofline(points: Sequence[SpeedPoint]) -> list[Section]:
    """The rate of operations by the work of a step: fixed costs limit small steps, the peak of the
    machine large ones."""
    known = [p for p in points if p.get("gflops") and p["threads"] is None]
    by_name: dict[str, list[tuple[float, float]]] = {}
    for point in known:
        work = point["gflops"] * point["microseconds_a_step"] / 1e6
        by_name.setdefault(_name(point), []).append((work, point["gflops"]))
    lines = []
    for name, pairs in by_name.items():
        best: dict[float, float] = {}
        for work, rate in sorted(pairs):
            best[round(work, 9)] = max(rate, best.get(round(work, 9), 0.0))
        lines.append(Line(name, list(best), list(best.values())))
    if roof := _roof(known):
        lines.append(roof)
    if not any(len(line.x) > 1 for line in lines):
        return []
    styles = [line.name for line in lines]
    axes = Axes("work of a step, GFLOP", "GFLOP per second", log_x=True, log_y=True)
    caption = "Rate by work of a step"
    text = (
        "Operations are counted from the specification. Where a line rises, the fixed cost of a "
        "step limits the rate; where it is flat, the machine or the kernels do. The bound is the "
        "work of a step over the least time for its operations at the peak of the matrix product, "
        "or for its bytes at the bandwidth of a copy, whichever is longer in each phase; both were "
        "measured with the points.",
    )
    panel = Graphic(caption, chart(caption, lines, axes, styles))
    return [Section("Roofline", text, legend=legend(styles), panels=[panel])]


def _roof(points: Sequence[SpeedPoint]) -> Line | None:
    """Return the rates that the machine allows by the work of a step, None if no bound is known."""
    highest: dict[float, float] = {}
    for point in points:
        if bound := point.get("roofline"):
            work = point["gflops"] * point["microseconds_a_step"] / 1e6
            rate = 1e6 * work / bound["bound_microseconds"]
            highest[round(work, 9)] = max(rate, highest.get(round(work, 9), 0.0))
    works = sorted(highest)
    return Line("bound of the machine", works, [highest[work] for work in works]) if works else None


def _phases_sheet(session: BenchmarkFile) -> list[Sheet]:
    """Return the bounds of each benchmark by phase, nothing if it states none."""
    rows = []
    for name, one in session.benchmarks.items():
        try:
            bound = ROOFLINE.read(value_at(one.record, "extra_info.roofline"), "roofline")
        except ValueError:
            continue
        peak, bandwidth = bound["matrix_peak_gflops"], bound["bandwidth_gigabytes_per_second"]
        for phase, own in bound["phases"].items():
            product = own["megaflop"] / peak >= own["megabytes"] / bandwidth
            figures = (own["megaflop"], own["megabytes"], own["bound_microseconds"])
            limit = "products" if product else "memory"
            rows.append((name, phase, *(f"{figure:.4g}" for figure in figures), limit, ""))
        whole, fraction = bound["bound_microseconds"], bound.get("fraction")
        reached = NONE if fraction is None else f"{fraction:.1%}"
        rows.append((name, "step", "", "", f"{whole:.4g}", "", reached))
    columns = ("benchmark", "phase", ">MFLOP", ">MB", ">bound, µs", "limited by", ">reached")
    return [Sheet("Bounds by phase", columns, rows)] if rows else []


def peak_section(session: BenchmarkFile) -> Section:
    """Return a section with the fraction of the matrix peak that each benchmark reaches.

    Raises UserError if no benchmark of the session states its operations and the peak.
    """
    rates = {
        name: (rate, one.peak)
        for name, one in session.benchmarks.items()
        if one.peak and isinstance(rate := value_at(one.record, "extra_info.gflops"), int | float)
    }
    if not rates:
        raise UserError(
            f"no benchmark of {session.path} has a fraction of the peak: "
            "train_benchmark(..., flops=...) adds it"
        )
    strips = [
        Strip(f"{name}: {rate / peak:.0%} of the peak", (("of the peak", rate / peak),))
        for name, (rate, peak) in rates.items()
    ]
    scale = scale_of(strips, (0.0, 1.0))
    rows = [
        (name, f"{rate:.4g}", f"{peak:.4g}", f"{rate / peak:.1%}", draw(strip, scale, (1.0,)))
        for (name, (rate, peak)), strip in zip(rates.items(), strips, strict=True)
    ]
    columns = ("benchmark", ">GFLOP/s", ">peak, GFLOP/s", ">fraction", OF_PEAK)
    text = (
        "The bound is the peak of a product of large matrices in the same session. Operations are "
        "counted from the specification, or by the author of the benchmark.",
    )
    sheet = Sheet("Benchmarks", columns, rows, axis(scale), OF_PEAK)
    return Section("Fraction of the matrix peak", text, [sheet, *_phases_sheet(session)])


def to_accuracy_sections(runs: Sequence[Measurement]) -> list[Section]:
    """Return a section with the times of each engine to the target of its arm."""
    groups: dict[tuple[str, ...], list[Measurement]] = {}
    for run in runs:
        place = tuple(str(run[name]) for name in ("study", "arm", "dataset", "tier"))
        groups.setdefault((*place, str(run["engine"]), str(run["device"])), []).append(run)
    strips = []
    for place, group in groups.items():
        dots = [(f"seed {run['seed']}", _seconds(run)) for run in group]
        strips.append(Strip(f"{place[4]} on {place[0]}/{place[1]}", dots))
    scale = scale_of(strips, (0.0,))
    rows = []
    for (place, group), strip in zip(groups.items(), strips, strict=True):
        median = EngineRuns(place[4], place[5], group).median("seconds")
        reached = sum(bool(run["reached"]) for run in group)
        target = group[0]["target"]
        rows.append(
            (
                f"{place[0]}/{place[1]}",
                " ".join(place[2:4]),
                *place[4:],
                f"{target['metric']} {target['value']:.4f}",
                str(median),
                f"{reached} of {len(group)}",
                draw(strip, scale),
            )
        )
    heads = ("arm", "dataset, tier", "engine", "device", "target")
    columns = (*heads, ">median, s (95%)", ">reached", DRAWN)
    text = (
        "Seconds of training until the network is as accurate as its reference runs. A cross at "
        "the end is a run that did not reach the target.",
    )
    sheet = Sheet("Time to accuracy", columns, rows, axis(scale), DRAWN)
    return [Section("Time to accuracy", text, [sheet])]


def _seconds(run: Measurement) -> float:
    return float(run["seconds"]) if run["reached"] else float("inf")
