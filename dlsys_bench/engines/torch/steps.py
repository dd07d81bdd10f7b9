"""The updates of an epoch: one launched after another, or on CUDA each as one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

TorchMasks = dict[int, Tensor]
StepRate = float | Tensor
UpdateFunction = Callable[[Tensor, Tensor, TorchMasks, StepRate], tuple[Tensor, Tensor]]
"""Follow the gradient of a batch (x, y) at a rate. Returns the loss and how many answers were
right, on the device; of R replicas, of each."""


class StepLosses(NamedTuple):
    """Of an epoch, on the device: the loss of each step (steps, ...), how many answers were right
    (...)."""

    losses: Tensor
    right: Tensor


class Steps(Protocol):
    """How an epoch's updates are launched. The device is not asked anything before the epoch is
    over."""

    def epoch(
        self,
        order: Tensor,
        sizes: Sequence[int],
        rates: Sequence[float] | Tensor,
        masks: Callable[[int], TorchMasks],
    ) -> StepLosses:
        """Train on the samples in this order (..., N), cut into batches of these sizes while they
        last; the rates (steps, ...) and, by the number of a step of this epoch, what dropout
        keeps."""


class EagerSteps:
    """One operation after another, as torch's users have it."""

    def __init__(self, update: UpdateFunction, x: Tensor, y: Tensor) -> None:
        self.update, self.x, self.y = update, x, y

    def epoch(
        self,
        order: Tensor,
        sizes: Sequence[int],
        rates: Sequence[float] | Tensor,
        masks: Callable[[int], TorchMasks],
    ) -> StepLosses:
        batches = order[..., : sum(sizes)].split(list(sizes), -1)  # type: ignore[no-untyped-call]
        found = [
            self.update(self.x[batch], self.y[batch], masks(step), rate)
            for step, (batch, rate) in enumerate(zip(batches, rates, strict=True))
        ]
        losses, right = zip(*found, strict=True)
        return StepLosses(torch.stack(losses), torch.stack(right).sum(0))


Recorded = Callable[[], object]


class Recorder(Protocol):
    """Makes one launch of many operations, which always read and write the memory that they had
    when recorded."""

    def rehearse(self, step: Callable[[], None]) -> None:
        """Run it, operation by operation, as recording needs it to have run before."""

    def record(self, step: Callable[[], None]) -> Recorded:
        """What runs it from now on; recording itself runs nothing."""


class CudaRecorder:
    """CUDA graphs. What is recorded on one stream has to be rehearsed on another than the default
    one."""

    def __init__(self) -> None:
        # Nothing that a graph leaves there is read by another, and one runs after another: all may
        # have it in turn.
        self.stream, self.pool = _stream(), torch.cuda.graph_pool_handle()

    def rehearse(self, step: Callable[[], None]) -> None:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            step()
        torch.cuda.current_stream().wait_stream(self.stream)

    def record(self, step: Callable[[], None]) -> Recorded:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self.pool, self.stream):
            step()
        return graph.replay


@cache
def _stream() -> torch.cuda.Stream:
    # One for the process: cuBLAS keeps memory for each that it has worked on.
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


class GraphSteps:
    """Each update a launch. Python would need longer for the launches of a small network than the
    GPU for the work.

    What changes from step to step (which samples, which rate, where the loss goes) a recorded step
    finds by itself: it counts its own steps on the device. Batches of each size are recorded apart.
    """

    def __init__(self, update: UpdateFunction, x: Tensor, y: Tensor, recorder: Recorder) -> None:
        self.update, self.x, self.y, self.recorder = update, x, y, recorder
        self.by_size: dict[int, _RecordedStep] = {}

    def epoch(
        self,
        order: Tensor,
        sizes: Sequence[int],
        rates: Sequence[float] | Tensor,
        masks: Callable[[int], TorchMasks],
    ) -> StepLosses:
        # The fused optimisers read a rate on the device as float32, whatever it is.
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


def make_steps(update: UpdateFunction, x: Tensor, y: Tensor, recorder: Recorder | None) -> Steps:
    """How updates on these samples are launched: recorded, where there is something to record
    with."""
    return EagerSteps(update, x, y) if recorder is None else GraphSteps(update, x, y, recorder)


def _runs(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    for size, same in groupby(sizes):
        yield size, len(list(same))


REHEARSALS = 3
"""Updates before one is recorded: in the first an optimiser makes its memory, cuDNN and cuBLAS
choose and set up."""


class _RecordedStep:
    """The updates of batches of one size, so many of them at most. Everything they read and write
    keeps its place in memory."""

    def __init__(
        self, update: UpdateFunction, x: Tensor, y: Tensor, recorder: Recorder, size: int, most: int
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
        batch = self.order.index_select(-2, self.at).squeeze(-2)
        rate = self.rates.index_select(0, self.at).squeeze(0)
        loss, right = self.update(self.x[batch], self.y[batch], self.masks, rate)
        if self.losses is None:
            self.losses, self.right = (
                loss.new_empty((self.most, *loss.shape)),
                torch.zeros_like(right),
            )
        self.losses.index_copy_(0, self.at, loss[None])
        self.right.add_(right)
        self.at.add_(1)
