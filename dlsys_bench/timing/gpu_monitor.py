"""A monitor of the GPU on which something is timed."""

from __future__ import annotations

import time
from dataclasses import asdict
from types import TracebackType
from typing import Any

from dlsys_bench.timing.gpu import HARMLESS, Gpu, is_gpu, read
from dlsys_bench.timing.load import BUSY


class GpuMonitor:
    """A context manager that reads the state of a device on entry and on exit.

    Afterwards, `before` and `after` are the two states, None if the device is not a GPU or its
    driver does not answer.
    """

    before: Gpu | None = None
    after: Gpu | None = None
    seconds = 0.0

    def __init__(self, device: str) -> None:
        self.device = device

    def __enter__(self) -> GpuMonitor:
        self.before = read(self.device)
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        self.after = read(self.device)

    @property
    def slowed_by(self) -> list[str] | None:
        """The reasons why the GPU was slower than it can be, empty if it was not, None if the
        driver does not report them.

        A reason counts if it holds at either end. As a GPU cools down within moments, it also
        counts if the driver's own counter shows it for more than BUSY of the time in between.
        """
        known = [
            gpu.reasons
            for gpu in (self.before, self.after)
            if gpu is not None and gpu.reasons is not None
        ]
        counted = self._counted()
        if not known and not counted:
            return None
        found = {reason for reasons in known for reason in reasons}
        found |= {reason for reason, seconds in counted.items() if seconds > BUSY * self.seconds}
        return sorted(found - HARMLESS)

    def _counted(self) -> dict[str, float]:
        """Return the seconds of each reason between the two ends."""
        first, last = (
            {} if gpu is None else gpu.slowed_seconds or {} for gpu in (self.before, self.after)
        )
        return {reason: last[reason] - first[reason] for reason in last if reason in first}

    @property
    def info(self) -> dict[str, Any]:
        """The field `gpu` of a stored timing, as JSON values: null if nothing is known of the GPU.
        A device that is not a GPU has no such field."""
        if not is_gpu(self.device):
            return {}
        if self.before is None and self.after is None:
            return {"gpu": None}
        ends = {
            name: gpu and asdict(gpu)
            for name, gpu in (("before", self.before), ("after", self.after))
        }
        return {"gpu": {"slowed_by": self.slowed_by, **ends}}
