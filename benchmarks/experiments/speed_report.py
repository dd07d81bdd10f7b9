"""What was measured of speed, as README.md, from the raw rounds beside it.

python reports/speed/told.py pairs.json    # keep what benchmarks/test_pairs.py and test_harness.py
measured, then tell python reports/speed/told.py               # tell
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import timing_noise as noise

HERE = Path(__file__).parent
PAIRS = HERE / "pairs.json"
ENGINES = ("numpy", "numba", "torch", "keras", "jax")


def keep(path: Path) -> None:
    """Only what the benchmarks say of themselves: pytest-benchmark adds the name of the machine.
    What was measured anew takes the place of what was."""
    found = json.loads(PAIRS.read_text()) if PAIRS.exists() else {}
    found |= {one["name"]: one["extra_info"] for one in json.loads(path.read_text())["benchmarks"]}
    PAIRS.write_text(json.dumps(found, indent=1) + "\n")


def pairs(found: dict[str, dict[str, Any]]) -> str:
    text = (
        "| step | "
        + " | ".join(f"{name}, us" for name in ENGINES)
        + " | numba: of the peak | numba against |\n"
    )
    text += "|---|" + "--:|" * (len(ENGINES) + 1) + "---|\n"
    for name, told in found.items():
        if "microseconds_a_step" in told and "numba" in told["microseconds_a_step"]:
            times, who = told["microseconds_a_step"], name.partition("[")[2].rstrip("]")
            ratios = "; ".join(
                f"{other} {told[f'numba against {other}']}" for other in ("keras", "torch", "jax")
            )
            row = [
                who,
                *(f"{times[engine]:,.0f}" for engine in ENGINES),
                f"{told['percent_of_peak']['numba']:.0f}%",
            ]
            text += "| " + " | ".join([*row, ratios]) + " |\n"
    return text


def harness(found: dict[str, dict[str, Any]]) -> str:
    text = "| network | by hand, us | engine, us | engine over by hand |\n|---|--:|--:|---|\n"
    for name, told in found.items():
        if "engine over by hand" in told:
            times = told["microseconds_a_step"]
            text += (
                f"| {name.partition('[')[2].rstrip(']')} | {times['by hand']:,.0f} | {times['engine']:,.0f} | "
                f"{told['engine over by hand']} |\n"
            )
    return text


def main() -> None:
    found = json.loads(PAIRS.read_text())
    first = next(told for told in found.values() if "blas" in told)
    machine, versions = first["machine"], first["versions"]
    packages = ("numpy", "numba", "torch", "tensorflow-cpu", "keras", "jax")
    about = ", ".join(f"{name} {versions[name]}" for name in packages)
    blas = ", ".join(
        sorted(
            {
                f"{one['internal_api']} {one.get('architecture', '')}".strip()
                for one in first["blas"]
            }
        )
    )
    (HERE / "README.md").write_text(f"""# Speed

{machine["cores"]} cores of a shared {machine["processor"]}, {about}; BLAS: {blas}.
The machine is shared and noisy: ratios are of rounds taken in turn, with 95% intervals of their medians; the other
figures are medians of one run.

## Engines in turn

`pytest --benchmark-only benchmarks/test_pairs.py`. Microseconds of a training step (forward, loss, backward, update),
all engines on all cores. The peak is that of products of matrices of 1,024 on all cores, measured in the same session
({first["matrix_peak_gflops"]:.0f} GFLOP/s).

{pairs(found)}
## What a `fit` costs

`pytest --benchmark-only benchmarks/test_harness.py`: the suite's engine beside the loop that its user would have
written, epoch by epoch in one thread; the goal is that the whole interval is under {1.05:g}.

{harness(found)}
## By size

`dlsys-bench bench sweep`, raw points in `cpu.jsonl`, tables in [`cpu.md`](cpu.md). No GPU has been measured.

![](cpu.png)

## Time to accuracy

`dlsys-bench bench time-to-accuracy regularization/lenet5-tanh --arm standard+bn --tier full --engine numba
--engine torch --engine keras --seeds 6`, raw runs in `time-to-accuracy.jsonl`, the target in
[`time-to-accuracy.md`](time-to-accuracy.md). One run beside which others took 27% of the machine was made again.

![](time-to-accuracy.png)

## A busy machine

The same engine against itself, beside a load that comes and goes on one core or on all (`timing_noise.py`, raw rounds in
`noise.jsonl`). Every FASTER or SLOWER here is false; at 95%, one comparison in twenty may be. One after the other, what
others took of the machine makes a comparison ambiguous: by the intervals alone, {noise.misled()} would be false.

{noise.told()}""")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        keep(Path(sys.argv[1]))
    main()
