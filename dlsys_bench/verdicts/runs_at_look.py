"""New runs among reference runs: the tests of a gate, without its looks and its words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import count_of
from dlsys_bench.verdicts.budget import SPREAD_SHARE, TAIL_SHARE
from dlsys_bench.verdicts.decision import EXACT, EXTREMES, Departure, median_shift
from dlsys_bench.verdicts.figures import place_nan
from dlsys_bench.verdicts.rank_tests import beyond_all, spread_p_value, tail_p_value
from dlsys_bench.verdicts.ranks import doubled_ranks, p_values
from dlsys_bench.verdicts.simulation import SIDES


@dataclass(frozen=True)
class RunsAtLook:
    """The new runs and the reference runs that they are judged by.

    Only differences to the given side count.
    """

    reference: Sequence[float]
    new: NDArray[np.float64]
    side: str

    @property
    def sides(self) -> tuple[int, ...]:
        """The directions that count, -1 for down and 1 for up."""
        return SIDES[self.side]

    def p_value(self, side: int) -> float:
        """Return the p-value of values as low as the new ones (side -1), or as high (side 1)."""
        found = p_values(place_nan(self.reference, side), place_nan(self.new, side))
        return found.high if side > 0 else found.low

    def shift(self, level: float) -> Departure:
        """Return the test of a shift, at a level for each side."""
        shift = median_shift(self.new.tolist(), self.reference)
        what = "all diverged" if shift is None else f"a shift of {shift:+.4f}"
        return Departure(what, min(map(self.p_value, self.sides)), level)

    def other_departures(self, alpha: float) -> Iterator[Departure]:
        """Yield the tests of the tail and of the spread, each at its share of alpha."""
        n, m = len(self.reference), len(self.new)
        for side in self.sides:
            beyond = beyond_all(self._ranks(side), n, side)
            yield Departure(
                f"{beyond} of {count_of(m, 'run')} {EXTREMES[side]} every reference run",
                tail_p_value(n, m, beyond),
                TAIL_SHARE * alpha / len(self.sides),
            )
        p_value = spread_p_value(self._ranks(self.sides[0]), n, self.sides)
        yield Departure("a larger spread", p_value, SPREAD_SHARE * alpha)

    def _ranks(self, side: int) -> NDArray[np.intp]:
        """Return the doubled ranks of the reference and of the new runs."""
        return doubled_ranks(place_nan([*self.reference, *self.new.tolist()], side))

    def beyond(self, shift: float) -> tuple[int, ...]:
        """Return the places of the runs that lie beyond every reference run by more than a shift.
        They may have collapsed."""
        found: set[int] = set()
        for side in self.sides:
            worst = float((side * place_nan(self.reference, side)).max())
            new = side * place_nan(self.new, side)
            found.update(np.flatnonzero(new > worst + shift * EXACT).tolist())
        return tuple(sorted(found))

    def rule_out(self, shift: float, level: float) -> bool:
        """Return True if a shift to every side would have given other values than these."""
        for side in self.sides:
            # A diverged run counts as shifted, so that it never helps to rule the shift out.
            stored, new = place_nan(self.reference, side), place_nan(self.new, side)
            found = p_values(stored, new - side * shift)
            if (found.low if side > 0 else found.high) > level * EXACT:
                return False
        return True
