"""A barrier whose threads wait actively ("spin") instead of sleeping.

The shards of a small batch meet many times per step, microseconds apart. The operating system needs
longer than that to wake up a sleeping thread, so a waiting thread keeps looking at the others'
counts. It does so in compiled code that has released the interpreter's lock (GIL): otherwise the
waiting thread would hold up the very threads that it waits for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from threading import BrokenBarrierError
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import kernel

# Give up the core. Not time.sleep(0), which takes 50 microseconds or more on Linux.
_yield_core: Callable[[], object] = getattr(os, "sched_yield", lambda: time.sleep(0))

SPINS = 20_000
"""How often a thread looks at the counts, about 50 microseconds, before it gives up its core: there
may be fewer cores than threads."""

LINE = 8
"""Counts (int64) in a cache line. Each thread has a line for its count; if two counts shared a
line, writing one would force the readers of the other to fetch the line again."""


def _typed_load(typing_context: Any, counts: Any, index: Any) -> Any:
    """Compile an atomic load. The compiler may move a plain read out of the loop that waits for it
    to change."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        where = cgutils.get_item_pointer(context, builder, signature.args[0], array, [arguments[1]])
        return builder.load_atomic(where, "acquire", 8)

    return types.int64(counts, index), generate


def _typed_store(typing_context: Any, counts: Any, index: Any, value: Any) -> Any:
    """Compile an atomic store, which other threads see only after all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        where = cgutils.get_item_pointer(context, builder, signature.args[0], array, [arguments[1]])
        builder.store_atomic(arguments[2], where, "release", 8)
        return context.get_dummy_value()

    return types.void(counts, index, types.int64), generate


_load: Any = intrinsic(_typed_load)
_store: Any = intrinsic(_typed_store)


@kernel
def _arrive(counts: NDArray[np.int64], index: int, turn: int, spins: int) -> bool:
    """Announce that this thread has arrived for its `turn`-th meeting, and return whether all
    others have, after looking `spins` times at most.

    The store is in here, after the interpreter's lock has been released. If it came before, the
    threads that wait would return to an interpreter that this one still holds, and be put to sleep.
    """
    _store(counts, index, turn)
    for other in range(0, counts.size, LINE):
        while _load(counts, other) < turn:
            spins -= 1
            if spins < 0:
                return False
    return True


class SpinBarrier:
    """A barrier of `threads` threads, which count their arrivals and watch each other's counts."""

    def __init__(self, threads: int) -> None:
        self.counts = np.zeros(threads * LINE, np.int64)
        self.turns = [0] * threads
        self.broken = False

    def wait(self, thread: int) -> None:
        """Wait until all threads are here. Raises BrokenBarrierError if one of them gave up."""
        self.turns[thread] += 1
        while not _arrive(self.counts, thread * LINE, self.turns[thread], SPINS):
            if self.broken:
                raise BrokenBarrierError
            _yield_core()

    def abort(self) -> None:
        """Let the other threads give up."""
        self.broken = True


def _yield_natively() -> None:
    """Give up the core, in compiled code; on a system without such a call, do nothing."""


def _compile_yield() -> Any:
    if not hasattr(os, "sched_yield"):
        return lambda: None
    give_up = types.ExternalFunction("sched_yield", types.intc())

    def compiled() -> None:
        give_up()

    return compiled


overload(_yield_natively)(_compile_yield)


@kernel
def meet(counts: NDArray[np.int64], broken: NDArray[np.int64], thread: int, turn: int) -> bool:
    """Wait, in compiled code, until all threads have met for the `turn`-th time. Returns False if
    a thread gave up, which it states in broken[0]."""
    while not _arrive(counts, thread * LINE, turn, SPINS):
        if _load(broken, 0):
            return False
        _yield_natively()
    return True
