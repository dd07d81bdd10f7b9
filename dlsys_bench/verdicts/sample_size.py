"""The numbers of reference runs and seeds that suffice to detect a shift."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, pi
from typing import NamedTuple

import scipy

from dlsys_bench.errors import count_of
from dlsys_bench.verdicts.budget import SHIFT_SHARE
from dlsys_bench.verdicts.design import LEAST_SHIFT, Design
from dlsys_bench.verdicts.simulation import SIDES, SIMULATIONS

MOST = 200
"""The largest numbers of reference runs and of seeds that are confirmed by simulation."""

MOST_PAIRS = 12_000
"""The largest number of pairs of a reference run and a seed that are simulated. A simulation takes
time in proportion to it, and an error message has to come at once."""

STEP = 1.15
"""The factor by which a number that does not suffice is enlarged."""

FIRST = 0.65
"""The first number that is tried, as a fraction of that by the normal approximation."""

TRIALS = SIMULATIONS // 5
"""The number of simulated gates with which numbers are tried, before all confirm them."""


class Numbers(NamedTuple):
    """The numbers of reference runs and seeds."""

    runs: int
    seeds: int

    def __str__(self) -> str:
        return f"{count_of(self.runs, 'reference run')} and {count_of(self.seeds, 'seed')}"


def numbers_needed(shift: float, design: Design) -> list[Numbers]:
    """Return the numbers that detect a shift, in standard deviations, confirmed by simulation.

    More seeds with the same reference runs, more reference runs with the same seeds, and more of
    both are tried, the last if neither of the others suffices. The list is empty if all of them
    exceed MOST or MOST_PAIRS.
    """
    pairs, (n, m) = effective_pairs(shift, design), (design.stored, design.seeds)
    found = [
        _confirmed(shift, design, Numbers(n, max(m + 1, _other(n, pairs))), seeds=True),
        _confirmed(shift, design, Numbers(max(n + 1, _other(m, pairs)), m), runs=True),
    ]
    if not any(found):
        both = Numbers(max(n, ceil(3 * FIRST * pairs)), max(m, ceil(1.5 * FIRST * pairs)))
        found.append(_confirmed(shift, design, both, runs=True, seeds=True))
    return [numbers for numbers in found if numbers is not None]


def effective_pairs(shift: float, design: Design) -> float:
    """Return the n m / (n + m) that a test with one look needs, by the normal approximation.

    n is the number of reference runs and m that of the seeds (Lehmann 1975, chapter 2).
    """
    alpha = SHIFT_SHARE * design.alpha / len(SIDES[design.side])
    quantiles = float(scipy.stats.norm.isf(alpha) + scipy.stats.norm.isf(design.beta))
    return quantiles**2 / (max(shift, LEAST_SHIFT) ** 2 * 3 / pi)


def _other(given: int, pairs: float) -> int:
    """Return a fraction of the number with which n m / (n + m) reaches the effective pairs."""
    return ceil(FIRST * given * pairs / (given - pairs)) if given > pairs else MOST + 1


def _confirmed(
    shift: float, design: Design, numbers: Numbers, *, runs: bool = False, seeds: bool = False
) -> Numbers | None:
    """Return the first numbers that a simulation confirms, or None."""
    while max(numbers) <= MOST and numbers.runs * numbers.seeds <= MOST_PAIRS:
        longer = _design_of(design, numbers)
        if longer.detects(shift, 0.0, TRIALS) and longer.detects(shift):
            return numbers
        numbers = Numbers(
            ceil(STEP * numbers.runs) if runs else numbers.runs,
            ceil(STEP * numbers.seeds) if seeds else numbers.seeds,
        )
    return None


def _design_of(design: Design, numbers: Numbers) -> Design:
    longer = Design.of(numbers.runs, design.alpha, design.beta, numbers.seeds, design.side)
    return replace(design, stored=longer.stored, looks=longer.looks)


def describe_enough(shift: float, design: Design) -> str:
    """Return which numbers of reference runs and seeds would detect a shift, in words."""
    found = numbers_needed(shift, design)
    if found:
        return f"{' or '.join(map(str, found))} would suffice"
    each = ceil(2.5 * effective_pairs(shift, design))
    return f"that takes about {each:,} reference runs and as many seeds (normal approximation)"
