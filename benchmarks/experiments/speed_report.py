"""Write reports/speed/README.md from the stored measurements in that folder.

    python benchmarks/experiments/speed_report.py pairs.json    # first store new measurements
    python benchmarks/experiments/speed_report.py

`pairs.json` is the output of `pytest --benchmark-only --benchmark-json=pairs.json` for
benchmarks/test_pairs.py and benchmarks/test_harness.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import timing_noise as noise

from dlsys_bench.report.layout import NONE
from dlsys_bench.report.table import Table

REPORTS = Path(__file__).parents[2] / "reports" / "speed"
PAIRS, CONVOLUTIONS = REPORTS / "pairs.json", REPORTS / "convolutions.json"
ENGINES = ("numpy", "numba", "torch", "torch-compile", "keras", "keras-jit", "jax")
REFERENCE = "numba"
"""The engine that the others are compared with."""
AGAINST = ("keras", "keras-jit", "torch", "torch-compile", "jax")
PACKAGES = ("numpy", "numba", "torch", "tensorflow-cpu", "keras", "jax")
GOAL = 1.05
"""The largest acceptable ratio of an engine to a loop written by hand."""

Measurements = dict[str, dict[str, Any]]
"""The extra information of each benchmark, by its name."""

BY_HAND = "engine over by hand"
TIMES, BOUND, FIRST = "microseconds_a_step", "bound_microseconds", "first_epoch_seconds"


def store(path: Path) -> None:
    """Store the extra information of new benchmarks, in place of earlier ones of the same name.

    The other fields of pytest-benchmark's file include the name of the machine and are dropped.
    """
    found = json.loads(PAIRS.read_text()) if PAIRS.exists() else {}
    found |= {one["name"]: one["extra_info"] for one in json.loads(path.read_text())["benchmarks"]}
    PAIRS.write_text(json.dumps(found, indent=1) + "\n")


def workload(name: str) -> str:
    """The parameter in the name of a benchmark."""
    return name.partition("[")[2].rstrip("]")


def pairs(found: Measurements) -> Table:
    """One row per workload: the time of a step by each engine, and ratios to the reference."""
    heads = (
        "step",
        *(f">{name}, us" for name in ENGINES),
        f">{REFERENCE}: percent of peak",
        f"{REFERENCE} against",
    )
    rows = []
    for name, info in found.items():
        if REFERENCE not in info.get(TIMES, {}):
            continue
        measured = {other: info.get(f"{REFERENCE} against {other}") for other in AGAINST}
        ratios = [f"{other} {ratio}" for other, ratio in measured.items() if ratio]
        rows.append(
            (
                workload(name),
                *(_figure(info[TIMES], engine, ",.0f") for engine in ENGINES),
                f"{info['percent_of_peak'][REFERENCE]:.0f}%",
                "; ".join(ratios),
            )
        )
    return Table("Time of a training step", heads, rows)


def _figure(by_engine: dict[str, float], engine: str, form: str) -> str:
    """The figure of an engine, of which there may be none."""
    return format(by_engine[engine], form) if engine in by_engine else NONE


def bounds(found: Measurements) -> Table:
    """One row per workload: the bound of each phase, and the fraction that each engine reaches."""
    phases = ("forward", "backward", "update")
    heads = ("step", *(f">{name}, us" for name in (*phases, "step")), *(f">{e}" for e in ENGINES))
    rows = [
        (
            workload(name),
            *(f"{info['roofline']['phases'][phase][BOUND]:,.1f}" for phase in phases),
            f"{info['roofline'][BOUND]:,.1f}",
            *(_figure(info["percent_of_bound"], engine, ".1f") for engine in ENGINES),
        )
        for name, info in found.items()
        if "percent_of_bound" in info
    ]
    return Table("Bound of a step, and the percentage of it that is reached", heads, rows)


def first_epochs(found: Measurements) -> Table:
    """One row per workload: the seconds of the first epoch, in which an engine may compile."""
    heads = ("step", *(f">{name}, s" for name in ENGINES))
    rows = [
        (workload(name), *(_figure(info[FIRST], engine, ".2f") for engine in ENGINES))
        for name, info in found.items()
        if FIRST in info
    ]
    return Table("Time of the first epoch", heads, rows)


PASSES = {"forward": "forward", "weights": "gradient of the kernel", "inputs": "of the input"}


def convolutions(found: dict[str, Any]) -> Table:
    """One row per convolution: the rate of each of its passes, and how much of the peak it is."""
    peak = found["peak_gflops"]

    def cell(passes: dict[str, Any], name: str) -> str:
        rate = passes[name]["gflops"] if name in passes else None
        return NONE if rate is None else f"{rate:.0f} ({100 * rate / peak:.0f}%)"

    rows = [
        (one["convolution"], *(cell(one["passes"], name) for name in PASSES))
        for one in found["convolutions"]
    ]
    heads = ("convolution", *(f">{head}" for head in PASSES.values()))
    return Table("GFLOP/s of the convolutions of the overlapping LeNet-5", heads, rows)


def limit(found: dict[str, Any]) -> dict[str, str]:
    """The milliseconds of a step, of its convolutions, and of its dense layers at the peak; and how
    much faster it would be if the other layers took no time."""
    passes = [one for each in found["convolutions"] for one in each["passes"].values()]
    products = sum(one["microseconds"] for one in passes) / 1e3
    left = found["gflop_a_step"] - sum(one["microseconds"] * one["gflops"] for one in passes) / 1e6
    step, dense = found["microseconds_a_step"] / 1e3, 1e3 * left / found["peak_gflops"]
    return {
        "step": f"{step:.1f}",
        "products": f"{products:.1f}",
        "dense": f"{dense:.1f}",
        "most": f"{step / (products + dense):.2f}",
        "core": f"{found['peak_gflops']:.0f}",
    }


def harness(found: Measurements) -> Table:
    """One row per network: the time of a step by the engine and by a loop written by hand."""
    rows = [
        (
            workload(name),
            f"{info[TIMES]['by hand']:,.0f}",
            f"{info[TIMES]['engine']:,.0f}",
            info[BY_HAND],
        )
        for name, info in found.items()
        if BY_HAND in info
    ]
    heads = ("network", ">by hand, us", ">engine, us", "engine over by hand")
    return Table("Time of a step by `fit` and by hand", heads, rows)


def _processor(info: dict[str, Any]) -> str:
    """The processor of a measurement."""
    name: str = info["machine"]["processor"]
    return name


def machine(info: dict[str, Any]) -> str:
    """The machine and the versions of a measurement."""
    versions = ", ".join(f"{name} {info['versions'][name]}" for name in PACKAGES)
    blas = {f"{one['internal_api']} {one.get('architecture', '')}".strip() for one in info["blas"]}
    cores = info["machine"]["cores"]
    of_machine = f"{cores} cores of a shared {_processor(info)}, {versions}"
    return f"{of_machine};\nBLAS: {', '.join(sorted(blas))}."


def _first_processor(name: str) -> str:
    """The processor of the first measurement in a file of JSON lines."""
    first = (REPORTS / name).read_text().partition("\n")[0]
    return _processor(json.loads(first)["provenance"])


def main() -> None:
    """Write the README."""
    found: Measurements = json.loads(PAIRS.read_text())
    first = next(info for info in found.values() if "blas" in info)
    alone = json.loads(CONVOLUTIONS.read_text())
    text = TEMPLATE.format(
        machine=machine(first),
        peak=f"{first['matrix_peak_gflops']:.0f} GFLOP/s",
        pairs=pairs(found).markdown(),
        bounds=bounds(found).markdown(),
        convolutions=convolutions(alone).markdown(),
        **limit(alone),
        first=first_epochs(found).markdown(),
        goal=f"{GOAL:g}",
        harness=harness(found).markdown(),
        alone=_processor(alone),
        sweep=_first_processor("cpu.jsonl"),
        accuracy=_first_processor("time-to-accuracy.jsonl"),
        by_hand=next(_processor(info) for info in found.values() if BY_HAND in info),
        misled=noise.misled(),
        noise=noise.table().markdown(),
    )
    (REPORTS / "README.md").write_text(text, encoding="utf-8")


TEMPLATE = """# Speed

{machine}
The machine is shared and noisy. Ratios are those of rounds measured in turn, with 95% intervals of
their medians; the other figures are medians of one run.
`python benchmarks/experiments/speed_report.py` writes this page.

## Engines in turn

Measured by `pytest --benchmark-only benchmarks/test_pairs.py`, in microseconds of a training step
(forward, loss, backward, update) on all cores. The peak is that of the fastest
products of matrices on all cores, by BLAS or by the numba engine, measured in the same session
({peak}).

The last column states how many times as fast as another engine the numba engine is. A goal is the
ratio that this project aims at: it is met if the whole interval is above it, missed if the whole
interval is below it, and AMBIGUOUS otherwise.

{pairs}
{first}
## The bound of the machine

The least time of a step, by phase: its operations at the peak of the matrix product, or its bytes
at the bandwidth of a copy of as much memory, whichever takes longer. Measured with the engines.

{bounds}
The goals of the overlapping LeNet-5 are limited by its convolutions, measured alone in one thread
of an {alone} by `python benchmarks/experiments/convolution_rates.py`. The peak is that of one core
whose factors are all in registers, {core} GFLOP/s.

{convolutions}
A step takes {step} ms of CPU time, of which these take {products} ms. Its dense layers take at
least {dense} ms, at the peak. If all other layers and the update took no time, a step would be
{most} times as fast.

## The cost of `fit`

Measured by `pytest --benchmark-only benchmarks/test_harness.py`: an engine of this package against
a training loop in the same framework written by hand, epoch by epoch in one thread of an {by_hand}.
The goal is that the whole interval is below {goal}.

{harness}
## By size

Measured by `dlsys-bench bench sweep`; the raw points are in `cpu.jsonl`, the tables in
[`cpu.md`](cpu.md), measured on an {sweep}. No GPU has been measured.

![](cpu.png)

## Time to accuracy

Measured by `dlsys-bench bench time-to-accuracy regularization/lenet5-tanh --arm standard+bn --tier
full --engine numba --engine torch --engine keras --seeds 6`. The raw runs are in
`time-to-accuracy.jsonl`, the target in [`time-to-accuracy.md`](time-to-accuracy.md). One run with a
background load of 27% of the machine was repeated. The machine was an {accuracy}.

![](time-to-accuracy.png)

## A busy machine

`python benchmarks/experiments/timing_noise.py` compares an engine with itself under a load that
starts and stops at random on one core or on all (raw rounds in `noise.jsonl`). Every FASTER or
SLOWER is false; at 95%, one comparison in twenty may be. If the sides are measured one after the
other, background load makes a comparison ambiguous: by their intervals alone, {misled} would be
false.

{noise}"""

if __name__ == "__main__":
    if len(sys.argv) > 1:
        store(Path(sys.argv[1]))
    main()
