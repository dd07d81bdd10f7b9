"""Tables of runs by several protocols."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from results import EPOCH, make_result

from dlsys_bench.report.tables import tables
from dlsys_bench.runs.key import CALLABLE
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.registry import studies

STUDY = studies()["regularization/lenet5-sigmoid"]


def rows(results: list[Result]) -> list[dict[str, Any]]:
    (table,) = tables(results)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


@pytest.mark.parametrize("figures", [{}, {"accuracy": 0.5}])
def test_runs_of_two_protocols_are_not_averaged(figures: dict[str, float]) -> None:
    results = [
        make_result(seed, protocol=protocol, figures=figures)
        for protocol in ("p", "q")
        for seed in range(3)
    ]
    assert [row[">seeds"] for row in rows(results)] == ["3", "3"]


def test_runs_of_a_changed_training_of_a_user_are_not_averaged() -> None:
    results = [
        make_result(seed, engine=CALLABLE, protocol=protocol, figures={"accuracy": 0.5})
        for seed in range(3)
        for protocol in ("abcdefghij", "bcdefghijk", "")
    ]
    assert [(row["version"], row[">seeds"]) for row in rows(results)] == [
        ("abcdef", "3"),
        ("bcdefg", "3"),
        ("of gates", "3"),
    ]


def test_a_superseded_protocol_is_named() -> None:
    (past,) = STUDY.superseded
    assert [arm.name for arm in past.arms] == [arm.name for arm in STUDY.arms]
    arms = {"": STUDY.arms[0], "superseded: padding same": past.arms[0]}
    results = [
        make_result(
            study=STUDY.name,
            arm=arm.name,
            dataset="mnist",
            protocol=arm.protocol("full"),
            history=[replace(EPOCH, test_accuracy=accuracy)],
        )
        for arm, accuracy in zip(arms.values(), (0.25, 0.75), strict=True)
    ]
    found = {row[""]: row[">test acc"] for row in rows(results)}
    assert found == {"": "0.2500", "superseded: padding same": "0.7500"}
