"""Datasets that are computed from formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dlsys_bench.data import load
from dlsys_bench.notebooks.datasets import EGGHOLDER_NOISE, eggholder_function


@pytest.mark.parametrize(
    ("name", "target"), [("absolute", np.abs), ("absolute-sine", lambda x: abs(x * np.sin(5 * x)))]
)
def test_targets_of_one_variable(name: str, target: object) -> None:
    data = load(name)
    assert (data.x_train.shape, data.x_test.shape) == ((3000, 1), (1000, 1))
    np.testing.assert_allclose(data.y_train, target(data.x_train))  # type: ignore[operator]
    assert math.sqrt(7) > np.abs(data.x_train).max() > math.sqrt(7) - 0.02
    assert abs(data.x_train.mean()) < 0.15


def test_the_eggholder_function() -> None:
    """The known minimum, and a value computed by hand."""
    assert eggholder_function(np.array(512.0), np.array(404.2319)) == pytest.approx(
        -959.6407, abs=1e-4
    )
    assert eggholder_function(np.array(0.0), np.array(0.0)) == pytest.approx(
        -47 * math.sin(math.sqrt(47))
    )
    data = load("eggholder")
    assert (len(data.x_train), len(data.x_test)) == (80_000, 20_000)
    noise = data.y_train[:, 0] - eggholder_function(data.x_train[:, 0], data.x_train[:, 1])
    assert noise.std() == pytest.approx(EGGHOLDER_NOISE, rel=0.02)
    assert noise.var() == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize("name", ["absolute", "absolute-sine", "eggholder", "half-plane"])
def test_a_dataset_is_redrawn_from_a_seed(name: str) -> None:
    data = load(name)
    assert data.redraw is not None
    first, again, other = data.redraw(3), data.redraw(3), data.redraw(4)
    np.testing.assert_array_equal(first.x_train, again.x_train)
    assert (first.x_train != other.x_train).any()
    assert (first.x_train[:20] != first.x_test[:20]).any()
    assert other.redraw is not None
