"""The grouping of runs for plots, and a note about those that are not drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dlsys_bench.errors import count_of
from dlsys_bench.runs.result import Result


class Group(NamedTuple):
    """The runs of one arm by one engine, in the order of their seeds.

    `beside` names the engine and the protocol where there are several; otherwise it is empty.
    """

    arm: str
    beside: str
    runs: tuple[Result, ...]

    @property
    def label(self) -> str:
        """The arm, with `beside` in parentheses."""
        return f"{self.arm} ({self.beside})" if self.beside else self.arm

    @property
    def finished(self) -> tuple[Result, ...]:
        """The runs that finished and have figures."""
        return tuple(
            run for run in self.runs if run.status == "finished" and "reason" not in run.figures
        )


def groups(results: Sequence[Result]) -> list[Group]:
    """Group runs by arm, engine, device and protocol. Arms keep the order of their first run."""

    def engine(run: Result) -> str:
        return (
            run.key.engine if run.key.device == "cpu" else f"{run.key.engine} on {run.key.device}"
        )

    found: dict[tuple[str, str, str], list[Result]] = {}
    for run in results:
        found.setdefault((run.key.arm, engine(run), run.key.protocol), []).append(run)
    arms = list(dict.fromkeys(run.key.arm for run in results))
    several = len({name for _, name, _ in found}) > 1
    grouped = []
    for arm, name, protocol in sorted(found, key=lambda key: (arms.index(key[0]), key[1:])):
        # Runs of one arm with different protocols trained different things.
        two = len({other for this, _, other in found if this == arm}) > 1
        parts = [name] * several + [f"protocol {protocol[:6]}"] * two
        runs = sorted(found[arm, name, protocol], key=lambda run: run.seed)
        grouped.append(Group(arm, ", ".join(parts), tuple(runs)))
    return grouped


def seeds(count: int) -> str:
    """Return the number of seeds as text, such as "1 seed"."""
    return count_of(count, "seed")


def not_drawn(grouped: Iterable[Group], *, what: str = "diverged, not drawn") -> str:
    """Return a note that names the arms with runs without figures, "" if there are none."""
    names = [
        f"{group.label} ({len(group.runs) - len(group.finished)} of {len(group.runs)})"
        for group in grouped
        if len(group.finished) < len(group.runs)
    ]
    return f"{what}: {', '.join(names)}" if names else ""
