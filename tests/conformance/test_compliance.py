"""Reports of a climb: the verdict, the summary, the file, and the changes between two reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlsys_bench.conformance.check import CHECKS, RUNGS
from dlsys_bench.conformance.compliance import Compliance, changes
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.errors import UserError
from dlsys_bench.report.compliance import compliance_table


def report(**statuses: Status) -> Compliance:
    names = {"loss_hinge": "loss/hinge", "step_sgd": "step/sgd"}
    results = [CheckResult.of(CHECKS[names[name]], status) for name, status in statuses.items()]
    return Compliance("mine", "cpu", 0, results, list(names.values()))


def test_a_report_conforms_only_if_everything_ran() -> None:
    assert report(loss_hinge=Status.PASSED, step_sgd=Status.PASSED).conforms
    assert report(loss_hinge=Status.PASSED, step_sgd=Status.DECLARED).conforms
    for bad in (Status.FAILED, Status.NOT_REACHED):
        assert not report(loss_hinge=Status.PASSED, step_sgd=bad).conforms
    fewer = report(loss_hinge=Status.PASSED)
    assert not fewer.conforms
    assert fewer.missing == ["step/sgd"]
    assert "1 did not run" in fewer.summary()
    # An engine that declares everything has shown nothing.
    assert not report(loss_hinge=Status.DECLARED, step_sgd=Status.DECLARED).conforms


def test_a_timeout_is_no_verdict_unless_another_check_failed() -> None:
    slow = report(loss_hinge=Status.PASSED, step_sgd=Status.TIMEOUT)
    assert slow.inconclusive
    assert not slow.conforms
    assert slow.summary() == "mine is inconclusive: 1 passed, 1 timed out of 2 checks"
    assert "timed out" in compliance_table(slow).markdown()
    broken = report(loss_hinge=Status.FAILED, step_sgd=Status.TIMEOUT)
    assert not broken.inconclusive
    assert "mine does not conform: 1 failed, 1 timed out" in broken.summary()
    assert "timed out" not in compliance_table(report(loss_hinge=Status.PASSED)).markdown()


def test_a_report_of_some_checks_says_so() -> None:
    results = [CheckResult.of(CHECKS["loss/hinge"], Status.PASSED)]
    some = Compliance("mine", "cpu", 0, results, ["loss/hinge", "step/sgd"], ["loss/hinge"])
    assert some.conforms
    assert some.partial
    assert some.summary() == "mine conforms in the selected checks: 1 passed of 2 checks"


def test_reports_survive_a_file_and_tell_what_changed(tmp_path: Path) -> None:
    before, after = (
        report(loss_hinge=Status.PASSED, step_sgd=Status.PASSED),
        report(loss_hinge=Status.FAILED),
    )
    path = tmp_path / "report.json"
    path.write_text(json.dumps(before.to_dict()))
    assert changes(Compliance.read(path), after) == [
        ("loss/hinge", "passed", "failed"),
        ("step/sgd", "passed", "absent"),
    ]
    for other in ("{}", "[]", "3", '{"outcomes": [1]}', "{"):
        path.write_text(other)
        with pytest.raises(UserError, match="is not a report of `dlsys-bench conform") as error:
            Compliance.read(path)
        assert "Error(" not in str(error.value)


def test_a_result_of_an_earlier_version_has_the_rung_of_its_check() -> None:
    result = CheckResult.from_dict({"name": "step/sgd", "status": "passed"})
    assert (result.rung, result.subject) == ("step", "sgd")


REPORTS = [
    path
    for path in sorted(Path(__file__).parents[2].glob("reports/conformance/*.json"))
    if '"outcomes"' in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_a_stored_report_is_read_with_the_rung_of_every_check(path: Path) -> None:
    report = Compliance.read(path)
    assert report.conforms
    assert {result.rung for result in report.results} == set(RUNGS)
