"""The peak throughput of this machine, measured now: the yardstick for a benchmark's figures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from dlsys_bench.engines.numpy.threads import one_thread
from dlsys_bench.engines.registry import unavailable
from dlsys_bench.provenance import cores

SIZE, TILED, COPIED, TRIES = 1024, 256, 64 * 2**20, 5
SMALLEST, LARGEST = 2**20, 2 * COPIED
"""The bytes of the arrays of a thread whose copies are timed. No cache holds the largest."""


class Meter:
    """The highest rate at which all threads make a call at the same time, over the tries so far and
    over the calls, which do the same work.

    `work` is that of a try on all threads, in operations or bytes. Further tries between the rounds
    of a benchmark keep a moment of load from lowering the rate.
    """

    def __init__(
        self, work: float, arrays: Sequence[tuple[Any, ...]], *calls: Callable[..., Any]
    ) -> None:
        self.work, self.arrays, self.calls = work, arrays, calls
        self.tries, self.fastest = 0, math.inf

    def sample(self) -> None:
        """Make a try, after one that is not timed."""
        self.tries += 1
        for call in self.calls:
            with one_thread(), ThreadPoolExecutor(len(self.arrays)) as pool:
                for _ in range(2):
                    started = time.perf_counter()
                    list(pool.map(lambda each, call=call: call(*each), self.arrays))
                    seconds = time.perf_counter() - started
            self.fastest = min(self.fastest, seconds)

    def rate(self) -> float:
        """Return the highest rate per second, of at least TRIES tries."""
        while self.tries < TRIES:
            self.sample()
        return self.work / self.fastest


@cache
def product_meter(dtype: str = "float32", threads: int | None = None) -> Meter:
    """Return the meter of operations in products of square matrices on each thread, by BLAS or, if
    it is installed, by the numba engine. The default is one thread per core."""
    count = threads or cores()
    arrays = [tuple(np.ones((SIZE, SIZE), dtype) for _ in range(3)) for _ in range(count)]
    calls = [lambda a, b, c: np.matmul(a, b, out=c), *_compiled_products()]
    return Meter(2 * SIZE**3 * count, arrays, *calls)


def _compiled_products() -> list[Callable[[Any, Any, Any], None]]:
    """Return the products of the numba engine, of matrices that its tiles suit."""
    if unavailable("numba"):
        return []
    from dlsys_bench.engines.numba.program.products import multiply_squares

    return [lambda a, b, c: multiply_squares(a, b, c, SIZE // TILED)]


def copy_meter(size: float = math.inf, threads: int | None = None) -> Meter:
    """Return the meter of bytes, read and written, in copies of arrays, one on each thread.

    `size` is the number of bytes that all threads together work on: the caches that hold them are
    as fast as they are for a workload of that size.
    """
    count = threads or cores()
    each = min(max(size / count, SMALLEST), LARGEST)
    return _copy_meter(2 ** math.ceil(math.log2(each)), count)


@cache
def _copy_meter(size: int, threads: int) -> Meter:
    times = LARGEST // size
    arrays = [tuple(np.ones(size // 2, np.uint8) for _ in range(2)) for _ in range(threads)]

    def copy(source: Any, target: Any) -> None:
        for _ in range(times):
            np.copyto(target, source)

    return Meter(LARGEST * threads, arrays, copy)


def matrix_peak(dtype: str = "float32", threads: int | None = None) -> float:
    """Return the operations per second of the fastest of a few products of square matrices, one on
    each thread at the same time. The default is one thread per core."""
    return product_meter(dtype, threads).rate()


def memory_bandwidth(threads: int | None = None) -> float:
    """Return the bytes per second, read and written, of the fastest of a few copies of arrays that
    no cache holds, one on each thread at the same time."""
    return copy_meter(threads=threads).rate()


def blas_in_use() -> list[dict[str, Any]]:
    """Return the name, version, target processor and threads of each BLAS library that is
    loaded."""
    kept = ("internal_api", "version", "architecture", "num_threads")
    loaded = ThreadpoolController().select(user_api="blas").info()
    return [{name: library[name] for name in kept if name in library} for library in loaded]
