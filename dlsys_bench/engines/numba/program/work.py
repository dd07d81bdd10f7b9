"""What the threads of a program work on, as tuples that compiled code takes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import expression, inner_kernel
from dlsys_bench.engines.numba.spin_barrier import meet
from dlsys_bench.engines.plan import Array

MEAN, VARIANCE, INVERSE, D_GAMMA, D_BETA = STATISTICS = range(5)
"""The rows of the statistics of batch norm, see `layers.batch_norm` and `layers.d_batch_norm`."""

SampleCounts = tuple[int, int, int]
"""The number of samples of a batch, the most of any batch, for which there is memory, and the
number of its shards, each of which has masks of its own."""


class Tensors(NamedTuple):
    """The parameters of a network, the first and second moment of the optimiser, and the state of
    the layers; all flat."""

    parameters: Array
    first: Array
    second: Array
    state: Array


class Memory(NamedTuple):
    """The memory of one step, flat except for `statistics`, with the rows above, and `parts`, the
    loss and the number of correct answers of each part of a batch."""

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
    """The steps: where each batch begins and ends in the order (steps, 2), its number of shards
    (steps,), the rates (steps, 1) and the numbers (steps, 4) of the optimiser, the keys of the
    masks (steps, shards, dropouts), and the masks of a plan (steps, ...), empty if there is none.
    `places` has where the masks of each dropout begin, and its units, (dropouts, 2), and `least`
    the smallest random number of 32 bits with which a value stays."""

    bounds: NDArray[np.intp]
    shards: NDArray[np.int64]
    rates: Array
    numbers: NDArray[np.float64]
    keys: NDArray[np.uint64]
    places: NDArray[np.int64]
    least: NDArray[np.int64]
    given: NDArray[np.bool_]


class Images(NamedTuple):
    """The table of the layers of images, its stages and its first row with a gradient (see
    `image_translation`); the memory of values and gradients, flat; the moments (2, statistics) of
    each chunk, and its gradients in the tensors of these layers; and zeros in place of a bias."""

    table: NDArray[Any]
    stages: NDArray[np.intp]
    lowest: int
    parameters: int
    values: Array
    gradients: Array
    parts: Array
    tensor_gradients: Array
    zeros: Array


class Functions(NamedTuple):
    """The addresses of compiled code: the update of the optimiser, the product of matrices, the row
    of a convolution, the forward and backward pass of a layer of images, and the passes of a step.
    The last take (work, step, sizes, chosen samples, team), and return 0 if the training has to
    end."""

    update: int
    product: int
    convolve: int
    forward: int
    backward: int
    passes: NDArray[np.int64]


class ProgramWork(NamedTuple):
    """The table of a program with all that it works on, and the results: the loss and the number of
    correct answers of each step. There is memory for `most` samples at a time.

    `groups` has the first row of each group: the input or a dense layer, with the layers up to the
    next dense layer. They are computed together, block by block. The number of rows follows.
    """

    table: NDArray[Any]
    groups: NDArray[np.intp]
    functions: Functions
    loss: int
    most: int
    tensors: Tensors
    memory: Memory
    data: Data
    batches: Batches
    images: Images
    losses: NDArray[np.float64]
    right: NDArray[np.float64]


class Team(NamedTuple):
    """A thread among others: its number, how many there are, their barrier, the number of its
    meetings so far, and memory of its own: for gradients, for the chunks of a batch, and for the
    statistics of images."""

    thread: int
    threads: int
    counts: NDArray[np.int64]
    broken: NDArray[np.int64]
    turn: NDArray[np.int64]
    scratch: Array
    chunks: NDArray[np.int64]
    statistics: Array


@inner_kernel
def meet_team(team: Team) -> bool:
    """Wait for the other threads. Returns False if one of them failed."""
    team.turn[0] += 1
    return meet(team.counts, team.broken, team.thread, team.turn[0])


@expression
def view(values: Array, place: int, units: int, size: SampleCounts) -> Array:
    """Return the values (N, units) that begin at a place."""
    return values[place * size[1] :][: size[0] * units].reshape((size[0], units))
