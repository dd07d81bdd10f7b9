"""The sequential gate: new runs, one look after another, until they pass, fail, or the seeds are
spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import UserError
from dlsys_bench.runs.store.text import DIGITS
from dlsys_bench.verdicts.bands import FEWEST_RUNS, Band
from dlsys_bench.verdicts.design import ALPHA, BETA, MAX_SEEDS, SIDES, Design, between
from dlsys_bench.verdicts.ranks import chances
from dlsys_bench.verdicts.verdict import Outcome

# A level is often exactly what the farthest outcome takes; rounding must not come between them.
EXACT = 1 + 1e-9


def rounded(value: float) -> float:
    """A figure as files keep it."""
    return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True)
class Decision:
    """How a gate ended. `chance` is that of values as far out on one side where new and stored runs
    are of one law; `shift` the median difference of a new and a stored run (Hodges & Lehmann
    1963)."""

    outcome: Outcome
    reason: str
    values: tuple[float, ...]
    shift: float | None = None
    chance: float | None = None


@dataclass(frozen=True)
class SequentialGate:
    """Whether new runs are like these stored ones.

        decision = SequentialGate(reference=[0.961, 0.958, ...], smallest_shift=0.005).run(train)

    PASS: a shift of `smallest_shift` is ruled out, wrong with a chance of at most beta. FAIL: the
    runs are of another law, wrong with a chance of at most alpha, whatever the law. Without a
    `smallest_shift` it is the smallest that the design sees. `side` "drop" or "rise" fails a shift
    that way only. A run that diverged is an infinite value, on the bad side; one that is not a
    number is the lowest, or where only a rise fails, the highest. `resolution` is the smallest step
    that the figure can take. Errors: UserError.
    """

    reference: Sequence[float]
    smallest_shift: float | None = None
    alpha: float = ALPHA
    beta: float = BETA
    max_seeds: int = MAX_SEEDS
    side: str = "both"
    resolution: float = 0.0
    source: str = "the reference"

    def __post_init__(self) -> None:
        if any(value != value for value in self.reference):
            raise UserError(
                f"{self.source} has a figure that is not a number; a run that diverged is an infinite one"
            )
        shift = self.smallest_shift
        if shift is not None and not between(shift, 0, inf):
            raise UserError(f"smallest_shift is {shift!r}; it takes a number above 0")
        self.design  # noqa: B018

    @cached_property
    def band(self) -> Band | None:
        """Mean and spread of the stored runs that finished; None where there are too few."""
        finished = [value for value in self.reference if isfinite(value)]
        return (
            Band.of(finished, self.source, self.resolution)
            if len(finished) >= FEWEST_RUNS
            else None
        )

    @cached_property
    def design(self) -> Design:
        """When it looks, and what it spends."""
        return Design.of(
            max(len(self.reference), 1), self.alpha, self.beta, self.max_seeds, self.side
        )

    @cached_property
    def shift(self) -> float:
        """The shift that it is to see, in the figure's own units; infinite where it can see
        none."""
        if self.smallest_shift is not None:
            return self.smallest_shift
        return inf if self.band is None else self.design.smallest_shift * self.band.spread

    @cached_property
    def blind(self) -> str | None:
        """Why no seeds can decide anything; None where they can."""
        n = len(self.reference)
        if self.band is None:
            finished = sum(map(isfinite, self.reference))
            told = (
                f"{finished} of {n} stored runs in {self.source} finished"
                if finished < n
                else f"{n} stored runs in {self.source}"
            )
            return f"{told}, a gate needs {FEWEST_RUNS}"
        for levels, what, rate in (
            (self.design.fail_levels, "show nothing", f"alpha {self.alpha:.1e}"),
            (self.design.pass_levels, "rule nothing out", f"beta {self.beta:g}"),
        ):
            if not levels:
                return (
                    f"{n} stored runs and at most {self.max_seeds} seeds can {what} at {rate}: "
                    "store more runs, or allow more seeds"
                )
        if self.shift == 0:
            return f"the stored runs in {self.source} are all alike, which says nothing of a shift: name a smallest shift"
        if not isfinite(self.shift):
            return (
                f"{n} stored runs and at most {self.max_seeds} seeds see no shift with a chance of {1 - self.beta:g}, "
                "as far as that can be shown: name a smallest shift, allow more seeds, or a beta of 0.001 or more"
            )
        return None

    @cached_property
    def weakness(self) -> str | None:
        """What was asked for and cannot be seen with the stated power; None where it can."""
        if self.smallest_shift is None or self.band is None or not self.band.spread:
            return None
        if self.design.sees(self.smallest_shift / self.band.spread):
            return None
        least = self.design.smallest_shift * self.band.spread
        if not isfinite(least):
            return f"that {self.smallest_shift:g} is seen with a chance of {1 - self.beta:g} cannot be shown"
        spreads = self.smallest_shift / self.band.spread
        longer = Design.seeing(spreads, self.design.stored, self.alpha, self.beta, self.side)
        enough = (
            f"{longer.seeds} seeds would"
            if longer
            else "more seeds would not, more stored runs may"
        )
        return (
            f"{self.design.stored} stored runs and at most {self.max_seeds} seeds see a shift of {least:.2g} or more "
            f"with a chance of {1 - self.beta:g}, not {self.smallest_shift:g}; {enough}"
        )

    def decide(self, values: Sequence[float]) -> Decision | None:
        """What the runs so far say: None if more are wanted. Only as many runs as a look comes
        after say anything."""
        if self.blind:
            return Decision(Outcome.INCONCLUSIVE, self.blind, tuple(values))
        look = len(values)
        if look not in self.design.looks:
            return None
        y = self._comparable(values)
        found = chances(self.reference, y)
        sides = {-1: found.low, 1: found.high}
        chance = min(sides[side] for side in SIDES[self.side])
        # A run that diverged is no evidence of health, however the others did.
        lost = sum(not isfinite(value) for value in values)
        if self._ruled_out(y) and not (lost and all(map(isfinite, self.reference))):
            return self._decision(Outcome.PASS, values, chance)
        if chance <= self.design.fail_levels.get(look, 0.0) * EXACT:
            return self._decision(Outcome.FAIL, values, chance)
        if look == self.design.seeds:
            why = [f"{lost} of them diverged" if lost else "", self.weakness or ""]
            return self._decision(
                Outcome.INCONCLUSIVE, values, chance, "; ".join(filter(None, why))
            )
        return None

    def _ruled_out(self, y: NDArray[np.float64]) -> bool:
        """Whether every shift that it is to see would have given other values than these."""
        level = self.design.pass_levels.get(len(y), 0.0)
        shifted = {
            side: chances(self.reference, y - side * self.shift) for side in SIDES[self.side]
        }
        return all(
            (found.low if side > 0 else found.high) <= level * EXACT
            for side, found in shifted.items()
        )

    def _comparable(self, values: Sequence[float]) -> NDArray[np.float64]:
        """New figures as the stored ones are kept. Seven digits are kept in files: where the stored
        figures have no more, more of the new ones would make a difference where there is none."""
        y = np.asarray(values, np.float64)
        y[np.isnan(y)] = inf if self.side == "rise" else -inf
        if all(value == rounded(value) for value in self.reference):
            y = np.array([rounded(value) for value in y.tolist()])
        return y

    def _decision(
        self, outcome: Outcome, values: Sequence[float], chance: float, why: str = ""
    ) -> Decision:
        assert self.band is not None
        with np.errstate(invalid="ignore"):
            differences = np.subtract.outer(np.asarray(values), np.asarray(self.reference))
        finite = differences[np.isfinite(differences)]
        shift = float(np.median(finite)) if finite.size else None
        way = {"both": "either way", "drop": "down", "rise": "up"}[self.side]
        band = f"{self.band.n} stored runs ({self.band.mean:.4f} ± {self.band.spread:.4f}; {self.source})"
        by = "all diverged" if shift is None else f"a shift of {shift:+.4f}"
        said = {
            Outcome.PASS: f"like {band}: a shift of {self.shift:.2g} {way} is ruled out (beta {self.beta:g})",
            Outcome.FAIL: f"unlike {band}: {by}, chance {chance:.1e} (alpha {self.alpha:.1e} {way})",
            Outcome.INCONCLUSIVE: f"neither like nor unlike {band}: {by}, chance {chance:.1e}",
        }[outcome]
        return Decision(outcome, f"{said}; {why}" if why else said, tuple(values), shift, chance)

    def batches(self, first_seed: int) -> Iterator[range]:
        """The seeds to run up to each look: those of one batch may run side by side."""
        start = 0
        for look in self.design.looks if not self.blind else (1,):
            yield range(first_seed + start, first_seed + look)
            start = look

    def run(self, train: Callable[[int], float], first_seed: int = 10_000) -> Decision:
        """Train seed after seed until it is decided. What `train` raises is its own."""
        values: list[float] = []
        for seeds in self.batches(first_seed):
            values += [train(seed) for seed in seeds]
            decision = self.decide(values)
            if decision is not None:
                return decision
        raise AssertionError("the last look decides")
