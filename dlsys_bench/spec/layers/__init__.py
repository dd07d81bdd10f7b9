"""The layers: one frozen record per kind, with its options, shapes, parameters and state.

Shapes leave out the batch: an image is (height, width, channels), a sequence (positions, channels),
a vector (units,). LAYERS is the table of all kinds; the engines, the conformance ladder and the
property tests iterate over it.
"""

from __future__ import annotations

from dlsys_bench.spec.layers.activation import FUNCTIONS, Activation
from dlsys_bench.spec.layers.base import InvalidInput, Layer, Shape, ValueKind
from dlsys_bench.spec.layers.convolution import Conv2D
from dlsys_bench.spec.layers.dense import Dense, Flatten
from dlsys_bench.spec.layers.embedding import Embedding
from dlsys_bench.spec.layers.merging import Add, Concat, Merge
from dlsys_bench.spec.layers.normalization import GroupNorm, LayerNorm, RMSNorm, SampleNorm
from dlsys_bench.spec.layers.pooling import AveragePool, GlobalAveragePool, MaxPool
from dlsys_bench.spec.layers.regularization import BatchNorm, Dropout
from dlsys_bench.spec.layers.windows import IntPair

LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        *(Conv2D, AveragePool, MaxPool, BatchNorm, Dropout, Flatten, Dense, Activation),
        *(Add, Concat, Embedding, LayerNorm, RMSNorm, GroupNorm, GlobalAveragePool),
    )
}

__all__ = [
    "FUNCTIONS",
    "LAYERS",
    "Activation",
    "Add",
    "AveragePool",
    "BatchNorm",
    "Concat",
    "Conv2D",
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
    "MaxPool",
    "Merge",
    "RMSNorm",
    "SampleNorm",
    "Shape",
    "ValueKind",
]
