"""The layers: a pure function for each kind, in one table. Images are (N, H, W, C)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from dlsys_bench.spec import layers

JaxTensors = dict[str, Array]


class Call(NamedTuple):
    """The arguments of a layer: a batch (N, *shape), or a list of them for a layer that merges, the
    tensors of the layer ("kernel", "bias", ...), the mode, and what a dropout layer keeps,
    (N, *shape) of bool, or None for everything."""

    x: Any
    shape: layers.Shape
    tensors: JaxTensors
    training: bool
    kept: Array | None


ORDERS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}
"""The order of the axes of x, kernel and y, by the number of axes of positions."""


def _convolution(layer: layers.Convolution, call: Call) -> Array:
    y = lax.conv_general_dilated(
        call.x,
        call.tensors["kernel"],
        layer.steps,
        layer.pads(call.shape),
        rhs_dilation=layer.spacing,
        dimension_numbers=ORDERS[len(layer.window)],
        feature_group_count=layer.groups,
    )
    return y + call.tensors["bias"] if layer.use_bias else y


def _dense(layer: layers.Dense, call: Call) -> Array:
    y = call.x @ call.tensors["kernel"]
    return y + call.tensors["bias"] if layer.use_bias else y


def _windows(layer: Any, x: Array, start: float, combine: Any) -> Array:
    return lax.reduce_window(
        x, start, combine, (1, *layer.pool_size, 1), (1, *layer.steps, 1), "VALID"
    )


def _dropout(layer: layers.Dropout, call: Call) -> Array:
    return (
        call.x if call.kept is None else jnp.where(call.kept, call.x / (1.0 - layer.drop_rate), 0.0)
    )


def _sample_norm(layer: layers.SampleNorm, call: Call, x: Array, axes: tuple[int, ...]) -> Array:
    """Normalise x, a view of the values of the layer, over some axes."""
    centred = x - x.mean(axes, keepdims=True) if layer.centers else x
    variance = jnp.square(centred).mean(axes, keepdims=True)
    normal = (centred * lax.rsqrt(variance + layer.epsilon)).reshape(call.x.shape)
    y = call.tensors["gamma"] * normal
    return y + call.tensors["beta"] if layer.centers else y


def _channel_norm(layer: layers.SampleNorm, call: Call) -> Array:
    return _sample_norm(layer, call, call.x, (-1,))


def _group_norm(layer: layers.GroupNorm, call: Call) -> Array:
    grouped = call.x.reshape(len(call.x), -1, layer.groups, call.shape[-1] // layer.groups)
    return _sample_norm(layer, call, grouped, (1, 3))


def _attention(layer: layers.MultiHeadAttention, call: Call) -> Array:
    own = call.tensors
    attending, context = call.x if layer.context else (call.x, call.x)

    def project(name: str, x: Array) -> Array:
        y = x @ own[f"{name}_kernel"]
        return y + own[f"{name}_bias"] if layer.use_bias else y

    query, key, value = (
        project(name, x).reshape(*x.shape[:2], layer.heads, -1)
        for name, x in (("query", attending), ("key", context), ("value", context))
    )
    # jax.nn.dot_product_attention has no dropout, and its softmax is in single precision.
    scores = jnp.einsum("nthk,nshk->nhts", query, key) / math.sqrt(query.shape[-1])
    if layer.causal:
        seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        scores = jnp.where(seen, scores, -jnp.inf)
    weights = jax.nn.softmax(scores)
    if call.kept is not None:
        weights = weights * call.kept / (1.0 - layer.drop_rate)
    mixed = jnp.einsum("nhts,nshk->nthk", weights, value)
    return project("output", mixed.reshape(*mixed.shape[:2], -1))


ACTIVATIONS: dict[str, Callable[[layers.Activation, Array], Array]] = {
    "linear": lambda layer, x: x,
    "sigmoid": lambda layer, x: jax.nn.sigmoid(x),
    "tanh": lambda layer, x: jnp.tanh(x),
    "relu": lambda layer, x: jax.nn.relu(x),
    # At zero, jax.nn.leaky_relu has the slope of the right side, the specification that of the
    # left.
    "leaky_relu": lambda layer, x: jnp.where(x > 0, x, layer.negative_slope * x),
    "softmax": lambda layer, x: jax.nn.softmax(x, axis=-1),
    "elu": lambda layer, x: jax.nn.elu(x),
    "softplus": lambda layer, x: jax.nn.softplus(x),
    "silu": lambda layer, x: jax.nn.silu(x),
    "gelu": lambda layer, x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda layer, x: jax.nn.gelu(x, approximate=True),
}

# The layers without state.
RULES: dict[type[layers.Layer], Callable[[Any, Call], Array]] = {
    layers.Conv1D: _convolution,
    layers.Conv2D: _convolution,
    layers.AveragePool: lambda layer, call: (
        _windows(layer, call.x, 0.0, lax.add) / math.prod(layer.pool_size)
    ),
    layers.MaxPool: lambda layer, call: _windows(layer, call.x, -jnp.inf, lax.max),
    layers.Dropout: _dropout,
    layers.SpatialDropout: _dropout,
    layers.Flatten: lambda layer, call: call.x.reshape(len(call.x), -1),
    layers.Dense: _dense,
    layers.Activation: lambda layer, call: ACTIVATIONS[layer.function](layer, call.x),
    layers.Add: lambda layer, call: sum(call.x[1:], call.x[0]),
    layers.Concat: lambda layer, call: jnp.concatenate(call.x, axis=-1),
    layers.GlobalAveragePool: lambda layer, call: call.x.mean(tuple(range(1, call.x.ndim - 1))),
    layers.LayerNorm: _channel_norm,
    layers.RMSNorm: _channel_norm,
    layers.GroupNorm: _group_norm,
    layers.MultiHeadAttention: _attention,
    layers.PositionEmbedding: lambda layer, call: (
        call.x + call.tensors["embeddings"][: call.shape[0]]
    ),
    layers.Embedding: lambda layer, call: call.tensors["embeddings"][call.x],
}


def _batch_norm(layer: layers.BatchNorm, call: Call) -> tuple[Array, JaxTensors]:
    """Normalise by the statistics of the batch in training, by the moving ones outside."""
    x, own = call.x, call.tensors
    mean, variance, moved = own["moving_mean"], own["moving_variance"], {}
    if call.training:
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axes), x.var(axes)
        samples = math.prod(x.shape[:-1])
        unbiased = samples / max(samples - 1, 1) if layer.moving_variance == "unbiased" else 1.0
        now = {"moving_mean": mean, "moving_variance": variance * unbiased}
        decay = layer.moving_decay
        moved = {part: decay * own[part] + (1.0 - decay) * value for part, value in now.items()}
    scale = own["gamma"] / jnp.sqrt(variance + layer.epsilon)
    return (x - mean) * scale + own["beta"], moved


# The layers with state that training moves: they return the output and the state after the batch.
MOVING: dict[type[layers.Layer], Callable[[Any, Call], tuple[Array, JaxTensors]]] = {
    layers.BatchNorm: _batch_norm
}


def apply(layer: layers.Layer, call: Call) -> tuple[Array, JaxTensors]:
    """Compute the output (N, ...) of a layer, and the part of its state that the batch moved."""
    if type(layer) in MOVING:
        return MOVING[type(layer)](layer, call)
    return RULES[type(layer)](layer, call), {}
