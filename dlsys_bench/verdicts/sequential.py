"""The sequential gate: new runs, look after look, until they pass, fail, or no seeds are left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import UserError, count_of
from dlsys_bench.runs.store.text import DIGITS
from dlsys_bench.verdicts.bands import FEWEST_RUNS, Band
from dlsys_bench.verdicts.budget import ALPHA
from dlsys_bench.verdicts.design import BETA, MAX_SEEDS, SIDES, Design, between
from dlsys_bench.verdicts.ranks import p_values
from dlsys_bench.verdicts.verdict import Outcome

# A level is often exactly the p-value of the most extreme outcome; rounding must not separate them.
EXACT = 1 + 1e-9

DIRECTIONS = {"both": "either way", "drop": "down", "rise": "up"}


def rounded(value: float) -> float:
    """Return a figure with the precision of stored files."""
    return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True)
class Decision:
    """The end of a gate.

    `p_value` is the one-sided p-value of the new runs: the probability of values so extreme if new
    and reference runs have the same distribution. `shift` is the median difference of a new and a
    reference run (Hodges & Lehmann 1963).
    """

    outcome: Outcome
    reason: str
    values: tuple[float, ...]
    shift: float | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class SequentialGate:
    """A test of new runs against reference runs.

        decision = SequentialGate(reference=[0.961, 0.958, ...], smallest_shift=0.005).run(train)

    PASS: a shift of `smallest_shift` is ruled out, wrongly with probability at most beta. FAIL: the
    new runs are from a different distribution than the reference runs, wrongly with probability at
    most alpha, whatever that distribution. By default `smallest_shift` is the minimum detectable
    effect of the design. With `side` "drop" or "rise", only a shift in that direction fails.

    A run that diverged is an infinite value, in the worse direction, or nan if that is unknown: nan
    counts as the lowest value in the question of a drop, and as the highest in that of a rise. Each
    of the two is an exact test at half of alpha, so both together keep to alpha. `resolution` is
    the smallest step of the figure. Raises UserError if an argument is invalid.
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
        shift = self.smallest_shift
        if shift is not None and not between(shift, 0, inf):
            raise UserError(f"smallest_shift is {shift!r}; it takes a number above 0")
        self.design  # noqa: B018

    @cached_property
    def band(self) -> Band | None:
        """The band of the reference runs that finished; None if they are too few."""
        finished = [value for value in self.reference if isfinite(value)]
        if len(finished) < FEWEST_RUNS:
            return None
        return Band.of(finished, self.source, self.resolution)

    @cached_property
    def design(self) -> Design:
        """The looks, and the levels of each."""
        return Design.of(
            max(len(self.reference), 1), self.alpha, self.beta, self.max_seeds, self.side
        )

    @cached_property
    def shift(self) -> float:
        """The shift to detect, in the units of the figure; infinite if none is detectable."""
        if self.smallest_shift is not None:
            return self.smallest_shift
        return inf if self.band is None else self.design.smallest_shift * self.band.std

    @cached_property
    def obstacle(self) -> str | None:
        """The reason why no number of seeds can decide; None if they can."""
        n = len(self.reference)
        seeds, runs = count_of(self.max_seeds, "seed"), count_of(n, "reference run")
        if self.band is None:
            finished = sum(map(isfinite, self.reference))
            stored = f"{runs} in {self.source}"
            found = f"{finished} of {stored} finished" if finished < n else stored
            return f"{found}, a gate needs {FEWEST_RUNS}"
        for levels, decision in (
            (self.design.fail_levels, f"a FAIL at alpha {self.alpha:.1e}"),
            (self.design.pass_levels, f"a PASS at beta {self.beta:g}"),
        ):
            if not levels:
                return (
                    f"{runs} and at most {seeds} are too few for {decision}: "
                    "store more reference runs or allow more seeds"
                )
        if self.shift == 0:
            return (
                f"the reference runs in {self.source} are all equal, so that no shift can be "
                "derived from them: name a smallest shift"
            )
        if not isfinite(self.shift):
            return (
                f"{runs} and at most {seeds} cannot be shown to detect any shift with "
                f"probability {1 - self.beta:g}: name a smallest shift, "
                "allow more seeds, or a beta of 0.001 or more"
            )
        return None

    @cached_property
    def weakness(self) -> str | None:
        """A remark if the smallest shift is not detected with the stated power, else None."""
        if self.smallest_shift is None or self.band is None or not self.band.std:
            return None
        shift, power = self.smallest_shift / self.band.std, 1 - self.beta
        if self.design.detects(shift):
            return None
        least = self.design.smallest_shift * self.band.std
        if not isfinite(least):
            return f"a shift of {self.smallest_shift:g} cannot be shown to have power {power:g}"
        longer = Design.detecting(shift, self.design.stored, self.alpha, self.beta, self.side)
        enough = (
            f"{count_of(longer.seeds, 'seed')} would suffice"
            if longer
            else "more seeds would not suffice; more reference runs might"
        )
        return (
            f"{count_of(self.design.stored, 'reference run')} and at most "
            f"{count_of(self.max_seeds, 'seed')} detect a "
            f"shift of {least:.2g} or more with probability {power:g}, "
            f"not {self.smallest_shift:g}; {enough}"
        )

    def decide(self, values: Sequence[float]) -> Decision | None:
        """Return the decision after these runs, or None if more are needed.

        Only the numbers of runs at which the design looks can decide.
        """
        if self.obstacle:
            return Decision(Outcome.INCONCLUSIVE, self.obstacle, tuple(values))
        look = len(values)
        if look not in self.design.looks:
            return None
        y = self._comparable(values)
        p_value = min(self._tail(y, side) for side in SIDES[self.side])
        # A run that diverged is no evidence of health, whatever the others did.
        lost = sum(not isfinite(value) for value in values)
        if self._shifts_are_ruled_out(y) and not (lost and all(map(isfinite, self.reference))):
            return self._decision(Outcome.PASS, values, p_value)
        if p_value <= self.design.fail_levels.get(look, 0.0) * EXACT:
            return self._decision(Outcome.FAIL, values, p_value)
        if look == self.design.seeds:
            why = [f"{lost} of them diverged" if lost else "", self.weakness or ""]
            return self._decision(
                Outcome.INCONCLUSIVE, values, p_value, "; ".join(filter(None, why))
            )
        return None

    def _tail(self, y: NDArray[np.float64], side: int) -> float:
        """Return the p-value of values as low as these (side -1), or as high (side 1)."""
        found = p_values(_place_nan(self.reference, side), _place_nan(y, side))
        return found.high if side > 0 else found.low

    def _shifts_are_ruled_out(self, y: NDArray[np.float64]) -> bool:
        """Return True if every shift to detect would have given other values than these."""
        level = self.design.pass_levels.get(len(y), 0.0)
        for side in SIDES[self.side]:
            # A diverged run counts as shifted, so that it never helps to rule the shift out.
            stored, new = _place_nan(self.reference, side), _place_nan(y, side)
            found = p_values(stored, new - side * self.shift)
            if (found.low if side > 0 else found.high) > level * EXACT:
                return False
        return True

    def _comparable(self, values: Sequence[float]) -> NDArray[np.float64]:
        """Return new figures with the precision of the reference figures.

        Files keep seven digits. If the reference figures have no more, further digits of the new
        figures would break ties that are none.
        """
        y = np.asarray(values, np.float64)
        if all(value == rounded(value) for value in self.reference if isfinite(value)):
            y = np.array([rounded(value) for value in y.tolist()])
        return y

    def _decision(
        self, outcome: Outcome, values: Sequence[float], p_value: float, why: str = ""
    ) -> Decision:
        """Return a decision with its reason in words."""
        band = self.band
        assert band is not None
        with np.errstate(invalid="ignore"):
            differences = np.subtract.outer(np.asarray(values), np.asarray(self.reference))
        finite = differences[np.isfinite(differences)]
        shift = float(np.median(finite)) if finite.size else None
        way = DIRECTIONS[self.side]
        stored = (
            f"{count_of(band.n, 'reference run')} ({band.mean:.4f} ± {band.std:.4f}; {self.source})"
        )
        found = "all diverged" if shift is None else f"a shift of {shift:+.4f}"
        found += f", p-value {p_value:.1e}"
        reason = {
            Outcome.PASS: f"equivalent to {stored}: a shift of {self.shift:.2g} {way} is "
            f"ruled out (beta {self.beta:g})",
            Outcome.FAIL: f"from a different distribution than {stored}: {found} "
            f"(alpha {self.alpha:.1e} {way})",
            Outcome.INCONCLUSIVE: f"undecided against {stored}: {found}",
        }[outcome]
        if why:
            reason = f"{reason}; {why}"
        return Decision(outcome, reason, tuple(values), shift, p_value)

    def batches(self, first_seed: int) -> Iterator[range]:
        """Yield the seeds up to each look. The runs of one batch may be trained in parallel."""
        start = 0
        for look in self.design.looks if not self.obstacle else (1,):
            yield range(first_seed + start, first_seed + look)
            start = look

    def run(self, train: Callable[[int], float], first_seed: int = 10_000) -> Decision:
        """Train with new seeds until the gate is decided. Errors of `train` pass through."""
        values: list[float] = []
        for seeds in self.batches(first_seed):
            values += [train(seed) for seed in seeds]
            decision = self.decide(values)
            if decision is not None:
                return decision
        raise AssertionError("the last look decides")


def _place_nan(values: Sequence[float] | NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the values with nan, a diverged run, as the lowest (side -1) or the highest (1)."""
    placed = np.array(values, np.float64)
    placed[np.isnan(placed)] = side * inf
    return placed
