"""Simulated gates on normally distributed runs: how they end, and after how many seeds."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.verdicts.ranks import untied

if TYPE_CHECKING:
    from dlsys_bench.verdicts.design import Design

SIDES: dict[str, tuple[int, ...]] = {"both": (-1, 1), "drop": (-1,), "rise": (1,)}
"""The directions of the shifts to detect, by name: down, up, or both."""

SIMULATIONS = 10_000
"""The number of simulated gates from which power and the number of seeds are computed."""


Pairs = NDArray[np.int32]


class OperatingCharacteristics(NamedTuple):
    """The operating characteristics of a gate at a given true shift.

    The fractions of PASS and FAIL, and the number of seeds until the decision.
    """

    passed: float
    failed: float
    median_seeds: float
    mean_seeds: float


class _Drawn(NamedTuple):
    """Normal draws of S gates: stored (n, S), new (m, S), and the sample std of the stored (S,)."""

    stored: NDArray[np.float64]
    new: NDArray[np.float64]
    std: NDArray[np.float64]


@lru_cache(maxsize=4)
def _draws(stored: int, seeds: int, simulations: int) -> _Drawn:
    # All shifts are simulated with the same draws, so that they differ by the shift alone.
    generator = np.random.default_rng([stored, seeds])
    x = generator.standard_normal((simulations, stored))
    std = x.std(axis=1, ddof=1) if stored > 1 else np.full(simulations, np.nan)
    y = generator.standard_normal((simulations, seeds))
    # Comparisons of all gates at a time run along memory.
    return _Drawn(np.ascontiguousarray(x.T), np.ascontiguousarray(y.T), std)


@lru_cache(maxsize=1024)
def operating(
    design: Design, shift: float, true_shift: float, simulations: int
) -> OperatingCharacteristics:
    x, y, std = _draws(design.stored, design.seeds, simulations)
    sides = SIDES[design.side]
    y = y + sides[0] * true_shift * std
    pairs = _pairs(x, y)
    shifted = {side: _pairs(x, y - side * shift * std) for side in sides}

    def beyond(pairs: dict[int, Pairs], look: int, level: float) -> NDArray[np.bool_]:
        """Return for each side (row) where its p-value is within the level."""
        return np.array([_p_value(p, look, design.stored, s) <= level for s, p in pairs.items()])

    undecided, passed, failed = np.ones(simulations, bool), 0, 0
    used = np.full(simulations, design.seeds)
    for look in design.looks:
        if level := design.pass_levels.get(look):
            # Compared with reference runs that were shifted up, unshifted runs lie lower; and the
            # reverse.
            ruled_out = beyond({-side: shifted[side] for side in sides}, look, level).all(axis=0)
            passed += int((undecided & ruled_out).sum())
            used[undecided & ruled_out] = look
            undecided &= ~ruled_out
        if level := design.fail_levels.get(look):
            differs = beyond(dict.fromkeys(sides, pairs), look, level).any(axis=0)
            failed += int((undecided & differs).sum())
            used[undecided & differs] = look
            undecided &= ~differs
    return OperatingCharacteristics(
        passed / simulations, failed / simulations, float(np.median(used)), float(used.mean())
    )


def power_of_one_look(design: Design, shift: float) -> float:
    """Return the power of a test that looks once."""
    x, y, std = _draws(design.stored, design.seeds, SIMULATIONS)
    sides, level = SIDES[design.side], design.fail_levels.get(design.seeds, 0.0)
    pairs = _pairs(x, y + sides[0] * shift * std)
    differs = np.any(
        [_p_value(pairs, design.seeds, design.stored, side) <= level for side in sides], axis=0
    )
    return float(differs.mean())


def _pairs(x: NDArray[np.float64], y: NDArray[np.float64]) -> Pairs:
    """Count the pairs in which one of the first m new values exceeds a stored one, (m, S)."""
    exceeded = np.zeros(y.shape, np.int16)
    # One stored run at a time: all at once would take memory for S * n * m comparisons.
    for one in x:
        exceeded += y > one
    counts: Pairs = np.cumsum(exceeded, axis=0, dtype=np.int32)
    return counts


def _p_value(pairs: Pairs, look: int, stored: int, side: int) -> NDArray[np.float64]:
    """Return the p-values of as few pairs (side -1) or as many (side 1) at a look."""
    here = pairs[look - 1]
    p_values: NDArray[np.float64] = untied(stored, look)[here if side < 0 else stored * look - here]
    return p_values
