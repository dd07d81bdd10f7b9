"""The interface of what trains the networks of this engine: by rules or, in numba, compiled."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.epochs import EpochRun
from dlsys_bench.errors import DivergedError


class Trainer(ABC):
    """The training of R replicas on given samples, one epoch after another."""

    @abstractmethod
    def train(
        self,
        epoch: EpochRun,
        order: NDArray[np.intp] | None,
        failures: dict[int, DivergedError],
    ) -> None:
        """Train an epoch on the samples in this order (R, N), or as they are.

        A replica whose loss becomes non-finite is added to `failures`. The epoch ends early when no
        other is left.
        """

    @abstractmethod
    def restore(self) -> None:
        """Give each replica that diverged the weights of its last finite batch."""
