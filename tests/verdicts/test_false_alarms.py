"""The false-alarm rate: 10,000 gates on skewed, discrete and heavy-tailed distributions, and 2,000
on reference runs that are held out from the band."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dlsys_bench.runs.store import read
from dlsys_bench.verdicts.bands import Band
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.verdict import Outcome

Distribution = Callable[[np.random.Generator, int], np.ndarray]

DISTRIBUTIONS: dict[str, Distribution] = {
    "normal": lambda g, k: g.normal(0.95, 0.004, k),
    "skewed": lambda g, k: 1 - 0.01 * g.lognormal(0.0, 1.0, k),
    "heavy-tailed": lambda g, k: 0.9 + 0.01 * g.standard_t(2, k),
    "discrete": lambda g, k: g.binomial(360, 0.98, k) / 360,
    "at its ceiling": lambda g, k: g.binomial(50, 0.995, k) / 50,
    "sometimes at chance": lambda g, k: np.where(g.random(k) < 0.08, 0.1, g.normal(0.9, 0.01, k)),
    "sometimes diverged": lambda g, k: np.where(
        g.random(k) < 0.08, -np.inf, g.normal(0.9, 0.01, k)
    ),
    "two places": lambda g, k: np.where(g.random(k) < 0.5, 0.7, 0.9) + g.normal(0, 0.001, k),
}
ALPHA, GATES = 0.05, 1250


def failures(distribution: Distribution, seed: int, gates: int = GATES, stored: int = 12) -> int:
    generator, failed = np.random.default_rng(seed), 0
    for _ in range(gates):
        new = iter(distribution(generator, 8).tolist())
        gate = SequentialGate(
            distribution(generator, stored).tolist(), alpha=ALPHA, max_seeds=8, resolution=1 / 360
        )
        failed += gate.run(partial(_next, new)).outcome is Outcome.FAIL
    return failed


def _next(values: Iterator[float], seed: int) -> float:
    """Return the next value, whatever the seed."""
    return next(values)


def no_more_than_stated(failed: int, gates: int, alpha: float = ALPHA) -> bool:
    """Return True unless the failures show a higher rate, at a one-sided level of 1e-6."""
    return float(stats.binomtest(failed, gates, alpha, alternative="greater").pvalue) > 1e-6


@pytest.mark.rotates("false alarms of a gate", 2)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_false_alarm_rate_holds_for_every_distribution(name: str) -> None:
    assert no_more_than_stated(failures(DISTRIBUTIONS[name], seed=sum(map(ord, name))), GATES)


def test_false_alarm_check_rejects_a_gate_that_assumes_normality() -> None:
    """The prediction interval has too many false alarms at the same alpha."""
    generator, gates, alpha = np.random.default_rng(5), 4000, 1e-3
    outside = 0
    for _ in range(gates):
        distribution = DISTRIBUTIONS["sometimes at chance"]
        interval = Band.of(distribution(generator, 12).tolist(), "").interval(alpha)
        outside += not interval.low <= distribution(generator, 1)[0] <= interval.high
    assert not no_more_than_stated(outside, gates, alpha)


def test_false_alarm_rate_holds_for_reference_runs() -> None:
    """2,000 gates on every arm with 20 reference runs at tier quick: 12 are the reference, the
    others are judged."""
    folder = Path(__file__).parents[2] / "reports" / "reference"
    arms: dict[tuple[str, ...], list[float]] = {}
    for path in sorted(folder.glob("regularization.*.quick.jsonl")):
        for found in read(path):
            if found.key.engine == "numpy" and (value := found.metric("test_accuracy")) is not None:
                arms.setdefault(
                    (found.key.study, found.key.arm, found.key.dataset, found.key.protocol), []
                ).append(value)
    pools = [np.array(values) for values in arms.values() if len(values) >= 20]
    assert len(pools) >= 20
    generator, failed, gates = np.random.default_rng(11), 0, 2000
    for _ in range(gates):
        pool = generator.permutation(pools[generator.integers(len(pools))])
        new = iter(pool[12:].tolist())
        gate = SequentialGate(pool[:12].tolist(), alpha=ALPHA, max_seeds=8, resolution=1 / 2000)
        failed += gate.run(partial(_next, new)).outcome is Outcome.FAIL
    assert no_more_than_stated(failed, gates)
