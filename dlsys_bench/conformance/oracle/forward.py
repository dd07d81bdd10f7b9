"""Every layer and every loss by definition. Arrays are (P, N, ...): P sets of tensors, of which
most are one.

What complex numbers pass through keeps their small imaginary parts: comparisons look at the real
part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.spec import layers, losses
from dlsys_bench.spec.model import Model

Array = Any
"""Of complex or real numbers; numpy's stubs lose the type at every step."""
Tensors = Mapping[str, Array]
"""Each tensor (P, ...) by its name in the model."""
Own = Mapping[str, Array]
"""The tensors of one layer."""


class Pass:
    """What a layer's forward needs beside its input: the mode, what a dropout keeps, and where
    statistics go."""

    def __init__(self, training: bool, masks: Mapping[int, NDArray[np.bool_]] | None) -> None:
        self.training, self.masks = training, masks or {}
        self.moved: dict[tuple[int, str], Array] = {}


def _windows(x: Array, window: layers.IntPair, strides: layers.IntPair) -> Array:
    """(P, N, H, W, C) -> (P, N, H', W', C, h, w), a view."""
    seen = np.lib.stride_tricks.sliding_window_view(x, window, axis=(2, 3))
    return seen[:, :, :: strides[0], :: strides[1]]


def _conv2d(layer: layers.Conv2D, x: Array, own: Own, place: int, now: Pass) -> Array:
    sides = layer.pads(x.shape[2:])
    x = np.pad(x, ((0, 0), (0, 0), *sides, (0, 0)))
    y = np.einsum(
        "pnhwcij,pijcf->pnhwf",
        _windows(x, layer.kernel_size, layer.strides),
        own["kernel"],
        optimize=True,
    )
    return y + own["bias"][:, None, None, None] if layer.use_bias else y


def _average_pool(layer: layers.AveragePool, x: Array, own: Own, place: int, now: Pass) -> Array:
    return _windows(x, layer.pool_size, layer.steps).mean(axis=(-2, -1))


def _max_pool(layer: layers.MaxPool, x: Array, own: Own, place: int, now: Pass) -> Array:
    seen = _windows(x, layer.pool_size, layer.steps)
    flat = seen.reshape(*seen.shape[:-2], -1)
    # argmax takes the first of equals.
    return np.take_along_axis(flat, flat.real.argmax(axis=-1)[..., None], axis=-1)[..., 0]


def _batch_norm(layer: layers.BatchNorm, x: Array, own: Own, place: int, now: Pass) -> Array:
    over = tuple(range(1, x.ndim - 1))

    def wide(values: Array) -> Array:
        return values.reshape(len(values), *(1 for _ in over), -1)

    mean, variance = own["moving_mean"], own["moving_variance"]
    if now.training:
        mean = x.mean(axis=over)
        variance = ((x - wide(mean)) ** 2).mean(axis=over)
        count = int(np.prod([x.shape[axis] for axis in over]))
        seen = (
            variance * (count / max(count - 1, 1))
            if layer.moving_variance == "unbiased"
            else variance
        )
        for name, value in (("moving_mean", mean), ("moving_variance", seen)):
            now.moved[place, name] = (
                layer.moving_decay * own[name] + (1 - layer.moving_decay) * value
            )
    return wide(own["gamma"]) * (x - wide(mean)) / np.sqrt(wide(variance) + layer.epsilon) + wide(
        own["beta"]
    )


def _dropout(layer: layers.Dropout, x: Array, own: Own, place: int, now: Pass) -> Array:
    return (
        x * now.masks[place] / (1 - layer.drop_rate) if now.training and place in now.masks else x
    )


def _flatten(layer: layers.Flatten, x: Array, own: Own, place: int, now: Pass) -> Array:
    return x.reshape(*x.shape[:2], -1)


def _dense(layer: layers.Dense, x: Array, own: Own, place: int, now: Pass) -> Array:
    y = x @ own["kernel"]
    return y + own["bias"][:, None] if layer.use_bias else y


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.real.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


FUNCTIONS: dict[str, Callable[[Array, float], Array]] = {
    "linear": lambda x, slope: x,
    "sigmoid": lambda x, slope: 1 / (1 + np.exp(-x)),
    "tanh": lambda x, slope: np.tanh(x),
    "relu": lambda x, slope: np.where(x.real > 0, x, 0),
    "leaky_relu": lambda x, slope: np.where(x.real > 0, x, slope * x),
    "softmax": lambda x, slope: _softmax(x),
}


def _activation(layer: layers.Activation, x: Array, own: Own, place: int, now: Pass) -> Array:
    return FUNCTIONS[layer.function](x, layer.negative_slope)


FORWARD: dict[str, Callable[[Any, Array, Own, int, Pass], Array]] = {
    "conv2d": _conv2d,
    "average_pool": _average_pool,
    "max_pool": _max_pool,
    "batch_norm": _batch_norm,
    "dropout": _dropout,
    "flatten": _flatten,
    "dense": _dense,
    "activation": _activation,
}


def forward(model: Model, tensors: Tensors, x: Array, now: Pass) -> list[Array]:
    """The output (P, N, ...) of every layer; `now.moved` then has the statistics, by the layer's
    place and name."""
    outputs = []
    for place, (layer, name) in enumerate(zip(model.layers, model.names, strict=True)):
        own = {
            key.removeprefix(name + "."): value
            for key, value in tensors.items()
            if key.startswith(name + ".")
        }
        x = FORWARD[layer.kind](layer, x, own, place, now)
        outputs.append(x)
    return outputs


def _cross_entropy(outputs: Array, y: Array) -> Array:
    largest = outputs.real.max(axis=-1, keepdims=True)
    logs = np.log(np.exp(outputs - largest).sum(axis=-1)) + largest[..., 0]
    return (logs - outputs[:, np.arange(len(y)), y]).mean(axis=-1)


def _margin(margin: float) -> Callable[[Array, Array], Array]:
    def loss(outputs: Array, y: Array) -> Array:
        short = margin - y * outputs[..., 0]
        return np.where(short.real > 0, short, 0).mean(axis=-1)

    return loss


LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "categorical_crossentropy": _cross_entropy,
    "sparse_categorical_crossentropy": _cross_entropy,
    "mean_squared_error": lambda outputs, y: ((outputs - y) ** 2).mean(axis=(-2, -1)),
    "half_mean_squared_error": lambda outputs, y: (
        ((outputs - y) ** 2).sum(axis=(-2, -1)) / (2 * len(y))
    ),
    "perceptron": _margin(0.0),
    "hinge": _margin(1.0),
}


def loss_of(loss: losses.Loss, outputs: Array, y: Array) -> Array:
    """The loss (P,) of outputs (P, N, K)."""
    return LOSSES[loss.kind](outputs, y)


def right(loss: losses.Loss, outputs: Array, y: Array) -> float | None:
    """The fraction of outputs (N, K) that are right: the first of the largest, or the sign; None
    for values."""
    if loss.targets == "values":
        return None
    given = outputs.argmax(axis=-1) if loss.targets == "labels" else np.sign(outputs[:, 0])
    return float((given == y).mean())
