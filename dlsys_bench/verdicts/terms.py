"""The terms of a gate: its error rates, its seeds, and the shifts that fail."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dlsys_bench.errors import UserError
from dlsys_bench.runs.fields import LARGEST
from dlsys_bench.runs.run import FIRST_SEED
from dlsys_bench.studies.base import Metric
from dlsys_bench.verdicts.budget import ALPHA
from dlsys_bench.verdicts.design import BETA, MAX_SEEDS

WORSE = "worse"
"""The side that is down if a higher metric is better, up if a lower one is, and else both."""

SIDE_OF = {True: "drop", False: "rise", None: "both"}
"""The worse side by `Metric.higher_is_better`."""


@dataclass(frozen=True)
class Terms:
    """The terms of a gate: see SequentialGate.

    New runs have the seeds from `first_seed` on. `jobs` runs are trained at a time if the engine
    allows it; a user's own training is run one at a time. `side` is one of those of a Design, or
    WORSE, until `for_metric` resolves it. `together` is true for one of several gates, whose first
    runs are judged together. Raises UserError if a store cannot hold the seeds.
    """

    alpha: float = ALPHA
    beta: float = BETA
    max_seeds: int = MAX_SEEDS
    smallest_shift: float | None = None
    side: str = WORSE
    first_seed: int = FIRST_SEED
    jobs: int = 1
    together: bool = False

    def __post_init__(self) -> None:
        most = LARGEST - self.max_seeds
        if self.first_seed > most:
            raise UserError(f"the first seed is {self.first_seed}; expected at most {most}")

    def for_metric(self, metric: Metric) -> Terms:
        """Return the terms with the side that is the worse one for a metric."""
        side = SIDE_OF[metric.higher_is_better] if self.side == WORSE else self.side
        return replace(self, side=side)

    def options(self) -> dict[str, Any]:
        """Return the terms as keyword arguments of a SequentialGate."""
        names = ("smallest_shift", "alpha", "beta", "max_seeds", "side")
        return {name: getattr(self, name) for name in names}

    def arguments(self) -> list[str]:
        """Return the terms as arguments of the command line."""
        values = ["--max-seeds", str(self.max_seeds), "--first-seed", str(self.first_seed)]
        values += ["--alpha", _shortest(self.alpha), "--beta", _shortest(self.beta)]
        if self.smallest_shift is not None:
            values += ["--smallest-shift", _shortest(self.smallest_shift)]
        if self.side != WORSE:
            values += ["--side", self.side]
        return values


def _shortest(value: float) -> str:
    """Return a number without the rounding error of the division that it comes from: levels and
    shifts that differ by so little decide alike."""
    return repr(float(f"{value:.12g}"))


DEFAULT = Terms()
