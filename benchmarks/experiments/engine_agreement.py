"""Compare the runs of two engines that draw the same random numbers from a seed.

    python benchmarks/experiments/engine_agreement.py RUNS...

RUNS are files or stores of runs of another engine at tier quick, made with the seeds of the
reference runs: `dlsys-bench calibrate STUDY --engine numba --no-reference --store RUNS`. Each arm
is compared with its reference runs. Without dropout, runs of one seed differ by rounding errors
alone, which stay small in networks of tanh or sigmoid, and grow in some of ReLU. The numba engine
draws other dropout masks than numpy. Arms with FEWEST seeds or more are therefore compared in
distribution: their medians by the Wilcoxon signed-rank test of the pairs, or with dropout by the
Mann-Whitney test, their spreads by the Ansari-Bradley test, and their distributions by the
Kolmogorov-Smirnov test. The tables are written to reports/engines/agreement.json and .md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import find_reference, read, reference_runs
from dlsys_bench.spec.layers import Dropout
from dlsys_bench.studies.registry import studies

OUTPUT = Path("reports/engines/agreement.json")
METRIC = "test_accuracy"
FEWEST = 8
"""The smallest number of seeds that is compared in distribution."""


@dataclass(frozen=True)
class Agreement:
    """The figures of an arm by the reference engine and by another, for the seeds of both."""

    arm: str
    dataset: str
    engine: str
    drops: bool
    seeds: list[int]
    reference: list[float]
    other: list[float]

    @property
    def largest_difference(self) -> float:
        """The largest difference of two runs of one seed."""
        return float(np.abs(np.subtract(self.reference, self.other)).max())

    @property
    def p_values(self) -> list[float]:
        """The p-values of the tests of location, of spread and of the whole distribution."""
        location = stats.mannwhitneyu if self.drops else stats.wilcoxon
        tests = (location, stats.ansari, stats.ks_2samp)
        return [float(test(self.reference, self.other).pvalue) for test in tests]


def compare(runs: Iterable[Result]) -> list[Agreement]:
    """Compare runs, arm by arm, with the reference runs of the same seeds."""
    by_arm: dict[Key, dict[int, Result]] = {}
    for run in runs:
        by_arm.setdefault(run.key.task(), {})[run.seed] = run
    found = []
    for key, others in by_arm.items():
        arm = studies()[key.study].arm(key.arm)
        path = find_reference(key.study, key.dataset, key.tier)
        known = {run.seed: run for run in reference_runs(path, arm.name, arm.protocol(key.tier))}
        seeds = sorted(seed for seed in others if seed in known)
        if len(seeds) > 1:
            engine = others[seeds[0]].key.engine
            drops = any(isinstance(layer, Dropout) for layer in arm.model.layers)
            sides = [
                [side[seed].metric(METRIC) or 0.0 for seed in seeds] for side in (known, others)
            ]
            found.append(Agreement(key.name, key.dataset, engine, drops, seeds, *sides))
    return found


def tables(found: list[Agreement]) -> list[Table]:
    """Return one table of the arms with few seeds, and one of the others."""
    heads = ("arm", "dataset", "engine", ">seeds", ">largest difference")

    def head(one: Agreement) -> tuple[str, ...]:
        difference = f"{one.largest_difference:.4f}"
        return one.arm, one.dataset, one.engine, str(len(one.seeds)), difference

    def summary(values: list[float]) -> str:
        return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"

    return [
        Table("Runs of one seed", heads, [head(one) for one in found if len(one.seeds) < FEWEST]),
        Table(
            "Distributions",
            (*heads, ">reference", ">other engine", ">location p", ">spread p", ">KS p"),
            [
                (
                    *head(one),
                    summary(one.reference),
                    summary(one.other),
                    *(f"{p:.2g}" for p in one.p_values),
                )
                for one in found
                if len(one.seeds) >= FEWEST
            ],
        ),
    ]


def main() -> None:
    """Compare the runs of the files named on the command line, and write the tables."""
    found = compare(run for path in sys.argv[1:] for run in read(Path(path)))
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    written = {"metric": METRIC, "arms": list(map(asdict, found)), "provenance": provenance()}
    OUTPUT.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    pages = [table.markdown() for table in tables(found)]
    text = f"# Agreement of engines\n\n{METRIC} at tier quick.\n\n" + "\n".join(pages)
    OUTPUT.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
