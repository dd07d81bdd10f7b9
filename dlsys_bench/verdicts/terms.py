"""The terms of a gate: its error rates, its seeds, and the shifts that fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlsys_bench.runs.run import FIRST_SEED
from dlsys_bench.verdicts.budget import ALPHA
from dlsys_bench.verdicts.design import BETA, MAX_SEEDS


@dataclass(frozen=True)
class Terms:
    """The terms of a gate: see SequentialGate.

    New runs have the seeds from `first_seed` on. `jobs` runs are trained at a time if the engine
    allows it; a user's own training is run one at a time.
    """

    alpha: float = ALPHA
    beta: float = BETA
    max_seeds: int = MAX_SEEDS
    smallest_shift: float | None = None
    side: str = "both"
    first_seed: int = FIRST_SEED
    jobs: int = 1

    def options(self) -> dict[str, Any]:
        """Return the terms as keyword arguments of a SequentialGate."""
        names = ("smallest_shift", "alpha", "beta", "max_seeds", "side")
        return {name: getattr(self, name) for name in names}

    def arguments(self) -> list[str]:
        """Return the terms as arguments of the command line."""
        values = ["--max-seeds", str(self.max_seeds), "--first-seed", str(self.first_seed)]
        values += ["--alpha", repr(float(self.alpha)), "--beta", repr(float(self.beta))]
        if self.smallest_shift is not None:
            values += ["--smallest-shift", repr(float(self.smallest_shift))]
        if self.side != "both":
            values += ["--side", self.side]
        return values


DEFAULT = Terms()
