"""The rungs of the ladder and the table of the checks on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.requirements import lack

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

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """One check of an engine.

    `requires` lists what the engine must have, in the terms of `Engine.lacks`: "layer:max_pool",
    "optimizer:adam", "native". `dtype` is the precision in which the check runs; None is the
    highest that the engine has. `body` raises BrokenError if the engine fails.
    """

    name: str
    rung: str
    subject: str
    dtype: str | None
    requires: tuple[str, ...]
    body: Callable[[Trial], None]

    def missing(self, engine: Engine) -> str | None:
        """Return the reason why the check does not apply to an engine, or None if it does."""
        if self.name in engine.lacks:
            return engine.lacks[self.name]
        if missing := lack(engine, self.requires):
            return missing
        if self.dtype is not None and self.dtype not in engine.dtypes:
            available = f"the engine has {', '.join(engine.dtypes)}"
            return engine.lacks.get(f"dtype:{self.dtype}", available)
        return None


CHECKS: dict[str, Check] = {}
"""Every check by name, rung by rung."""


def check(
    rung: str, subject: str, *, requires: Iterable[str] = (), dtype: str | None = None
) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Register a function of a trial as the check of a subject."""

    def register(body: Callable[[Trial], None]) -> Callable[[Trial], None]:
        _register(rung, subject, tuple(requires), dtype, body)
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
            _register(rung, prefix + name, tuple(requires(subject)), dtype, run)
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
) -> None:
    name = f"{rung}/{subject}"
    if name in CHECKS:
        raise ValueError(f"there are two checks with the name {name!r}")
    CHECKS[name] = Check(name, rung, subject, dtype, requires, body)
