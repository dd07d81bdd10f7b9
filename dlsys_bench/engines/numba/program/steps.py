"""The kernel that trains: it interprets the table of a program for many steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import call, expression, inner_kernel, kernel
from dlsys_bench.engines.numba.normalization import draw_stays
from dlsys_bench.engines.numba.program.layers import (
    UnitBlock,
    activation,
    batch_norm,
    d_activation,
    d_batch_norm,
    d_bias,
    d_dense,
    d_kernel,
    dense,
    dropout,
    move,
)
from dlsys_bench.engines.numba.program.losses import evaluate
from dlsys_bench.engines.numba.program.tables import (
    ACTIVATION,
    BATCH_NORM,
    DENSE,
    DROPOUT,
    FEATURES,
    INPUT,
)
from dlsys_bench.engines.numba.program.work import (
    D_BETA,
    D_GAMMA,
    INVERSE,
    MEAN,
    VARIANCE,
    Memory,
    ProgramWork,
    SampleCounts,
    Team,
    Tensors,
    meet_team,
    view,
)
from dlsys_bench.engines.plan import Array

LOSS_SAMPLES = 16
"""The samples of which the loss is computed at a time. The parts are summed in order."""

Update = tuple[int, Array, Array]
"""The address of an optimiser, and the rate (1,) and the numbers of a step."""


@expression
def _stays(row: Any, size: SampleCounts, memory: Memory) -> NDArray[np.bool_]:
    """Return the mask of a dropout layer, flat."""
    return memory.stays[row.place * size[1] :][: size[0] * row.units]


@inner_kernel
def _block(row: Any, number: int) -> UnitBlock:
    """Return the first unit of a block of a row, and the one after its last."""
    first: int = number * row.block
    return first, min(first + row.block, row.units)


@inner_kernel
def _blocks(row: Any) -> int:
    """Return the number of blocks of a row."""
    count: int = -(-row.units // row.block)
    return count


@inner_kernel
def _forward(row: Any, size: SampleCounts, here: UnitBlock, work: ProgramWork) -> None:
    """Compute a block of the output of a layer."""
    memory, parameters = work.memory, work.tensors.parameters
    x = view(memory.values, row.x, row.inputs, size)
    y = view(memory.values, row.y, row.units, size)
    if row.kind == DENSE:
        w = parameters[row.first : row.first + row.inputs * row.units]
        bias = parameters[row.second : row.second + (row.units if row.second >= 0 else 0)]
        dense(work.functions.product, x, w, bias, row.slope, here, y)
    elif row.kind == ACTIVATION:
        activation(x, row.function, row.slope, here, y)
    elif row.kind == DROPOUT:
        scale = 1.0 / (1.0 - row.number)
        dropout(x, _stays(row, size, memory), scale, here, size[2], y)
    else:
        a, b = here
        gamma = parameters[row.first + a : row.first + b]
        beta = parameters[row.second + a : row.second + b]
        c, d, rows = row.place + a, row.place + b, memory.statistics
        moments = rows[MEAN][c:d], rows[VARIANCE][c:d], rows[INVERSE][c:d]
        batch_norm(x, (gamma, beta), (row.number, row.slope), here, moments, y)


@inner_kernel
def _update(first: int, d: Array, tensors: Tensors, how: Update) -> None:
    """Update the parameters from the `first` on by their gradient d."""
    end, (update, rate, numbers) = first + d.size, how
    state = tensors.first[first:end], tensors.second[first:end]
    call(update, (tensors.parameters[first:end], d, *state, rate, numbers))


@inner_kernel
def _backward(
    row: Any, size: SampleCounts, here: UnitBlock, memory: Memory, tensors: Tensors, how: Update
) -> None:
    """Turn a block of the gradient in the output of a layer into that in its input, and update its
    tensors. Of a dense layer, it becomes the gradient before the leaky_relu."""
    d = view(memory.gradients, row.d, row.units, size)
    if row.kind == BATCH_NORM:
        begin, end = here
        a, b, rows = row.place + begin, row.place + end, memory.statistics
        gamma = tensors.parameters[row.first + begin : row.first + end]
        beta = tensors.parameters[row.second + begin : row.second + end]
        x = view(memory.values, row.x, row.units, size)
        sums = rows[D_GAMMA][a:b], rows[D_BETA][a:b]
        moments = rows[MEAN][a:b], rows[INVERSE][a:b]
        d_batch_norm(x, (gamma, beta, row.slope), moments, here, sums, d)
        _update(row.first + begin, sums[0], tensors, how)
        _update(row.second + begin, sums[1], tensors, how)
        c = row.state + begin
        e = c + row.units
        moving = tensors.state[c : c + b - a], tensors.state[e : e + b - a]
        moments = rows[MEAN][a:b], rows[VARIANCE][a:b]
        move(moving, moments, size[0], row.decay, row.unbiased > 0)
    elif row.kind == DROPOUT:
        scale = 1.0 / (1.0 - row.number)
        dropout(d, _stays(row, size, memory), scale, here, size[2], d)
    elif row.function > 0 or row.slope != 1:
        y = view(memory.values, row.y, row.units, size)
        d_activation(y, row.function, row.slope, here, d)


@inner_kernel
def _update_kernel(
    rows: Any, size: SampleCounts, here: UnitBlock, work: ProgramWork, how: Update, d: Array
) -> None:
    """Compute the block of dx of a dense layer, if it is wanted, and update these rows of the
    kernel. Nothing else reads them, so the order of the blocks does not matter.

    The `rows` are those of the dense layer and of the one that computed x. `d` is memory.
    """
    (row, below), memory, tensors = rows, work.memory, work.tensors
    product = work.functions.product
    w = tensors.parameters[row.first : row.first + row.inputs * row.units]
    dy = view(memory.gradients, row.d, row.units, size)
    if row.wants_dx:
        dx = view(memory.gradients, below.d, below.units, size)
        d_dense(product, dy, w, here, d, dx)
    begin, end = here
    d_kernel(product, view(memory.values, row.x, row.inputs, size), dy, here, d)
    first = row.first + begin * row.units
    _update(first, d[: (end - begin) * row.units], tensors, how)


@inner_kernel
def _gather(x: Array, chosen: NDArray[np.intp], here: UnitBlock, y: Array) -> None:
    """Copy a block of the values of the chosen samples."""
    first, end = here
    for n in range(chosen.size):
        given, own = x[chosen[n], first:end], y[n, first:end]
        for u in range(own.size):
            own[u] = given[u]


@inner_kernel
def draw_masks(
    work: ProgramWork, step: int, size: SampleCounts, chosen: NDArray[np.intp], team: Team
) -> int:
    """Draw or copy the masks of a step, and wait for the other threads: a thread needs the part of
    a mask that belongs to its blocks, and that another one may draw."""
    batches, stays, (samples, most, shards) = work.batches, work.memory.stays, size
    dropouts = len(batches.places)
    for number in range(team.thread, dropouts * shards, team.threads):
        dropout, shard = number // shards, number % shards
        place, units = batches.places[dropout]
        begin, end = samples * shard // shards, samples * (shard + 1) // shards
        first, last = place * most + units * begin, place * most + units * end
        if batches.given.size:
            for i in range(first, last):
                stays[i] = batches.given[step, i]
        else:
            key, least = batches.keys[step, shard, dropout], batches.least[dropout]
            draw_stays(key, least, stays[first:last])
    return int(dropouts == 0 or meet_team(team))


@inner_kernel
def forward_dense(
    work: ProgramWork, step: int, size: SampleCounts, chosen: NDArray[np.intp], team: Team
) -> int:
    """Compute the outputs of all layers."""
    memory = work.memory
    for g in range(len(work.groups) - 1):
        main = work.table[work.groups[g]]
        for number in range(team.thread, _blocks(main), team.threads):
            here = _block(main, number)
            if main.kind == INPUT:
                _gather(work.data.x, chosen, here, view(memory.values, main.y, main.units, size))
            elif main.kind != FEATURES:
                _forward(main, size, here, work)
            for k in range(work.groups[g] + 1, work.groups[g + 1]):
                _forward(work.table[k], size, here, work)
        if not meet_team(team):
            return 0
    return 1


@inner_kernel
def loss(
    work: ProgramWork, step: int, size: SampleCounts, chosen: NDArray[np.intp], team: Team
) -> int:
    """Compute the loss of a step and its gradient. Returns 0 if it is not finite."""
    row, parts, samples = work.table[len(work.table) - 1], work.memory.parts, size[0]
    outputs = view(work.memory.values, row.y, row.units, size)
    d = view(work.memory.gradients, row.d, row.units, size)
    targets, count = (work.data.labels, work.data.targets), -(-samples // LOSS_SAMPLES)
    for part in range(team.thread, count, team.threads):
        a, b = part * LOSS_SAMPLES, min(samples, (part + 1) * LOSS_SAMPLES)
        found = evaluate(work.loss, outputs[a:b], targets, chosen[a:b], samples, d[a:b])
        parts[part, 0], parts[part, 1] = found
    if not meet_team(team):
        return 0
    total, right = 0.0, 0.0
    for part in range(count):
        total += parts[part, 0]
        right += parts[part, 1]
    if team.thread == 0:
        work.losses[step], work.right[step] = total, right
    return int(np.isfinite(total))


@inner_kernel
def backward_dense(
    work: ProgramWork, step: int, size: SampleCounts, chosen: NDArray[np.intp], team: Team
) -> int:
    """Compute the gradients, and update each tensor as soon as its gradient is known."""
    how = work.functions.update, work.batches.rates[step], work.batches.numbers[step]
    for g in range(len(work.groups) - 2, 0, -1):
        main, first = work.table[work.groups[g]], work.groups[g - 1]
        below, last = work.table[first], work.groups[g] - 1
        # The bias is one more piece of work, beside the blocks of inputs.
        for number in range(team.thread, _blocks(below) + 1, team.threads):
            here = _block(below, number)
            if number < _blocks(below):
                rows, d = (main, work.table[last]), team.scratch
                _update_kernel(rows, size, here, work, how, d)
                for k in range(last, first - 1 if main.wants_dx else last, -1):
                    _backward(work.table[k], size, here, work.memory, work.tensors, how)
            elif main.second >= 0:
                d = team.scratch[: main.units]
                d_bias(view(work.memory.gradients, main.d, main.units, size), d)
                _update(main.second, d, work.tensors, how)
        if not meet_team(team):
            return 0
    return 1


@kernel
def train_steps(work: ProgramWork, team: Team) -> int:
    """Train for the steps of a work as one of several threads, and return how many ended.

    It ends early at a loss that is not finite, before the update, or if another thread failed.
    """
    bounds = work.batches.bounds
    for step in range(len(bounds)):
        begin, end = bounds[step, 0], bounds[step, 1]
        size = end - begin, work.most, work.batches.shards[step]
        chosen = work.data.order[begin:end]
        for address in work.functions.passes:
            if call(address, (work, step, size, chosen, team)) == 0:
                return step
    return len(bounds)
