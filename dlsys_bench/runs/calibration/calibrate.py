"""Train every run of a calibration once, even if several commands share the work, and store each
run as it ends."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from dlsys_bench.errors import ClusterError, StoreError, count_of
from dlsys_bench.runs.calibration.job import Failure, Job
from dlsys_bench.runs.calibration.workers import Died, Ended, Workers, WorkersLostError
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import Store

IN_FLIGHT = 2
"""The runs sent to each worker: the one that it trains, and the next, so that it never idles."""

FAILURES_TO_STOP = 3
"""The number of failures of one kind after which a training is given up, if it never succeeded."""

POLL_SECONDS = 1.0
"""The interval at which the number of workers and the runs of other commands are looked up."""

OnEnd = Callable[[Job, Result | Failure | None], None]
OnWait = Callable[[list[Job]], None]


@dataclass
class Calibration:
    """The number of runs that were trained here, that another command trained meanwhile, that
    diverged, and that were given up because the first runs of their training failed; and the runs
    that failed."""

    trained: int = 0
    elsewhere: int = 0
    diverged: int = 0
    given_up: int = 0
    failures: list[Failure] = field(default_factory=list)


def calibrate(
    jobs: Sequence[Job],
    store: Store,
    workers: Workers,
    *,
    again: bool = False,
    on_end: OnEnd | None = None,
    on_wait: OnWait | None = None,
) -> Calibration:
    """Train the jobs on the workers, in order, and store the runs.

    `again` trains runs that are already stored too. `on_end` is called with each job and how it
    ended, None if another command trained it; `on_wait` is called once, with the jobs that other
    commands have reserved, when nothing else is left. A run whose worker is lost is trained again.
    Raises StoreError, or ClusterError if the workers are gone; every run that had ended is stored.
    """
    return _Calibrator(jobs, store, workers, again, on_end, on_wait).run()


class _Calibrator:
    """The jobs of one command: waiting to be sent, in flight at the workers, or reserved by another
    command."""

    def __init__(
        self,
        jobs: Sequence[Job],
        store: Store,
        workers: Workers,
        again: bool,
        on_end: OnEnd | None,
        on_wait: OnWait | None,
    ) -> None:
        self.waiting, self.in_flight = deque(jobs), list[Job]()
        self.reserved_elsewhere: list[Job] = []
        # Runs that killed their workers. Each is tried once more with no other run beside it, as
        # the fault may be the machine's or that of another run.
        self.suspects: deque[Job] = deque()
        self.alone: Job | None = None
        self.store, self.workers, self.again = store, workers, again
        self.on_end, self.on_wait = on_end or (lambda *_: None), on_wait
        self.found = Calibration()
        self.succeeded, self.failures = set[str](), Counter[tuple[str, tuple[str, str]]]()
        self.looked = time.monotonic()
        self.slots, self.asked = 1, -POLL_SECONDS

    def run(self) -> Calibration:
        try:
            while self.waiting or self.in_flight or self.reserved_elsewhere or self.suspects:
                self._submit()
                self._wait()
                for job, ended in self.workers.collect():
                    self._end(job, ended)
                self._look_elsewhere()
        except WorkersLostError as error:
            raise ClusterError(
                f"{error}; this command stored {count_of(self.found.trained, 'run')} in "
                f"{self.store.path}, and the same command with --resume continues from there"
            ) from error
        finally:
            self._leave()
        return self.found

    def _submit(self) -> None:
        """Send no more than keeps the workers busy: other commands can train the rest."""
        room = IN_FLIGHT * self._slots() if self.waiting else 0
        while self.waiting and len(self.in_flight) < room:
            job = self.waiting.popleft()
            if self.store.reserve(job.key, again=self.again):
                self._send(job)
            else:
                self.reserved_elsewhere.append(job)
        if self.suspects and not self.waiting and not self.in_flight:
            self.alone = self.suspects.popleft()
            self._send(self.alone)

    def _send(self, job: Job) -> None:
        self.in_flight.append(job)
        self.workers.submit(job)

    def _slots(self) -> int:
        """Return how many runs are trained at a time. Workers of a cluster come and go."""
        if time.monotonic() - self.asked > POLL_SECONDS:
            self.slots = self.workers.slots()
            self.asked = time.monotonic()
        return self.slots

    def _wait(self) -> None:
        if self.in_flight:
            self.workers.wait(POLL_SECONDS)
        elif self.reserved_elsewhere and not self.waiting:
            if self.on_wait is not None:
                self.on_wait(self.reserved_elsewhere)
                self.on_wait = None
            time.sleep(POLL_SECONDS)

    def _end(self, job: Job, ended: Ended) -> None:
        """Store how a run ended."""
        self.in_flight.remove(job)
        if isinstance(ended, Died):
            if job is not self.alone:
                self.suspects.append(job)
                return
            ended = Failure(job, "every worker that trained it died, one after another")
        if isinstance(ended, Failure):
            self.store.release(job.key)
            self.found.failures.append(ended)
            self._give_up_if_hopeless(ended)
        else:
            self.store.add(ended, once=not self.again)
            self.succeeded.add(job.key.label)
            self.found.trained += 1
            self.found.diverged += ended.status != "finished"
        self.on_end(job, ended)

    def _give_up_if_hopeless(self, failure: Failure) -> None:
        """Give up the runs of a training whose first runs failed in the same way."""
        name = failure.job.key.label
        self.failures[name, failure.kind] += 1
        if name in self.succeeded or self.failures[name, failure.kind] < FAILURES_TO_STOP:
            return
        left = [job for job in (*self.waiting, *self.suspects) if job.key.label == name]
        for job in left:
            (self.waiting if job in self.waiting else self.suspects).remove(job)
            self.store.release(job.key)
        self.found.given_up += len(left)

    def _look_elsewhere(self) -> None:
        """Look up the runs that other commands have reserved: they are stored by now, or are taken
        over if the command that reserved them has ended."""
        if not self.reserved_elsewhere or time.monotonic() - self.looked < POLL_SECONDS:
            return
        self.looked = time.monotonic()
        stored, left = self.store.keys(), self.reserved_elsewhere
        self.reserved_elsewhere = []
        for job in left:
            if job.key in stored:
                self.found.elsewhere += 1
                self.on_end(job, None)
            elif self.store.reserve(job.key):
                self.waiting.append(job)
            else:
                self.reserved_elsewhere.append(job)

    def _leave(self) -> None:
        """Store the runs that ended at the last moment, and release the others."""
        with suppress(Exception):
            for job, ended in self.workers.collect():
                with suppress(Exception):
                    self._end(job, ended)
        self.workers.cancel()
        for job in [*self.in_flight, *self.waiting, *self.suspects]:
            with suppress(StoreError):
                self.store.release(job.key)
