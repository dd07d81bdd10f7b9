"""How large the batches are, where they are not all alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from dlsys_bench.errors import BatchError
from dlsys_bench.spec.record import Record, require, require_choice, require_count


@dataclass(frozen=True)
class BatchSizes(Record):
    """The sizes of the batches, epoch by epoch."""

    def epochs(self, samples: int) -> Iterator[list[int]]:
        """For each epoch the sizes of its batches; their sum is `samples`, or less where an epoch
        leaves some out."""
        raise NotImplementedError


def equal(batch_size: int, samples: int) -> list[int]:
    """An epoch in equal batches, the last one smaller if need be."""
    whole, rest = divmod(samples, batch_size)
    return [batch_size] * whole + [rest] * (rest > 0)


@dataclass(frozen=True)
class CyclicalBatchSize(BatchSizes):
    """Batches double from `smallest` to `largest` and halve back; `largest` itself doubles with
    each cycle.

    The cycles run on from epoch to epoch. Where the next batch would run past the data, an epoch
    that ends "cut" takes what is left, so that every sample is seen once; one that ends "early"
    stops there, as nb2 does, and that batch opens the next epoch. Unless `growing`, every cycle
    reaches the same size.
    """

    smallest: int = 64
    largest: int = 512
    growing: bool = True
    ends: Literal["cut", "early"] = "cut"

    kind: ClassVar[str] = "cyclical_batch_size"

    def __post_init__(self) -> None:
        require_count(self.kind, "smallest", self.smallest)
        require_count(self.kind, "largest", self.largest)
        ratio = self.largest // self.smallest if self.largest % self.smallest == 0 else 0
        require(
            ratio >= 2 and ratio & (ratio - 1) == 0,
            f"{self.kind}: largest is {self.largest}; it takes smallest ({self.smallest}) doubled once or more often",
        )
        require_choice(self.kind, "ends", self.ends, ("cut", "early"))

    def sizes(self) -> Iterator[int]:
        """Every size, for ever."""
        top = self.largest
        while True:
            size = self.smallest
            while size < top:
                yield size
                size *= 2
            while size > self.smallest:
                yield size
                size //= 2
            if self.growing:
                top *= 2

    def epochs(self, samples: int) -> Iterator[list[int]]:
        sizes = self.sizes()
        following = next(sizes)
        while True:
            epoch: list[int] = []
            left = samples
            while following <= left:
                epoch.append(following)
                left -= following
                following = next(sizes)
            if left and self.ends == "cut":
                epoch.append(left)
                following = next(sizes)
            if not epoch:
                raise BatchError(
                    f"{self.kind}: after its cycles the next batch has {following} samples and the data {samples}: "
                    'train for fewer epochs, or let epochs end "cut"'
                )
            yield epoch


BATCH_SIZES: dict[str, type[BatchSizes]] = {CyclicalBatchSize.kind: CyclicalBatchSize}
