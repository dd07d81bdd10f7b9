"""Bands and judgements: what is inside, what is outside, and how often a healthy engine is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsys_bench.result import Epoch, Result
from dlsys_bench.verdict.bands import Band, Outcome, Verdict, judge
from dlsys_bench.verdict.gate import EXIT_CODES, overall, share


def runs(values: list[float], first_seed: int = 0, **changes: object) -> list[Result]:
    made = Result("study", "arm", "digits", "quick", "numpy", "cpu", "float32", "keras", 0, "p", {}, [], 1.0)
    return [
        replace(made, seed=first_seed + i, history=[Epoch(1, 1, 1.0, 1.0, test_accuracy=v)], **changes)  # type: ignore[arg-type]
        for i, v in enumerate(values)
    ]


STORED = runs([0.90, 0.91, 0.92, 0.93, 0.94])


def judged(values: list[float], reference: list[Result] = STORED, **options: object) -> Verdict:
    made: dict[str, object] = {"alpha": 0.01, "source": "file.jsonl", "replay": "dlsys-bench gate x"} | options
    return judge(runs(values, 100), reference, "test_accuracy", **made)  # type: ignore[arg-type]


def test_the_band_is_the_prediction_interval_of_the_textbook() -> None:
    # n = 5, spread 0.0158: half = t(0.995, 4) s sqrt(1 + 1/5), t = 4.6041 from the tables.
    band = Band.of([0.90, 0.91, 0.92, 0.93, 0.94], "file")
    interval = band.interval(0.01)
    half = 4.6041 * math.sqrt(0.00025) * math.sqrt(1.2)
    assert interval.low == pytest.approx(0.92 - half, abs=1e-5)
    assert interval.high == pytest.approx(0.92 + half, abs=1e-5)
    assert band.interval(0.01, runs=4).high == pytest.approx(0.92 + half * math.sqrt(0.45 / 1.2), abs=1e-5)


def test_inside_passes_and_outside_fails_on_either_side() -> None:
    assert judged([0.93]).outcome is Outcome.PASS
    assert judged([0.83]).outcome is Outcome.FAIL
    assert judged([1.00]).outcome is Outcome.FAIL
    assert judged([0.99, 0.99, 0.99]).outcome is Outcome.FAIL


def test_a_failure_says_measured_band_source_and_replay() -> None:
    message = judged([0.5]).message()
    for part in ("0.5000", "outside [", "5 stored runs", "file.jsonl", "spread 0.0158", "replay: dlsys-bench gate x"):
        assert part in message


def test_a_run_that_diverged_fails_whatever_the_others_say() -> None:
    results = [
        *runs([0.92], 100),
        *runs([0.92], 200, status="diverged", reason="the loss became nan in epoch 1, batch 3"),
    ]
    verdict = judge(results, STORED, "test_accuracy", alpha=0.01, source="f", replay="r")
    assert verdict.outcome is Outcome.FAIL
    assert "seed 200: the loss became nan in epoch 1, batch 3" in verdict.reason


def test_too_few_stored_runs_decide_nothing() -> None:
    assert judged([0.92], STORED[:2]).outcome is Outcome.INCONCLUSIVE
    assert judged([0.92], []).outcome is Outcome.INCONCLUSIVE
    assert judged([0.92], STORED[:3]).outcome is Outcome.PASS


def test_a_run_of_an_arm_that_may_diverge_is_none_the_worse_for_it() -> None:
    broken = runs([0.92], 200, status="diverged", reason="the loss became inf in epoch 1, batch 3")
    options = {"alpha": 1e-3, "source": "s", "replay": "r"}
    assert judge(broken, STORED, "test_accuracy", **options).outcome is Outcome.FAIL  # type: ignore[arg-type]
    found = judge(broken, STORED, "test_accuracy", may_diverge=True, **options)  # type: ignore[arg-type]
    assert found.outcome is Outcome.UNJUDGED
    assert "became inf" in found.reason


def test_what_arithmetic_fixes_is_held_to_its_bound_without_any_stored_run() -> None:
    assert judged([0.1, 0.5], [], bound=0.5).outcome is Outcome.PASS
    over = judged([0.1, 0.51], [], bound=0.5)
    assert over.outcome is Outcome.FAIL
    assert "test_accuracy 0.51 is above 0.5, what arithmetic allows" in over.reason


def test_a_stored_run_that_diverged_does_not_count() -> None:
    broken = runs([0.1], 50, status="diverged")
    assert judged([0.92], [*STORED, *broken]).band == judged([0.92]).band


def test_a_run_cannot_vouch_for_itself() -> None:
    verdict = judge(STORED[:1], STORED, "test_accuracy", alpha=0.01, source="f", replay="r")
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "seed 0" in verdict.reason
    other = [replace(STORED[0], engine="torch")]
    assert judge(other, STORED, "test_accuracy", alpha=0.01, source="f", replay="r").outcome is Outcome.PASS


def test_an_arm_that_cannot_be_judged_says_so() -> None:
    verdict = judged([0.92], unjudged="still at chance")
    assert (verdict.outcome, verdict.reason) == (Outcome.UNJUDGED, "still at chance")


def test_runs_that_agree_to_the_last_step_have_not_shown_a_spread_of_zero() -> None:
    band = Band.of([0.95] * 5, "file", resolution=1 / 360)
    assert band.spread == pytest.approx(1 / 360 / math.sqrt(12))
    assert judged([0.9503], runs([0.95] * 5), resolution=1 / 360).outcome is Outcome.PASS
    assert judged([0.9403], runs([0.95] * 5), resolution=1 / 360).outcome is Outcome.FAIL


@given(n=st.integers(3, 30), m=st.integers(1, 5), seed=st.integers(0, 2**20), alpha=st.sampled_from([0.05, 0.2]))
def test_a_band_is_centred_and_narrows_with_runs(n: int, m: int, seed: int, alpha: float) -> None:
    values = np.random.default_rng(seed).normal(0.9, 0.01, n)
    band = Band.of(values.tolist(), "file")
    one, many = band.interval(alpha), band.interval(alpha, m)
    assert (one.low + one.high) / 2 == pytest.approx(band.mean)
    assert many.high - many.low <= one.high - one.low + 1e-15
    assert band.interval(alpha / 10).high > one.high


@pytest.mark.parametrize("m", [1, 3])
def test_a_healthy_engine_fails_as_often_as_the_band_says(m: int) -> None:
    """10,000 gates at alpha 0.05: the count is binomial, and five of its deviations are 0.011."""
    generator = np.random.default_rng(12345)
    gates = 10_000
    outside = 0
    for stored, new in zip(
        generator.normal(0.9, 0.01, (gates, 8)), generator.normal(0.9, 0.01, (gates, m)), strict=True
    ):
        interval = Band.of(stored.tolist(), "file").interval(0.05, m)
        outside += not interval.low <= new.mean() <= interval.high
    assert outside / gates == pytest.approx(0.05, abs=5 * math.sqrt(0.05 * 0.95 / gates))


def test_the_smallest_shift_is_seen_as_often_as_it_says() -> None:
    generator = np.random.default_rng(54321)
    band = Band(0.9, 0.01, 40, "file")
    shift, interval = band.smallest_shift(0.01, beta=0.1), band.interval(0.01)
    seen = (generator.normal(0.9 - shift, 0.01, 20_000) < interval.low).mean()
    assert seen >= 0.9


def test_the_budget_is_shared_and_the_exit_codes_are_the_documented_ones() -> None:
    assert share(20, 1e-3) == pytest.approx(5e-5)
    assert EXIT_CODES == {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 3}
    assert overall([Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL]) is Outcome.FAIL
    assert overall([Outcome.PASS, Outcome.INCONCLUSIVE]) is Outcome.INCONCLUSIVE
    assert overall([Outcome.PASS]) is Outcome.PASS
    assert overall([]) is Outcome.INCONCLUSIVE
    assert overall([Outcome.PASS, Outcome.UNJUDGED]) is Outcome.PASS
    assert overall([Outcome.UNJUDGED]) is Outcome.INCONCLUSIVE
