"""Where a check runs: here, or in a worker process that may hang and crash."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from typing import IO, Any, NamedTuple, Protocol

from dlsys_bench.conformance.check import CHECKS, Trial
from dlsys_bench.conformance.finding import BrokenError, Finding
from dlsys_bench.conformance.guard import check_declarations
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.engines.base import Engine
from dlsys_bench.errors import EngineError, NotApplicableError

EngineFactory = Callable[[str], Engine]
"""An engine of a dtype; of its default for an empty name."""


NO_ANSWER = "no answer"
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


class Options(NamedTuple):
    """The seed and the limits of the checks.

    A search in a check draws up to `examples` examples, as far as they fit into `budget` seconds; a
    failing example is shrunk for `shrink` seconds (default: twice the budget). A check may take
    `seconds` in total, if it runs in a worker process.
    """

    seed: int = 0
    examples: int = 40
    budget: float = 2.5
    seconds: float = 120.0
    shrink: float | None = None


DEFAULTS = Options()


class Runner(Protocol):
    """Runs one check after the other."""

    def run(self, name: str) -> CheckResult: ...

    def close(self) -> None: ...


def engine_factory(target: str, device: str) -> EngineFactory:
    """An engine by its name, made once for each dtype."""
    from dlsys_bench.engines.registry import create

    made: dict[str, Engine] = {}

    def make(dtype: str) -> Engine:
        if dtype not in made:
            made[dtype] = create(target, device, dtype) if dtype else _default(target, device)
        return made[dtype]

    return make


def _default(target: str, device: str) -> Engine:
    from dlsys_bench.engines.registry import create

    return create(target, device)


class LocalRunner:
    """Checks in this process. `replay` is the command line before a check's name."""

    def __init__(
        self, make: EngineFactory, options: Options = DEFAULTS, replay: str | None = None
    ) -> None:
        self.make, self.options, self.replay = make, options, replay

    def run(self, name: str) -> CheckResult:
        check, began = CHECKS[name], time.perf_counter()

        def ended(status: Status, **more: Any) -> CheckResult:
            return CheckResult(name, status, time.perf_counter() - began, **more)

        drawn = 0
        try:
            engine = self.make("")
            check_declarations(engine, CHECKS)
            loosens = engine.loosens.get(name) or engine.loosens.get(check.rung)
            trial = Trial(
                self.make,
                seed=self.options.seed,
                examples=self.options.examples,
                budget=self.options.budget,
                shrink=self.options.shrink,
                loosens=loosens and loosens[0],
            )
            if name in engine.lacks:
                return ended(Status.DECLARED, reason=engine.lacks[name])
            if check.subject.startswith("float32") and "float32" not in trial.dtypes:
                lack = engine.lacks.get(
                    "dtype:float32", f"the engine has {', '.join(trial.dtypes)}"
                )
                return ended(Status.DECLARED, reason=lack)
            # What a framework warns of is its own affair; what the engine says of itself is in its
            # results.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    check.run(trial)
                finally:
                    drawn = trial.drawn
        except BrokenError as error:
            return ended(
                Status.FAILED, drawn=drawn, finding=error.finding, replay=self._replay(name)
            )
        except NotApplicableError as error:
            return ended(Status.DECLARED, reason=str(error))
        except (EngineError, Exception) as error:
            # The guard names what the engine raises in its methods; this is from its making, or the
            # check's own.
            told = f"{type(error).__name__}: {error}"
            return ended(
                Status.FAILED, drawn=drawn, finding=Finding(told), replay=self._replay(name)
            )
        reason = f"with a tolerance of {loosens[0]:g}: {loosens[1]}" if loosens else None
        return ended(Status.PASSED, drawn=drawn, reason=reason)

    def _replay(self, name: str) -> str | None:
        return (
            f"{self.replay} --check {shlex.quote(name)} --seed {self.options.seed}"
            if self.replay
            else None
        )

    def close(self) -> None:
        """Nothing is held."""


def replay_command(target: str, device: str) -> str:
    """What replays a check of an engine, but for the check."""
    more = "" if device == "cpu" else f" --device {device}"
    return f"dlsys-bench conform --engine {shlex.quote(target)}{more}"


class ProcessRunner:
    """Checks in a process of their own. One that takes too long is killed, one that dies is
    followed by another; what became of its check is a finding like any other. Standard output is
    the engine's to spoil."""

    def __init__(
        self,
        target: str,
        device: str = "cpu",
        options: Options = DEFAULTS,
        threads: int | None = None,
    ) -> None:
        self.target, self.device, self.options = target, device, options
        # Where several workers share the cores, each library would take them all.
        self.threads = dict.fromkeys(THREADS, str(threads)) if threads else {}
        self.process: subprocess.Popen[bytes] | None = None
        self.answers: queue.Queue[bytes] = queue.Queue()
        self.errors: IO[bytes] | None = None

    def _start(self) -> subprocess.Popen[bytes]:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        paths = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))  # noqa: PTH109
        job = json.dumps([self.target, self.device, *self.options])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dlsys_bench.conformance.worker", job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,
            env=os.environ | self.threads | {"PYTHONPATH": paths},
        )
        self.answers = queue.Queue()
        threading.Thread(
            target=_read, args=(self.process.stdout, self.answers), daemon=True
        ).start()
        return self.process

    def run(self, name: str) -> CheckResult:
        began = time.perf_counter()
        process = self.process or self._start()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(name.encode() + b"\n")
            process.stdin.flush()
        try:
            answer = self.answers.get(timeout=self.options.seconds)
        except queue.Empty:
            self.close()
            told = f"{NO_ANSWER} in {self.options.seconds:g} s: the engine hangs, or is too slow for this check"
            return self._lost(name, told, began)
        if not answer:
            code = process.wait()
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
            last = self._last_line()
            self.close()
            return self._lost(
                name, f"the process ended {how}" + (f": {last}" if last else ""), began
            )
        return CheckResult.from_dict(json.loads(answer))

    def _lost(self, name: str, told: str, began: float) -> CheckResult:
        replay = f"{replay_command(self.target, self.device)} --check {shlex.quote(name)} --seed {self.options.seed}"
        return CheckResult(
            name, Status.FAILED, time.perf_counter() - began, finding=Finding(told), replay=replay
        )

    def _last_line(self) -> str:
        assert self.errors is not None
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:200]

    def close(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                # With whatever the engine has started.
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout, self.errors):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            self.process = None


def _read(pipe: IO[bytes], answers: queue.Queue[bytes]) -> None:
    """Every line, and an empty one at the end."""
    with contextlib.suppress(ValueError, OSError):
        for line in pipe:
            answers.put(line)
    answers.put(b"")
