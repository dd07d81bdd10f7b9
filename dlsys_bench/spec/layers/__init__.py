"""The layers: one frozen record per kind, with its options, shapes, parameters and state.

Shapes leave out the batch: an image is (height, width, channels), a sequence (positions, channels),
a vector (units,). LAYERS is the table of all kinds; the engines, the conformance ladder and the
property tests iterate over it.
"""

from __future__ import annotations

from dlsys_bench.spec.layers.activation import FUNCTIONS, Activation
from dlsys_bench.spec.layers.attention import MultiHeadAttention
from dlsys_bench.spec.layers.base import InvalidInput, Layer, Mask, Shape, ValueKind
from dlsys_bench.spec.layers.convolution import Conv1D, Conv2D, Convolution
from dlsys_bench.spec.layers.dense import Dense, Flatten
from dlsys_bench.spec.layers.embedding import Embedding, PositionEmbedding
from dlsys_bench.spec.layers.merging import Add, Concat, Merge
from dlsys_bench.spec.layers.normalization import GroupNorm, LayerNorm, RMSNorm, SampleNorm
from dlsys_bench.spec.layers.pooling import AveragePool, GlobalAveragePool, MaxPool
from dlsys_bench.spec.layers.regularization import BatchNorm, Dropout, SpatialDropout
from dlsys_bench.spec.layers.windows import IntPair
from dlsys_bench.spec.record import Choices

LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        *(Conv2D, AveragePool, MaxPool, BatchNorm, Dropout, Flatten, Dense, Activation),
        *(Add, Concat, Embedding, LayerNorm, RMSNorm, GroupNorm, GlobalAveragePool),
        *(Conv1D, SpatialDropout, PositionEmbedding, MultiHeadAttention),
    )
}

VARIANTS: dict[str, tuple[type[Layer], Choices]] = {
    name: (layer, choices)
    for layer in LAYERS.values()
    for name, choices in layer.all_variants().items()
}
"""The ways to use a layer that are checked separately, with their choices; each kind is one."""

__all__ = [
    "FUNCTIONS",
    "LAYERS",
    "VARIANTS",
    "Activation",
    "Add",
    "AveragePool",
    "BatchNorm",
    "Concat",
    "Conv1D",
    "Conv2D",
    "Convolution",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePool",
    "GroupNorm",
    "IntPair",
    "InvalidInput",
    "Layer",
    "LayerNorm",
    "Mask",
    "MaxPool",
    "Merge",
    "MultiHeadAttention",
    "PositionEmbedding",
    "RMSNorm",
    "SampleNorm",
    "Shape",
    "SpatialDropout",
    "ValueKind",
]
