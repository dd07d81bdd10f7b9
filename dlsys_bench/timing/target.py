"""The level that a training has to reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A level of a figure, fixed before anything is timed: where the band of the stored runs ends
    on the bad side.

    `chance` is how often a healthy run ends its training at this level or better, by the band's
    law; `mean`, `spread` and `stored` are the band's, `source` the file of its runs. `at_most`: the
    figure is the better the smaller it is.
    """

    metric: str
    value: float
    chance: float
    mean: float
    spread: float
    stored: int
    source: str
    at_most: bool = False

    def reached(self, value: float) -> bool:
        """Whether a figure is as good; what is not a number is not."""
        return value <= self.value if self.at_most else value >= self.value

    def __str__(self) -> str:
        return f"{self.metric} {'≤' if self.at_most else '≥'} {self.value:.5g}"

    @property
    def explained(self) -> str:
        """Where the level comes from."""
        end, within = "upper" if self.at_most else "lower", 100 * (2 * self.chance - 1)
        return (
            f"the {end} end of the {within:g}% prediction interval for one run, from {self.stored} stored ones "
            f"({self.mean:.4f} ± {self.spread:.4f}; {self.source}): {100 * self.chance:g}% of healthy runs end "
            "their training there, or better"
        )
