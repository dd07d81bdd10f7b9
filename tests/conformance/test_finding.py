"""The comparison of two arrays, and the finding if they differ."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dlsys_bench.conformance.finding import BrokenError, Fault, Finding, close

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, INF], [-INF, NAN], []])
def test_equals_are_close(values: list[float]) -> None:
    close("x", np.array(values), np.array(values), 0.0)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            [1.0, 2.1],
            r"x at \(1,\): actual 2.1, expected 2, difference 0.1, tolerance 0.01",
        ),
        ([1.0, NAN], r"x at \(1,\): actual nan, expected 2"),
        ([1.0, INF], r"x at \(1,\): actual inf, expected 2"),
        ([1.0], r"the shape of x: actual \(1,\), expected \(2,\)"),
    ],
)
def test_values_that_are_not_close_are_named(found: list[float], said: str) -> None:
    with pytest.raises(BrokenError, match=said):
        close("x", np.array(found), np.array([1.0, 2.0]), 0.01)


@pytest.mark.parametrize(("found", "right"), [(-INF, INF), (NAN, INF), (INF, NAN), (1.0, INF)])
def test_values_that_are_not_finite_have_to_be_equal(found: float, right: float) -> None:
    with pytest.raises(BrokenError, match="actual .*, expected") as raised:
        close("x", np.array([found]), np.array([right]), 1.0)
    assert raised.value.finding.fault is Fault.NOT_FINITE


def test_a_finding_survives_json() -> None:
    finding = Finding("x", Fault.WRONG_VALUE, step=2, difference=0.5, allowed=0.1, example="one")
    assert Finding.from_dict(json.loads(json.dumps(finding.to_dict()))) == finding
    assert str(finding) == "step 2: x: difference 0.5, tolerance 0.1 [one]"


def test_a_finding_of_an_earlier_version_is_read() -> None:
    assert Finding.from_dict({"what": "x is 1, where 2 is right"}).fault is None
