"""The histories of many networks, kept as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

from numpy.typing import NDArray

from dlsys_bench.engines.epochs import Epoch, History
from dlsys_bench.spec.recipe import Recipe


class Column(NamedTuple):
    """One epoch of all replicas: losses and accuracies (R,), and the losses of each step where
    recipes move."""

    epoch: int
    steps: int
    seconds: float
    losses: NDArray[Any]
    accuracies: NDArray[Any] | None
    recipes: Sequence[Recipe]
    sizes: Sequence[int]
    by_step: Sequence[NDArray[Any]]

    def of(self, replica: int) -> Epoch:
        """The epoch of one."""
        accuracy = None if self.accuracies is None else float(self.accuracies[replica])
        loss, recipe = float(self.losses[replica]), self.recipes[replica]
        if not recipe.moves:
            return Epoch(self.epoch, self.steps, self.seconds, loss, accuracy)
        rates = [recipe.rate(step) for step in range(self.steps - len(self.sizes), self.steps)]
        losses = [float(values[replica]) for values in self.by_step]
        by_step = {
            "learning_rate": rates,
            "batch_size": list(map(float, self.sizes)),
            "loss": losses,
        }
        return Epoch(self.epoch, self.steps, self.seconds, loss, accuracy, by_step=by_step)


class Histories(Sequence[History]):
    """The history of each replica, made when it is asked for: thousands of networks have millions
    of epochs."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.columns: list[Column] = []
        self.ends: dict[int, int] = {}

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, replica: int) -> History: ...
    @overload
    def __getitem__(self, replica: slice) -> Sequence[History]: ...
    def __getitem__(self, replica: int | slice) -> History | Sequence[History]:
        if isinstance(replica, slice):
            return [self[number] for number in range(self.size)[replica]]
        place = range(self.size)[replica]
        return [column.of(place) for column in self.columns[: self.ends.get(place)]]

    def end(self, replica: int) -> None:
        """It failed: its history ends with the last epoch that was added."""
        self.ends[replica] = len(self.columns)

    def add(self, column: Column) -> None:
        """Add an epoch of all replicas that have not ended."""
        self.columns.append(column)

    def last(self) -> list[Epoch | None]:
        """The epoch that was just added, of each replica; None for those that have ended."""
        return [
            None if replica in self.ends else self.columns[-1].of(replica)
            for replica in range(self.size)
        ]
