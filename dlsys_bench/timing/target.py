"""The target of a time-to-accuracy measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dlsys_bench.errors import count_of
from dlsys_bench.runs.fields import Name, Real, Struct, Truth, Whole

TARGET = Struct(
    {
        **dict.fromkeys(("metric", "source"), Name()),
        **dict.fromkeys(("value", "chance", "mean", "spread"), Real()),
        "stored": Whole(),
        "at_most": Truth(),
    },
    optional=frozenset({"at_most"}),
)
"""The fields of a target."""


@dataclass(frozen=True)
class Target:
    """The value of a metric that a training has to reach, fixed before anything is timed.

    It is the worse end of a prediction interval of the reference runs. `chance` is the probability
    that a healthy run ends its training at this value or a better one, for normally distributed
    runs. `mean`, `spread` (the standard deviation) and `stored` (the number) describe the reference
    runs, and `source` is their file. `at_most` states that smaller values are better.
    """

    metric: str
    value: float
    chance: float
    mean: float
    spread: float
    stored: int
    source: str
    at_most: bool = False

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Target:
        """Return the target with these fields; others are ignored."""
        return cls(
            **{field.name: values[field.name] for field in fields(cls) if field.name in values}
        )

    def reached(self, value: float) -> bool:
        """Return True if a value of the metric reaches the target. NaN does not."""
        return value <= self.value if self.at_most else value >= self.value

    def __str__(self) -> str:
        return f"{self.metric} {'≤' if self.at_most else '≥'} {self.value:.5g}"

    @property
    def explanation(self) -> str:
        """The origin of the value, as text."""
        end, within = "upper" if self.at_most else "lower", 100 * (2 * self.chance - 1)
        return (
            f"the {end} end of the {within:g}% prediction interval for one run, "
            f"from {count_of(self.stored, 'reference run')} ({self.mean:.4f} ± {self.spread:.4f}; "
            f"{self.source}): {100 * self.chance:g}% of healthy runs end their training there, "
            "or better"
        )
