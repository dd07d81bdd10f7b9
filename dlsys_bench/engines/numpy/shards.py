"""A batch shared over the cores in shards: as many as its size and the model say, however many
cores there are.

Each shard goes through a network of its own whose numbers are those of all. Where a layer needs
what the others have (the statistics of a batch norm) the pass of a shard yields its part, and is
sent the parts of all, in the order of the shards. So the result depends on the shards alone: one
thread that advances them in turn has the same bits as many.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from itertools import count, pairwise
from threading import Barrier, BrokenBarrierError, Lock
from typing import Any, Generic, Protocol, TypeVar

from dlsys_bench.provenance import cores

T = TypeVar("T")

Together = Generator[Any, list[Any], T]
"""A pass of one shard: it yields what the others need of it, and is sent what all have yielded, to
be used before its next yield."""

LEAST_VALUES = 750_000
"""Outputs of all layers that make a shard. Under it, handing over costs more than a second core
brings."""

LEAST_SAMPLES = 32
"""Fewer samples side by side than this waste the width of a product."""

MOST = 8
"""More shards than this are not made: each has its own windows and outputs in memory."""


def shards_of(samples: int, values: int) -> list[slice]:
    """The parts of a batch of samples with so many outputs each: a power of two, as even as they
    go."""
    most = min(samples * values // LEAST_VALUES, samples // LEAST_SAMPLES, MOST)
    count = 1 << max(most.bit_length() - 1, 0)
    ends = [samples * number // count for number in range(count + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


def alone(one: Together[T]) -> T:
    """The result of a pass that has the whole batch: what it yields is what all have."""
    told = None
    try:
        while True:
            told = [one.send(told)]  # type: ignore[arg-type]
    except StopIteration as end:
        result: T = end.value
        return result


class Meet(Protocol):
    """Where so many threads wait for each other, again and again."""

    def wait(self, place: int) -> None:
        """Until all are here. Errors: BrokenBarrierError where one will not come."""

    def abort(self) -> None:
        """I will not come."""


class Asleep:
    """By the operating system: whoever waits takes no time from others, and is woken late."""

    def __init__(self, count: int) -> None:
        self.barrier = Barrier(count)

    def wait(self, place: int) -> None:
        self.barrier.wait()

    def abort(self) -> None:
        self.barrier.abort()


def together(passes: Sequence[Together[T]], meet: Callable[[int], Meet] = Asleep) -> list[T]:
    """The results of all passes, which yield equally often, on as many `threads` as there are."""
    size = min(threads(), len(passes))
    # Whoever finds the threads at work for another training goes on alone: the bits are the same.
    if size == 1 or not _BUSY.acquire(blocking=False):
        return _Meeting(passes, 1, meet).advance(0)
    others: list[Future[list[T]]] = []
    meeting = _Meeting(passes, size, meet)
    try:
        for place in range(1, size):
            # What numpy is to do about an overflow is told each thread apart. One by one: an error
            # may come between.
            others.append(  # noqa: PERF401
                _pool(os.getpid(), size - 1).submit(copy_context().run, meeting.advance, place)
            )
        return meeting.advance(0)
    except BrokenBarrierError:
        # What broke it is the news, not that it is broken.
        errors = [error for other in others if (error := other.exception())]
        raise next(
            (error for error in errors if not isinstance(error, BrokenBarrierError)), errors[0]
        ) from None
    except BaseException:
        # An interrupt may come before all are handed out: whoever has come waits for nobody.
        meeting.barrier.abort()
        raise
    finally:
        try:
            wait(others)
        finally:
            _BUSY.release()


class _Meeting(Generic[T]):
    """Passes that threads advance, each its own, from one yield to the next."""

    def __init__(
        self, passes: Sequence[Together[T]], count: int, meet: Callable[[int], Meet]
    ) -> None:
        self.passes, self.count, self.barrier = passes, count, meet(count)
        # By turns: nobody writes the next parts where another still reads the last.
        self.parts: tuple[list[Any], list[Any]] = ([None] * len(passes), [None] * len(passes))

    def advance(self, place: int) -> list[T]:
        """Every pass of one thread to its end. Returns the results of all. Errors: what a pass
        raises; BrokenBarrierError where another thread's did."""
        told: list[Any] | None = None
        try:
            for turn in count(0):
                ended, parts = False, self.parts[turn % 2]
                for shard in range(place, len(self.passes), self.count):
                    try:
                        parts[shard] = self.passes[shard].send(told)  # type: ignore[arg-type]
                    except StopIteration as end:
                        ended, parts[shard] = True, end.value
                if self.count > 1:
                    self.barrier.wait(place)
                if ended:
                    return parts
                told = parts
        except BaseException:
            self.barrier.abort()
            raise
        raise AssertionError


_BUSY = Lock()


@cache
def _pool(process: int, size: int) -> ThreadPoolExecutor:
    # Threads do not survive a fork: another process has another pool.
    return ThreadPoolExecutor(size, thread_name_prefix="dlsys_bench")


def threads() -> int:
    """The threads that a batch may take: OMP_NUM_THREADS where it is set, else the cores there
    are."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, int(asked)) if asked.isdecimal() else cores()
