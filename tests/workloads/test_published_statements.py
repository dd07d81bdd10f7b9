"""The published statements about the workloads: each has arms, figures and a ruling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from results import make_result

from dlsys_bench.verdicts.claims.ruling import Ruling
from dlsys_bench.verdicts.claims.statements import Greater, Majority
from dlsys_bench.verdicts.claims.stored_runs import ENGINES, StoredRuns
from dlsys_bench.workloads.claims import CLAIM_SET, STATEMENTS
from dlsys_bench.workloads.studies import STUDIES

MAJORITIES = {one.id: one for one in STATEMENTS if isinstance(one, Majority)}


def test_every_statement_has_stored_runs_with_its_figures() -> None:
    runs = StoredRuns()
    for one in STATEMENTS:
        assert one.source
        if isinstance(one, Majority):
            assert runs.of(one.study, one.arm, one.tier, one.dataset), one.id
        if isinstance(one, Greater):
            for name in (one.greater, one.lesser):
                found = runs.of(one.study, name, one.tier, one.dataset)
                assert found, (one.id, name)
                figures = [run.metric(one.metric) for run in found]
                assert one.missing is not None or None not in figures, one.id


def test_every_study_with_statements_names_their_set() -> None:
    for one in STATEMENTS:
        assert STUDIES[one.study].claims == "dlsys_bench.workloads.claims:CLAIM_SET"


def test_the_stored_table_has_the_rulings_of_the_stored_runs() -> None:
    rulings = {one.claim["id"]: one for one in CLAIM_SET.rule((), ENGINES)}
    table = (Path(__file__).parents[2] / "reports" / "claims.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    stored = {row[0]: row[-2] for row in rows if len(row) == 7 and row[0] in rulings}
    assert stored == {name: one.ruling.value for name, one in rulings.items()}
    counts = {name: one for name, one in rulings.items() if one.category == "counts"}
    assert {one.ruling for one in counts.values()} == {Ruling.REPRODUCED}
    assert counts["howard-2017.ordinary.multiply-adds"].measured == "4,866,269,184"
    assert len(counts) == 6


@pytest.mark.parametrize(
    ("name", "figures", "holds"),
    [
        ("power-2022.delay", {"fitted_at": 72, "generalized_at": 144}, True),
        ("power-2022.delay", {"fitted_at": 72, "generalized_at": 132}, False),
        ("power-2022.delay", {"fitted_at": 72, "generalized_at": None}, False),
        ("power-2022.delay", {"fitted_at": None, "generalized_at": None}, False),
        ("jelassi-2024.copying", {"test_accuracy": 0.99}, True),
        ("jelassi-2024.copying", {"test_accuracy": 0.98}, False),
        ("hahn-2020.parity", {"test_accuracy": 0.98}, True),
        ("hahn-2020.parity", {"test_accuracy": 0.99}, False),
    ],
)
def test_a_condition_is_that_of_its_text(
    name: str, figures: Mapping[str, Any], holds: bool
) -> None:
    assert MAJORITIES[name].holds(make_result(figures=dict(figures))) is holds


def test_a_run_that_never_generalises_counts_as_later() -> None:
    (one,) = (one for one in STATEMENTS if one.id == "power-2022.decay.steps")
    assert isinstance(one, Greater)
    assert one.missing == math.inf
    assert (one.greater, one.lesser) == ("small-no-decay", "small-decay")
