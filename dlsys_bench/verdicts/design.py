"""The design of a gate: the looks at the runs so far, the levels of each look, and the power.

At every look two null hypotheses are tested on the new runs. One: they have the distribution of the
reference runs. If it is rejected, at level `alpha` over all looks, the outcome is FAIL. The other:
they have the distribution of reference runs shifted by `shift`. If it is rejected for every side,
at a level below `beta` over all looks, a shift of that size is ruled out: PASS. Both are exact
rank-sum tests, and their levels are divided among the looks by Bonferroni, so that neither the
distribution of the runs nor the stopping rule can raise the error rates.

Only power and the number of seeds are computed for a particular distribution, the normal one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, inf, sqrt
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import UserError, count_of, nearest
from dlsys_bench.verdicts.budget import ALPHA
from dlsys_bench.verdicts.ranks import smallest_p_value, untied

BETA, MAX_SEEDS = 1e-2, 12

SIDES: dict[str, tuple[int, ...]] = {"both": (-1, 1), "drop": (-1,), "rise": (1,)}
"""The directions of the shifts to detect, by name: down, up, or both."""

GROWTH = 1.5
"""The ratio of the numbers of runs at successive looks."""

SHARE = 2 / 3
"""The largest fraction of the remaining level that one look may spend. The same fraction of beta is
for PASS, the rest for ending undecided."""

MAX_DETECTING_SEEDS = 200
"""The maximum number of seeds of a design that `Design.detecting` or `fixed_seeds` looks for."""

SIMULATIONS = 10_000
"""The number of simulated gates from which power and the number of seeds are computed."""


def between(value: Any, low: float, high: float) -> bool:
    """Return True if the value is a number strictly between two others."""
    return isinstance(value, Real) and low < float(value) < high


class OperatingCharacteristics(NamedTuple):
    """The operating characteristics of a gate at a given true shift.

    The fractions of PASS and FAIL, and the number of seeds until the decision.
    """

    passed: float
    failed: float
    median_seeds: float
    mean_seeds: float


@dataclass(frozen=True)
class Design:
    """A gate with `stored` reference runs that looks after each number of new runs in `looks`.

    Create it with `of` or `detecting`.
    """

    stored: int
    looks: tuple[int, ...]
    alpha: float = ALPHA
    beta: float = BETA
    side: str = "both"

    @classmethod
    def of(
        cls,
        stored: int,
        alpha: float = ALPHA,
        beta: float = BETA,
        max_seeds: int = MAX_SEEDS,
        side: str = "both",
    ) -> Design:
        """Return the design with at most `max_seeds` seeds. Raises UserError if one is invalid."""
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not between(value, 0, 1):
                raise UserError(f"{name} is {value!r}; it takes a probability between 0 and 1")
        if stored < 1 or not between(max_seeds, 0, inf) or max_seeds != int(max_seeds):
            raise UserError(
                f"{count_of(stored, 'reference run')} and max_seeds {max_seeds!r}: "
                "a gate takes at least 1 of each"
            )
        if side not in SIDES:
            raise UserError(f"side is {side!r}{nearest(side, SIDES)}; it takes {', '.join(SIDES)}")
        looks = []
        # The first look is where the most extreme outcome could rule a shift out. A gate that is
        # too short for that looks once.
        level = SHARE**2 * beta
        look = next(
            (m for m in range(1, max_seeds) if smallest_p_value(stored, m) <= level), max_seeds
        )
        while look < max_seeds:
            looks.append(look)
            look = ceil(GROWTH * look)
        return cls(stored, (*looks, max_seeds), alpha, beta, side)

    @classmethod
    def detecting(
        cls,
        shift: float,
        stored: int,
        alpha: float = ALPHA,
        beta: float = BETA,
        side: str = "both",
        most: int = MAX_DETECTING_SEEDS,
    ) -> Design | None:
        """Return the shortest design that detects a shift, in standard deviations.

        Returns None if `most` seeds are too few.
        """
        longest = cls.of(stored, alpha, beta, most, side).looks
        for count in range(1, len(longest) + 1):
            design = cls(stored, longest[:count], alpha, beta, side)
            if design.detects(shift):
                return design
        return None

    @property
    def seeds(self) -> int:
        """The maximum number of seeds."""
        return self.looks[-1]

    def levels(self, level: float, sides: int = 1) -> dict[int, float]:
        """Return the part of a level that each look may spend.

        Each look spends an equal share of the remaining level, but at least the p-value of the most
        extreme outcome. A look whose most extreme p-value exceeds SHARE of the remainder spends
        nothing.
        """
        spent, left = {}, level
        for index, look in enumerate(self.looks):
            least, last = sides * smallest_p_value(self.stored, look), look == self.seeds
            if least <= (left if last else SHARE * left):
                spent[look] = max(least, left / (len(self.looks) - index))
                left -= spent[look]
        return spent

    @property
    def fail_levels(self) -> dict[int, float]:
        """The one-sided level at each look for FAIL."""
        sides = len(SIDES[self.side])
        return {look: level / sides for look, level in self.levels(self.alpha, sides).items()}

    @property
    def pass_levels(self) -> dict[int, float]:
        """The level at each look for ruling a shift out."""
        return self.levels(SHARE * self.beta)

    def detects(self, shift: float) -> bool:
        """Return True if a shift, in standard deviations, fails with probability >= 1 - beta."""
        # The margin is two standard errors of the simulated power. A beta below
        # 4 / SIMULATIONS can therefore never be shown.
        margin = 2 * sqrt(self.beta * (1 - self.beta) / SIMULATIONS)
        return (
            bool(self.fail_levels) and self.operating(shift, shift).failed >= 1 - self.beta + margin
        )

    def operating(self, shift: float, true_shift: float = 0.0) -> OperatingCharacteristics:
        """Return how the gate for a shift ends if the true shift is another.

        Both are in sample standard deviations of the reference runs, and downwards unless only a
        rise fails. Simulated for a normal distribution.
        """
        return _operating(self, shift, true_shift)

    @property
    def smallest_shift(self) -> float:
        """The minimum detectable effect: the smallest shift, in standard deviations, that fails
        with probability 1 - beta; infinite if none does."""
        return _smallest_shift(self)

    def fixed_seeds(self, shift: float) -> int | None:
        """Return the seeds that a test of the same alpha and power needs which looks once.

        Returns None above MAX_DETECTING_SEEDS.
        """
        low, high = 0, 1
        while _power(replace(self, looks=(high,)), shift) < 1 - self.beta:
            low, high = high, 2 * high
            if high > MAX_DETECTING_SEEDS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            enough = _power(replace(self, looks=(middle,)), shift) >= 1 - self.beta
            low, high = (low, middle) if enough else (middle, high)
        return high


class _Drawn(NamedTuple):
    """Normal draws: stored (S, n), new (S, m), and the sample std of each stored row (S, 1)."""

    stored: NDArray[np.float64]
    new: NDArray[np.float64]
    std: NDArray[np.float64]


@lru_cache(maxsize=64)
def _draws(stored: int, seeds: int) -> _Drawn:
    # All shifts are simulated with the same draws, so that they differ by the shift alone.
    generator = np.random.default_rng([stored, seeds])
    x = generator.standard_normal((SIMULATIONS, stored))
    std = x.std(axis=1, ddof=1, keepdims=True) if stored > 1 else np.full((SIMULATIONS, 1), np.nan)
    return _Drawn(x, generator.standard_normal((SIMULATIONS, seeds)), std)


@lru_cache(maxsize=1024)
def _operating(design: Design, shift: float, true_shift: float) -> OperatingCharacteristics:
    x, y, std = _draws(design.stored, design.seeds)
    sides = SIDES[design.side]
    y = y + sides[0] * true_shift * std
    pairs = _pairs(x, y)
    shifted = {side: _pairs(x, y - side * shift * std) for side in sides}

    def beyond(pairs: dict[int, NDArray[np.intp]], look: int, level: float) -> NDArray[np.bool_]:
        """Return for each side (row) where its p-value is within the level."""
        return np.array([_p_value(p, look, design.stored, s) <= level for s, p in pairs.items()])

    undecided, passed, failed = np.ones(SIMULATIONS, bool), 0, 0
    used = np.full(SIMULATIONS, design.seeds)
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
        passed / SIMULATIONS, failed / SIMULATIONS, float(np.median(used)), float(used.mean())
    )


def _power(design: Design, shift: float) -> float:
    """Return the power of a test that looks once."""
    x, y, std = _draws(design.stored, design.seeds)
    sides, level = SIDES[design.side], design.fail_levels.get(design.seeds, 0.0)
    pairs = _pairs(x, y + sides[0] * shift * std)
    differs = np.any(
        [_p_value(pairs, design.seeds, design.stored, side) <= level for side in sides], axis=0
    )
    return float(differs.mean())


def _pairs(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.intp]:
    """Count the pairs in which one of the first m new values exceeds a stored one, (S, m)."""
    counts: NDArray[np.intp] = np.cumsum((y[:, :, None] > x[:, None, :]).sum(axis=-1), axis=1)
    return counts


def _p_value(pairs: NDArray[np.intp], look: int, stored: int, side: int) -> NDArray[np.float64]:
    """Return the p-values of as few pairs (side -1) or as many (side 1) at a look."""
    here = pairs[:, look - 1]
    return untied(stored, look)[here if side < 0 else stored * look - here]


@lru_cache(maxsize=256)
def _smallest_shift(design: Design) -> float:
    low, high = 0.0, 1.0
    while not design.detects(high):
        low, high = high, 2 * high
        if high > 1000:
            return inf
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if design.detects(middle) else (middle, high)
    return high
