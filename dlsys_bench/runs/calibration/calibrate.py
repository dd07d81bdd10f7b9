"""Make every run of a calibration once, whoever else makes some of them, and keep each as it
ends."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from distributed import KilledWorker, wait

from dlsys_bench.errors import ClusterError, StoreError
from dlsys_bench.runs.calibration.cluster import needs, places
from dlsys_bench.runs.calibration.job import Failure, Job, train
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import Store

IN_FLIGHT = 2
"""Tasks at a worker: one that it trains, and the next, so that it never waits for us."""

SECONDS_TO_LOOK = 1.0
"""How often runs that another command makes are looked for."""

SECONDS_TO_FETCH = 10
"""How long a result may be on its way; then it is asked for again."""

Told = Callable[[Job, Result | Failure | None], None]
Waits = Callable[[list[Job]], None]


@dataclass
class Calibration:
    """What became of the jobs: how many were trained here, were made by another command meanwhile,
    failed."""

    trained: int = 0
    elsewhere: int = 0
    diverged: int = 0
    failures: list[Failure] = field(default_factory=list)


def calibrate(
    jobs: Sequence[Job],
    store: Store,
    client: Any,
    *,
    device: str = "cpu",
    again: bool = False,
    told: Told | None = None,
    waits: Waits | None = None,
) -> Calibration:
    """Train the jobs, in order, on the client's workers; `told` is called with each as it ends, or
    None if another command made it; `waits`, once, with those that only another command has still
    to make. `again` trains what is stored too.

    A worker that is lost has its run made again by another. Errors: StoreError, ClusterError where
    the scheduler is lost; every run that had ended is stored.
    """
    return _Calibrating(
        jobs, store, client, device, again, told or (lambda *_: None), waits or (lambda *_: None)
    ).run()


class _Calibrating:
    """The jobs of one command: those that wait, those that are in flight, those that another
    command has reserved."""

    def __init__(
        self,
        jobs: Sequence[Job],
        store: Store,
        client: Any,
        device: str,
        again: bool,
        told: Told,
        waits: Waits,
    ) -> None:
        self.waiting, self.flying, self.elsewhere = deque(jobs), dict[Any, Job](), list[Job]()
        # Runs whose workers died, one after another, and the one of them that is tried again.
        self.suspects: deque[Job] = deque()
        self.alone: Job | None = None
        self.store, self.client, self.told, self.again = store, client, told, again
        self.waits: Waits | None = waits
        self.resources = needs(client, device)
        self.found = Calibration()
        self.looked = time.monotonic()
        self.room, self.asked = 1, -SECONDS_TO_LOOK

    def run(self) -> Calibration:
        try:
            while self.waiting or self.flying or self.elsewhere or self.suspects:
                self._submit()
                self._wait()
                self._collect()
                self._look_elsewhere()
        finally:
            self._leave()
        return self.found

    def _submit(self) -> None:
        """Send as many as keep the workers busy: what is not sent can be made by another
        command."""
        room = IN_FLIGHT * self._places() if self.waiting else 0
        while self.waiting and len(self.flying) < room:
            job = self.waiting.popleft()
            if self.store.reserve(job.key, again=self.again):
                self._send(job)
            else:
                self.elsewhere.append(job)
        if self.suspects and not self.waiting and not self.flying:
            self.alone = self.suspects.popleft()
            self._send(self.alone)

    def _send(self, job: Job) -> None:
        try:
            self.flying[self.client.submit(train, job, pure=False, resources=self.resources)] = job
        except Exception as error:
            self.waiting.appendleft(job)
            raise self._lost() from error

    def _places(self) -> int:
        """How many runs are made at a time, asked now and then: workers come and go."""
        if time.monotonic() - self.asked > SECONDS_TO_LOOK:
            try:
                self.room = max(1, places(self.client))
            except Exception as error:
                raise self._lost() from error
            self.asked = time.monotonic()
        return self.room

    def _wait(self) -> None:
        if not self.flying:
            if self.elsewhere and not self.waiting:
                self._say_that_it_waits()
                time.sleep(SECONDS_TO_LOOK)
            return
        # What there is to say of them is told apart below.
        with suppress(Exception):
            wait(list(self.flying), timeout=SECONDS_TO_LOOK, return_when="FIRST_COMPLETED")

    def _say_that_it_waits(self) -> None:
        if self.waits is not None:
            self.waits(self.elsewhere)
            self.waits = None

    def _collect(self) -> None:
        """Store what has ended."""
        # A lost scheduler cancels; "lost" is a result whose worker died before we had it, and which
        # is made again.
        if self.client.status != "running" or any(
            future.status == "cancelled" for future in self.flying
        ):
            raise self._lost()
        for future in [future for future in self.flying if future.status in ("finished", "error")]:
            self._end(future, self.flying.pop(future))

    def _lost(self) -> ClusterError:
        return ClusterError(
            f"the scheduler is gone; {self.found.trained} runs of this command are stored in {self.store.path}: "
            "the same command with --resume goes on from there"
        )

    def _end(self, future: Any, job: Job) -> None:
        try:
            ended = future.result(timeout=SECONDS_TO_FETCH)
        except KilledWorker:
            if job is not self.alone:
                # It may be the machine, or the run beside it: it is tried once more, alone, when
                # the others have ended.
                self.suspects.append(job)
                return
            ended = Failure(job, "every worker that trained it died, one after another")
        except Exception as error:
            if future.status != "error":
                # It was not the run that failed, but the way to it: made again, or the scheduler is
                # gone.
                self.flying[future] = job
                return
            # What the cluster says of a run that it cannot load, as where a worker has not this
            # package.
            ended = Failure(job, " ".join(f"{type(error).__name__}: {error}".split()))
        future.release()
        if isinstance(ended, Failure):
            self.store.release(job.key)
            self.found.failures.append(ended)
        else:
            self.store.add(ended, once=not self.again)
            self.found.trained += 1
            self.found.diverged += ended.status != "finished"
        self.told(job, ended)

    def _look_elsewhere(self) -> None:
        """What another command had reserved is stored by now, or is ours if that command is
        gone."""
        if not self.elsewhere or time.monotonic() - self.looked < SECONDS_TO_LOOK:
            return
        self.looked = time.monotonic()
        stored, left = self.store.keys(), self.elsewhere
        self.elsewhere = []
        for job in left:
            if job.key in stored:
                self.found.elsewhere += 1
                self.told(job, None)
            elif self.store.reserve(job.key):
                # Its own turn: released at once if it is not sent after all.
                self.waiting.append(job)
            else:
                self.elsewhere.append(job)

    def _leave(self) -> None:
        """Keep what ended at the last moment, and leave what did not to others."""
        for future, job in list(self.flying.items()) if self.client.status == "running" else ():
            with suppress(Exception):
                if future.status == "finished":
                    self._end(future, job)
            with suppress(Exception):
                future.cancel()
        for job in [*self.flying.values(), *self.waiting, *self.suspects]:
            with suppress(StoreError):
                self.store.release(job.key)
