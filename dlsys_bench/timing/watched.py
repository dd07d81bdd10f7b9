"""What a GPU was like while something was timed on it."""

from __future__ import annotations

import time
from dataclasses import asdict
from types import TracebackType
from typing import Any

from dlsys_bench.timing.gpu import HARMLESS, Gpu, is_gpu, read
from dlsys_bench.timing.load import BUSY


class Watched:
    """A context on a device; afterwards `before` and `after` are its GPU, None where nothing is
    known of one."""

    before: Gpu | None = None
    after: Gpu | None = None
    seconds = 0.0

    def __init__(self, device: str) -> None:
        self.device = device

    def __enter__(self) -> Watched:
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
        """Why the GPU was slower than it could be: reasons there were at either end, or, as a GPU
        cools down at once, by the driver's own count for more than 5% of the time. Empty: it was
        not; None: the driver does not tell."""
        seen = [
            gpu.reasons
            for gpu in (self.before, self.after)
            if gpu is not None and gpu.reasons is not None
        ]
        counted = self._counted()
        if not seen and not counted:
            return None
        found = {reason for reasons in seen for reason in reasons}
        found |= {reason for reason, seconds in counted.items() if seconds > BUSY * self.seconds}
        return sorted(found - HARMLESS)

    def _counted(self) -> dict[str, float]:
        """Seconds of each reason between the two ends."""
        first, last = (
            {} if gpu is None else gpu.slowed_seconds or {} for gpu in (self.before, self.after)
        )
        return {reason: last[reason] - first[reason] for reason in last if reason in first}

    @property
    def told(self) -> dict[str, Any]:
        """The field `gpu` as JSON values, null where nothing is known of it; of other devices
        nothing."""
        if not is_gpu(self.device):
            return {}
        if self.before is None and self.after is None:
            return {"gpu": None}
        ends = {
            name: gpu and asdict(gpu)
            for name, gpu in (("before", self.before), ("after", self.after))
        }
        return {"gpu": {"slowed_by": self.slowed_by, **ends}}
