"""The arms of the statistical checks, which registered studies declare."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from mistaken import OneEpoch
from parsed import nodes, one_worker

import dlsys_bench
from dlsys_bench import check_engine
from dlsys_bench.conformance.check import CHECKS
from dlsys_bench.conformance.checks import distribution
from dlsys_bench.conformance.finding import Fault
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import NotApplicableError, UserError
from dlsys_bench.spec.losses import LOSSES
from dlsys_bench.studies.registry import studies

PACKAGE = Path(dlsys_bench.__file__).parent


def test_the_checks_are_those_that_studies_declare() -> None:
    assert [check.name for check in CHECKS.values() if check.rung == "distribution"] == [
        "distribution/fashion-mlp/bn+dropout",
        "distribution/lenet5-tanh/standard+bn",
    ]


def test_without_a_declared_arm_the_check_is_declared_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trial = Trial(lambda dtype: create("numpy"))

    def clash() -> None:
        raise UserError("a name is used by both one and two")

    bare = replace(studies()["eggholder"], distribution_checks=())
    for registered, reason in (
        (dict, "no study is registered"),
        (lambda: {"bare": bare}, "no registered study declares an arm"),
        (clash, "a name is used by both one and two"),
    ):
        monkeypatch.setattr(distribution, "studies", registered)
        ((name, subject),) = distribution.subjects().items()
        assert name == "reference-runs"
        with pytest.raises(NotApplicableError, match=reason):
            distribution.distribution(trial, subject)


def test_another_distribution_is_found() -> None:
    check = "distribution/fashion-mlp/bn+dropout"
    (result,) = check_engine(OneEpoch, "collect", checks=[check])
    assert result.finding is not None
    assert result.finding.fault is Fault.WRONG_DISTRIBUTION
    assert "from a different distribution than 20 reference runs" in result.finding.summary


@one_worker
def test_no_code_outside_the_guests_names_a_study() -> None:
    names = {*studies(), *(study.group for study in studies().values() if study.group)}
    names -= {*LOSSES}  # One loss has the name of a study.
    offenders = [
        f"{path.relative_to(PACKAGE)}:{node.lineno} {node.value!r}"
        for path in PACKAGE.rglob("*.py")
        if not {"notebooks", "workloads"}.intersection(path.parts)
        for node in nodes(path)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (node.value in names or node.value.startswith("regularization/"))
    ]
    assert offenders == []
