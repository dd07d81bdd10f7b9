"""The kernel that trains: it interprets the table of a program for many steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numba.normalization import draw_stays
from dlsys_bench.engines.numba.program.layers import (
    UnitBlock,
    batch_norm,
    d_batch_norm,
    d_bias,
    d_dense,
    d_kernel,
    d_leaky,
    dense,
    dropout,
    leaky,
    move,
)
from dlsys_bench.engines.numba.program.losses import evaluate
from dlsys_bench.engines.numba.program.tables import (
    ACTIVATION,
    BATCH_NORM,
    DENSE,
    DROPOUT,
    INPUT,
)
from dlsys_bench.engines.numba.program.updates import update
from dlsys_bench.engines.numba.program.work import Memory, ProgramWork, Team, Tensors
from dlsys_bench.engines.numba.spin_barrier import meet
from dlsys_bench.engines.plan import Array

LOSS_SAMPLES = 16
"""The samples of which the loss is computed at a time. The parts are summed in order."""

MEAN, VARIANCE, INVERSE, D_GAMMA, D_BETA, SLOPE, LESS = STATISTICS = range(7)
"""The rows of the statistics, see `layers.batch_norm` and `layers.d_batch_norm`."""

SampleCounts = tuple[int, int]
"""The number of samples of a batch, and the most of any batch, for which there is memory."""

Update = tuple[int, Array, Array]
"""The kind of an optimiser, and the rate (1,) and the numbers of a step."""


@kernel
def _view(values: Array, place: int, units: int, size: SampleCounts) -> Array:
    """Return the values (N, units) that begin at a place."""
    samples, most = size
    return values[place * most : place * most + samples * units].reshape((samples, units))


@kernel
def _stays(row: Any, size: SampleCounts, memory: Memory) -> NDArray[np.bool_]:
    """Return the mask of a dropout layer, flat."""
    samples, most = size
    return memory.stays[row.place * most : row.place * most + samples * row.units]


@kernel
def _block(row: Any, number: int) -> UnitBlock:
    """Return the first unit of a block of a row, and the one after its last."""
    first: int = number * row.block
    return first, min(first + row.block, row.units)


@kernel
def _blocks(row: Any) -> int:
    """Return the number of blocks of a row."""
    count: int = -(-row.units // row.block)
    return count


@kernel
def _meet(team: Team) -> bool:
    """Wait for the other threads. Returns False if one of them failed."""
    team.turn[0] += 1
    return meet(team.counts, team.broken, team.thread, team.turn[0])


@kernel
def _forward(
    row: Any, size: SampleCounts, here: UnitBlock, memory: Memory, parameters: Array
) -> None:
    """Compute a block of the output of a layer."""
    x = _view(memory.values, row.x, row.inputs, size)
    y = _view(memory.values, row.y, row.units, size)
    if row.kind == DENSE:
        w = parameters[row.first : row.first + row.inputs * row.units]
        bias = parameters[row.second : row.second + (row.units if row.second >= 0 else 0)]
        dense(x, w, bias, row.slope, here, y)
    elif row.kind == ACTIVATION:
        leaky(y, row.slope, here)
    elif row.kind == DROPOUT:
        dropout(y, _stays(row, size, memory), 1.0 / (1.0 - row.number), here)
    else:
        a, b = here
        gamma = parameters[row.first + a : row.first + b]
        beta = parameters[row.second + a : row.second + b]
        c, d, rows = row.place + a, row.place + b, memory.statistics
        moments = rows[MEAN][c:d], rows[VARIANCE][c:d], rows[INVERSE][c:d]
        results = _view(memory.values, row.normal, row.units, size), y
        batch_norm(x, (gamma, beta), (row.number, row.slope), here, moments, results)


@kernel
def _update(first: int, d: Array, tensors: Tensors, how: Update) -> None:
    """Update the parameters from the `first` on by their gradient d."""
    end, (optimizer, rate, numbers) = first + d.size, how
    state = tensors.first[first:end], tensors.second[first:end]
    update(optimizer, tensors.parameters[first:end], d, state, rate, numbers)


@kernel
def _backward(
    row: Any, size: SampleCounts, here: UnitBlock, memory: Memory, tensors: Tensors, how: Update
) -> None:
    """Turn a block of the gradient in the output of a layer into that in its input, and update its
    tensors. Of a dense layer, it becomes the gradient before the leaky_relu."""
    d = _view(memory.gradients, row.d, row.units, size)
    if row.slope < 1:
        d_leaky(_view(memory.values, row.y, row.units, size), row.slope, here, d)
    if row.kind == DROPOUT:
        dropout(d, _stays(row, size, memory), 1.0 / (1.0 - row.number), here)
    elif row.kind == BATCH_NORM:
        begin, end = here
        a, b, rows = row.place + begin, row.place + end, memory.statistics
        gamma = tensors.parameters[row.first + begin : row.first + end]
        normal = _view(memory.values, row.normal, row.units, size)
        sums = rows[D_GAMMA][a:b], rows[D_BETA][a:b], rows[SLOPE][a:b], rows[LESS][a:b]
        d_batch_norm(normal, (gamma, rows[INVERSE][a:b]), here, sums, d)
        _update(row.first + begin, sums[0], tensors, how)
        _update(row.second + begin, sums[1], tensors, how)
        c = row.state + begin
        e = c + row.units
        moving = tensors.state[c : c + b - a], tensors.state[e : e + b - a]
        moments = rows[MEAN][a:b], rows[VARIANCE][a:b]
        move(moving, moments, size[0], row.decay, row.unbiased > 0)


@kernel
def _update_kernel(
    rows: Any,
    size: SampleCounts,
    here: UnitBlock,
    memory: Memory,
    tensors: Tensors,
    how: Update,
    d: Array,
) -> None:
    """Compute the block of dx of a dense layer, if it is wanted, and update these rows of the
    kernel. Nothing else reads them, so the order of the blocks does not matter.

    The `rows` are those of the dense layer and of the one that computed x. `d` is memory.
    """
    row, below = rows
    w = tensors.parameters[row.first : row.first + row.inputs * row.units]
    dy = _view(memory.gradients, row.d, row.units, size)
    if row.wants_dx:
        d_dense(dy, w, here, _view(memory.gradients, below.d, below.units, size))
    begin, end = here
    d_kernel(_view(memory.values, row.x, row.inputs, size), dy, here, d)
    first = row.first + begin * row.units
    _update(first, d[: (end - begin) * row.units], tensors, how)


@kernel
def _gather(x: Array, chosen: NDArray[np.intp], here: UnitBlock, y: Array) -> None:
    """Copy a block of the values of the chosen samples."""
    first, end = here
    for n in range(chosen.size):
        given, own = x[chosen[n], first:end], y[n, first:end]
        for u in range(own.size):
            own[u] = given[u]


@kernel
def _draw_masks(work: ProgramWork, step: int, size: SampleCounts, team: Team) -> bool:
    """Draw or copy the masks of a step, and wait for the other threads: a thread needs the part of
    a mask that belongs to its blocks, and that another one may draw."""
    drawn = 0
    for row in work.table:
        if row.kind == DROPOUT:
            if drawn % team.threads == team.thread:
                stays, given = _stays(row, size, work.memory), work.batches.given
                if given.size:
                    for i in range(stays.size):
                        stays[i] = given[step, row.place * size[1] + i]
                else:
                    draw_stays(work.batches.keys[step, drawn], work.batches.least[drawn], stays)
            drawn += 1
    return drawn == 0 or _meet(team)


@kernel
def _forward_pass(
    work: ProgramWork, size: SampleCounts, chosen: NDArray[np.intp], team: Team
) -> bool:
    """Compute the outputs of all layers."""
    memory, parameters = work.memory, work.tensors.parameters
    for g in range(len(work.groups) - 1):
        main = work.table[work.groups[g]]
        for number in range(team.thread, _blocks(main), team.threads):
            here = _block(main, number)
            if main.kind == INPUT:
                _gather(work.data.x, chosen, here, _view(memory.values, main.y, main.units, size))
            else:
                _forward(main, size, here, memory, parameters)
            for k in range(work.groups[g] + 1, work.groups[g + 1]):
                _forward(work.table[k], size, here, memory, parameters)
        if not _meet(team):
            return False
    return True


@kernel
def _loss(
    work: ProgramWork, step: int, size: SampleCounts, chosen: NDArray[np.intp], team: Team
) -> bool:
    """Compute the loss of a step and its gradient. Returns False if it is not finite."""
    row, parts, samples = work.table[len(work.table) - 1], work.memory.parts, size[0]
    outputs = _view(work.memory.values, row.y, row.units, size)
    d = _view(work.memory.gradients, row.d, row.units, size)
    targets, count = (work.data.labels, work.data.targets), -(-samples // LOSS_SAMPLES)
    for part in range(team.thread, count, team.threads):
        a, b = part * LOSS_SAMPLES, min(samples, (part + 1) * LOSS_SAMPLES)
        found = evaluate(work.loss, outputs[a:b], targets, chosen[a:b], samples, d[a:b])
        parts[part, 0], parts[part, 1] = found
    if not _meet(team):
        return False
    total, right = 0.0, 0.0
    for part in range(count):
        total += parts[part, 0]
        right += parts[part, 1]
    if team.thread == 0:
        work.losses[step], work.right[step] = total, right
    return bool(np.isfinite(total))


@kernel
def _backward_pass(work: ProgramWork, step: int, size: SampleCounts, team: Team) -> bool:
    """Compute the gradients, and update each tensor as soon as its gradient is known."""
    how = work.optimizer, work.batches.rates[step], work.batches.numbers[step]
    for g in range(len(work.groups) - 2, 0, -1):
        main, first = work.table[work.groups[g]], work.groups[g - 1]
        below, last = work.table[first], work.groups[g] - 1
        # The bias is one more piece of work, beside the blocks of inputs.
        for number in range(team.thread, _blocks(below) + 1, team.threads):
            here = _block(below, number)
            if number < _blocks(below):
                rows, d = (main, work.table[last]), team.scratch
                _update_kernel(rows, size, here, work.memory, work.tensors, how, d)
                for k in range(last, first - 1 if main.wants_dx else last, -1):
                    _backward(work.table[k], size, here, work.memory, work.tensors, how)
            elif main.second >= 0:
                d = team.scratch[: main.units]
                d_bias(_view(work.memory.gradients, main.d, main.units, size), d)
                _update(main.second, d, work.tensors, how)
        if not _meet(team):
            return False
    return True


@kernel
def train_steps(work: ProgramWork, team: Team) -> int:
    """Train for the steps of a work as one of several threads, and return how many ended.

    It ends early at a loss that is not finite, before the update, or if another thread failed.
    """
    bounds = work.batches.bounds
    most = (bounds[:, 1] - bounds[:, 0]).max()
    for step in range(len(bounds)):
        begin, end = bounds[step, 0], bounds[step, 1]
        size, chosen = (end - begin, most), work.data.order[begin:end]
        if not (
            _draw_masks(work, step, size, team)
            and _forward_pass(work, size, chosen, team)
            and _loss(work, step, size, chosen, team)
            and _backward_pass(work, step, size, team)
        ):
            return step
    return len(bounds)
