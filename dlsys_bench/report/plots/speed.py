"""How fast training goes, and what memory it takes, by whatever was varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.report.picture import WIDTH, save
from dlsys_bench.report.plots.frame import style
from dlsys_bench.report.tables import NONE, Table

Line = Mapping[str, Any]


class Axis(NamedTuple):
    """What is varied, and the field of a point that says by how much."""

    field: str
    label: str


AXES = (
    Axis("batch_size", "batch size (samples)"),
    Axis("threads", "threads"),
    Axis("replicas", "networks trained as one"),
    Axis("parameters", "parameters of the network"),
)

MEMORY = "peak memory of the process, of a GPU its own (MiB)"

NAMES = ("study", "arm", "engine", "device", "dtype", "batch_size", "threads", "replicas")


def series(points: Sequence[Line], axis: Axis) -> dict[tuple[tuple[str, Any], ...], list[Line]]:
    """The points that differ on this axis alone, in its order; of two values at least."""
    # A network's size is its arm's: arms that differ in something else too make no line of sizes.
    fixed = [
        name
        for name in NAMES
        if name not in (axis.field, "arm" if axis.field == "parameters" else "")
    ]
    found: dict[tuple[tuple[str, Any], ...], list[Line]] = {}
    for point in points:
        if point[axis.field] is not None:
            found.setdefault(tuple((name, point[name]) for name in fixed), []).append(point)
    return {
        key: sorted(line, key=lambda point: point[axis.field])
        for key, line in found.items()
        if 1 < len({point[axis.field] for point in line}) == len(line)
    }


def memory(point: Line) -> float | None:
    """The most that was held, in MiB: of a GPU by the framework, None where it does not tell; else
    by the process."""
    held = (
        point["peak_memory_bytes"]
        if point["device"] == "cpu"
        else point.get("peak_device_memory_bytes")
    )
    return None if held is None else float(held) / 2**20


def _rate(point: Line) -> float | None:
    return float(point["samples_a_second"])


def speed(points: Sequence[Line], path: Path) -> Path | None:
    """Samples a second against each axis that was varied, workload by workload, and peak memory
    against the batch size. Each line an engine on a device. Writes a PNG; none where nothing was
    varied."""
    from matplotlib.figure import Figure

    panels = []
    for axis in AXES:
        lines = series(points, axis)
        for work in dict.fromkeys(_work(key) for key in lines):
            mine = {key: line for key, line in lines.items() if _work(key) == work}
            panels.append((axis, work, "samples a second", mine))
            if axis.field == "batch_size":
                panels.append((axis, work, MEMORY, mine))
    if not panels:
        return None
    figure = Figure(figsize=(WIDTH, 3.6 * ((len(panels) + 1) // 2)), layout="constrained")
    spots = figure.subplots((len(panels) + 1) // 2, 2, squeeze=False).ravel()
    engines = list(dict.fromkeys(point["engine"] for point in points))
    for spot, (axis, work, label, mine) in zip(spots, panels, strict=False):
        names = _names(list(mine))
        for name, (key, line) in zip(names, mine.items(), strict=True):
            colour, marker, _ = style(engines.index(dict(key)["engine"]))
            value = memory if label == MEMORY else _rate
            x, y = [point[axis.field] for point in line], [value(point) for point in line]
            # What nobody told, matplotlib draws as a gap.
            spot.plot(
                x,
                np.array(y, float),
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.3,
                label=name,
                linestyle="-" if dict(key)["device"] == "cpu" else "--",
            )
        spot.set_xscale("log", base=2)
        ticks = sorted({point[axis.field] for line in mine.values() for point in line})
        spot.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
        spot.minorticks_off()
        spot.set_yscale("log")
        spot.set_xlabel(axis.label)
        spot.set_ylabel(label)
        spot.set_title(work, fontsize=9)
        spot.grid(alpha=0.3)
        spot.legend(fontsize=7)
    for spot in spots[len(panels) :]:
        spot.set_visible(False)
    return save(figure, path)


def tables(points: Sequence[Line]) -> list[Table]:
    """Samples a second by batch size, a table a workload: each engine on each device, and from
    which batch size on the GPU is faster; then every point, with what holds its median with 95%,
    and what slowed its GPU."""
    found = []
    for work in dict.fromkeys(f"{point['study']}/{point['arm']}" for point in points):
        mine = [
            p
            for p in points
            if f"{p['study']}/{p['arm']}" == work and p["threads"] is None and p["replicas"] == 1
        ]
        sizes = sorted({point["batch_size"] for point in mine})
        if len(sizes) < 2:
            continue
        by = {
            (p["engine"], p["device"], p["dtype"], p["batch_size"]): p["samples_a_second"]
            for p in mine
        }
        rows = [
            (*who, *(f"{by[*who, size]:,.0f}" if (*who, size) in by else NONE for size in sizes))
            for who in dict.fromkeys((p["engine"], p["device"], p["dtype"]) for p in mine)
        ]
        heads = ("engine", "device", "dtype", *(f">{size}" for size in sizes))
        found.append(
            Table(f"{work}: samples a second by batch size; {crossover(mine)}", heads, rows)
        )
    heads = (
        "study",
        "arm",
        "engine",
        "device",
        "dtype",
        ">batch",
        ">threads",
        ">networks",
        ">samples a second",
        ">us a step",
        ">memory, MiB",
        ">others",
        "GPU slowed by",
        "commit",
    )
    return [*found, Table("Every point", heads, [_row(point) for point in points])]


def _row(point: Line) -> tuple[str, ...]:
    rate, others, held = f"{point['samples_a_second']:,.0f}", point["others_share"], memory(point)
    slowed_by = (point.get("gpu") or {}).get("slowed_by")
    interval = f" [{point['samples_a_second_low']:,.0f}, {point['samples_a_second_high']:,.0f}]"
    return (
        point["study"],
        point["arm"],
        point["engine"],
        point["device"],
        point["dtype"],
        str(point["batch_size"]),
        NONE if point["threads"] is None else str(point["threads"]),
        str(point["replicas"]),
        rate + interval,
        f"{point['microseconds_a_step']:,.0f}",
        NONE if held is None else f"{held:,.0f}",
        NONE if others is None else f"{others:.0%}",
        NONE if slowed_by is None else ", ".join(slowed_by) or "not",
        str(point["provenance"]["commit"]),
    )


def crossover(points: Sequence[Line]) -> str:
    """From which batch size on a GPU is faster, of each precision."""
    dtypes = list(dict.fromkeys(point["dtype"] for point in points))
    said = [_crossover([point for point in points if point["dtype"] == dtype]) for dtype in dtypes]
    return (
        said[0]
        if len(set(said)) == 1
        else "; ".join(f"{d}: {s}" for d, s in zip(dtypes, said, strict=True))
    )


def _crossover(points: Sequence[Line]) -> str:
    best: dict[tuple[bool, int], float] = {}
    for point in points:
        key = point["device"] != "cpu", point["batch_size"]
        best[key] = max(best.get(key, 0.0), point["samples_a_second"])
    sizes = sorted({size for gpu, size in best if gpu and (False, size) in best})
    if not sizes:
        return "no GPU was measured"
    faster = [size for size in sizes if best[True, size] > best[False, size]]
    # From there on: a GPU that wins once and loses again has not crossed.
    first = next(
        (size for size in sizes if all(other in faster for other in sizes if other >= size)), None
    )
    if first is not None:
        return f"a GPU is faster from {first}"
    return (
        f"a GPU is faster at {', '.join(map(str, faster))} alone"
        if faster
        else "the CPU is faster throughout"
    )


def _work(key: tuple[tuple[str, Any], ...]) -> str:
    told = dict(key)
    return f"{told['study']}/{told['arm']}" if "arm" in told else str(told["study"])


def _names(keys: Sequence[tuple[tuple[str, Any], ...]]) -> list[str]:
    """The engine of each line, and whatever else is not the same in all lines of a panel."""
    told = [dict(key) for key in keys]
    more = [
        name
        for name in told[0]
        if name not in ("engine", "study") and len({one[name] for one in told}) > 1
    ]
    words = {"batch_size": "batch", "replicas": "networks"}
    return [
        ", ".join([one["engine"], *(f"{words.get(name, '')} {one[name]}".strip() for name in more)])
        for one in told
    ]
