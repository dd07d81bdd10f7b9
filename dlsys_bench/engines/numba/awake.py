"""Where threads wait for each other awake: they come within microseconds, and waking one takes
longer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from threading import BrokenBarrierError
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import kernel

# Not time.sleep(0), which Linux makes 50 microseconds and more of.
_let_others: Callable[[], object] = getattr(os, "sched_yield", lambda: time.sleep(0))

# Looks at the others' counts before a thread lets the rest of the machine have its core: about 50
# microseconds.
LOOKS = 20_000


def _typed_load(typing_context: Any, counts: Any, place: Any) -> Any:
    """What another thread has written last: a plain read might be done once, before the loop."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        where = cgutils.get_item_pointer(context, builder, signature.args[0], array, [arguments[1]])
        return builder.load_atomic(where, "acquire", 8)

    return types.int64(counts, place), generate


def _typed_store(typing_context: Any, counts: Any, place: Any, value: Any) -> Any:
    """Written for other threads to read, after all that this one has written before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        where = cgutils.get_item_pointer(context, builder, signature.args[0], array, [arguments[1]])
        builder.store_atomic(arguments[2], where, "release", 8)
        return context.get_dummy_value()

    return types.void(counts, place, types.int64), generate


_load: Any = intrinsic(_typed_load)
_store: Any = intrinsic(_typed_store)


@kernel
def _all_here(counts: NDArray[np.int64], place: int, count: int, looks: int) -> bool:
    """Say that this thread has come so often; whether all have, after so many looks at most.

    It is said in here, where other threads may have the interpreter: whoever saw it before would
    come out of the wait to an interpreter that is taken, and be put to sleep.
    """
    _store(counts, place, count)
    for other in range(0, counts.size, LINE):
        while _load(counts, other) < count:
            looks -= 1
            if looks < 0:
                return False
    return True


# Counts a cache line apart: nobody's writing makes the others read again.
LINE = 8


class Awake:
    """So many threads that look for each other's counts."""

    def __init__(self, count: int) -> None:
        self.counts = np.zeros(count * LINE, np.int64)
        self.turns = [0] * count
        self.broken = False

    def wait(self, place: int) -> None:
        """Until all are here. Errors: BrokenBarrierError where one will not come."""
        self.turns[place] += 1
        while not _all_here(self.counts, place * LINE, self.turns[place], LOOKS):
            if self.broken:
                raise BrokenBarrierError
            _let_others()

    def abort(self) -> None:
        self.broken = True
