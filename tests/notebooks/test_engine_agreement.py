"""Reference runs of two engines in one band: only where the engines were shown to agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dlsys_bench.runs.store import read
from dlsys_bench.verdicts.claims.stored_runs import ENGINES

REPORTS = Path(__file__).parents[2] / "reports"
ARMS: list[dict[str, Any]] = json.loads((REPORTS / "engines" / "agreement.json").read_text())[
    "arms"
]
EVALUATED = 2000
"""The test samples of a run at tier quick."""


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: f"{arm['arm']} on {arm['dataset']}")
def test_the_engines_agree(arm: dict[str, Any]) -> None:
    if len(arm["seeds"]) < 8:
        # Rounding errors move a few samples over the border between two classes.
        np.testing.assert_allclose(arm["reference"], arm["other"], rtol=0, atol=4 / EVALUATED)
        return
    location = stats.mannwhitneyu if arm["drops"] else stats.wilcoxon
    tests = (location, stats.ansari, stats.ks_2samp)
    for test in tests:
        # One in a hundred is the probability that any test of healthy engines fails.
        assert test(arm["reference"], arm["other"]).pvalue > 0.01 / (len(tests) * len(ARMS))


def test_bands_of_two_engines_are_of_arms_that_agree() -> None:
    agreeing = {(arm["arm"], arm["dataset"], arm["engine"]) for arm in ARMS}
    joined = {
        (run.key.name, run.key.dataset, run.key.engine)
        for path in (REPORTS / "reference").glob("regularization.*.full.jsonl")
        for run in read(path)
        if run.key.engine != "numpy"
    }
    assert {engine for _, _, engine in joined} <= set(ENGINES)
    assert joined <= agreeing
