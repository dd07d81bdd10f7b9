"""The sizes of the batches, where they differ from batch to batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from dlsys_bench.errors import BatchError
from dlsys_bench.spec.record import (
    Choices,
    Invalid,
    Record,
    require,
    require_choice,
    require_count,
    require_switches,
)


@dataclass(frozen=True)
class BatchSizes(Record):
    """The base of the batch-size policies. A custom policy is a subclass with its own `kind`."""

    def epochs(self, samples: int) -> Iterator[list[int]]:
        """Yield the batch sizes of each epoch, without end.

        They sum to `samples`, or to less where an epoch leaves samples out. Raises BatchError when
        the next batch is larger than the data.
        """
        raise NotImplementedError


def equal(batch_size: int, samples: int) -> list[int]:
    """Return the sizes of an epoch in equal batches; the last one may be smaller."""
    whole, rest = divmod(samples, batch_size)
    return [batch_size] * whole + [rest] * (rest > 0)


@dataclass(frozen=True)
class CyclicalBatchSize(BatchSizes):
    """Cycles in which the batch size doubles from `smallest` to `largest` and halves back.

    The peak itself doubles with each cycle, unless `growing` is false. Cycles continue across
    epochs. Where the next batch would be larger than what is left of the epoch, `ends` decides:
    "cut" shortens that batch, so that every epoch contains every sample; "early" ends the epoch
    and starts the next one with that batch, as notebook nb2 does.
    """

    smallest: int = 64
    largest: int = 512
    growing: bool = True
    ends: Literal["cut", "early"] = "cut"

    kind: ClassVar[str] = "cyclical_batch_size"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"smallest": 0}, "smallest is 0"),
        ({"largest": 64}, "largest is 64"),
        ({"largest": 96}, "largest is 96"),
        ({"ends": "late"}, "ends is 'late'"),
    )
    variants: ClassVar[Mapping[str, Choices]] = {
        "cyclical_batch_size": {"smallest": (1,), "largest": (4,)},
        "cyclical_batch_size-early": {
            "smallest": (1,),
            "largest": (4,),
            "growing": (False,),
            "ends": ("early",),
        },
    }

    def __post_init__(self) -> None:
        require_count(self.kind, "smallest", self.smallest)
        require_count(self.kind, "largest", self.largest)
        ratio = self.largest // self.smallest if self.largest % self.smallest == 0 else 0
        require(
            ratio >= 2 and ratio & (ratio - 1) == 0,
            f"{self.kind}: largest is {self.largest}; "
            f"expected smallest ({self.smallest}) times 2, 4, 8, ...",
        )
        require_choice(self.kind, "ends", self.ends, ("cut", "early"))
        require_switches(self, "growing")

    def sizes(self) -> Iterator[int]:
        """Yield the size of each batch, cycle after cycle, without end."""
        peak = self.largest
        while True:
            size = self.smallest
            while size < peak:
                yield size
                size *= 2
            while size > self.smallest:
                yield size
                size //= 2
            if self.growing:
                peak *= 2

    def epochs(self, samples: int) -> Iterator[list[int]]:
        sizes = self.sizes()
        size = next(sizes)
        while True:
            epoch: list[int] = []
            left = samples
            while size <= left:
                epoch.append(size)
                left -= size
                size = next(sizes)
            if left and self.ends == "cut":
                epoch.append(left)
                size = next(sizes)
            if not epoch:
                raise BatchError(
                    f"{self.kind}: the next batch has {size} samples and the data {samples}: "
                    'train for fewer epochs, or set ends to "cut"'
                )
            yield epoch


BATCH_SIZES: dict[str, type[BatchSizes]] = {CyclicalBatchSize.kind: CyclicalBatchSize}
