"""The base of the learning-rate schedules."""

from __future__ import annotations

from dataclasses import dataclass

from dlsys_bench.spec.record import Record


@dataclass(frozen=True)
class Schedule(Record):
    """The base of the schedules. A custom schedule is a subclass with its own `kind` and `rate`."""

    @property
    def length(self) -> int | None:
        """The number of updates after which the rate has reached its last phase; None if there is
        no such number.

        A training with fewer updates is refused, because it would end in the middle of the
        schedule. One with more goes on at the last rate.
        """
        return None

    def rate(self, step: int) -> float:
        """Return the learning rate of a step; the first update is step 0."""
        raise NotImplementedError
