"""What this machine can do, measured now: the most that a benchmark's figures can be held
against."""

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
    """The best of a few products of square matrices, one a thread on all cores at once, in
    operations a second."""
    count = threads or cores()
    made = [tuple(np.ones((SIZE, SIZE), dtype) for _ in range(3)) for _ in range(count)]
    return 2 * SIZE**3 * count / _best(made, lambda a, b, c: np.matmul(a, b, out=c))


@cache
def memory_bandwidth(threads: int | None = None) -> float:
    """The best of a few copies of arrays that no cache holds, one a thread, in bytes read and
    written a second."""
    count = threads or cores()
    made = [tuple(np.ones(COPIED, np.uint8) for _ in range(2)) for _ in range(count)]
    return 2 * COPIED * count / _best(made, np.copyto)


def _best(made: list[tuple[Any, ...]], call: Callable[..., Any]) -> float:
    """The least time, in seconds, of this call once in each thread at the same time."""
    with one_thread(), ThreadPoolExecutor(len(made)) as pool:
        found = []
        for _ in range(TRIES + 1):
            started = time.perf_counter()
            list(pool.map(lambda arrays: call(*arrays), made))
            found.append(time.perf_counter() - started)
    return min(found[1:])


def blas_in_use() -> list[dict[str, Any]]:
    """The matrix libraries that are loaded: name, version, the processor they take this one for,
    threads."""
    kept = ("internal_api", "version", "architecture", "num_threads")
    loaded = ThreadpoolController().select(user_api="blas").info()
    return [{name: library[name] for name in kept if name in library} for library in loaded]
