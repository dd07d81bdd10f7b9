"""The design of a gate: the looks at the runs so far, the levels of each look, and the power.

At every look two null hypotheses are tested on the new runs. One: they have the distribution of the
reference runs. If it is rejected, at level `alpha` over all looks, the outcome is FAIL. The other:
they have the distribution of reference runs shifted by `shift`. If it is rejected for every side,
at a level below `beta` over all looks, a shift of that size is ruled out: PASS. Both are exact
rank-sum tests, and their levels are divided among the looks by Bonferroni, so that neither the
distribution of the runs nor the stopping rule can raise the error rates.

A part of alpha is for two further tests at the last look, of the tail and of the spread
(`SequentialGate`). The power here is that of the test of a shift alone, so that it is no more than
that of the gate.

Only power and the number of seeds are computed for a particular distribution, the normal one.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, inf, sqrt
from numbers import Real
from typing import Any

from dlsys_bench.errors import UserError, count_of, nearest
from dlsys_bench.verdicts.budget import ALPHA, SHIFT_SHARE
from dlsys_bench.verdicts.ranks import smallest_p_value
from dlsys_bench.verdicts.simulation import (
    SIDES,
    SIMULATIONS,
    OperatingCharacteristics,
    operating,
    power_of_one_look,
)

BETA, MAX_SEEDS = 1e-2, 12

GROWTH = 1.5
"""The ratio of the numbers of runs at successive looks."""

SHARE = 2 / 3
"""The largest fraction of the remaining level that one look may spend. The same fraction of beta is
for PASS, the rest for ending undecided."""

LEAST_SHIFT = 1e-6
"""The smallest shift that is computed, in standard deviations."""

MAX_DETECTING_SEEDS = 200
"""The maximum number of seeds of a design that `Design.detecting` or `fixed_seeds` looks for."""


def between(value: Any, low: float, high: float) -> bool:
    """Return True if the value is a number strictly between two others."""
    return isinstance(value, Real) and low < float(value) < high


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
                raise UserError(f"{name} is {value!r}; expected a probability between 0 and 1")
        if stored < 1 or not between(max_seeds, 0, inf) or max_seeds != int(max_seeds):
            raise UserError(
                f"{count_of(stored, 'reference run')} and max_seeds {max_seeds!r}: "
                "a gate takes at least 1 of each"
            )
        if side not in SIDES:
            raise UserError(
                f"side is {side!r}{nearest(side, SIDES)}; expected one of {', '.join(SIDES)}"
            )
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
        designs = [
            cls(stored, longest[:count], alpha, beta, side) for count in range(1, len(longest) + 1)
        ]
        # More looks detect more, and a simulation takes longer the more seeds it draws.
        place = bisect_left(designs, True, key=lambda design: design.detects(shift))
        return designs[place] if place < len(designs) else None

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
        """The one-sided level at each look for FAIL by a shift."""
        sides, alpha = len(SIDES[self.side]), SHIFT_SHARE * self.alpha
        return {look: level / sides for look, level in self.levels(alpha, sides).items()}

    @property
    def pass_levels(self) -> dict[int, float]:
        """The level at each look for ruling a shift out."""
        return self.levels(SHARE * self.beta)

    def detects(self, shift: float, margin: float = 2.0, simulations: int = SIMULATIONS) -> bool:
        """Return True if a shift, in standard deviations, fails with probability >= 1 - beta.

        The simulated power has to exceed that by `margin` of its standard errors. With a margin of
        2, a beta below 4 / SIMULATIONS can never be shown.
        """
        error = sqrt(self.beta * (1 - self.beta) / simulations)
        least = 1 - self.beta + margin * error
        if not self.fail_levels:
            return False
        return operating(self, shift, shift, simulations).failed >= least

    def operating(self, shift: float, true_shift: float = 0.0) -> OperatingCharacteristics:
        """Return how the gate for a shift ends if the true shift is another.

        Both are in sample standard deviations of the reference runs, and downwards unless only a
        rise fails. Simulated for a normal distribution.
        """
        return operating(self, shift, true_shift, SIMULATIONS)

    @property
    def smallest_shift(self) -> float:
        """The minimum detectable effect: the smallest shift, in standard deviations, that fails
        with probability 1 - beta; infinite if none does, and 0 if even no shift does."""
        return _smallest_shift(self)

    def fixed_seeds(self, shift: float) -> int | None:
        """Return the seeds that a test of the same alpha and power needs which looks once.

        Returns None above MAX_DETECTING_SEEDS.
        """
        low, high = 0, 1
        while power_of_one_look(replace(self, looks=(high,)), shift) < 1 - self.beta:
            low, high = high, 2 * high
            if high > MAX_DETECTING_SEEDS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            enough = power_of_one_look(replace(self, looks=(middle,)), shift) >= 1 - self.beta
            low, high = (low, middle) if enough else (middle, high)
        return high


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
        if high < LEAST_SHIFT:
            return 0.0
    return high
