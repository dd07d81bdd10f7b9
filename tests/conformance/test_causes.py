"""Grouping findings by their probable cause."""

from __future__ import annotations

from typing import Any

import pytest
from test_check_engine import HalfBias

from dlsys_bench import check_engine
from dlsys_bench.conformance.causes import causes
from dlsys_bench.conformance.check import CHECKS
from dlsys_bench.conformance.finding import Fault, Finding
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.trial import Options
from dlsys_bench.report.compliance import causes_report
from dlsys_bench.report.display import PAGE


def failed(
    name: str, what: str = "wrong", fault: Fault = Fault.WRONG_VALUE, **more: Any
) -> CheckResult:
    """Return the result of a check that failed."""
    return CheckResult.of(CHECKS[name], Status.FAILED, finding=Finding(what, fault, **more))


def test_a_halved_gradient_of_biases_is_one_cause() -> None:
    subjects = ("dense", "tanh", "relu", "sigmoid", "batch_norm", "network")
    selected = [*(f"gradient/{subject}*" for subject in subjects), "step/sgd", "step/momentum"]
    few = Options(examples=3, shrink=0.0)
    results = check_engine(HalfBias, "collect", checks=selected, beyond=True, options=few)
    (cause,) = causes(results)
    assert cause.root.name == "gradient/dense"
    names = [result.name for result, _ in cause.consequences]
    assert len(names) > 12
    assert {"gradient/tanh", "gradient/network@float32", "step/sgd"} <= set(names)
    text = "\n".join(causes_report([cause]))
    assert "Probable cause 1 of 1: gradient/dense" in text
    assert "every value 0.5 times the expected one" in text
    assert "(same kind of tensor):\n    gradient/dense@float32, " in text
    lines = text.partition("without an engine")[0].splitlines()
    assert max(len(line) for line in lines if "dlsys-bench" not in line) <= PAGE
    assert "np.array([" in text
    assert "conform --explain gradient/dense" in text


def in_one_group(first: CheckResult, second: CheckResult) -> str | None:
    """Return the evidence that two findings have one cause."""
    found = causes([first, second])
    return found[0].consequences[0][1] if len(found) == 1 else None


@pytest.mark.parametrize(
    ("first", "second", "evidence"),
    [
        (
            failed("gradient/dense", tensor="dense_1.bias", ratio=0.5),
            failed("gradient/network", tensor="dense_7.bias", ratio=0.501),
            "same kind of tensor",
        ),
        (
            failed("gradient/dense", tensor="dense_1.bias", ratio=0.5),
            failed("gradient/network", tensor="dense_1.bias", ratio=2.0),
            None,
        ),
        (
            failed("gradient/dense", tensor="dense_1.bias"),
            failed("gradient/network", tensor="dense_1.kernel"),
            None,
        ),
        (
            failed("step/sgd", fault=Fault.CONSTANT_RATIO, ratio=0.5, diagnosis="0.5 times"),
            failed(
                "trajectory/native", fault=Fault.CONSTANT_RATIO, ratio=0.5, diagnosis="0.5 times"
            ),
            "same mistake",
        ),
        (
            failed("step/sgd", fault=Fault.CONSTANT_RATIO, ratio=0.5, diagnosis="0.5 times"),
            failed("step/adam", fault=Fault.CONSTANT_RATIO, ratio=0.9, diagnosis="0.9 times"),
            None,
        ),
        (
            failed("shapes/dense", "fit raised KeyError: 'a' (x.py:3)", Fault.RAISED),
            failed("step/sgd", "fit raised KeyError: 'b' (x.py:7)", Fault.RAISED),
            "same event",
        ),
        (
            failed("shapes/dense", "fit raised KeyError: 'a'", Fault.RAISED),
            failed("step/sgd", "predict raised KeyError: 'a'", Fault.RAISED),
            None,
        ),
        (
            failed("gradient/tanh"),
            failed("gradient/network", example="input (3,): dense(1), activation(function='tanh')"),
            "contains the layer",
        ),
        (failed("gradient/tanh"), failed("gradient/network", example="input (3,): dense(1)"), None),
    ],
)
def test_findings_are_grouped_by_evidence(
    first: CheckResult, second: CheckResult, evidence: str | None
) -> None:
    assert in_one_group(first, second) == evidence


def test_stale_declarations_are_causes_of_their_own() -> None:
    texts = {"diagnosis": "the declaration is stale: remove it"}
    stale = [
        failed(name, f"lacks {name}", Fault.STALE_DECLARATION, **texts)
        for name in ("shapes/max_pool", "shapes/relu")
    ]
    assert len(causes(stale)) == 2


def test_checks_that_passed_have_no_cause() -> None:
    assert causes([CheckResult.of(CHECKS["step/sgd"], Status.PASSED)]) == []
