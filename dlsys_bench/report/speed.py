"""Tables of training throughput and memory by the size of the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dlsys_bench.report.layout import NONE
from dlsys_bench.report.table import Table

SpeedPoint = Mapping[str, Any]
"""A measured point of `bench sweep`: its fields and the measurements."""

SeriesKey = tuple[tuple[str, Any], ...]
"""The fields that the points of a series have in common, with their values."""


class Variable(NamedTuple):
    """A quantity that is varied: the field of a point, and the label of its axis."""

    field: str
    label: str


VARIABLES = (
    Variable("batch_size", "batch size (samples)"),
    Variable("threads", "threads"),
    Variable("replicas", "networks trained as one"),
    Variable("parameters", "parameters of the network"),
)

FIELDS = ("study", "arm", "engine", "device", "dtype", "batch_size", "threads", "replicas")


def series(points: Sequence[SpeedPoint], variable: Variable) -> dict[SeriesKey, list[SpeedPoint]]:
    """Return the series of points that differ in one variable alone, in its order.

    A series has at least two points. The size of a network is a property of its arm, so that a
    series over "parameters" has several arms; arms of the same size are no series.
    """
    varied = {variable.field, "arm"} if variable.field == "parameters" else {variable.field}
    fixed = [name for name in FIELDS if name not in varied]
    found: dict[SeriesKey, list[SpeedPoint]] = {}
    for point in points:
        if point[variable.field] is not None:
            found.setdefault(tuple((name, point[name]) for name in fixed), []).append(point)
    return {
        key: sorted(group, key=lambda point: point[variable.field])
        for key, group in found.items()
        if 1 < len({point[variable.field] for point in group}) == len(group)
    }


def workload(point: SpeedPoint | dict[str, Any]) -> str:
    """Return the name of the study and, if there is one, the arm of a point or of a series' key."""
    return f"{point['study']}/{point['arm']}" if "arm" in point else str(point["study"])


def memory(point: SpeedPoint) -> float | None:
    """Return the peak memory in MiB.

    On a GPU it is the memory that the framework allocated there, or None if the framework does not
    report it; on the CPU it is the memory of the process.
    """
    cpu = point["device"] == "cpu"
    peak = point["peak_memory_bytes"] if cpu else point.get("peak_device_memory_bytes")
    return None if peak is None else float(peak) / 2**20


def speed_tables(points: Sequence[SpeedPoint]) -> list[Table]:
    """Return a table of samples per second by batch size for each workload, and one of all points.

    The former state from which batch size on a GPU is faster, and have one row per engine, device
    and dtype. The latter has medians with their 95% confidence intervals.
    """
    names = dict.fromkeys(map(workload, points))
    found = [_batch_size_table(name, points) for name in names]
    return [*(table for table in found if table), _points_table(points)]


def _batch_size_table(name: str, points: Sequence[SpeedPoint]) -> Table | None:
    """Return the table of a workload, None if only one batch size was measured."""
    chosen = [
        point
        for point in points
        if workload(point) == name and point["threads"] is None and point["replicas"] == 1
    ]
    sizes = sorted({point["batch_size"] for point in chosen})
    if len(sizes) < 2:
        return None
    rates: dict[tuple[str, ...], dict[int, str]] = {}
    for point in chosen:
        place = (point["engine"], point["device"], point["dtype"])
        rates.setdefault(place, {})[point["batch_size"]] = f"{point['samples_a_second']:,.0f}"
    rows = [
        (*place, *(by_size.get(size, NONE) for size in sizes)) for place, by_size in rates.items()
    ]
    heads = ("engine", "device", "dtype", *(f">{size}" for size in sizes))
    return Table(f"{name}: samples per second by batch size; {crossover(chosen)}", heads, rows)


def _points_table(points: Sequence[SpeedPoint]) -> Table:
    heads = (
        *("study", "arm", "engine", "device", "dtype", ">batch", ">threads", ">networks"),
        *(">samples per second", ">µs per step", ">bound, µs", ">of the bound", ">first steps, s"),
        *(">memory, MiB", ">background load", "GPU slowed by", "commit"),
    )
    return Table("All points", heads, [_row(point) for point in points])


def _row(point: SpeedPoint) -> tuple[str, ...]:
    rate, load, peak = f"{point['samples_a_second']:,.0f}", point["others_share"], memory(point)
    slowed_by = (point.get("gpu") or {}).get("slowed_by")
    bound, first = point.get("roofline"), point.get("first_steps_seconds")
    interval = f" [{point['samples_a_second_low']:,.0f}, {point['samples_a_second_high']:,.0f}]"
    return (
        *(str(point[name]) for name in ("study", "arm", "engine", "device", "dtype")),
        str(point["batch_size"]),
        NONE if point["threads"] is None else str(point["threads"]),
        str(point["replicas"]),
        rate + interval,
        f"{point['microseconds_a_step']:,.0f}",
        f"{bound['bound_microseconds']:,.1f}" if bound else NONE,
        f"{bound['fraction']:.1%}" if bound else NONE,
        NONE if first is None else f"{first:.2g}",
        NONE if peak is None else f"{peak:,.0f}",
        NONE if load is None else f"{load:.0%}",
        NONE if slowed_by is None else ", ".join(slowed_by) or "not slowed",
        str(point["provenance"]["commit"]),
    )


def crossover(points: Sequence[SpeedPoint]) -> str:
    """Return from which batch size a GPU is faster, as a phrase; by dtype where they differ."""
    dtypes = list(dict.fromkeys(point["dtype"] for point in points))
    texts = [_crossover([point for point in points if point["dtype"] == dtype]) for dtype in dtypes]
    if len(set(texts)) == 1:
        return texts[0]
    return "; ".join(f"{dtype}: {text}" for dtype, text in zip(dtypes, texts, strict=True))


def _crossover(points: Sequence[SpeedPoint]) -> str:
    best: dict[tuple[bool, int], float] = {}
    for point in points:
        key = point["device"] != "cpu", point["batch_size"]
        best[key] = max(best.get(key, 0.0), point["samples_a_second"])
    sizes = sorted({size for gpu, size in best if gpu and (False, size) in best})
    if not sizes:
        return "no GPU was measured"
    faster = [size for size in sizes if best[True, size] > best[False, size]]
    # A GPU that is faster at one size and slower at a larger one has not crossed over there.
    for first in sizes:
        if all(size in faster for size in sizes if size >= first):
            return f"a GPU is faster from {first}"
    if faster:
        return f"a GPU is faster only at {', '.join(map(str, faster))}"
    return "the CPU is faster throughout"
