"""What is said of one arm of one engine, with its error rates and the line that replays it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

import numpy as np

from dlsys_bench.runs.key import Key
from dlsys_bench.verdicts.bands import Band


class Outcome(StrEnum):
    """What became of a judgement. UNJUDGED: the arm declares that this tier cannot judge it; it
    counts nowhere."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNJUDGED = "UNJUDGED"


@dataclass(frozen=True)
class Verdict:
    """One arm of one engine, judged. `values` has a figure for each seed, infinite where the run
    diverged. `alpha` is the chance that a healthy engine fails, `beta` that one shifted by
    `smallest_shift` passes, `max_seeds` the most it could have taken; `shift` and `chance` are a
    Decision's. `replay` is the command that runs it again."""

    key: Key
    metric: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    outcome: Outcome
    reason: str
    replay: str
    band: Band | None = None
    alpha: float | None = None
    beta: float | None = None
    max_seeds: int | None = None
    smallest_shift: float | None = None
    shift: float | None = None
    chance: float | None = None
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """What was judged."""
        return self.key.name

    @property
    def measured(self) -> float | None:
        """The mean of the runs; None if one of them did not finish."""
        return (
            float(np.mean(self.values)) if self.values and all(map(isfinite, self.values)) else None
        )

    def message(self) -> str:
        """What was measured, the band, where the band comes from, how to replay."""
        return f"{self.key.label}: {self.reason}\n  replay: {self.replay}"

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON values; a run that diverged has no value."""
        plain = (
            "metric",
            "reason",
            "replay",
            "alpha",
            "beta",
            "max_seeds",
            "shift",
            "chance",
            "seconds",
            "measured",
        )
        band, seen = self.band, self.smallest_shift
        return {
            **self.key.to_dict("study", "arm", "dataset", "tier", "engine", "device"),
            **{name: getattr(self, name) for name in plain},
            "outcome": self.outcome.value,
            "seeds": list(self.seeds),
            "values": [value if isfinite(value) else None for value in self.values],
            "smallest_shift": seen if seen is not None and isfinite(seen) else None,
            "band": {"mean": band.mean, "spread": band.spread, "n": band.n, "source": band.source}
            if band
            else None,
        }
