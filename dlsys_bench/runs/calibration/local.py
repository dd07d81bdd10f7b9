"""Worker processes on this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait

from dlsys_bench.errors import ClusterError
from dlsys_bench.process_tree import adopt_orphans, end_tree
from dlsys_bench.runs.calibration.job import Failure, Job, train
from dlsys_bench.runs.calibration.workers import ATTEMPTS, DIED, THREADS, Ended

# A fork of a process that has threads, as every framework starts, may deadlock.
_CONTEXT = get_context("spawn")

SECONDS_TO_END = 10
"""The time for a process to end after it was killed."""


@contextmanager
def local_workers(count: int) -> Iterator[LocalWorkers]:
    """Start this many worker processes; kill them on exit. Raises ClusterError if they cannot be
    started."""
    workers = LocalWorkers()
    with _one_thread_each():
        try:
            workers.start(count)
            yield workers
        finally:
            workers.kill()


class LocalWorkers:
    """Worker processes, each with its pipe, so that one which dies takes only its own run
    with it. Another process is started in its place."""

    def __init__(self) -> None:
        self._processes: list[_Process] = []
        self._queue: deque[tuple[Job, int]] = deque()

    def start(self, count: int) -> None:
        """Start this many processes more. Raises ClusterError if that fails."""
        for _ in range(count):
            self._processes.append(_Process())

    def slots(self) -> int:
        """Return the number of processes."""
        return len(self._processes)

    def submit(self, job: Job) -> None:
        """Train a run as soon as a process is free."""
        self._queue.append((job, 1))
        self._dispatch()

    def wait(self, seconds: float) -> None:
        """Wait until a run ends, at most this long."""
        wait([process.pipe for process in self._processes if process.job is not None], seconds)

    def collect(self) -> Iterator[tuple[Job, Ended]]:
        """Yield each run that has ended. A run whose process died is started again at first."""
        found = []
        for slot, process in enumerate(self._processes):
            if process.job is None or not process.pipe.poll():
                continue
            job, attempt, process.job = process.job, process.attempt, None
            ended = process.receive()
            if ended is DIED:
                process.kill()
                process.join()
                self._processes[slot] = _Process()
            if ended is DIED and attempt < ATTEMPTS:
                self._queue.appendleft((job, attempt + 1))
            else:
                found.append((job, ended))
        # The processes go on while the caller stores what they have returned.
        self._dispatch()
        yield from found

    def _dispatch(self) -> None:
        for process in self._processes:
            if self._queue and process.job is None:
                process.send(*self._queue.popleft())

    def cancel(self) -> None:
        """Give up the runs that have not been started; the others end with their processes."""
        self._queue.clear()

    def kill(self) -> None:
        """End every process. One that cannot be killed does not keep the others alive.

        Raises ClusterError if a process could not be killed.
        """
        errors = []
        for process in self._processes:
            try:
                process.kill()
            except Exception as error:
                errors.append(error)
        for process in self._processes:
            process.join(SECONDS_TO_END)
        if errors:
            raise ClusterError(f"cannot end a worker process: {errors[0]}") from errors[0]


class _Process:
    """A process that trains one run after another, and the run that it trains now."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.attempt = 0
        self.pipe, other_end = _CONTEXT.Pipe()
        # Not a daemon, because a training may start processes: the workers of a DataLoader, a pool.
        self._process = _CONTEXT.Process(target=_serve, args=(other_end,))
        try:
            with _interrupts_ignored():
                self._process.start()
        except OSError as error:
            raise ClusterError(f"cannot start a worker process: {error}") from error
        # With one end in each process, either end notices when the other process is gone.
        other_end.close()

    def send(self, job: Job, attempt: int) -> None:
        self.job, self.attempt = job, attempt
        with suppress(OSError):  # A process that is gone is noticed when its result is received.
            self.pipe.send(job)

    def receive(self) -> Ended:
        try:
            ended: Ended = self.pipe.recv()
        except (EOFError, OSError):
            return DIED
        return ended

    def kill(self) -> None:
        if self._process.pid is not None:
            end_tree(self._process.pid)
        self._process.kill()

    def join(self, seconds: float | None = None) -> None:
        # Without its pipe, a process that was not killed ends after its run.
        self.pipe.close()
        self._process.join(seconds)


def _serve(pipe: Connection) -> None:
    """Train each run that comes through the pipe, in a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):  # In a group of its own, which ends with everything it started.
        os.setsid()
    adopt_orphans()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            job = pipe.recv()
            ended = train(job)
            try:
                pipe.send(ended)
            except Exception as error:  # A result that cannot be pickled.
                pipe.send(Failure(job, " ".join(f"{type(error).__name__}: {error}".split())))


def _end_with_parent() -> None:
    """End this process and all that it started when the command is killed, as nobody would store
    its run."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        end_tree(os.getpid())


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Set the variables for the processes that are started in this context. A BLAS library reads
    them when it is loaded, which in this process has happened."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Start a process that ignores Ctrl-C from its first moment. A terminal sends it to every
    process of the command, which then ends its workers in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
