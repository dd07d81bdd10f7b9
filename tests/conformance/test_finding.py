"""Two arrays are close, or it is said where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from dlsys_bench.conformance.finding import BrokenError, close

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, INF], [-INF, NAN], []])
def test_equals_are_close(values: list[float]) -> None:
    close("x", np.array(values), np.array(values), 0.0)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            [1.0, 2.1],
            r"x is 2.1 at \(1,\), where 2 is right: it differs by 0.1, where 0.01 is allowed",
        ),
        ([1.0, NAN], r"x is nan at \(1,\), where 2 is right"),
        ([1.0, INF], r"x is inf at \(1,\), where 2 is right"),
        ([1.0], r"x has the shape \(1,\), not \(2,\)"),
    ],
)
def test_what_is_not_close_is_named(found: list[float], said: str) -> None:
    with pytest.raises(BrokenError, match=said):
        close("x", np.array(found), np.array([1.0, 2.0]), 0.01)


@pytest.mark.parametrize(("found", "right"), [(-INF, INF), (NAN, INF), (INF, NAN), (1.0, INF)])
def test_what_is_not_finite_has_to_be_the_same(found: float, right: float) -> None:
    with pytest.raises(BrokenError, match="is right"):
        close("x", np.array([found]), np.array([right]), 1.0)
