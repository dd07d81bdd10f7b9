"""The verdict on an arm of an engine, with its error rates and the command that repeats it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

import numpy as np

from dlsys_bench.runs.dependencies import summary
from dlsys_bench.runs.key import Key
from dlsys_bench.text import fold
from dlsys_bench.verdicts.bands import Band
from dlsys_bench.verdicts.judged_runs import JudgedRuns
from dlsys_bench.verdicts.stratum import Stratum


class Outcome(StrEnum):
    """The outcome of a gate. UNJUDGED: by its record the arm is not judged at this tier."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNJUDGED = "UNJUDGED"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one arm of one engine.

    - `values`: the figure of each seed, infinite if the run diverged.
    - `alpha`: the probability that a healthy engine fails.
    - `beta`: the probability that an engine shifted by `smallest_shift` passes.
    - `max_seeds`: the most seeds that the gate could have used.
    - `smallest_shift`: the minimum detectable effect (MDE), in the units of the figure.
    - `shift`, `p_value`: see Decision.
    - `replay`: the command that repeats the gate.
    - `stratum`: the runs up to the first look, for the verdict over all arms of the session.
    - `runs`: all runs, for the evidence over sessions.
    - `changes`: what has changed since the reference runs; None if that is not recorded.
    - `warning`: a difference in the direction that does not fail; None if there is none.
    - `accept`: the command that makes new reference runs, if the change is intended.
    """

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
    p_value: float | None = None
    seconds: float = 0.0
    stratum: Stratum | None = None
    runs: JudgedRuns | None = None
    changes: tuple[str, ...] | None = None
    accept: str | None = None
    warning: str | None = None

    @property
    def name(self) -> str:
        """The study and the arm, or the name of the user's own training."""
        return self.key.name

    @property
    def measured(self) -> float | None:
        """The mean of the runs; None if one of them did not finish."""
        return (
            float(np.mean(self.values)) if self.values and all(map(isfinite, self.values)) else None
        )

    @property
    def summary(self) -> str:
        """The reason, with the warning if there is one."""
        return self.reason if self.warning is None else f"{self.reason}; warning: {self.warning}"

    def message(self, width: int) -> str:
        """Return the outcome, the measured figures and the band, and the command to replay.

        A FAIL also has the certainty, what has changed, and the command that accepts the change,
        where these are known. Sentences are folded to `width` columns, and commands are not.
        """
        if self.outcome is Outcome.PASS:
            return fold(f"{self.outcome}: {self.key.label}: {self.summary}", width)
        lines = [f"{self.outcome}: {self.reason} [{self.key.label}]"]
        if self.outcome is Outcome.FAIL and self.p_value is not None and self.alpha is not None:
            lines.append(
                f"certainty: p-value {self.p_value:.1e}; a healthy training fails this gate with "
                f"probability {self.alpha:.1e} at most"
            )
        if self.changes is not None:
            found = summary(list(self.changes)) or "nothing that is recorded"
            lines.append(f"changed since the baseline: {found}")
        lines = [fold(line, width - 2) for line in lines]
        lines.append(f"replay: {self.replay}")
        if self.accept is not None and self.outcome is Outcome.FAIL:
            lines.append(f"accept: {self.accept}")
        return "\n  ".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values; the value of a run that diverged is None."""
        names = ("metric", "reason", "replay", "alpha", "beta", "max_seeds", "shift", "warning")
        effect = self.smallest_shift
        return {
            **self.key.to_dict("study", "arm", "dataset", "tier", "engine", "device"),
            **{name: getattr(self, name) for name in names},
            # The JSON keeps the names of the fields that it was first written with.
            "chance": self.p_value,
            "seconds": self.seconds,
            "measured": self.measured,
            "outcome": self.outcome.value,
            "seeds": list(self.seeds),
            "values": [value if isfinite(value) else None for value in self.values],
            "smallest_shift": effect if effect is not None and isfinite(effect) else None,
            "band": self.band.to_dict() if self.band else None,
            "stratum": self.stratum.to_dict() if self.stratum else None,
            "runs": self.runs.to_dict() if self.runs else None,
        }
