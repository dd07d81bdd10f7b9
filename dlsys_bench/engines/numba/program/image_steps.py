"""The passes over the images of a batch: they interpret the table of the layers of images.

A stage of layers is computed chunk by chunk, while a chunk is in the cache. At its end the threads
meet, because a batch norm needs the moments of all chunks. Sums over chunks are in their order,
whatever thread computed them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import call, expression, inner_kernel
from dlsys_bench.engines.numba.program.image_convolution import (
    convolve,
    d_biases,
    d_images,
    d_weights,
)
from dlsys_bench.engines.numba.program.image_layers import (
    activation,
    batch_norm,
    batch_norm_sums,
    d_activation,
    d_batch_norm,
    d_pool,
    dropout,
    moments,
    pool,
    read_gradients,
    read_samples,
    write_features,
)
from dlsys_bench.engines.numba.program.image_memory import Chunk, ChunkMask
from dlsys_bench.engines.numba.program.image_tables import (
    ACTIVATION,
    BATCH_NORM,
    CONVOLUTION,
    DROPOUT,
    POOL,
    READ,
)
from dlsys_bench.engines.numba.program.lanes import LANES
from dlsys_bench.engines.numba.program.layers import move
from dlsys_bench.engines.numba.program.work import (
    D_BETA,
    D_GAMMA,
    INVERSE,
    MEAN,
    VARIANCE,
    ProgramWork,
    SampleCounts,
    Team,
    meet_team,
    view,
)
from dlsys_bench.engines.plan import Array

UPDATED_AT_ONCE = 512
"""The parameters of a block of an update."""


@inner_kernel
def list_chunks(samples: int, shards: int, chunks: NDArray[np.int64]) -> int:
    """Return the number of chunks of a batch, and list the first sample of each, the one after its
    last, and those of its shard. A chunk has samples of one shard."""
    count = 0
    for shard in range(shards):
        first, end = samples * shard // shards, samples * (shard + 1) // shards
        for begin in range(first, end, LANES):
            chunks[count, 0], chunks[count, 1] = begin, min(begin + LANES, end)
            chunks[count, 2], chunks[count, 3] = first, end
            count += 1
    return count


@inner_kernel
def _chunk(number: int, work: ProgramWork, team: Team) -> Chunk:
    """Return a chunk."""
    samples: int = team.chunks[number, 1] - team.chunks[number, 0]
    return number, samples, len(work.images.parts)


@inner_kernel
def _mask(row: Any, number: int, size: SampleCounts, work: ProgramWork, team: Team) -> ChunkMask:
    """Return the mask of a dropout layer and a chunk."""
    y, (begin, _, first, end) = row.y, team.chunks[number]
    place = row.place * size[1] + y.channels * y.height * y.width * first
    return work.memory.stays[place:], end - first, begin - first


@expression
def _statistics(row: Any, team: Team) -> Array:
    """Return the statistics of a batch norm."""
    return team.statistics[:, row.place : row.place + row.x.channels]


@inner_kernel
def _affine(row: Any, work: ProgramWork) -> tuple[Array, Array]:
    """Return gamma and beta."""
    parameters, channels = work.tensors.parameters, row.x.channels
    gamma = parameters[row.first : row.first + channels]
    return gamma, parameters[row.second : row.second + channels]


@inner_kernel
def _weights(row: Any, work: ProgramWork) -> tuple[Array, Array]:
    """Return the kernel of a convolution, flat, and its bias."""
    parameters, filters = work.tensors.parameters, row.y.channels
    size = row.tall * row.wide * row.x.channels * filters
    bias = parameters[row.second : row.second + filters]
    return parameters[row.first : row.first + size], bias if row.second >= 0 else work.images.zeros


@inner_kernel
def forward_layer(
    row: Any,
    number: int,
    size: SampleCounts,
    chosen: NDArray[np.intp],
    work: ProgramWork,
    team: Team,
) -> int:
    """Compute the output of a layer for a chunk, and return 0."""
    values, chunk = work.images.values, _chunk(number, work, team)
    begin, end = team.chunks[number, 0], team.chunks[number, 1]
    if row.kind == READ:
        read_samples(row, chunk, work.data.x, chosen[begin:end], values)
    elif row.kind == CONVOLUTION:
        w, bias = _weights(row, work)
        convolve(row, chunk, work.functions.convolve, w, bias, values)
    elif row.kind == ACTIVATION:
        activation(row, chunk, values)
    elif row.kind == DROPOUT:
        mask = _mask(row, number, size, work, team)
        dropout(row.x, row.y, chunk, mask, row.number, values)
    elif row.kind == POOL:
        pool(row, chunk, values)
    elif row.kind == BATCH_NORM:
        found = _statistics(row, team)
        of = found[MEAN], found[INVERSE]
        batch_norm(row, chunk, _affine(row, work), of, values)
    else:
        top = work.table[0]
        features = view(work.memory.values, top.y, top.units, size)
        write_features(row, chunk, values, features[begin:end])
    return 0


@inner_kernel
def backward_layer(row: Any, number: int, size: SampleCounts, work: ProgramWork, team: Team) -> int:
    """Compute the gradients of a layer for a chunk: in its tensors, and in its input. Those in the
    input of a batch norm follow in the next stage. Returns 0."""
    values, gradients = work.images.values, work.images.gradients
    chunk, own = _chunk(number, work, team), work.images.tensor_gradients[number]
    if row.kind == CONVOLUTION:
        w, _ = _weights(row, work)
        d_weights(row, chunk, values, gradients, own[row.first : row.first + w.size])
        if row.second >= 0:
            d_biases(row, chunk, gradients, own[row.second : row.second + row.y.channels])
        if row.wants_dx:
            d_images(row, chunk, work.functions.convolve, w, work.images.zeros, gradients)
    elif row.kind == ACTIVATION:
        d_activation(row, chunk, values, gradients)
    elif row.kind == DROPOUT:
        mask = _mask(row, number, size, work, team)
        dropout(row.dy, row.dy, chunk, mask, row.number, gradients)
    elif row.kind == POOL:
        d_pool(row, chunk, gradients)
    elif row.kind == BATCH_NORM:
        found, channels = _statistics(row, team), row.x.channels
        sums = own[row.first : row.first + channels], own[row.second : row.second + channels]
        of = found[MEAN], found[INVERSE]
        batch_norm_sums(row, chunk, of, (values, gradients), sums)
    else:
        top = work.table[0]
        features = view(work.memory.gradients, top.d, top.units, size)
        begin, end = team.chunks[number, 0], team.chunks[number, 1]
        read_gradients(row, chunk, features[begin:end], gradients)
    return 0


@inner_kernel
def _join_moments(row: Any, count: int, work: ProgramWork, team: Team) -> None:
    """Compute the moments of a batch from those of its chunks. Chan, Golub & LeVeque 1979."""
    found, parts, channels = _statistics(row, team), work.images.parts, row.x.channels
    kind, samples = work.images.values.dtype.type, 0
    for number in range(count):
        samples += team.chunks[number, 1] - team.chunks[number, 0]
    for c in range(channels):
        place, mean, variance = row.place + c, kind(0), kind(0)
        for number in range(count):
            share = kind((team.chunks[number, 1] - team.chunks[number, 0]) / samples)
            mean += share * parts[number, 0, place]
        for number in range(count):
            share = kind((team.chunks[number, 1] - team.chunks[number, 0]) / samples)
            off = parts[number, 0, place] - mean
            variance += share * (parts[number, 1, place] + off * off)
        found[MEAN, c], found[VARIANCE, c] = mean, variance
        found[INVERSE, c] = kind(1) / np.sqrt(variance + kind(row.number))


@inner_kernel
def _join_sums(row: Any, count: int, samples: int, work: ProgramWork, team: Team) -> None:
    """Add up the gradients in gamma and beta of the chunks of a batch, and move the moving
    statistics."""
    found, channels = _statistics(row, team), row.x.channels
    for c in range(channels):
        found[D_GAMMA, c], found[D_BETA, c] = 0, 0
        for number in range(count):
            found[D_GAMMA, c] += work.images.tensor_gradients[number, row.first + c]
            found[D_BETA, c] += work.images.tensor_gradients[number, row.second + c]
    if team.thread == 0:
        state, first = work.tensors.state, row.state
        moving = state[first : first + channels], state[first + channels : first + 2 * channels]
        pixels = samples * row.x.height * row.x.width
        move(moving, (found[MEAN], found[VARIANCE]), pixels, row.decay, row.unbiased > 0)


@inner_kernel
def _d_batch_norm(row: Any, number: int, samples: int, work: ProgramWork, team: Team) -> None:
    """Compute the gradient in the input of a batch norm for a chunk."""
    found, (gamma, _) = _statistics(row, team), _affine(row, work)
    factors = found[MEAN], found[INVERSE], gamma, found[D_GAMMA], found[D_BETA]
    memory = work.images.values, work.images.gradients
    d_batch_norm(row, _chunk(number, work, team), factors, samples, memory)


@inner_kernel
def forward_images(
    work: ProgramWork, step: int, size: SampleCounts, chosen: NDArray[np.intp], team: Team
) -> int:
    """Compute the outputs of all layers of images. Returns 0 if another thread failed."""
    images, samples = work.images, size[0]
    rows, stages = images.table, images.stages
    count = list_chunks(samples, size[2], team.chunks)
    for stage in range(len(stages) - 1):
        first, end = stages[stage], stages[stage + 1]
        if rows[first].kind == BATCH_NORM:
            _join_moments(rows[first], count, work, team)
        for number in range(team.thread, count, team.threads):
            for k in range(first, end):
                call(work.functions.forward, (rows[k], number, size, chosen, work, team))
            if end < len(rows):
                place, channels = rows[end].place, rows[end].x.channels
                found = images.parts[number, :, place : place + channels]
                moments(rows[end], _chunk(number, work, team), images.values, found)
        if not meet_team(team):
            return 0
    return 1


@inner_kernel
def backward_images(
    work: ProgramWork, step: int, size: SampleCounts, chosen: NDArray[np.intp], team: Team
) -> int:
    """Compute the gradients of all layers of images, and update their tensors. Returns 0 if another
    thread failed."""
    images, samples = work.images, size[0]
    rows, stages, lowest = images.table, images.stages, images.lowest
    count = list_chunks(samples, size[2], team.chunks)
    for stage in range(len(stages) - 2, -1, -1):
        first, end = stages[stage], stages[stage + 1]
        inner = end < len(rows)
        if inner:
            _join_sums(rows[end], count, samples, work, team)
            if not rows[end].wants_dx:
                break
        for number in range(team.thread, count, team.threads):
            if inner:
                _d_batch_norm(rows[end], number, samples, work, team)
            for k in range(end - 1, max(first, lowest) - 1, -1):
                call(work.functions.backward, (rows[k], number, size, work, team))
        if not meet_team(team):
            return 0
    _update(work, step, count, team)
    return int(meet_team(team))


@inner_kernel
def _update(work: ProgramWork, step: int, count: int, team: Team) -> None:
    """Add up the gradients of the chunks, and update the tensors, block by block."""
    tensors, batches, every = work.tensors, work.batches, work.images.tensor_gradients
    parameters = work.images.parameters
    for begin in range(team.thread * UPDATED_AT_ONCE, parameters, team.threads * UPDATED_AT_ONCE):
        end = min(begin + UPDATED_AT_ONCE, parameters)
        d = team.scratch[: end - begin]
        d[:] = 0
        for number in range(count):
            part = every[number, begin:end]
            for k in range(d.size):
                d[k] += part[k]
        state = tensors.first[begin:end], tensors.second[begin:end]
        rate, numbers = batches.rates[step], batches.numbers[step]
        call(work.functions.update, (tensors.parameters[begin:end], d, *state, rate, numbers))
