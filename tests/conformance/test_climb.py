"""Climbing the ladder, with runners that only pretend to run checks."""

from __future__ import annotations

import pytest

from dlsys_bench.conformance.check import CHECKS, RUNGS
from dlsys_bench.conformance.declarations import DECLARABLE
from dlsys_bench.conformance.finding import Fault, Finding
from dlsys_bench.conformance.ladder import TIMEOUTS, climb, select
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.errors import UserError
from dlsys_bench.spec.batches import BATCH_SIZES
from dlsys_bench.spec.optimizers import OPTIMIZERS
from dlsys_bench.spec.schedules import SCHEDULES


class ScriptedRunner:
    """Fails the checks that are given, with a fault, and passes the others."""

    def __init__(self, faults: dict[str, Fault]) -> None:
        self.faults = faults
        self.ran: list[str] = []

    def dtypes(self) -> tuple[str, ...]:
        return ()

    def run(self, name: str) -> CheckResult:
        self.ran.append(name)
        if name in self.faults:
            fault = self.faults[name]
            status = Status.TIMEOUT if fault is Fault.TIMEOUT else Status.FAILED
            return CheckResult.of(CHECKS[name], status, finding=Finding("broken", fault))
        return CheckResult.of(CHECKS[name], Status.PASSED)

    def replay(self, name: str) -> str | None:
        return None

    def close(self) -> None:
        pass


def test_every_rung_has_checks_in_the_order_of_the_rungs() -> None:
    assert list(dict.fromkeys(check.rung for check in CHECKS.values())) == list(RUNGS)
    assert len(CHECKS) > 100
    assert all(check.name == f"{check.rung}/{check.subject}" for check in CHECKS.values())


def test_every_record_of_the_specification_is_required_by_a_check() -> None:
    required = {requirement for check in CHECKS.values() for requirement in check.requires}
    records = {
        f"{what}:{kind}" for what, kinds in DECLARABLE.items() if what != "dtype" for kind in kinds
    }
    assert records - required == set()
    names = {check.subject for check in CHECKS.values()}
    for table in (OPTIMIZERS, SCHEDULES, BATCH_SIZES):
        variants = {name for record in table.values() for name in record.all_variants()}
        assert variants - names == set()


def test_a_rung_that_breaks_is_finished_and_those_above_are_not_reached() -> None:
    runner = ScriptedRunner({"loss/hinge": Fault.WRONG_VALUE})
    seen: list[CheckResult] = []
    results = climb([runner], select(["loss", "step"]), on_result=seen.append)
    statuses = {result.name: result.status for result in results}
    assert statuses["loss/hinge"] is Status.FAILED
    assert statuses["loss/perceptron"] is Status.PASSED
    assert statuses["step/sgd"] is Status.NOT_REACHED
    assert results[-1].reason == "the rung loss broke"
    assert seen == results


def test_a_climb_beyond_a_broken_rung_runs_every_check() -> None:
    runner = ScriptedRunner({"loss/hinge": Fault.WRONG_VALUE})
    climb([runner], select(["loss", "step"]), beyond=True)
    assert runner.ran == [check.name for check in select(["loss", "step"])]


def test_a_rung_is_left_after_several_timeouts() -> None:
    names = [check.name for check in select(["loss"])]
    results = climb([ScriptedRunner(dict.fromkeys(names, Fault.TIMEOUT))], select(["loss"]))
    statuses = [result.status for result in results]
    left = len(names) - TIMEOUTS
    assert statuses == [Status.TIMEOUT] * TIMEOUTS + [Status.NOT_REACHED] * left


def test_the_rungs_above_several_timeouts_are_not_reached() -> None:
    names = [check.name for check in select(["loss"])]
    for count in (TIMEOUTS - 1, TIMEOUTS):
        runner = ScriptedRunner(dict.fromkeys(names[:count], Fault.TIMEOUT))
        results = climb([runner], select(["loss", "step"]))
        assert (results[-1].status is Status.NOT_REACHED) == (count == TIMEOUTS)
    assert results[-1].reason == "3 checks on the rung loss timed out"


def test_several_runners_share_the_checks() -> None:
    runners = [ScriptedRunner({}), ScriptedRunner({})]
    results = climb(runners, select(["loss"]))
    assert all(result.status is Status.PASSED for result in results)
    assert sorted(runners[0].ran + runners[1].ran) == sorted(c.name for c in select(["loss"]))


def test_every_check_runs_in_every_dtype_unless_it_fixes_one() -> None:
    names = [check.name for check in select(None, ("float32", "float64"))]
    assert len(set(names)) == len(names)
    for check in CHECKS.values():
        assert check.name in names
        assert (f"{check.name}@float32" in names) == (check.dtype is None)
        assert f"{check.name}@float64" not in names
    for single in ("float32", "float64"):
        assert [check.name for check in select(None, (single,))] == list(CHECKS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss/hinge", ["loss/hinge"]),
        ("loss/hinge@float64", ["loss/hinge"]),
        ("loss/hinge@float32", ["loss/hinge@float32"]),
        ("loss/hinge*", ["loss/hinge", "loss/hinge@float32"]),
        ("*/conv2d@float32", [f"{rung}/conv2d@float32" for rung in RUNGS[:3]]),
    ],
)
def test_checks_are_selected_by_name_dtype_and_pattern(name: str, expected: list[str]) -> None:
    assert [check.name for check in select([name], ("float32", "float64"))] == expected


def test_the_only_dtype_may_be_named() -> None:
    assert [check.name for check in select(["loss/hinge@float32"], ("float32",))] == ["loss/hinge"]
    with pytest.raises(UserError, match="unknown check"):
        select(["loss/hinge@float32"], ("float64",))


def test_an_unknown_check_is_reported_with_the_nearest() -> None:
    with pytest.raises(UserError, match='did you mean "gradient/conv2d"'):
        select(["gradient/conv2"])
