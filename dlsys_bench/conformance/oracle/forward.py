"""Every layer by its definition, for P sets of tensors at once.

Arrays are (P, N, ...) and tensors (P, ...); an axis of length one stands for equal sets. All are
complex: comparisons use the real parts, and the imaginary parts carry the derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.oracle.attention import attention
from dlsys_bench.conformance.oracle.functions import FUNCTIONS
from dlsys_bench.conformance.oracle.rounding import EXACT, Rounding
from dlsys_bench.errors import SpecError
from dlsys_bench.spec import layers
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.record import Record

ComplexArray = Any
"""An array of complex or real numbers. numpy's stubs lose its type at every operation."""

T = TypeVar("T")

ComplexTensors = Mapping[str, ComplexArray]
"""ComplexTensors (P, ...) by name: of a model by their full names, or of one layer by their own."""


class ForwardPass:
    """The mode of a forward pass and its dropout masks, by the places of the layers.

    `statistics` receives the moving statistics after the pass, by the layer's place and their name.
    """

    def __init__(
        self,
        training: bool,
        masks: Mapping[int, NDArray[np.bool_]] | None,
        rounding: Rounding = EXACT,
    ) -> None:
        self.training, self.masks, self.rounding = training, masks or {}, rounding
        self.statistics: dict[tuple[int, str], ComplexArray] = {}


def _windows(x: ComplexArray, window: layers.IntPair, strides: layers.IntPair) -> ComplexArray:
    """Return a view of the windows of x: (P, N, H, W, C) -> (P, N, H', W', C, h, w)."""
    seen = np.lib.stride_tricks.sliding_window_view(x, window, axis=(2, 3))
    return seen[:, :, :: strides[0], :: strides[1]]


def _convolution(
    layer: layers.Convolution, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    axes = tuple(range(2, 2 + len(layer.window)))
    x = np.pad(x, ((0, 0), (0, 0), *layer.pads(x.shape[2:]), (0, 0)))
    seen: Any = np.lib.stride_tricks.sliding_window_view(x, layer.span, axis=axes)
    # (P, N, positions, C, window), with the positions and the places in a window in one axis each.
    seen = seen[:, :, *(slice(None, None, step) for step in layer.steps)]
    seen = seen[..., *(slice(None, None, space) for space in layer.spacing)]
    positions = seen.shape[2 : 2 + len(axes)]
    seen = seen.reshape(*seen.shape[:2], math.prod(positions), x.shape[-1], -1)
    kernel = own["kernel"].reshape(len(own["kernel"]), seen.shape[-1], -1, layer.filters)
    channels, filters = kernel.shape[2], layer.filters // layer.groups
    parts = [
        np.einsum(
            "pnocw,pwcf->pnof",
            seen[:, :, :, group * channels : (group + 1) * channels],
            kernel[..., group * filters : (group + 1) * filters],
            optimize=True,
        )
        for group in range(layer.groups)
    ]
    y = np.concatenate(parts, axis=-1)
    if layer.use_bias:
        y = y + own["bias"][:, None, None]
    return y.reshape(*y.shape[:2], *positions, layer.filters)


def _average_pool(
    layer: layers.AveragePool, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    return _windows(x, layer.pool_size, layer.steps).mean(axis=(-2, -1))


def _global_average_pool(
    layer: layers.GlobalAveragePool,
    x: ComplexArray,
    own: ComplexTensors,
    place: int,
    here: ForwardPass,
) -> ComplexArray:
    return x.mean(axis=tuple(range(2, x.ndim - 1)))


def _max_pool(
    layer: layers.MaxPool, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    seen = _windows(x, layer.pool_size, layer.steps)
    flat = seen.reshape(*seen.shape[:-2], -1)
    # argmax selects the first of equal values.
    return np.take_along_axis(flat, flat.real.argmax(axis=-1)[..., None], axis=-1)[..., 0]


def _batch_norm(
    layer: layers.BatchNorm, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    over = tuple(range(1, x.ndim - 1))

    def wide(values: ComplexArray) -> ComplexArray:
        return values.reshape(len(values), *(1 for _ in over), -1)

    mean, variance = own["moving_mean"], own["moving_variance"]
    if here.training:
        mean = x.mean(axis=over)
        variance = here.rounding.variance(x, x - wide(mean), over).reshape(mean.shape)
        count = int(np.prod([x.shape[axis] for axis in over]))
        seen = (
            variance * (count / max(count - 1, 1))
            if layer.moving_variance == "unbiased"
            else variance
        )
        for name, value in (("moving_mean", mean), ("moving_variance", seen)):
            here.statistics[place, name] = (
                layer.moving_decay * own[name] + (1 - layer.moving_decay) * value
            )
    centred = x - here.rounding.spread(wide(mean), x)
    root = here.rounding.spread(np.sqrt(wide(variance) + layer.epsilon), x)
    return wide(own["gamma"]) * centred / root + wide(own["beta"])


def _sample_norm(
    layer: layers.SampleNorm,
    x: ComplexArray,
    own: ComplexTensors,
    here: ForwardPass,
    axes: tuple[int, ...],
) -> ComplexArray:
    """Normalise x (P, N, positions, groups, channels of a group) over some axes."""
    if layer.centers:
        centred = x - here.rounding.spread(x.mean(axis=axes, keepdims=True), x)
        variance = here.rounding.variance(x, centred, axes)
    else:
        centred, variance = x, (x**2).mean(axis=axes, keepdims=True)
    normal = centred / here.rounding.spread(np.sqrt(variance + layer.epsilon), x)
    gamma = own["gamma"].reshape(len(own["gamma"]), 1, 1, *normal.shape[3:])
    if not layer.centers:
        return gamma * normal
    return gamma * normal + own["beta"].reshape(len(own["beta"]), 1, 1, *normal.shape[3:])


def _channel_norm(
    layer: layers.SampleNorm, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    wide = x.reshape(*x.shape[:2], -1, 1, x.shape[-1])
    y = _sample_norm(layer, wide, own, here, (-1,))
    return y.reshape(len(y), *x.shape[1:])


def _group_norm(
    layer: layers.GroupNorm, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    wide = x.reshape(*x.shape[:2], -1, layer.groups, x.shape[-1] // layer.groups)
    y = _sample_norm(layer, wide, own, here, (2, 4))
    return y.reshape(len(y), *x.shape[1:])


def _dropout(
    layer: layers.Dropout, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    return (
        x * here.masks[place] / (1 - layer.drop_rate)
        if here.training and place in here.masks
        else x
    )


def _flatten(
    layer: layers.Flatten, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    return x.reshape(*x.shape[:2], -1)


def _dense(
    layer: layers.Dense, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    # The axes of the samples and, in a sequence, of the positions.
    samples = tuple(range(1, x.ndim - 1))
    y = x @ np.expand_dims(own["kernel"], samples[:-1])
    return y + np.expand_dims(own["bias"], samples) if layer.use_bias else y


def _activation(
    layer: layers.Activation, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    return FUNCTIONS[layer.function](x, layer.negative_slope)


def _embedding(
    layer: layers.Embedding, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    return own["embeddings"][:, x[0]]


def _position_embedding(
    layer: layers.PositionEmbedding,
    x: ComplexArray,
    own: ComplexTensors,
    place: int,
    here: ForwardPass,
) -> ComplexArray:
    return x + own["embeddings"][:, None, : x.shape[2]]


def _add(
    layer: layers.Add, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    return sum(x[1:], x[0])


def _concat(
    layer: layers.Concat, x: ComplexArray, own: ComplexTensors, place: int, here: ForwardPass
) -> ComplexArray:
    sets = max(map(len, x))
    every = [np.broadcast_to(each, (sets, *each.shape[1:])) for each in x]
    return np.concatenate(every, axis=-1)


FORWARD: dict[
    str, Callable[[Any, ComplexArray, ComplexTensors, int, ForwardPass], ComplexArray]
] = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "average_pool": _average_pool,
    "max_pool": _max_pool,
    "batch_norm": _batch_norm,
    "dropout": _dropout,
    "spatial_dropout": _dropout,
    "flatten": _flatten,
    "dense": _dense,
    "activation": _activation,
    "add": _add,
    "concat": _concat,
    "embedding": _embedding,
    "position_embedding": _position_embedding,
    "multi_head_attention": attention,
    "layer_norm": _channel_norm,
    "rms_norm": _channel_norm,
    "group_norm": _group_norm,
    "global_average_pool": _global_average_pool,
}


def forward(
    model: Model, tensors: ComplexTensors, x: Sequence[ComplexArray], here: ForwardPass
) -> list[ComplexArray]:
    """Return the output (P, N, ...) of every layer, and store the statistics in `here`.

    `x` has an array for each input of the model.
    """
    values = [*x]
    for row in model.table:
        layer, place = row.layer, row.place
        own = {
            tensor: tensors[f"{row.name}.{tensor}"]
            for tensor in (*layer.parameters(*row.shapes), *layer.state(row.shape))
        }
        inputs = [values[source] for source in row.sources]
        taken = inputs if layer.merges else inputs[0]
        y = definition(FORWARD, layer)(layer, taken, own, place, here)
        # All sets of tensors share the roundings, as they share the function.
        values.append(here.rounding.array(y, axes=1))
    return values[len(x) :]


def definition(table: Mapping[str, T], record: Record) -> T:
    """Return the definition of a record. Raises SpecError if the oracle has none."""
    if record.kind not in table:
        raise SpecError(
            f"the oracle has no definition of {record.kind!r}: it goes into conformance/oracle/"
        )
    return table[record.kind]
