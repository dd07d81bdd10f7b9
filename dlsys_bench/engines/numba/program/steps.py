"""The kernel that trains: it interprets the table of a program for many steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numba.normalization import draw_stays
from dlsys_bench.engines.numba.program.layers import (
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
from dlsys_bench.engines.numba.spin_barrier import meet
from dlsys_bench.engines.plan import Array

LOSS_SAMPLES = 16
"""The samples of which the loss is computed at a time. The parts are summed in order."""

MEAN, VARIANCE, INVERSE, D_GAMMA, D_BETA, SLOPE, LESS = range(7)
"""The rows of the statistics, see `layers.batch_norm` and `layers.d_batch_norm`."""


@kernel
def _view(values: Array, place: int, samples: int, units: int, most: int) -> Array:
    """Return the values (N, units) that begin at a place, with memory for `most` samples."""
    return values[place * most : place * most + samples * units].reshape((samples, units))


@kernel
def _forward(
    row: Any, samples: int, most: int, here: tuple[int, int], memory: Any, parameters: Array
) -> None:
    """Compute a block of the output of a layer."""
    values, _, statistics, stays = memory
    x = _view(values, row.x, samples, row.inputs, most)
    y = _view(values, row.y, samples, row.units, most)
    if row.kind == DENSE:
        w = parameters[row.first : row.first + row.inputs * row.units]
        bias = parameters[row.second : row.second + (row.units if row.second >= 0 else 0)]
        dense(x, w, bias, row.slope, here, y)
    elif row.kind == ACTIVATION:
        leaky(y, row.slope, here)
    elif row.kind == DROPOUT:
        kept = stays[row.place * most : row.place * most + samples * row.units]
        dropout(y, kept, 1.0 / (1.0 - row.number), here)
    else:
        a, b = here
        gamma = parameters[row.first + a : row.first + b]
        beta = parameters[row.second + a : row.second + b]
        c, d = row.place + a, row.place + b
        moments = statistics[MEAN][c:d], statistics[VARIANCE][c:d], statistics[INVERSE][c:d]
        normal = _view(values, row.normal, samples, row.units, most)
        batch_norm(x, (gamma, beta), (row.number, row.slope), here, moments, (normal, y))


@kernel
def _update_part(a: int, d: Array, network: Any, step: Any) -> None:
    """Update the parameters that begin at `a` by their gradient d."""
    parameters, first, second, _ = network
    optimizer, rate, numbers = step
    b = a + d.size
    update(optimizer, parameters[a:b], d, (first[a:b], second[a:b]), rate, numbers)


@kernel
def _backward(
    row: Any, samples: int, most: int, here: tuple[int, int], memory: Any, network: Any, step: Any
) -> None:
    """Turn a block of the gradient in the output of a layer into that in its input, and update its
    tensors. Of a dense layer, it is that before the leaky_relu."""
    values, gradients, statistics, stays = memory
    parameters, _, _, state = network
    y = _view(values, row.y, samples, row.units, most)
    d = _view(gradients, row.d, samples, row.units, most)
    if row.slope < 1:
        d_leaky(y, row.slope, here, d)
    if row.kind == DROPOUT:
        kept = stays[row.place * most : row.place * most + samples * row.units]
        dropout(d, kept, 1.0 / (1.0 - row.number), here)
    elif row.kind == BATCH_NORM:
        begin, end = here
        a, b = row.place + begin, row.place + end
        gamma = parameters[row.first + begin : row.first + end]
        normal = _view(values, row.normal, samples, row.units, most)
        sums = statistics[D_GAMMA][a:b], statistics[D_BETA][a:b]
        factors = statistics[SLOPE][a:b], statistics[LESS][a:b]
        d_batch_norm(normal, (gamma, statistics[INVERSE][a:b]), here, sums + factors, d)
        _update_part(row.first + begin, sums[0], network, step)
        _update_part(row.second + begin, sums[1], network, step)
        c = row.state + begin
        moving = state[c : c + b - a], state[c + row.units : c + row.units + b - a]
        moments = statistics[MEAN][a:b], statistics[VARIANCE][a:b]
        move(moving, moments, samples, row.decay, row.unbiased > 0)


@kernel
def _update_kernel(
    row: Any,
    below: Any,
    samples: int,
    most: int,
    here: tuple[int, int],
    memory: Any,
    network: Any,
    step: Any,
    scratch: Array,
) -> None:
    """Compute the block of dx of a dense layer, if it is wanted, and update these rows of the
    kernel. Nothing else reads them, so the order of the blocks does not matter. `below` is the row
    that computed x."""
    values, gradients, _, _ = memory
    begin, end = here
    w = network[0][row.first : row.first + row.inputs * row.units]
    x = _view(values, row.x, samples, row.inputs, most)
    dy = _view(gradients, row.d, samples, row.units, most)
    if row.wants_dx:
        d_dense(dy, w, here, _view(gradients, below.d, samples, below.units, most))
    d_kernel(x, dy, here, scratch)
    d = scratch[: (end - begin) * row.units]
    _update_part(row.first + begin * row.units, d, network, step)


@kernel
def _update_bias(
    row: Any, samples: int, most: int, memory: Any, network: Any, step: Any, scratch: Array
) -> None:
    """Update the bias of a dense layer."""
    _, gradients, _, _ = memory
    d = scratch[: row.units]
    d_bias(_view(gradients, row.d, samples, row.units, most), d)
    _update_part(row.second, d, network, step)


@kernel
def _gather(x: Array, chosen: NDArray[np.intp], here: tuple[int, int], y: Array) -> None:
    """Copy a block of the values of the chosen samples."""
    first, end = here
    for n in range(chosen.size):
        given, own = x[chosen[n], first:end], y[n, first:end]
        for u in range(own.size):
            own[u] = given[u]


@kernel
def _block(row: Any, number: int) -> tuple[int, int]:
    """Return the first unit of a block of a row, and the one after its last."""
    first = number * row.block
    return first, min(first + row.block, row.units)


@kernel
def train_steps(
    table: Any,
    groups: NDArray[np.intp],
    network: Any,
    memory: Any,
    data: Any,
    batches: Any,
    optimizer: int,
    loss: int,
    results: Any,
    scratch: Array,
    threads: tuple[int, int],
    barrier: Any,
) -> int:
    """Train for some steps as one of several threads, and return how many ended.

    - `groups` has the first row of each group: a dense layer, or the input, with the layers up to
      the next dense one, which are computed block by block with it.
    - `network`: parameters, first and second moment, state; all flat.
    - `memory`: values, gradients, statistics and the masks of one step.
    - `data`: x (S, units), labels (S,) and values (S, K), of which one is empty, and the order
      of the samples.
    - `batches`, by step: the first sample and the one after the last, the rates (steps, 1), the
      numbers of the optimiser, the keys of the dropout layers, and their given masks, if any.
    - `results`: the loss and the correct answers of each step, and memory for parts of them.
    - `barrier`: counts, the flag of a thread that gave up.

    It ends early at a loss that is not finite, before the update, or if a thread gave up.
    """
    x, labels, targets, order = data
    bounds, rates, numbers, keys, least, given = batches
    losses, right, parts = results
    thread, count = threads
    counts, broken = barrier
    turn = 0
    most = (bounds[:, 1] - bounds[:, 0]).max()
    values, gradients, _, stays = memory
    last = table[len(table) - 1]
    for s in range(len(bounds)):
        begin, end = bounds[s, 0], bounds[s, 1]
        samples = end - begin
        chosen = order[begin:end]
        step = optimizer, rates[s], numbers[s]
        drawn = 0
        for k in range(len(table)):
            if table[k].kind == DROPOUT:
                drawn += 1
                if drawn % count == thread:
                    a = table[k].place * most
                    kept = stays[a : a + samples * table[k].units]
                    if given.size:
                        for i in range(kept.size):
                            kept[i] = given[s, a + i]
                    else:
                        draw_stays(keys[s, drawn - 1], least[drawn - 1], kept)
        # Masks are drawn while the first block is computed, but used in any block of any thread.
        if drawn:
            turn += 1
            if not meet(counts, broken, thread, turn):
                return s
        for g in range(len(groups) - 1):
            main = table[groups[g]]
            for number in range(thread, -(-main.units // main.block), count):
                here = _block(main, number)
                if main.kind == INPUT:
                    _gather(x, chosen, here, _view(values, main.y, samples, main.units, most))
                else:
                    _forward(main, samples, most, here, memory, network[0])
                for k in range(groups[g] + 1, groups[g + 1]):
                    _forward(table[k], samples, most, here, memory, network[0])
            turn += 1
            if not meet(counts, broken, thread, turn):
                return s
        outputs = _view(values, last.y, samples, last.units, most)
        d_outputs = _view(gradients, last.d, samples, last.units, most)
        pieces = -(-samples // LOSS_SAMPLES)
        for piece in range(thread, pieces, count):
            a, b = piece * LOSS_SAMPLES, min(samples, (piece + 1) * LOSS_SAMPLES)
            part, found = evaluate(
                loss, outputs[a:b], (labels, targets), chosen[a:b], samples, d_outputs[a:b]
            )
            parts[piece, 0], parts[piece, 1] = part, found
        turn += 1
        if not meet(counts, broken, thread, turn):
            return s
        total, hits = 0.0, 0.0
        for piece in range(pieces):
            total += parts[piece, 0]
            hits += parts[piece, 1]
        if thread == 0:
            losses[s], right[s] = total, hits
        if not np.isfinite(total):
            return s
        for g in range(len(groups) - 2, 0, -1):
            main, below = table[groups[g]], table[groups[g - 1]]
            blocks = -(-below.units // below.block)
            for number in range(thread, blocks + 1, count):
                if number == blocks:
                    if main.second >= 0:
                        _update_bias(main, samples, most, memory, network, step, scratch)
                    continue
                here = _block(below, number)
                _update_kernel(main, table[groups[g] - 1], samples, most, here, memory, network, step, scratch)
                if main.wants_dx:
                    for k in range(groups[g] - 1, groups[g - 1] - 1, -1):
                        _backward(table[k], samples, most, here, memory, network, step)
            turn += 1
            if not meet(counts, broken, thread, turn):
                return s
    return len(bounds)
