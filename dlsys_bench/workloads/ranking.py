"""Simultaneous intervals for paired arms, by the largest studentised difference (max-T).

Runs of one seed are paired, so that a row of values (seeds, arms) is one observation. Its
differences are taken as normal with the covariance of the sample: the critical value is a quantile
of the largest |t| over all compared pairs, of simulated samples of the same size and covariance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PairedValues = NDArray[np.float64]

SIMULATIONS = 4000
"""The simulated samples of a critical value."""


class SimultaneousInterval(NamedTuple):
    """A mean difference and the ends of its simultaneous interval."""

    mean: float
    low: float
    high: float


class RankInterval(NamedTuple):
    """The best and the worst rank that an arm may have, from 1."""

    best: int
    worst: int


def studentized(samples: PairedValues) -> tuple[PairedValues, PairedValues]:
    """Return the mean differences of all pairs of arms and their standard errors, (..., K, K), of
    samples (..., n, K)."""
    n = samples.shape[-2]
    means = samples.mean(axis=-2)
    centred = samples - means[..., np.newaxis, :]
    covariance = np.swapaxes(centred, -1, -2) @ centred / (n - 1)
    variances = np.diagonal(covariance, axis1=-2, axis2=-1)
    squares = variances[..., :, np.newaxis] + variances[..., np.newaxis, :] - 2 * covariance
    differences = means[..., :, np.newaxis] - means[..., np.newaxis, :]
    return differences, np.sqrt(np.maximum(squares, 0.0) / n)


def critical_value(
    values: PairedValues, pairs: NDArray[np.bool_], confidence: float = 0.95, seed: int = 0
) -> float:
    """Return the quantile of the largest |t| over some pairs, (K, K), of values (n, K)."""
    n = len(values)
    generator = np.random.default_rng(seed)
    centred = (values - values.mean(axis=0)) / np.sqrt(n - 1)
    largest = []
    for _ in range(4):  # In blocks, to save memory.
        drawn = generator.standard_normal((SIMULATIONS // 4, n, n)) @ centred
        differences, errors = studentized(drawn)
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.nan_to_num(np.abs(differences / errors), posinf=0.0)
        largest.append(t[:, pairs].max(axis=1))
    return float(np.quantile(np.concatenate(largest), confidence))


def against(
    values: PairedValues, control: int, confidence: float = 0.95
) -> list[SimultaneousInterval]:
    """Return the simultaneous interval of the difference of each arm to one arm, of values (n, K).

    That of the arm itself is (0, 0, 0).
    """
    pairs = np.zeros((values.shape[1],) * 2, bool)
    pairs[:, control] = True
    pairs[control, control] = False
    differences, errors = studentized(values)
    reach = critical_value(values, pairs, confidence) * errors[:, control]
    return [
        SimultaneousInterval(float(each), float(each - width), float(each + width))
        for each, width in zip(differences[:, control], reach, strict=True)
    ]


def rank_intervals(values: PairedValues, confidence: float = 0.95) -> list[RankInterval]:
    """Return the simultaneous interval of each arm's rank, of values (n, K), the largest first.

    An arm ranks behind those that are better by their simultaneous interval over all pairs, and
    before those that are worse. Mogstad, Romano, Shaikh, Wilhelm: Inference for ranks, 2024.
    """
    arms = values.shape[1]
    pairs = np.triu(np.ones((arms, arms), bool), 1)
    differences, errors = studentized(values)
    reach = critical_value(values, pairs, confidence) * errors
    worse, better = differences + reach < 0, differences - reach > 0
    return [
        RankInterval(1 + int(behind.sum()), arms - int(before.sum()))
        for behind, before in zip(worse, better, strict=True)
    ]


def paired(runs: Sequence[dict[int, float]]) -> tuple[list[int], PairedValues]:
    """Return the seeds that all arms have, and their values (n, K), of one mapping per arm."""
    seeds = sorted(set.intersection(*(set(each) for each in runs))) if runs else []
    return seeds, np.array([[each[seed] for each in runs] for seed in seeds], np.float64)
