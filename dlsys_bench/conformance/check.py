"""The rungs of the ladder and the table of the checks on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from dlsys_bench.conformance.explanation import Explanation, explain
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.dtypes import ROUNDOFF, by_precision

RUNGS = (
    "shapes",
    "forward",
    "gradient",
    "loss",
    "step",
    "state",
    "initializer",
    "schedule",
    "trajectory",
    "evaluation",
    "checkpoint",
    "determinism",
    "distribution",
)
"""The rungs from the lowest, on which the others depend, to the highest. Only the last is
statistical."""

AT = "@"
"""What separates the name of a check from the dtype, where that is not the highest one."""

IGNORING = "?"
"""What separates the name of a check from a declared lack that it ignores."""

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """One check of an engine.

    `requires` lists what the engine must have, in the terms of `Engine.lacks`: "layer:max_pool",
    "optimizer:adam", "native". `dtype` is the precision in which the check runs; None is the
    highest that the engine has, and an empty string its default one. `body` raises BrokenError if
    the engine fails. `ignored` is a lack that the engine may declare, and that the check ignores.
    """

    name: str
    rung: str
    subject: str
    dtype: str | None
    requires: tuple[str, ...]
    body: Callable[[Trial], None]
    explanation: Explanation
    ignored: str | None = None

    def missing(self, engine: Engine) -> str | None:
        """Return the reason why the check does not apply to an engine, or None if it does."""
        if (name := self.lacking(engine)) is not None:
            reason = engine.lacks[name]
            return f"{name}: {reason}" if name in self.requires else reason
        if self.dtype and self.dtype not in engine.dtypes:
            available = f"the engine has {', '.join(engine.dtypes)}"
            return engine.lacks.get(f"dtype:{self.dtype}", available)
        return None

    def lacking(self, engine: Engine) -> str | None:
        """Return what the engine declares to lack of that which the check needs, if anything."""
        needed = (self.name, self.base, *self.requires)
        return next((name for name in needed if name in engine.lacks), None)

    def ignoring(self, lack: str) -> Check:
        """Return the check as it runs if the engine did not declare a lack, which its name ends
        in."""
        return replace(self, name=f"{self.name}{IGNORING}{lack}", ignored=lack)

    @property
    def base(self) -> str:
        """The name without the dtype."""
        return f"{self.rung}/{self.subject}".partition(AT)[0]

    def at(self, dtype: str) -> Check:
        """Return the check in a lower precision, whose name has the dtype as a suffix."""
        name, subject = f"{self.name}{AT}{dtype}", f"{self.subject}{AT}{dtype}"
        return replace(self, name=name, subject=subject, dtype=dtype)


CHECKS: dict[str, Check] = {}
"""Every check by name, rung by rung, without those of a lower precision."""


def sort_by_rung() -> None:
    """Order CHECKS by rung, and within a rung as they were registered.

    A module may register checks of several rungs.
    """
    ordered = sorted(CHECKS.items(), key=lambda item: RUNGS.index(item[1].rung))
    CHECKS.clear()
    CHECKS.update(ordered)


def in_dtypes(dtypes: Sequence[str]) -> dict[str, Check]:
    """Return every check by name in every dtype of an engine, the highest precision first.

    A check that fixes its dtype is there once, and so is every check of an engine without dtypes.
    Raises EngineError for a dtype that is not known.
    """
    lower, found = by_precision(dtypes)[1:], {}
    for check in CHECKS.values():
        fixed = check.dtype is not None
        for each in (check, *(() if fixed else map(check.at, lower))):
            found[each.name] = each
    return found


def find_check(name: str) -> Check | None:
    """Return the check of a name, which may end in a dtype or in a lack that it ignores; None if
    there is none."""
    name, _, lack = name.partition(IGNORING)
    if lack:
        found = find_check(name)
        return found and found.ignoring(lack)
    base, _, dtype = name.partition(AT)
    check = CHECKS.get(base)
    if check is None or not dtype:
        return check
    return check.at(dtype) if check.dtype is None and dtype in ROUNDOFF else None


def check(
    rung: str, subject: str, *, requires: Iterable[str] = (), dtype: str | None = None
) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Register a function of a trial as the check of a subject. Its docstring is the explanation of
    the check (see `explanation`)."""

    def register(body: Callable[[Trial], None]) -> Callable[[Trial], None]:
        explanation = explain(body.__doc__, subject)
        _register(rung, subject, tuple(requires), dtype, body, explanation)
        return body

    return register


def check_each(
    rung: str,
    subjects: Mapping[str, T],
    *,
    requires: Callable[[T], Iterable[str]] = lambda subject: (),
    dtype: str | None = None,
    prefix: str = "",
) -> Callable[[Callable[[Trial, T], None]], Callable[[Trial, T], None]]:
    """Register a function of a trial and a subject as one check for each subject of a table.

    The check of a subject is named `rung/prefix+name`, and requires what `requires` returns for it.
    """

    def register(body: Callable[[Trial, T], None]) -> Callable[[Trial, T], None]:
        for name, subject in subjects.items():
            run = partial(_run_on, body, subject)
            explanation = explain(body.__doc__, name, subject)
            _register(rung, prefix + name, tuple(requires(subject)), dtype, run, explanation)
        return body

    return register


def _run_on(body: Callable[[Trial, T], None], subject: T, trial: Trial) -> None:
    body(trial, subject)


def _register(
    rung: str,
    subject: str,
    requires: tuple[str, ...],
    dtype: str | None,
    body: Callable[[Trial], None],
    explanation: Explanation,
) -> None:
    name = f"{rung}/{subject}"
    if name in CHECKS:
        raise ValueError(f"there are two checks with the name {name!r}")
    CHECKS[name] = Check(name, rung, subject, dtype, requires, body, explanation)
