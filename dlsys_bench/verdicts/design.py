"""The design of a gate: when it looks at the runs so far, what it may spend at each look, and what
it can then see.

Two questions are asked of the new runs at every look. Are they other than the stored ones? If so,
and only at a chance of `alpha` over all looks, FAIL. Are they other than stored runs shifted by
`shift`? If so on every side, at a chance under `beta` over all looks, a shift as large is ruled
out: PASS. Both are exact rank-sum tests; their levels are parted over the looks by Bonferroni, so
that no law of the runs, and no stopping, can raise them.

Only what the gate can see is computed for a law, the normal one: power, seeds needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, inf, sqrt
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import UserError, nearest
from dlsys_bench.verdicts.ranks import smallest_chance, untied

ALPHA, BETA, MAX_SEEDS = 1e-3, 1e-2, 12

SIDES: dict[str, tuple[int, ...]] = {"both": (-1, 1), "drop": (-1,), "rise": (1,)}
"""Which shifts a gate is to see, by name: down, up, or either."""

GROWTH = 1.5
"""Each look comes after so many times the runs of the one before."""

SHARE = 2 / 3
"""The most that a look spends of the level that is left. Of beta as much is for PASS, the rest for
ending undecided."""

MOST_SEEDS = 200
SIMULATED = 10_000


def between(value: Any, low: float, high: float) -> bool:
    """Whether this is a number, and strictly between these two."""
    return isinstance(value, Real) and low < float(value) < high


class Operating(NamedTuple):
    """How a gate ends where the truth is a given shift: the fractions of PASS and FAIL, and the
    seeds it takes."""

    passed: float
    failed: float
    median_seeds: float
    mean_seeds: float


@dataclass(frozen=True)
class Design:
    """A gate against `stored` runs that looks after each of `looks` new ones. Build it by `of`, or
    by `seeing`."""

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
        """The looks of a gate that takes so many seeds at most. Errors: UserError."""
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not between(value, 0, 1):
                raise UserError(f"{name} is {value!r}; it takes a chance between 0 and 1")
        if stored < 1 or not between(max_seeds, 0, inf) or max_seeds != int(max_seeds):
            raise UserError(
                f"{stored} stored runs and {max_seeds!r} seeds: a gate takes 1 of each, at least"
            )
        if side not in SIDES:
            raise UserError(f"side is {side!r}{nearest(side, SIDES)}; it takes {', '.join(SIDES)}")
        looks = []
        # The first at which the farthest outcome could rule a shift out; a gate that is too short
        # looks once.
        look = next(
            (m for m in range(1, max_seeds) if smallest_chance(stored, m) <= SHARE**2 * beta),
            max_seeds,
        )
        while look < max_seeds:
            looks.append(look)
            look = ceil(GROWTH * look)
        return cls(stored, (*looks, max_seeds), alpha, beta, side)

    @classmethod
    def seeing(
        cls,
        shift: float,
        stored: int,
        alpha: float = ALPHA,
        beta: float = BETA,
        side: str = "both",
        most: int = MOST_SEEDS,
    ) -> Design | None:
        """The shortest gate that sees a shift of so many spreads; None if `most` seeds are too
        few."""
        longest = cls.of(stored, alpha, beta, most, side).looks
        for count in range(1, len(longest) + 1):
            design = cls(stored, longest[:count], alpha, beta, side)
            if design.sees(shift):
                return design
        return None

    @property
    def seeds(self) -> int:
        """The most that it takes."""
        return self.looks[-1]

    def levels(self, level: float, sides: int = 1) -> dict[int, float]:
        """What each look may spend of a level: an equal part of what is left, or what its farthest
        outcome takes if that is more; nothing where that takes more than SHARE of it."""
        spent, left = {}, level
        for place, look in enumerate(self.looks):
            least, last = sides * smallest_chance(self.stored, look), look == self.seeds
            if least <= (left if last else SHARE * left):
                spent[look] = max(least, left / (len(self.looks) - place))
                left -= spent[look]
        return spent

    @property
    def fail_levels(self) -> dict[int, float]:
        """The one-sided level at each look of calling new runs other than the stored ones."""
        sides = len(SIDES[self.side])
        return {look: level / sides for look, level in self.levels(self.alpha, sides).items()}

    @property
    def pass_levels(self) -> dict[int, float]:
        """The level at each look of ruling a shift out."""
        return self.levels(SHARE * self.beta)

    def sees(self, shift: float) -> bool:
        """Whether a shift of so many spreads fails with a chance of at least 1 - beta."""
        # What was simulated may be too good by two of its own deviations: a beta below 4 /
        # SIMULATED is never shown.
        doubt = 2 * sqrt(self.beta * (1 - self.beta) / SIMULATED)
        return (
            bool(self.fail_levels) and self.operating(shift, shift).failed >= 1 - self.beta + doubt
        )

    def operating(self, shift: float, true_shift: float = 0.0) -> Operating:
        """How the gate for a shift ends where the truth is another, both in spreads of the stored
        runs (their standard deviation, estimated anew each time) and down, or up where it looks up
        only. Simulated for a normal law."""
        return _operating(self, shift, true_shift)

    @property
    def smallest_shift(self) -> float:
        """The smallest shift, in spreads, that fails with a chance of 1 - beta; infinite if none
        does."""
        return _smallest_shift(self)

    def fixed_seeds(self, shift: float) -> int | None:
        """The runs that a test of the same alpha and power takes that looks once, at its end; None
        over MOST_SEEDS."""
        low, high = 0, 1
        while _power(replace(self, looks=(high,)), shift) < 1 - self.beta:
            low, high = high, 2 * high
            if high > MOST_SEEDS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            enough = _power(replace(self, looks=(middle,)), shift) >= 1 - self.beta
            low, high = (low, middle) if enough else (middle, high)
        return high


class _Drawn(NamedTuple):
    """Normal draws: stored (S, n), new (S, m), and the spread of each stored row (S, 1)."""

    stored: NDArray[np.float64]
    new: NDArray[np.float64]
    spread: NDArray[np.float64]


@lru_cache(maxsize=64)
def _draws(stored: int, seeds: int) -> _Drawn:
    # The same draws for every shift: what is compared differs by the shift alone.
    generator = np.random.default_rng([stored, seeds])
    x = generator.standard_normal((SIMULATED, stored))
    spread = x.std(axis=1, ddof=1, keepdims=True) if stored > 1 else np.full((SIMULATED, 1), np.nan)
    return _Drawn(x, generator.standard_normal((SIMULATED, seeds)), spread)


@lru_cache(maxsize=1024)
def _operating(design: Design, shift: float, true_shift: float) -> Operating:
    x, y, spread = _draws(design.stored, design.seeds)
    sides = SIDES[design.side]
    y = y + sides[0] * true_shift * spread
    pairs = _pairs(x, y)
    shifted = {side: _pairs(x, y - side * shift * spread) for side in sides}
    undecided, passed, failed = np.ones(SIMULATED, bool), 0, 0
    used = np.full(SIMULATED, design.seeds)
    for look in design.looks:
        if level := design.pass_levels.get(look):
            # Told from runs that a shift up would have made, the new ones lie lower; and the
            # reverse.
            out = np.all(
                [_chance(shifted[side], look, design.stored, -side) <= level for side in sides],
                axis=0,
            )
            passed += int((undecided & out).sum())
            used[undecided & out] = look
            undecided &= ~out
        if level := design.fail_levels.get(look):
            apart = np.any(
                [_chance(pairs, look, design.stored, side) <= level for side in sides], axis=0
            )
            failed += int((undecided & apart).sum())
            used[undecided & apart] = look
            undecided &= ~apart
    return Operating(
        passed / SIMULATED, failed / SIMULATED, float(np.median(used)), float(used.mean())
    )


def _power(design: Design, shift: float) -> float:
    """How often one look alone finds a shift."""
    x, y, spread = _draws(design.stored, design.seeds)
    sides, level = SIDES[design.side], design.fail_levels.get(design.seeds, 0.0)
    pairs = _pairs(x, y + sides[0] * shift * spread)
    apart = np.any(
        [_chance(pairs, design.seeds, design.stored, side) <= level for side in sides], axis=0
    )
    return float(apart.mean())


def _pairs(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.intp]:
    """How often one of the first m new values is above a stored one, for m = 1.. (S, m)."""
    counts: NDArray[np.intp] = np.cumsum((y[:, :, None] > x[:, None, :]).sum(axis=-1), axis=1)
    return counts


def _chance(pairs: NDArray[np.intp], look: int, stored: int, side: int) -> NDArray[np.float64]:
    """The chance of as few pairs (side -1), or of as many (1), after so many new runs."""
    here = pairs[:, look - 1]
    return untied(stored, look)[here if side < 0 else stored * look - here]


@lru_cache(maxsize=256)
def _smallest_shift(design: Design) -> float:
    low, high = 0.0, 1.0
    while not design.sees(high):
        low, high = high, 2 * high
        if high > 1000:
            return inf
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if design.sees(middle) else (middle, high)
    return high
