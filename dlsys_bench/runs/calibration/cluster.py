"""Where runs are made: worker processes of this machine, or a cluster that is there already."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from dask import config
from distributed import Client, LocalCluster, WorkerPlugin
from distributed.comm import connect

from dlsys_bench.errors import ClusterError

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What says how many threads one process computes on: one, where processes already fill the
cores."""

GPU = {"GPU": 1}
SECONDS_TO_CONNECT = 10
SECONDS_TO_START = 60


@contextmanager
def connected(address: str | None, workers: int, device: str = "cpu") -> Iterator[Any]:
    """A client of the scheduler at `address`, or of a cluster of this many worker processes that
    ends with the context.

    Errors: ClusterError where none answers or it has no workers.
    """
    settings: dict[str, Any] = {
        # The data of a run stay in its worker: nothing is worth spilling or holding back for.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
        # A run whose workers die is tried again alone, and only then given up.
        "distributed.scheduler.allowed-failures": 1,
        "distributed.comm.timeouts.connect": SECONDS_TO_CONNECT,
    }
    with ExitStack() as stack:
        stack.enter_context(config.set(settings))
        stack.enter_context(_quiet())
        try:
            cluster = None
            if address is None:
                cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address="127.0.0.1:0",
                    scheduler_kwargs={"dashboard": False},
                    env=dict.fromkeys(THREADS, "1"),
                    resources=GPU if device == "cuda" else None,
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                )
                stack.callback(_closed, cluster)
            else:
                # A client that never had its scheduler closes with complaints.
                asyncio.run(_answers(address))
            client = Client(address or cluster, set_as_default=False, timeout=SECONDS_TO_CONNECT)
            stack.callback(_closed, client)
            if address is None:
                client.register_plugin(_Deaf(), name="deaf")
            client.wait_for_workers(1, timeout=SECONDS_TO_START)
        except (OSError, ValueError, RuntimeError) as error:
            what = f"the cluster at {address}" if address else f"a cluster of {workers} workers"
            raise ClusterError(
                f"cannot use {what}: {' '.join(str(error).split()) or type(error).__name__}"
            ) from error
        yield client


class _Deaf(WorkerPlugin):  # type: ignore[misc]
    """Leaves Ctrl-C to the command: it reaches every process of the terminal, and ours is to end
    them in order."""

    def setup(self, worker: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


async def _answers(address: str) -> None:
    """Errors: OSError or ValueError where nothing does."""
    (await connect(address, timeout=SECONDS_TO_CONNECT)).abort()


def _closed(what: Any) -> None:
    # What has lost its other side cannot be closed well; it is closed.
    with suppress(Exception):
        what.close(timeout=5)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of distributed: what matters of them is said by the command, in one
    line."""
    loggers = [
        logging.getLogger(name)
        for name in list(logging.root.manager.loggerDict)
        if name.startswith("distrib")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def places(client: Any) -> int:
    """How many runs are made at a time now. An error of the connection where the scheduler does not
    answer."""
    threads = client.sync(client.scheduler.ncores, callback_timeout=SECONDS_TO_CONNECT)
    return sum(threads.values())


def needs(client: Any, device: str) -> dict[str, int] | None:
    """What a task asks of its worker: a GPU, where workers say that they have one."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    declared = any("GPU" in worker.get("resources", {}) for worker in workers)
    return GPU if device == "cuda" and declared else None
