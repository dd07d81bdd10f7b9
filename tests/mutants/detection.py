"""Puts a mutant through the ladder until a check finds it."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

import mutants
from dlsys_bench.conformance import checks
from dlsys_bench.conformance.check import CHECKS, RUNGS
from dlsys_bench.conformance.outcome import Outcome, Status
from dlsys_bench.conformance.runner import Here, Options, command, maker
from dlsys_bench.engines.registry import unavailable

assert checks


@dataclass(frozen=True)
class Detection:
    """What found a mutant: the check and what it said; None where it survived, or did not run for a
    `reason`. `expected` is the rung that should, None for one that is known to survive."""

    name: str
    expected: str | None
    check: str | None = None
    seconds: float = 0.0
    message: str = ""
    reason: str | None = None

    @property
    def found(self) -> str | None:
        """The rung."""
        return self.check and self.check.partition("/")[0]

    @property
    def survived(self) -> bool:
        """Though it should have been found."""
        return self.check is None and self.reason is None and self.expected is not None

    @property
    def as_expected(self) -> bool:
        return self.reason is not None or self.found == self.expected

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"found": self.found}


def first_failure(name: str, options: Options, rungs: Sequence[str] = RUNGS) -> Outcome | None:
    """The first check, from the lowest rung up, that fails a mutant, or None. Nothing above it
    runs."""
    target = f"{mutants.__name__}:{name}"
    here = Here(maker(target, "cpu"), options, command(target, "cpu"))
    for check in CHECKS.values():
        if check.rung in rungs and (outcome := here.run(check.name)).status is Status.FAILED:
            return outcome
    return None


def detect(name: str, options: Options = Options()) -> Detection:  # noqa: B008
    """Put one mutant through the whole ladder."""
    mutant = mutants.MUTANTS[name]
    if reason := unavailable(mutant.package):
        return Detection(name, mutant.rung, reason=reason)
    began = time.perf_counter()
    found = first_failure(name, options)
    seconds = time.perf_counter() - began
    if found is None:
        return Detection(name, mutant.rung, seconds=seconds)
    return Detection(name, mutant.rung, found.name, seconds, str(found.finding))


def detect_all(names: Sequence[str], options: Options, jobs: int) -> Iterator[Detection]:
    """Put mutants through the ladder, so many at a time, each as it is done."""
    # A fork would copy the threads' locks of the frameworks in the state they are in.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(detect, name, options) for name in names]):
            yield future.result()
