"""The sequential gate: new runs, look after look, until they pass, fail, or no seeds are left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite, nan

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import UserError, count_of
from dlsys_bench.verdicts.bands import FEWEST_RUNS, Band
from dlsys_bench.verdicts.budget import ALPHA
from dlsys_bench.verdicts.decision import (
    DIRECTIONS,
    EXACT,
    EXTREMES,
    OPPOSITE,
    Decision,
    Departure,
    describe_band,
    median_shift,
)
from dlsys_bench.verdicts.design import BETA, MAX_SEEDS, Design, between
from dlsys_bench.verdicts.figures import round_up, rounded
from dlsys_bench.verdicts.outliers import typical_std
from dlsys_bench.verdicts.runs_at_look import RunsAtLook
from dlsys_bench.verdicts.sample_size import describe_enough
from dlsys_bench.verdicts.simulation import SIDES
from dlsys_bench.verdicts.verdict import Outcome


@dataclass(frozen=True)
class SequentialGate:
    """A test of new runs against reference runs.

        decision = SequentialGate(reference=[0.961, 0.958, ...], smallest_shift=0.005).run(train)

    PASS: a shift of `smallest_shift` is ruled out, wrongly with probability at most beta, and no
    run lies beyond every reference run by more than it. FAIL: the new runs are from a different
    distribution than the reference runs, wrongly with probability at most alpha, whatever that
    distribution. By default `smallest_shift` is the minimum detectable effect of the design. With
    `side` "drop" or "rise", only a difference in that direction fails.

    A shift is tested at every look, the tail and the spread at the last one: few of the runs are
    enough to see the first, and only many show the others.

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
            raise UserError(f"smallest_shift is {shift!r}; expected a number above 0")
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
        return inf if self.band is None else self.design.smallest_shift * self.scale

    @cached_property
    def scale(self) -> float:
        """The standard deviation of the reference runs that finished, without outliers; nan if
        they are too few. The shift to detect is a multiple of it."""
        if self.band is None:
            return nan
        return typical_std([v for v in self.reference if isfinite(v)], self.resolution)

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
        if self.shift == 0 and self.scale:
            return (
                f"a beta of {self.beta:g} asks for no power: "
                "name a smallest shift or a smaller beta"
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

    def check_shift(self) -> None:
        """Raise UserError if the requested shift is not detected with the stated power.

        The error states the numbers of reference runs and seeds that would suffice.
        """
        if self.smallest_shift is None or self.band is None or not self.scale:
            return
        shift, power = self.smallest_shift / self.scale, 1 - self.beta
        if self.design.detects(shift, margin=0.0):
            return
        least = self.design.smallest_shift * self.scale
        found = f"only a shift of {round_up(least)} or more" if isfinite(least) else "no shift"
        raise UserError(
            f"a smallest shift of {self.smallest_shift:g} cannot be detected: "
            f"{count_of(self.design.stored, 'reference run')} in {self.source} and at most "
            f"{count_of(self.max_seeds, 'seed')} detect {found} with probability {power:g} at "
            f"alpha {self.alpha:.1e}; {describe_enough(shift, self.design)}"
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
        runs = RunsAtLook(self.reference, self._comparable(values), self.side)
        pass_level = self.design.pass_levels.get(look, 0.0)
        beyond = runs.beyond(self.shift)
        # A run that diverged is no evidence of health, whatever the others did.
        lost = not all(map(isfinite, values)) and all(map(isfinite, self.reference))
        passed = runs.rule_out(self.shift, pass_level) and not beyond and not lost
        shift = runs.shift(self.design.fail_levels.get(look, 0.0))
        if shift.is_significant and not passed:
            return self._decision(Outcome.FAIL, values, shift, beyond)
        last = look == self.design.seeds
        for departure in runs.other_departures(self.alpha) if last else ():
            if departure.is_significant:
                return self._decision(Outcome.FAIL, values, departure, beyond)
        if passed:
            warning = self._warning(runs, pass_level)
            return self._decision(Outcome.PASS, values, shift, beyond, warning)
        return self._decision(Outcome.INCONCLUSIVE, values, shift, beyond) if last else None

    def _warning(self, runs: RunsAtLook, level: float) -> str | None:
        """Describe runs that differ in the direction that does not fail; None if they do not.

        The level is that of PASS, so that healthy runs have a warning with probability beta at
        most.
        """
        if self.side not in OPPOSITE:
            return None
        p_value = runs.p_value(-runs.sides[0])
        if p_value > level * EXACT:
            return None
        return (
            f"the runs are {OPPOSITE[self.side]} than the reference runs, p-value {p_value:.1e}: "
            "if this is no intended improvement, something else has changed"
        )

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
        self,
        outcome: Outcome,
        values: Sequence[float],
        found: Departure,
        beyond: tuple[int, ...],
        warning: str | None = None,
    ) -> Decision:
        """Return a decision with its reason in words."""
        assert self.band is not None
        way, stored = DIRECTIONS[self.side], describe_band(self.band)
        evidence = f"{found.what}, p-value {found.p_value:.1e}"
        reason = {
            Outcome.PASS: f"equivalent to {stored}: a shift of {self.shift:.2g} {way} is "
            f"ruled out (beta {self.beta:g})",
            Outcome.FAIL: f"from a different distribution than {stored}: {evidence} "
            f"(alpha {self.alpha:.1e} {way})",
            Outcome.INCONCLUSIVE: f"undecided against {stored}: {evidence}",
        }[outcome]
        if outcome is Outcome.INCONCLUSIVE:
            lost = sum(not isfinite(value) for value in values)
            reason += f"; {lost} of them diverged" * (lost > 0)
            far = sum(isfinite(values[place]) for place in beyond)
            reason += f"; {self._collapsed(far)}" * (far > 0)
        shift = median_shift(values, self.reference)
        return Decision(outcome, reason, tuple(values), shift, found.p_value, beyond, warning)

    def _collapsed(self, runs: int) -> str:
        """Describe runs that prevent a PASS."""
        where = " or ".join(EXTREMES[side] for side in SIDES[self.side])
        return (
            f"{count_of(runs, 'run')} {where} every reference run by more than the smallest shift "
            f"({self.shift:.2g}) may have collapsed, which prevents a PASS"
        )

    def batches(self, first_seed: int) -> Iterator[range]:
        """Yield the seeds up to each look. The runs of one batch may be trained in parallel."""
        start = 0
        for look in self.design.looks if not self.obstacle else (1,):
            yield range(first_seed + start, first_seed + look)
            start = look

    def run(self, train: Callable[[int], float], first_seed: int = 10_000) -> Decision:
        """Train with new seeds until the gate is decided. Errors of `train` pass through.

        Raises UserError if the requested shift cannot be detected.
        """
        self.check_shift()
        values: list[float] = []
        for seeds in self.batches(first_seed):
            values += [train(seed) for seed in seeds]
            decision = self.decide(values)
            if decision is not None:
                return decision
        raise AssertionError("the last look decides")
