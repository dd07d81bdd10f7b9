"""Workers of a dask cluster that is already running."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from dask import config
from distributed import Client, KilledWorker, Security, wait
from distributed.comm import connect

from dlsys_bench.errors import ClusterError, ClusterWarning
from dlsys_bench.runs.calibration.job import Failure, Job, train
from dlsys_bench.runs.calibration.workers import ATTEMPTS, DIED, Ended, WorkersLostError

GPU = {"GPU": 1}

SECONDS_TO_CONNECT = 10
SECONDS_TO_START = 60

SECONDS_TO_FETCH = 10
"""The longest time in which a result may arrive; after it, the result is asked for again."""

AUTHENTICATED = ("tls",)
"""The protocols by which both sides show a certificate."""

SETTINGS: dict[str, Any] = {
    "distributed.scheduler.allowed-failures": ATTEMPTS - 1,
    "distributed.comm.timeouts.connect": SECONDS_TO_CONNECT,
}


@contextmanager
def cluster_workers(address: str, device: str) -> Iterator[ClusterWorkers]:
    """Connect to the scheduler at an address, with the certificates of dask's configuration
    (`distributed.comm.tls`) if it is one of tls://.

    Warns if the scheduler does not authenticate its clients. Raises ClusterError if none answers,
    or it has no workers.
    """
    if not is_authenticated(address):
        warnings.warn(
            f"the scheduler at {address} does not authenticate its clients: anyone who can connect "
            "to it can execute code as the user of each worker, and it can send code to this "
            "process; start it with certificates and use tls://",
            ClusterWarning,
            stacklevel=2,
        )
    with ExitStack() as stack:
        stack.enter_context(config.set(SETTINGS))
        stack.enter_context(_quiet())
        try:
            security = Security()
            # A client that never reaches its scheduler prints complaints when it is closed.
            asyncio.run(_check_answers(address, security))
            client = Client(
                address, security=security, set_as_default=False, timeout=SECONDS_TO_CONNECT
            )
            stack.callback(_close, client)
            client.wait_for_workers(1, timeout=SECONDS_TO_START)
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ClusterError(f"cannot use the cluster at {address}: {reason}") from error
        yield ClusterWorkers(client, _resources(client, device))


class ClusterWorkers:
    """The workers of a cluster; their number may change. The scheduler sends the run of a worker
    that is lost to another worker."""

    def __init__(self, client: Any, resources: dict[str, int] | None) -> None:
        self._client, self._resources = client, resources
        self._jobs: dict[Any, Job] = {}

    def slots(self) -> int:
        """Return the number of threads of all workers now."""
        try:
            threads = self._client.sync(
                self._client.scheduler.ncores, callback_timeout=SECONDS_TO_CONNECT
            )
        except Exception as error:
            raise WorkersLostError from error
        return max(1, int(sum(threads.values())))

    def submit(self, job: Job) -> None:
        """Send a run to the scheduler."""
        try:
            future = self._client.submit(train, job, pure=False, resources=self._resources)
        except Exception as error:
            raise WorkersLostError from error
        self._jobs[future] = job

    def wait(self, seconds: float) -> None:
        """Wait until a run ends, at most this long."""
        # Every error of a run or of the connection shows in the status of the futures.
        with suppress(Exception):
            wait(list(self._jobs), timeout=seconds, return_when="FIRST_COMPLETED")

    def collect(self) -> Iterator[tuple[Job, Ended]]:
        """Yield each run that has ended."""
        # The futures of a scheduler that is gone are cancelled. A future is "lost" if its worker
        # died before the result was fetched; the scheduler then has the run trained again.
        if self._client.status != "running" or any(
            future.status == "cancelled" for future in self._jobs
        ):
            raise WorkersLostError
        for future in [one for one in self._jobs if one.status in ("finished", "error")]:
            job = self._jobs.pop(future)
            ended = self._fetch(future, job)
            if ended is None:
                self._jobs[future] = job
            else:
                future.release()
                yield job, ended

    def _fetch(self, future: Any, job: Job) -> Ended | None:
        """Return how a run ended, or None if the result did not arrive."""
        try:
            result: Ended = future.result(timeout=SECONDS_TO_FETCH)
        except KilledWorker:
            return DIED
        except Exception as error:
            if future.status != "error":
                return None
            # An error of the cluster, as where a worker has not installed this package.
            return Failure(job, " ".join(f"{type(error).__name__}: {error}".split()))
        return result

    def cancel(self) -> None:
        """Cancel every run that has not ended."""
        for future in self._jobs if self._client.status == "running" else ():
            with suppress(Exception):
                future.cancel()


def _resources(client: Any, device: str) -> dict[str, int] | None:
    """Return the resources that a run needs: a GPU, if workers declare that they have one."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    declared = any("GPU" in worker.get("resources", {}) for worker in workers)
    return GPU if device == "cuda" and declared else None


def is_authenticated(address: str) -> bool:
    """Return True if the address is one at which both sides show a certificate."""
    return address.partition("://")[0] in AUTHENTICATED


async def _check_answers(address: str, security: Any) -> None:
    """Raise OSError, ValueError or TypeError if nothing answers at an address, or certificates are
    missing."""
    arguments = security.get_connection_args("client")
    (await connect(address, timeout=SECONDS_TO_CONNECT, **arguments)).abort()


def _close(client: Any) -> None:
    # A client that has lost its scheduler raises when it is closed, and is closed nevertheless.
    with suppress(Exception):
        client.close(timeout=5)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log of distributed: the command reports what matters of it in one line."""
    loggers = [
        logging.getLogger(name)
        for name in list(logging.root.manager.loggerDict)
        if name.partition(".")[0] == "distributed"
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
