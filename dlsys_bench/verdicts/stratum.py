"""The runs of one arm in a test over all arms: their ranks, and the distribution of their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.verdicts.judged_runs import JudgedRuns
from dlsys_bench.verdicts.ranks import doubled_ranks, rank_sum_counts


@dataclass(frozen=True)
class Stratum:
    """The runs of one arm: twice the rank of each run among all of them, the `stored` reference
    runs first, then the new runs. The lowest rank is the worst run. If it is
    `one_sided`, only worse runs fail. `seeds` are those of the runs, () if they are unknown."""

    ranks: tuple[int, ...]
    stored: int
    one_sided: bool = False
    seeds: tuple[int, ...] = ()

    @classmethod
    def of(cls, runs: JudgedRuns, seeds: Sequence[int] = ()) -> Stratum:
        """Return the stratum of runs that were judged. A run that diverged is the worst."""
        ranks = doubled_ranks(np.array([*runs.reference, *runs.new], np.float64))
        return cls(tuple(ranks.tolist()), len(runs.reference), runs.one_sided, tuple(seeds))

    @classmethod
    def together(cls, strata: Sequence[Stratum]) -> list[Stratum]:
        """Return independent strata for arms whose runs may depend on each other by their seeds.

        Arms without common seeds are independent, and are returned as they are. Of others, the
        seeds that all of them have are the runs of one stratum, ranked by their mean relative rank
        in the arms: if new and reference seeds are exchangeable, so are these, whatever the
        dependence between the arms. If only some of the seeds are common, or seeds are unknown,
        nothing is known about the dependence, and only the first arm counts.
        """
        known = all(s.seeds for s in strata)
        seeds = [seed for s in strata for seed in s.seeds]
        if len(strata) < 2 or (known and len(set(seeds)) == len(seeds)):
            return list(strata)
        places = [dict(zip(s.seeds, s.ranks, strict=False)) for s in strata]
        stored = sorted(set.intersection(*(set(s.seeds[: s.stored]) for s in strata)))
        new = sorted(set.intersection(*(set(s.seeds[s.stored :]) for s in strata)))
        if not stored or not new:
            return [strata[0]]
        sums = [
            sum(ranks[seed] / (len(s.ranks) + 1) for ranks, s in zip(places, strata, strict=True))
            for seed in (*stored, *new)
        ]
        ranks = tuple(doubled_ranks(np.array(sums)).tolist())
        return [cls(ranks, len(stored), strata[0].one_sided, (*stored, *new))]

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Stratum:
        """Return the stratum that `to_dict` describes."""
        seeds = tuple(stored.get("seeds", ()))
        return cls(tuple(stored["ranks"]), stored["stored"], stored.get("one_sided", False), seeds)

    def to_dict(self) -> dict[str, Any]:
        """Return the stratum as JSON values."""
        return {
            "ranks": list(self.ranks),
            "stored": self.stored,
            "one_sided": self.one_sided,
            "seeds": list(self.seeds),
        }

    def sorted(self) -> Stratum:
        """Return a stratum with the same null distribution: the ranks in order."""
        return Stratum(tuple(sorted(self.ranks)), self.stored, self.one_sided)

    @property
    def new(self) -> int:
        """The number of new runs."""
        return len(self.ranks) - self.stored

    @property
    def weight(self) -> float:
        """The weight of the rank sum of the new runs."""
        return 1.0 / (len(self.ranks) + 1)

    @property
    def excess(self) -> float:
        """Twice the rank sum of the new runs, minus its expected value."""
        return sum(self.ranks[self.stored :]) - self.new * (len(self.ranks) + 1)

    @property
    def pairs(self) -> float:
        """The weighted number of pairs of a new and a stored run."""
        return self.stored * self.new * self.weight

    @cached_property
    def distribution(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The possible values of `excess`, and their probabilities."""
        counts = rank_sum_counts(self.sorted().ranks, self.new)
        sums = np.flatnonzero(counts)
        expected = float(self.new * (len(self.ranks) + 1))
        return np.asarray(sums - expected, np.float64), counts[sums] / np.sum(counts)
