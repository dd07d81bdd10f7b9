"""Run checks in a worker process, in which an engine may hang or crash.

The parent writes the name of a check as a line to the worker's standard input; the worker runs it
and answers with the result as one line of JSON. A thread of the parent reads the answers into a
queue, so that the parent can wait for one with a time limit. A worker that exceeds the limit is
killed with all processes it has started, and a worker that ends by itself has crashed; either way
the check fails with a finding, and the next check starts a new worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import IO

from dlsys_bench.conformance.check import find_check
from dlsys_bench.conformance.finding import Fault, Finding
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.runner import ASK_DTYPES, DEFAULTS, replay_command, replay_line
from dlsys_bench.conformance.trial import Options

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


class ProcessRunner:
    """Runs checks in a worker process.

    `target` is the name of the engine, as for `dlsys-bench --engine`. `threads` limits the threads
    of its libraries, each of which would use every core otherwise.
    """

    def __init__(
        self,
        target: str,
        device: str = "cpu",
        options: Options = DEFAULTS,
        threads: int | None = None,
    ) -> None:
        self.target, self.device, self.options = target, device, options
        self.threads = dict.fromkeys(THREADS, str(threads)) if threads else {}
        self.process: subprocess.Popen[bytes] | None = None
        self.answers: queue.Queue[bytes] = queue.Queue()
        self.errors: IO[bytes] | None = None

    def dtypes(self) -> Sequence[str]:
        """Return the dtypes of the engine, or none if the worker does not answer."""
        process = self.process or self._start()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError, queue.Empty):
            process.stdin.write(ASK_DTYPES.encode() + b"\n")
            process.stdin.flush()
            if answer := self.answers.get(timeout=self.options.seconds):
                return tuple(json.loads(answer))
        self.close()
        return ()  # The first check reports what is wrong.

    def run(self, name: str) -> CheckResult:
        """Run a check, in a new worker if there is none."""
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
            limit = f"no answer in {self.options.seconds:g} s"
            what = f"{limit}: the engine hangs, or is too slow for this check"
            return self._lost(name, Finding(what, Fault.TIMEOUT), began)
        if not answer:
            finding = Finding(self._ending(process), Fault.CRASHED)
            self.close()
            return self._lost(name, finding, began)
        return CheckResult.from_dict(json.loads(answer))

    def close(self) -> None:
        """Kill the worker, with every process that it has started."""
        if self.process is None:
            return
        _kill(self.process)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.process = None

    def _start(self) -> subprocess.Popen[bytes]:
        # A file, because a pipe that nobody reads would block an engine that prints much.
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
        arguments = (self.process.stdout, self.answers)
        threading.Thread(target=_read_lines, args=arguments, daemon=True).start()
        return self.process

    def _lost(self, name: str, finding: Finding, began: float) -> CheckResult:
        replay = replay_line(replay_command(self.target, self.device), name, self.options)
        seconds = time.perf_counter() - began
        check = find_check(name)
        assert check is not None, name
        return CheckResult.of(check, Status.FAILED, seconds=seconds, finding=finding, replay=replay)

    def _ending(self, process: subprocess.Popen[bytes]) -> str:
        """Return how a worker ended, with the last line that it wrote to standard error."""
        code = process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        assert self.errors is not None
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")[:200]
        return f"the process ended {how}" + (f": {last}" if last else "")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its process group; where there are no groups, the process alone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _read_lines(pipe: IO[bytes], answers: queue.Queue[bytes]) -> None:
    """Put every line into a queue, and an empty one at the end of the file."""
    with contextlib.suppress(ValueError, OSError):
        for line in pipe:
            answers.put(line)
    answers.put(b"")
