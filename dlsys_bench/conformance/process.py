"""Run checks in a worker process, in which an engine may hang or crash.

The parent writes a request as a line of JSON to the worker's standard input; the worker runs the
check that it names and answers with a line of JSON. A thread of the parent reads the answers, so
that the parent can wait for one with a time limit. A worker that exceeds the limit is killed with
all processes that it has started, and a worker that ends by itself has crashed; the next check
starts a new worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

import platformdirs

from dlsys_bench.conformance.check import find_check
from dlsys_bench.conformance.clock import TimeLimit
from dlsys_bench.conformance.finding import Fault, Finding
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.runner import (
    CREATE,
    DEFAULTS,
    THREADS,
    replay_command,
    replay_line,
)
from dlsys_bench.conformance.trial import Options
from dlsys_bench.errors import UserError
from dlsys_bench.process_tree import end_tree, resident
from dlsys_bench.text import one_line

RAISE_THE_LIMIT = "--seconds (of pytest: --dlsys-seconds) raises the limit"

LAST_SECONDS = 0.5
"""The seconds in which the last answer of a worker that has ended may still arrive."""

CACHE = platformdirs.user_cache_path("dlsys_bench")
DEFAULT_ENVIRONMENT = {
    # Hypothesis would write into the current directory.
    "HYPOTHESIS_STORAGE_DIRECTORY": str(CACHE / "hypothesis"),
    # What JAX compiles is kept, since compilation takes most of the time of a climb.
    "JAX_COMPILATION_CACHE_DIR": str(CACHE / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    # Threads that wait in loops would make torch twenty times slower on a busy machine.
    "OMP_WAIT_POLICY": "passive",
    # Workers share a GPU, most of whose memory JAX and TensorFlow would reserve for the first.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
"""The environment of a worker, unless the user sets these variables."""
LONGEST_ANSWER = 1 << 20
MOST_MEMORY = 2 << 30
"""The bytes of memory above which a worker ends after a check, if it occupied at most half as much
after its first one. Frameworks keep the programs that they have compiled: Keras on JAX occupied
more than 3.5 GB after half of the checks."""
ERRORS_KEPT = 1 << 16


class Lost(NamedTuple):
    """A request to which there is no answer, with the reason."""

    status: Status
    finding: Finding


class ProcessRunner:
    """Runs checks in a worker process.

    `target` is the name of the engine, as for `dlsys-bench --engine`. `threads` limits the threads
    of its libraries, each of which would use every core otherwise; by default the variables of the
    environment, such as OMP_NUM_THREADS, apply.
    """

    def __init__(
        self,
        target: str,
        device: str = "cpu",
        options: Options = DEFAULTS,
        threads: int | None = None,
    ) -> None:
        self.target, self.device, self.options = target, device, options
        self.threads = threads
        self.process: subprocess.Popen[bytes] | None = None
        self.occupied = 0
        self.answers = _Answers()
        self.errors = _Tail()

    def create(self) -> Sequence[str]:
        """Create the engine and return its dtypes.

        Raises UserError if it cannot be created on this machine. If it hangs or crashes when it is
        created, no dtypes are returned, and the first check reports it.
        """
        answer = self._ask(CREATE)
        if isinstance(answer, Lost):
            return ()
        if "error" in answer:
            raise UserError(answer["error"])
        return tuple(answer.get("dtypes", ()))

    def dtypes(self) -> Sequence[str]:
        """Return the dtypes of the engine, or none if it cannot be created."""
        try:
            return self.create()
        except UserError:
            return ()  # The first check reports it.

    def run(self, name: str) -> CheckResult:
        """Run a check, in a new worker if there is none."""
        began = time.perf_counter()
        answer = self._ask(name)
        if self.process is not None and self._has_grown(resident(self.process.pid)):
            self.close()
        if not isinstance(answer, Lost):
            if not self.answers.disturbed:
                return CheckResult.from_dict(answer)
            message = "the engine wrote to a file descriptor that it had not opened"
            answer = Lost(Status.FAILED, Finding(message, Fault.SIDE_EFFECT))
        check = find_check(name)
        assert check is not None, name
        return CheckResult.of(
            check,
            answer.status,
            seconds=time.perf_counter() - began,
            finding=answer.finding,
            replay=self.replay(name),
        )

    def _has_grown(self, occupied: int) -> bool:
        """Return whether the worker occupies much more memory than after its first check."""
        self.occupied = self.occupied or occupied
        return occupied > max(MOST_MEMORY, 2 * self.occupied)

    def replay(self, name: str) -> str | None:
        """Return the command line that replays a check."""
        command = replay_command(self.target, self.device)
        return replay_line(command, name, self.options, self.threads)

    def close(self) -> None:
        """Kill the worker, with every process that it has started."""
        if self.process is not None:
            self.process = None
            self._end()

    def _ask(self, request: str) -> dict[str, Any] | Lost:
        """Send a request and wait for its answer, in a new worker if there is none."""
        process = self.process or self._start()
        limit = TimeLimit(process.pid, self.options.seconds)
        # An engine can write to the pipe of the answers, but it does not know the token.
        token = self.answers.expect()
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.write(json.dumps([token, request]).encode() + b"\n")
            process.stdin.flush()
        while (answer := self.answers.get(limit.interval)) is None:
            if self.answers.ended:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LAST_SECONDS)
            # At the end of the process, another that it has left may hold the pipe open.
            if process.poll() is not None:
                if self.process is not process:
                    raise RuntimeError("the runner was closed while it ran a check")
                if (answer := self.answers.get(LAST_SECONDS)) is not None:
                    break
                self.close()
                return Lost(Status.FAILED, Finding(self._ending(process), Fault.CRASHED))
            if limit.look():
                self.close()
                return Lost(Status.TIMEOUT, Finding(_timed_out(limit), Fault.TIMEOUT))
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        job = json.dumps([self.target, self.device, *self.options])
        process = subprocess.Popen(
            [sys.executable, "-m", "dlsys_bench.conformance.supervisor", job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=self.environment(),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        self.process, self.answers, self.errors = process, _Answers(), _Tail()
        self.occupied = 0
        # A runner that nobody closes, as one in the parameters of a test, ends its worker as well.
        self._end = weakref.finalize(self, _end, process)
        for read, pipe in ((self.answers.read, process.stdout), (self.errors.read, process.stderr)):
            threading.Thread(target=read, args=(pipe,), daemon=True).start()
        return process

    def environment(self) -> dict[str, str]:
        """Return the environment of a worker."""
        paths = filter(None, [os.getcwd(), *sys.path])  # noqa: PTH109
        threads = dict.fromkeys(THREADS, str(self.threads)) if self.threads else {}
        path = {"PYTHONPATH": os.pathsep.join(paths)}
        return {**DEFAULT_ENVIRONMENT, **os.environ, **threads, **path}

    def _ending(self, process: subprocess.Popen[bytes]) -> str:
        """Return how a worker ended, with the last line that it wrote to standard error."""
        code = process.returncode
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        last = self.errors.last_line()
        return f"the process ended {how}" + (f": {last}" if last else "")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker, with every process that it has started."""
    end_tree(process.pid)
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _timed_out(limit: TimeLimit) -> str:
    return (
        f"no answer in {limit.seconds:g} s ({limit}): the engine hangs, or is too slow for this "
        f"check; {RAISE_THE_LIMIT}"
    )


class _Answers:
    """The answers that a worker writes to a pipe.

    Only the answer with the expected token counts; anything else on the pipe is a disturbance.
    """

    def __init__(self) -> None:
        self.found: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.token = ""
        self.disturbed = self.ended = False

    def expect(self) -> str:
        """Return a new token, with which the next answer has to begin."""
        self.token, self.disturbed = secrets.token_hex(16), False
        return self.token

    def get(self, seconds: float) -> dict[str, Any] | None:
        """Return the answer, or None if there is none in this time or there will be none."""
        with contextlib.suppress(queue.Empty):
            return self.found.get(timeout=seconds)
        return None

    def read(self, pipe: IO[bytes]) -> None:
        """Read answers until the end of the pipe."""
        with contextlib.suppress(ValueError, OSError), pipe:
            while line := pipe.readline(LONGEST_ANSWER):
                token, _, answer = line.partition(b" ")
                if token == self.token.encode():
                    # Each answer is given once: a copy of it is a disturbance.
                    self.token = ""
                    self.found.put(self._parsed(answer))
                elif line.strip():
                    self.disturbed = True
        self.ended = True
        self.found.put(None)

    def _parsed(self, answer: bytes) -> dict[str, Any]:
        """Return an answer, unless another process has written into the middle of it."""
        try:
            found: dict[str, Any] = json.loads(answer)
        except ValueError:
            self.disturbed, found = True, {}
        return found


class _Tail:
    """The end of what a process writes to a pipe. The pipe is always read, so that it never blocks
    a process that writes much."""

    def __init__(self) -> None:
        self.text, self.ended = b"", threading.Event()

    def read(self, pipe: IO[bytes]) -> None:
        """Read until the end of the pipe."""
        with contextlib.suppress(ValueError, OSError), pipe:
            while found := os.read(pipe.fileno(), ERRORS_KEPT):
                self.text = (self.text + found)[-ERRORS_KEPT:]
        self.ended.set()

    def last_line(self) -> str:
        """Return the last line that is not empty."""
        self.ended.wait(LAST_SECONDS)
        lines = self.text.decode(errors="replace").splitlines()
        return one_line(next((line.strip() for line in reversed(lines) if line.strip()), ""), 200)
