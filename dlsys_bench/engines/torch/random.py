"""Torch's global random generator, lent to a training for one epoch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class RandomState:
    """A state of torch's global generators that belongs to one training.

    Dropout draws from torch's global generator, on the CPU and on CUDA. While a training is
    `active` the generator has the state of the training; afterwards it has its former state again,
    and the training keeps its own for the next epoch.
    """

    def __init__(self, device: str, seed: int) -> None:
        self.devices = [0] if device == "cuda" else []
        self.seed = seed
        self.states: list[Tensor] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let torch draw from this state."""
        with torch.random.fork_rng(devices=self.devices):
            if self.states:
                cpu, *cuda = self.states
                torch.set_rng_state(cpu)
                for device, state in zip(self.devices, cuda, strict=True):
                    torch.cuda.set_rng_state(state, device)
            else:
                torch.manual_seed(self.seed)
            try:
                yield
            finally:
                cuda = [torch.cuda.get_rng_state(device) for device in self.devices]
                self.states = [torch.get_rng_state(), *cuda]
