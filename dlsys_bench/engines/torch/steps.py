"""The updates of an epoch: launched one operation at a time, or on CUDA as one graph per update.

Python needs longer to launch the operations of a small network than a GPU needs to compute them. A
CUDA graph is a recording of all operations of an update, which is replayed by a single launch. A
replay reads and writes the very memory that was used when it was recorded. What differs from step
to step (the samples, the learning rate, the masks, where to store the loss) is therefore kept in
tensors at fixed places, and the recorded update counts its steps on the device to find its entries
in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dlsys_bench.engines.torch.layout import TorchInputs

TorchMasks = dict[int, Tensor]
StepRate = float | Tensor
UpdateFunction = Callable[[TorchInputs, Tensor, TorchMasks, StepRate], tuple[Tensor, Tensor]]
"""Make an update on a batch (x, y) at a learning rate. Returns the loss and the number of correct
answers on the device, of R replicas (R,)."""


class StepLosses(NamedTuple):
    """The results of an epoch on the device: the loss of each step (steps, ...) and the number of
    correct answers (...)."""

    losses: Tensor
    right: Tensor


class Steps(Protocol):
    """Launches the updates of an epoch. Nothing is read from the device before the epoch ends, so
    that the device never waits for Python."""

    def epoch(
        self,
        order: Tensor,
        sizes: Sequence[int],
        rates: Sequence[float] | Tensor,
        masks: Callable[[int], TorchMasks],
    ) -> StepLosses:
        """Train an epoch on the samples in this order (..., N), split into batches of these sizes.
        `rates` (steps, ...) and `masks`, called with the number of a step in this epoch, give the
        learning rate and what dropout keeps."""


def _samples(x: TorchInputs, batch: Tensor) -> TorchInputs:
    """Return the samples of a batch, by their indices."""
    return tuple(each[batch] for each in x)


class EagerSteps:
    """Launches one operation after another, as torch does by default."""

    def __init__(self, update: UpdateFunction, x: TorchInputs, y: Tensor) -> None:
        self.update, self.x, self.y = update, x, y

    def epoch(
        self,
        order: Tensor,
        sizes: Sequence[int],
        rates: Sequence[float] | Tensor,
        masks: Callable[[int], TorchMasks],
    ) -> StepLosses:
        """Train an epoch."""
        batches = order[..., : sum(sizes)].split(list(sizes), -1)  # type: ignore[no-untyped-call]
        found = [
            self.update(_samples(self.x, batch), self.y[batch], masks(step), rate)
            for step, (batch, rate) in enumerate(zip(batches, rates, strict=True))
        ]
        losses, right = zip(*found, strict=True)
        return StepLosses(torch.stack(losses), torch.stack(right).sum(0))


Recorded = Callable[[], object]


class Recorder(Protocol):
    """Records the operations of a step, to be repeated by one launch."""

    def rehearse(self, step: Callable[[], None]) -> None:
        """Run the step one operation at a time, as it has to run before it can be recorded."""

    def record(self, step: Callable[[], None]) -> Recorded:
        """Record the step, without running it, and return a function that runs it."""


class CudaRecorder:
    """Records CUDA graphs, on a stream other than the default one, as CUDA requires. The step has
    to be rehearsed on the same stream."""

    def __init__(self) -> None:
        # All graphs share one pool of memory: they run one after another, and no graph reads what
        # another has left there.
        self.stream, self.pool = _stream(), torch.cuda.graph_pool_handle()

    def rehearse(self, step: Callable[[], None]) -> None:
        """Run the step on the stream of the recorder."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            step()
        torch.cuda.current_stream().wait_stream(self.stream)

    def record(self, step: Callable[[], None]) -> Recorded:
        """Record the step as a CUDA graph."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self.pool, self.stream):
            step()
        return graph.replay


@cache
def _stream() -> torch.cuda.Stream:
    # One stream per process, since cuBLAS keeps memory for every stream that it has worked on.
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


class GraphSteps:
    """Launches each update as one graph, recorded once for each size of a batch."""

    def __init__(
        self, update: UpdateFunction, x: TorchInputs, y: Tensor, recorder: Recorder
    ) -> None:
        self.update, self.x, self.y, self.recorder = update, x, y, recorder
        self.by_size: dict[int, _RecordedStep] = {}

    def epoch(
        self,
        order: Tensor,
        sizes: Sequence[int],
        rates: Sequence[float] | Tensor,
        masks: Callable[[int], TorchMasks],
    ) -> StepLosses:
        """Train an epoch."""
        # The fused optimisers read a learning rate on the device as float32, whatever its dtype.
        every = torch.as_tensor(rates, dtype=torch.float32, device=order.device)
        found, samples, step = [], 0, 0
        for size, count in _runs(sizes):
            if size not in self.by_size:
                most = order.shape[-1] // size
                self.by_size[size] = _RecordedStep(
                    self.update, self.x, self.y, self.recorder, size, most
                )
            part = order[..., samples : samples + size * count].reshape(
                *order.shape[:-1], count, size
            )
            found.append(self.by_size[size].run(part, every[step : step + count], masks, step))
            samples, step = samples + size * count, step + count
        return StepLosses(
            torch.cat([one.losses for one in found]),
            torch.stack([one.right for one in found]).sum(0),
        )


def make_steps(
    update: UpdateFunction, x: TorchInputs, y: Tensor, recorder: Recorder | None
) -> Steps:
    """Return what launches updates on these samples: graphs, if there is a recorder."""
    return EagerSteps(update, x, y) if recorder is None else GraphSteps(update, x, y, recorder)


def _runs(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield each size with the number of consecutive batches that have it."""
    for size, same in groupby(sizes):
        yield size, len(list(same))


REHEARSALS = 3
"""The updates that are made before one is recorded. In the first, the optimiser allocates its
state, and cuDNN and cuBLAS choose their algorithms; none of that may be recorded."""


class _RecordedStep:
    """The updates on batches of one size, at most `most` per epoch, in memory at fixed places:
    `order` and `rates` are inputs, `losses` and `right` results, and `at` counts the steps."""

    def __init__(
        self,
        update: UpdateFunction,
        x: TorchInputs,
        y: Tensor,
        recorder: Recorder,
        size: int,
        most: int,
    ) -> None:
        self.update, self.x, self.y, self.recorder = update, x, y, recorder
        self.size, self.most = size, most
        self.rehearsed = 0
        self.recorded: Recorded | None = None
        self.masks: dict[int, Tensor] = {}
        self.at: Tensor
        self.order: Tensor
        self.rates: Tensor
        self.losses: Tensor | None = None
        self.right: Tensor

    def run(
        self, order: Tensor, rates: Tensor, masks: Callable[[int], TorchMasks], first: int
    ) -> StepLosses:
        """Make an update for each batch of the order (..., steps, size)."""
        count = len(rates)
        if self.rehearsed == 0:
            self.at = torch.zeros(1, dtype=torch.int64, device=order.device)
            self.order = order.new_empty((*order.shape[:-2], self.most, self.size))
            self.rates = rates.new_empty((self.most, *rates.shape[1:]))
        self.order[..., :count, :].copy_(order)
        self.rates[:count].copy_(rates)
        self.at.zero_()
        if self.losses is not None:
            self.right.zero_()
        for step in range(first, first + count):
            for place, mask in masks(step).items():
                self.masks.setdefault(place, torch.empty_like(mask)).copy_(mask)
            if self.recorded is not None:
                self.recorded()
            elif self.rehearsed < REHEARSALS:
                self.recorder.rehearse(self._step)
                self.rehearsed += 1
            else:
                self.recorded = self.recorder.record(self._step)
                self.recorded()
        assert self.losses is not None
        return StepLosses(self.losses[:count].clone(), self.right.clone())

    def _step(self) -> None:
        """Make one update. All inputs are found on the device, by the count of the steps."""
        batch = self.order.index_select(-2, self.at).squeeze(-2)
        rate = self.rates.index_select(0, self.at).squeeze(0)
        loss, right = self.update(_samples(self.x, batch), self.y[batch], self.masks, rate)
        if self.losses is None:
            self.losses, self.right = (
                loss.new_empty((self.most, *loss.shape)),
                torch.zeros_like(right),
            )
        self.losses.index_copy_(0, self.at, loss[None])
        self.right.add_(right)
        self.at.add_(1)
