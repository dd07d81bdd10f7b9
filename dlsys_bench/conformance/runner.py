"""Run a check in this process, and turn what happens into a result."""

from __future__ import annotations

import copy
import os
import shlex
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from hypothesis.errors import UnsatisfiedAssumption

from dlsys_bench.conformance.check import Check, find_check, in_dtypes
from dlsys_bench.conformance.declarations import check_declarations
from dlsys_bench.conformance.finding import BrokenError, Fault, Finding
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.trial import EngineFactory, EngineTarget, Options, Trial
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.provenance import cores
from dlsys_bench.text import describe

DEFAULTS = Options()

ATTEMPTS, SEED_STEP = 20, 1000
"""The number of seeds that a check of one example tries, and the difference between them."""
FEW = 8
"""The number of examples of a check that tests whether a declared lack is stale."""

CREATE = "create"
"""What a worker process is sent in place of the name of a check, to create the engine."""

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
"""The variables with which a user limits the threads of libraries."""


class Runner(Protocol):
    """Runs one check after the other."""

    def dtypes(self) -> Sequence[str]:
        """Return the dtypes of the engine, or none if it cannot be created."""
        ...

    def run(self, name: str) -> CheckResult:
        """Run the check of this name."""
        ...

    def replay(self, name: str) -> str | None:
        """Return the command line that replays a check, if there is one."""
        ...

    def close(self) -> None:
        """Release what the runner holds."""
        ...


def engine_factory(target: str, device: str) -> EngineFactory:
    """Return a factory that creates the engine of a name once for each dtype."""
    created: dict[str, Engine] = {}

    def make(dtype: str) -> Engine:
        if dtype not in created:
            options = {"dtype": dtype} if dtype else {}
            created[dtype] = create(target, device, **options)
        return created[dtype]

    return make


def replay_command(target: str, device: str) -> str:
    """Return the command that runs checks on an engine, without the names of the checks."""
    option = "" if device == "cpu" else f" --device {device}"
    return f"dlsys-bench conform --engine {shlex.quote(target)}{option}"


def replay_line(command: str, name: str, options: Options, threads: int | None = None) -> str:
    """Return the command line that replays one check, with the same number of threads.

    `threads` is that number (default: what the environment sets); a replay would use every core.
    """
    line = f"{command} --check {shlex.quote(name)} --seed {options.seed}"
    used = threads or threads_of_environment()
    return line if used in (None, cores()) else f"{line} --threads {used}"


def threads_of_environment() -> int | None:
    """Return the number of threads that the environment sets for libraries, or None."""
    values = (os.environ.get(name, "") for name in THREADS)
    return next((int(value) for value in values if value.isdecimal() and int(value)), None)


class LocalRunner:
    """Runs checks in this process.

    `target` is the name by which another process can create the engine, if it has one, and
    `command` the command of a replay (default: that of the target).
    """

    def __init__(
        self,
        make: EngineFactory,
        options: Options = DEFAULTS,
        target: EngineTarget | None = None,
        command: str | None = None,
    ) -> None:
        self.make, self.options, self.target = make, options, target
        self.command = replay_command(*target) if target else command

    def dtypes(self) -> Sequence[str]:
        """Return the dtypes of the engine, or none if it cannot be created."""
        try:
            return tuple(self.make("").dtypes)
        except (Exception, SystemExit):
            return ()  # The first check reports the error.

    def run(self, name: str) -> CheckResult:
        """Run a check. An error of the engine or of the check itself is a finding."""
        check, began = find_check(name), time.perf_counter()
        assert check is not None, name
        result: dict[str, Any] = {}
        trial: Trial | None = None
        try:
            engine = self.make("")
            known = in_dtypes(engine.dtypes)
            check_declarations(engine, {each.name: each.rung for each in known.values()})
            make, options = self.make, self.options
            if check.ignored is not None:
                make = without_lack(make, check.ignored)
                options = options._replace(examples=FEW, shrink=0.0)
            if reason := check.missing(make("")):
                result = {"lacking": check.lacking(engine)}
                raise NotApplicableError(reason)
            loosens = _loosened(engine, check)
            tolerance = loosens and loosens[0]
            trial = Trial(make, options, dtype=check.dtype, loosens=tolerance, target=self.target)
            _run_sharply(check, trial)
            if loosens:
                result = {"reason": f"with a tolerance of {loosens[0]:g}: {loosens[1]}"}
            status = Status.PASSED
        except NotApplicableError as error:
            status, result = Status.DECLARED, result | {"reason": str(error)}
        except BrokenError as error:
            late = error.finding.fault is Fault.TIMEOUT
            status = Status.TIMEOUT if late else Status.FAILED
            result = self._failure(name, error.refined())
        except KeyboardInterrupt:
            raise  # The user's, if it is not the engine's.
        except BaseException as error:
            # The guard reports errors in calls of the engine; this one is from its creation, or
            # from the check.
            finding = Finding(describe(error), Fault.RAISED)
            status, result = Status.FAILED, self._failure(name, finding)
        if trial is not None and status is not Status.DECLARED:
            result["drawn"] = trial.drawn
        return CheckResult.of(check, status, seconds=time.perf_counter() - began, **result)

    def _failure(self, name: str, finding: Finding) -> dict[str, Any]:
        if finding.example is None:
            example = f"the fixed example of the check, seed {self.options.seed}"
            finding = replace(finding, example=example)
        return {"finding": finding, "replay": self.replay(name)}

    def replay(self, name: str) -> str | None:
        """Return the command line that replays a check, if there is one."""
        return replay_line(self.command, name, self.options) if self.command else None

    def close(self) -> None:
        """Do nothing: a local runner holds nothing."""


def _loosened(engine: Engine, check: Check) -> tuple[float, str] | None:
    """Return the tolerance that an engine declares for a check, and its reason, if it does."""
    places = (check.name, check.base, check.rung)
    return next((engine.loosens[p] for p in places if p in engine.loosens), None)


def _run_sharply(check: Check, trial: Trial) -> None:
    """Run a check with the seed of the trial, or with the next one whose example it does not
    reject as too badly conditioned."""
    for _ in range(ATTEMPTS):
        try:
            return _run_quietly(check, trial)
        except UnsatisfiedAssumption:
            trial.restart(trial.seed + SEED_STEP)
    raise RuntimeError(f"{ATTEMPTS} examples in a row cannot be compared sharply")


def without_lack(make: EngineFactory, lack: str) -> EngineFactory:
    """Return a factory of engines that do not declare a lack."""

    def made(dtype: str) -> Engine:
        engine = copy.copy(make(dtype))
        kept = {name: reason for name, reason in engine.lacks.items() if name != lack}
        engine.lacks = kept  # type: ignore[misc]
        return engine

    return made


def _run_quietly(check: Check, trial: Trial) -> None:
    """Run a check without the warnings of frameworks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check.body(trial)
