"""Where threads wait for each other awake: they come within microseconds, and waking one takes longer."""

from __future__ import annotations

import time
from threading import BrokenBarrierError
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import kernel

# Looks at the others' counts before a thread lets the rest of the machine have its core: about 50 microseconds.
LOOKS = 20_000


def _typed(typing_context: Any, counts: Any, place: Any) -> Any:
    """What another thread has written last: a plain read might be done once, before the loop."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        where = cgutils.get_item_pointer(context, builder, signature.args[0], array, [arguments[1]])
        return builder.load_atomic(where, "acquire", 8)

    return types.int64(counts, place), generate


_seen: Any = intrinsic(_typed)


@kernel
def _all_here(counts: NDArray[np.int64], count: int, looks: int) -> bool:
    """Whether all have come so often, after so many looks at most."""
    for place in range(0, counts.size, LINE):
        while _seen(counts, place) < count:
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
        self.broken = False

    def wait(self, place: int) -> None:
        """Until all are here. Errors: BrokenBarrierError where one will not come."""
        self.counts[place * LINE] += 1
        mine = int(self.counts[place * LINE])
        while not _all_here(self.counts, mine, LOOKS):
            if self.broken:
                raise BrokenBarrierError
            time.sleep(0)

    def abort(self) -> None:
        self.broken = True
