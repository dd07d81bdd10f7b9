"""What the threads of a program work on, as tuples that compiled code takes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.plan import Array


class Tensors(NamedTuple):
    """The parameters of a network, the first and second moment of the optimiser, and the state of
    the layers; all flat."""

    parameters: Array
    first: Array
    second: Array
    state: Array


class Memory(NamedTuple):
    """The memory of one step, flat except for `statistics`, whose rows `steps` defines, and
    `parts`, the loss and the number of correct answers of each part of a batch."""

    values: Array
    gradients: Array
    statistics: Array
    stays: NDArray[np.bool_]
    parts: NDArray[np.float64]


class Data(NamedTuple):
    """The samples: x (S, units), and labels (S,) or values (S, K), of which the other is empty. The
    `order` has the index of each sample in the order in which they are used."""

    x: Array
    labels: NDArray[np.int64]
    targets: Array
    order: NDArray[np.intp]


class Batches(NamedTuple):
    """The steps: where each batch begins and ends in the order (steps, 2), the rates (steps, 1) and
    the numbers (steps, 4) of the optimiser, the keys of the masks (steps, dropouts), and the masks
    of a plan (steps, ...), empty if there is none. `least` has the smallest random number of 32
    bits with which a value stays, of each dropout."""

    bounds: NDArray[np.intp]
    rates: Array
    numbers: NDArray[np.float64]
    keys: NDArray[np.uint64]
    least: NDArray[np.int64]
    given: NDArray[np.bool_]


class ProgramWork(NamedTuple):
    """The table of a program with all that it works on, and the results: the loss and the number of
    correct answers of each step.

    `groups` has the first row of each group: the input or a dense layer, with the layers up to the
    next dense layer. They are computed together, block by block. The number of rows follows.
    """

    table: NDArray[Any]
    groups: NDArray[np.intp]
    optimizer: int
    loss: int
    tensors: Tensors
    memory: Memory
    data: Data
    batches: Batches
    losses: NDArray[np.float64]
    right: NDArray[np.float64]


class Team(NamedTuple):
    """A thread among others: its number, how many there are, their barrier, the number of its
    meetings so far, and memory of its own."""

    thread: int
    threads: int
    counts: NDArray[np.int64]
    broken: NDArray[np.int64]
    turn: NDArray[np.int64]
    scratch: Array
