"""The peak throughput of this machine, measured now: the yardstick for a benchmark's figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from dlsys_bench.engines.numpy.threads import one_thread
from dlsys_bench.provenance import cores

SIZE, COPIED, TRIES = 1024, 64 * 2**20, 5


@cache
def matrix_peak(dtype: str = "float32", threads: int | None = None) -> float:
    """Return the operations per second of the fastest of a few products of square matrices, one on
    each thread at the same time. The default is one thread per core."""
    count = threads or cores()
    arrays = [tuple(np.ones((SIZE, SIZE), dtype) for _ in range(3)) for _ in range(count)]
    return 2 * SIZE**3 * count / _best(arrays, lambda a, b, c: np.matmul(a, b, out=c))


@cache
def memory_bandwidth(threads: int | None = None) -> float:
    """Return the bytes per second, read and written, of the fastest of a few copies of arrays that
    no cache holds, one on each thread at the same time."""
    count = threads or cores()
    arrays = [tuple(np.ones(COPIED, np.uint8) for _ in range(2)) for _ in range(count)]
    return 2 * COPIED * count / _best(arrays, np.copyto)


def _best(arrays: list[tuple[Any, ...]], call: Callable[..., Any]) -> float:
    """Return the least time, in seconds, in which each thread makes this call once."""
    with one_thread(), ThreadPoolExecutor(len(arrays)) as pool:
        seconds = []
        for _ in range(TRIES + 1):
            started = time.perf_counter()
            list(pool.map(lambda one: call(*one), arrays))
            seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def blas_in_use() -> list[dict[str, Any]]:
    """Return the name, version, target processor and threads of each BLAS library that is
    loaded."""
    kept = ("internal_api", "version", "architecture", "num_threads")
    loaded = ThreadpoolController().select(user_api="blas").info()
    return [{name: library[name] for name in kept if name in library} for library in loaded]
