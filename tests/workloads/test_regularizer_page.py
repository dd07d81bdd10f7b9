"""The page that ranks regularisers: its arms, its directions, and the stored page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from results import make_result

from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import read
from dlsys_bench.workloads.regularizer_page import FEWEST_SEEDS, comparisons, page
from dlsys_bench.workloads.studies import STUDIES

ROOT = Path(__file__).parents[2]
STUDY = STUDIES["regularizers/mlp-600"]
EFFECTS = {"none": 0.0, "dropout-0.25": 0.02, "layer-norm": -0.02, "batch-norm": 0.0}


def runs(seeds: int = 12) -> list[Result]:
    """Return runs whose accuracy rises, and whose loss falls, by the effect of the arm."""
    generator = np.random.default_rng(0)
    found = []
    for seed in range(seeds):
        common = generator.normal(0, 0.05)
        for arm, effect in EFFECTS.items():
            value = effect + common + generator.normal(0, 0.002)
            figures = {
                "test_accuracy": 0.8 + value,
                "test_loss": 0.7 - value,
                "calibration_error": 0.1 - value,
                "gap": 0.1,
                "epochs": 30,
                "train_seconds": 2.0 if arm == "none" else 3.0,
            }
            run = make_result(study=STUDY.name, arm=arm, seed=seed, figures=figures)
            protocol = STUDY.arm(arm).protocol("full")
            found.append(replace(run, key=replace(run.key, tier="full", protocol=protocol)))
    return found


def test_the_page_names_the_better_and_the_worse_arms_by_every_figure() -> None:
    text = page(runs())
    for heading in ("accuracy", "loss", "calibration error"):
        (row,) = [
            line
            for line in text.partition(f"### By {heading}, ")[2].partition("###")[0].splitlines()
            if line.startswith("| mlp-600 on")
        ]
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        assert cells == ["12", "dropout-0.25", "dropout-0.25", "layer-norm"]
    overview, _, figures = text.partition("### By accuracy, ")
    assert "| dropout-0.25 | 1 of 1 | 0 | 1 of 1 | 0 | 1 of 1 | 0 |" in overview
    assert "| layer-norm | 0 of 1 | 1 | 0 of 1 | 1 | 0 of 1 | 1 |" in overview
    (row,) = [line for line in figures.splitlines() if line.startswith("| dropout-0.25 |")]
    assert "| 1.50 |" in row
    assert row.count("| 1 to 1 |") == 3


def test_runs_of_other_protocols_and_of_few_seeds_are_left_out() -> None:
    stored = runs()
    other = [
        replace(run, key=replace(run.key, protocol="other")) if run.key.arm == "layer-norm" else run
        for run in stored
    ]
    few = [run for run in stored if run.key.arm != "batch-norm" or run.seed < FEWEST_SEEDS - 1]
    (first,), (second,) = comparisons(other), comparisons(few)
    assert set(first.arms) == EFFECTS.keys() - {"layer-norm"}
    assert set(second.arms) == EFFECTS.keys() - {"batch-norm"}
    assert second.seeds == 12


@pytest.mark.slow
def test_the_stored_page_is_that_of_the_stored_runs() -> None:
    files = sorted((ROOT / "reports" / "reference").glob("regularizers.*.full.jsonl"))
    written = (ROOT / "docs" / "which-regulariser.md").read_text(encoding="utf-8")
    assert written == page(run for file in files for run in read(file))
