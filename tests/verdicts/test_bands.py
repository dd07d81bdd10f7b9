"""Bands: the prediction interval and its coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsys_bench.verdicts.bands import Band


def test_interval_is_the_prediction_interval() -> None:
    # n = 5, spread 0.0158: half = t(0.995, 4) s sqrt(1 + 1/5), t = 4.6041 from the tables.
    band = Band.of([0.90, 0.91, 0.92, 0.93, 0.94], "file")
    interval = band.interval(0.01)
    half = 4.6041 * math.sqrt(0.00025) * math.sqrt(1.2)
    assert interval.low == pytest.approx(0.92 - half, abs=1e-5)
    assert interval.high == pytest.approx(0.92 + half, abs=1e-5)
    assert band.interval(0.01, runs=4).high == pytest.approx(
        0.92 + half * math.sqrt(0.45 / 1.2), abs=1e-5
    )


def test_standard_deviation_is_at_least_that_of_rounding() -> None:
    band = Band.of([0.95] * 5, "file", resolution=1 / 360)
    assert band.std == pytest.approx(1 / 360 / math.sqrt(12))
    assert Band.of([0.9, 0.95], "file", resolution=1 / 360).std == pytest.approx(
        0.05 / math.sqrt(2)
    )


@given(
    n=st.integers(3, 30),
    m=st.integers(1, 5),
    seed=st.integers(0, 2**20),
    alpha=st.sampled_from([0.05, 0.2]),
)
def test_interval_is_centred_and_narrows_with_runs(n: int, m: int, seed: int, alpha: float) -> None:
    values = np.random.default_rng(seed).normal(0.9, 0.01, n)
    band = Band.of(values.tolist(), "file")
    one, many = band.interval(alpha), band.interval(alpha, m)
    assert (one.low + one.high) / 2 == pytest.approx(band.mean)
    assert many.high - many.low <= one.high - one.low + 1e-15
    assert band.interval(alpha / 10).high > one.high


@pytest.mark.parametrize("m", [1, 3])
def test_interval_has_its_coverage(m: int) -> None:
    """Of 10,000 intervals at alpha 0.05, five standard errors of the coverage are 0.011."""
    generator = np.random.default_rng(12345)
    gates = 10_000
    outside = 0
    for stored, new in zip(
        generator.normal(0.9, 0.01, (gates, 8)),
        generator.normal(0.9, 0.01, (gates, m)),
        strict=True,
    ):
        interval = Band.of(stored.tolist(), "file").interval(0.05, m)
        outside += not interval.low <= new.mean() <= interval.high
    assert outside / gates == pytest.approx(0.05, abs=5 * math.sqrt(0.05 * 0.95 / gates))
