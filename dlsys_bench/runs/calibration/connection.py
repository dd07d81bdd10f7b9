"""Starting workers on this machine, or connecting to those of a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager

from dlsys_bench.extras import require
from dlsys_bench.runs.calibration.local import local_workers
from dlsys_bench.runs.calibration.workers import Workers


def start_workers(
    address: str | None, count: int, device: str = "cpu"
) -> AbstractContextManager[Workers]:
    """Start this many worker processes on this machine, or connect to the dask scheduler at
    `address`; end them, or disconnect, when the context exits.

    Raises ClusterError if the processes cannot be started, or no scheduler with workers answers;
    MissingExtraError for an address if distributed is not installed.
    """
    if address is None:
        return local_workers(count)
    require("cluster")
    from dlsys_bench.runs.calibration.cluster import cluster_workers  # Needs distributed.

    return cluster_workers(address, device)
