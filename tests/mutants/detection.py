"""Run mutants against checks: the check that is recorded to detect one, or the whole ladder."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

import mutants
import mutants.single
from dlsys_bench.conformance.check import RUNGS, in_dtypes
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.runner import LocalRunner, engine_factory
from dlsys_bench.conformance.trial import EngineTarget, Options
from dlsys_bench.engines.registry import unavailable
from mutants.mutant import rung_of
from mutants.reach import Reach, find_reach

MANY = 20
"""The number of climbs from which it saves time to find what each check reaches."""


@dataclass(frozen=True)
class Detection:
    """The check that detected a mutant on a climb, and its finding.

    `expected` is the check that is recorded to detect it, None for a mutant that is known to
    survive. `check` is None where nothing detected it, or where it did not run for a `reason`.
    """

    name: str
    expected: str | None
    check: str | None = None
    seconds: float = 0.0
    message: str = ""
    reason: str | None = None

    @property
    def found(self) -> str | None:
        """The rung of the check that detected the mutant."""
        return None if self.check is None else rung_of(self.check)

    @property
    def expected_rung(self) -> str | None:
        """The rung of the check that is recorded to detect the mutant."""
        return None if self.expected is None else rung_of(self.expected)

    @property
    def survived(self) -> bool:
        """Whether nothing detected a mutant that is recorded to be detected."""
        return self.check is None and self.reason is None and self.expected is not None

    @property
    def as_expected(self) -> bool:
        """Whether the mutant was detected on the rung that is recorded, or did not run."""
        return self.reason is not None or self.found == self.expected_rung

    def to_dict(self) -> dict[str, Any]:
        """Return the detection as JSON values."""
        return asdict(self) | {"expected": self.expected_rung, "found": self.found}


def runner(name: str, options: Options, *, single: bool = False) -> LocalRunner:
    """Return a runner of checks, in this process, for a mutant or a healthy twin; for one that is a
    mutant in float32 alone if `single`."""
    target = f"{(mutants.single if single else mutants).__name__}:{name}"
    return LocalRunner(engine_factory(target, "cpu"), options, EngineTarget(target))


def first_failure(
    name: str, options: Options, reach: Reach | None = None, *, single: bool = False
) -> CheckResult | None:
    """Return the first check, from the lowest rung up, that fails a mutant, or None.

    No check above it runs, and none that does not reach the edit, if `reach` is known. Of a mutant
    in float32 alone, no check runs in float64, and first runs the one that is recorded to detect
    the mutant, which saves most of the climb. The statistical rung, which takes longest, runs only
    if it is recorded.
    """
    here = runner(name, options, single=single)
    checks = list(in_dtypes(here.dtypes()).values())
    if single:
        recorded = str(mutants.MUTANTS[name].check)
        first = {recorded, f"{recorded}@float32"}
        checks = [each for each in checks if each.dtype is not None]
        checks = [each for each in checks if each.rung != RUNGS[-1] or each.name in first]
        checks.sort(key=lambda each: each.name not in first)
    reaching = None if reach is None else reach.get(name)
    for check in checks:
        left_out = reaching is not None and check.name not in reaching
        if not left_out and (result := here.run(check.name)).status is Status.FAILED:
            return result
    return None


def detect(
    name: str, options: Options, reach: Reach | None = None, *, single: bool = False
) -> Detection:
    """Put one mutant through the whole ladder; one in float32 alone if `single`."""
    mutant = mutants.MUTANTS[name]
    if reason := unavailable(mutant.package):
        return Detection(name, mutant.check, reason=reason)
    if single and (mutant.survives or mutant.only not in (None, "float32")):
        reason = mutant.survives or f"it is a mistake in {mutant.only} alone"
        return Detection(name, mutant.check, reason=reason)
    began = time.perf_counter()
    found = first_failure(name, options, reach, single=single)
    seconds = time.perf_counter() - began
    if found is None:
        return Detection(name, mutant.check, seconds=seconds)
    return Detection(name, mutant.check, found.name, seconds, str(found.finding))


def detect_all(
    names: Sequence[str], options: Options, jobs: int, *, single: bool = False
) -> Iterator[Detection]:
    """Put mutants through the ladder, `jobs` at a time, and yield each as it is done."""
    packages = sorted({mutants.MUTANTS[name].package for name in names})
    # A fork would copy the threads' locks of the frameworks in the state they are in.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        reach: dict[str, Reach | None] = dict.fromkeys(packages)
        if not single and len(names) >= MANY:
            reach = dict(
                zip(packages, pool.map(find_reach, packages, repeat(options)), strict=True)
            )
        tasks = [
            pool.submit(detect, name, options, reach[mutants.MUTANTS[name].package], single=single)
            for name in names
        ]
        for future in as_completed(tasks):
            yield future.result()
