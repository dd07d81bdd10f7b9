"""Reference runs of two engines in one band: only where the engines were shown to agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dlsys_bench.notebooks.rulings.runs import ENGINES
from dlsys_bench.runs.store import read

REPORTS = Path(__file__).parents[2] / "reports"
ARMS: list[dict[str, Any]] = json.loads((REPORTS / "engines" / "agreement.json").read_text())[
    "arms"
]
EVALUATED = 2000
"""The test samples of a run at tier quick."""


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: f"{arm['arm']} on {arm['dataset']}")
def test_the_engines_agree(arm: dict[str, Any]) -> None:
    if not arm["drops"]:
        # Rounding errors grow during a training, and move a few samples over a border.
        np.testing.assert_allclose(arm["reference"], arm["other"], rtol=0, atol=8 / EVALUATED)
        return
    tests = (stats.mannwhitneyu, stats.ansari, stats.ks_2samp)
    level = 0.01 / (len(tests) * len(ARMS))
    for test in tests:
        assert test(arm["reference"], arm["other"]).pvalue > level


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
