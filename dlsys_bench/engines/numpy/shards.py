"""Split a batch into shards and train them on several threads, with results that do not depend on
the number of threads.

The number of shards follows from the batch and the model alone, never from the number of cores.
Each shard passes through a copy of the network that shares the parameters but has its own buffers
and gradient. Most layers treat the samples one by one. A layer that needs all samples of the batch
(the statistics of batch norm) exchanges its partial results: the pass of a shard is a Python
generator that *yields* its part and is *sent* the list of the parts of all shards, in the order of
the shards. Since sums are taken in that order, one thread that advances the generators in turn
computes the same bits as one thread per generator.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from itertools import count, pairwise
from threading import BrokenBarrierError, Lock
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numpy.subnormals import flush_subnormals
from dlsys_bench.provenance import cores

T = TypeVar("T")

ShardPass = Generator[Any, list[Any], T]
"""A pass of one shard. It yields its part of a result that needs all shards, and is sent the parts
of all of them, which it may use until its next yield."""

MIN_SHARD_VALUES = 750_000
"""The fewest outputs of all layers together that make a shard worthwhile. With fewer, handing the
shard to another thread costs more than a second core saves."""

MIN_SHARD_SAMPLES = 32
"""The fewest samples in a shard. With fewer, a matrix product does not fill the vector units."""

MAX_SHARDS = 8
"""The most shards of a batch; each needs memory for its own windows and outputs."""


def shard_slices(samples: int, values: int) -> list[slice]:
    """Split a batch of samples, with `values` outputs each, into shards of nearly equal size. Their
    number is a power of two."""
    most = min(samples * values // MIN_SHARD_VALUES, samples // MIN_SHARD_SAMPLES, MAX_SHARDS)
    count = 1 << max(most.bit_length() - 1, 0)
    ends = [samples * number // count for number in range(count + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


def run_whole(shard_pass: ShardPass[T]) -> T:
    """Run the pass of a batch that is not split: its own part is the list of all parts."""
    parts = None
    try:
        while True:
            parts = [shard_pass.send(parts)]  # type: ignore[arg-type]
    except StopIteration as end:
        result: T = end.value
        return result


class Barrier(Protocol):
    """A point at which a fixed number of threads wait for each other, many times in a row."""

    def wait(self, thread: int) -> None:
        """Wait until all threads are here. Raises BrokenBarrierError if one of them gave up."""

    def abort(self) -> None:
        """Let the other threads give up."""


class BlockingBarrier:
    """A barrier of the operating system: a waiting thread uses no core, but is woken up late."""

    def __init__(self, threads: int) -> None:
        self.barrier = threading.Barrier(threads)

    def wait(self, thread: int) -> None:
        """Wait until all threads are here."""
        self.barrier.wait()

    def abort(self) -> None:
        """Let the other threads give up."""
        self.barrier.abort()


def run_shards(
    passes: Sequence[ShardPass[T]], barrier: Callable[[int], Barrier] = BlockingBarrier
) -> list[T]:
    """Run the passes of all shards, which yield equally often, and return their results.

    Raises the first error of a pass.
    """
    size = min(threads(), len(passes))
    # If the threads are busy with another training, this thread advances all passes by itself. It
    # computes the same bits.
    if size == 1 or not _BUSY.acquire(blocking=False):
        return _ShardRun(passes, 1, barrier).advance(0)
    others: list[Future[list[T]]] = []
    shard_run = _ShardRun(passes, size, barrier)
    try:
        pool = _pool(os.getpid(), size - 1)
        for thread in range(1, size):
            # numpy's settings for overflows are context variables, which each thread has to be
            # given. Each future is kept at once, in case an interrupt comes before the next.
            run = copy_context().run
            others.append(pool.submit(run, shard_run.advance, thread))
        return shard_run.advance(0)
    except BrokenBarrierError:
        # Another thread failed and broke the barrier: report its error instead.
        errors = [error for other in others if (error := other.exception())]
        causes = (error for error in errors if not isinstance(error, BrokenBarrierError))
        raise next(causes, errors[0]) from None
    except BaseException:
        # After an interrupt, fewer threads may have started than the barrier waits for.
        shard_run.barrier.abort()
        raise
    finally:
        try:
            wait(others)
        finally:
            _BUSY.release()


def run_threads(work: Callable[[int, int, NDArray[np.int64]], T], most: int) -> T:
    """Run work that divides itself over threads, and return the result of the first thread.

    `work` takes the number of its thread, the number of threads, at most `most`, and an array whose
    value is not 0 as soon as a thread has failed: the others should return. Raises the first error.
    """
    size, broken = min(threads(), most), np.zeros(1, np.int64)
    if size == 1 or not _BUSY.acquire(blocking=False):
        return work(0, 1, broken)

    def run(thread: int) -> T:
        try:
            return work(thread, size, broken)
        except BaseException:
            broken[0] = 1
            raise

    others: list[Future[T]] = []
    try:
        pool = _pool(os.getpid(), size - 1)
        # Extending keeps each future at once, in case an interrupt comes before the next.
        others.extend(pool.submit(run, thread) for thread in range(1, size))
        result = run(0)
        for other in others:
            other.result()
        return result
    except BaseException:
        # An interrupt may have come before all threads were started.
        broken[0] = 1
        raise
    finally:
        try:
            wait(others)
        finally:
            _BUSY.release()


class _ShardRun(Generic[T]):
    """Passes that several threads advance from one yield to the next, each thread its share."""

    def __init__(
        self, passes: Sequence[ShardPass[T]], threads: int, barrier: Callable[[int], Barrier]
    ) -> None:
        self.passes, self.threads, self.barrier = passes, threads, barrier(threads)
        # Two lists in turn: a fast thread writes the next parts while a slow one may still read the
        # last. It cannot get further ahead, because the barrier comes after each turn.
        self.parts: tuple[list[Any], list[Any]] = ([None] * len(passes), [None] * len(passes))

    def advance(self, thread: int) -> list[T]:
        """Run the passes of one thread to their end, and return the results of all passes.

        Raises what a pass raises, or BrokenBarrierError if another thread failed.
        """
        received: list[Any] | None = None
        try:
            for turn in count(0):
                ended, parts = False, self.parts[turn % 2]
                for shard in range(thread, len(self.passes), self.threads):
                    try:
                        parts[shard] = self.passes[shard].send(received)  # type: ignore[arg-type]
                    except StopIteration as end:
                        ended, parts[shard] = True, end.value
                if self.threads > 1:
                    self.barrier.wait(thread)
                if ended:
                    return parts
                received = parts
        except BaseException:
            self.barrier.abort()
            raise
        raise AssertionError


_BUSY = Lock()


@cache
def _pool(process: int, size: int) -> ThreadPoolExecutor:
    # Threads do not survive a fork, so each process has its own pool.
    return ThreadPoolExecutor(size, "dlsys_bench", initializer=flush_subnormals)


def threads() -> int:
    """Return the number of threads for a batch: OMP_NUM_THREADS if set, else the number of
    cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, int(asked)) if asked.isdecimal() else cores()
