"""The rules that a network computes with: of each layer, each optimiser and the losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from numpy.typing import NDArray

from dlsys_bench.engines.numpy.activation import ActivationRule
from dlsys_bench.engines.numpy.attention import AttentionRule
from dlsys_bench.engines.numpy.convolution import ConvolutionRule
from dlsys_bench.engines.numpy.dense import DenseRule, FlattenRule
from dlsys_bench.engines.numpy.dropout import DropoutRule, SpatialDropoutRule
from dlsys_bench.engines.numpy.embedding import EmbeddingRule, PositionEmbeddingRule
from dlsys_bench.engines.numpy.losses import LossTargets, evaluate_loss
from dlsys_bench.engines.numpy.merging import AddRule, ConcatRule
from dlsys_bench.engines.numpy.normalization import BatchNormRule
from dlsys_bench.engines.numpy.optimizers import STEPPERS, Stepper
from dlsys_bench.engines.numpy.pooling import AveragePoolRule, GlobalAveragePoolRule, MaxPoolRule
from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.numpy.sample_norm import GroupNormRule, LayerNormRule, RMSNormRule
from dlsys_bench.engines.numpy.shards import Barrier, BlockingBarrier
from dlsys_bench.engines.numpy.trainer import Trainer
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import (
    Activation,
    Add,
    AveragePool,
    BatchNorm,
    Concat,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePool,
    GroupNorm,
    Layer,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    PositionEmbedding,
    RMSNorm,
    SpatialDropout,
)
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.optimizers import Optimizer

RULES: dict[type[Layer], type[LayerRule[Any]]] = {
    Conv1D: ConvolutionRule,
    Conv2D: ConvolutionRule,
    AveragePool: AveragePoolRule,
    MaxPool: MaxPoolRule,
    BatchNorm: BatchNormRule,
    Dropout: DropoutRule,
    SpatialDropout: SpatialDropoutRule,
    Flatten: FlattenRule,
    Dense: DenseRule,
    Activation: ActivationRule,
    Add: AddRule,
    Concat: ConcatRule,
    Embedding: EmbeddingRule,
    PositionEmbedding: PositionEmbeddingRule,
    MultiHeadAttention: AttentionRule,
    LayerNorm: LayerNormRule,
    RMSNorm: RMSNormRule,
    GroupNorm: GroupNormRule,
    GlobalAveragePool: GlobalAveragePoolRule,
}


class RuleSet(NamedTuple):
    """The rules of an engine. `rules` has that of each layer, `steppers` that of each optimiser,
    and `evaluate_loss` computes a loss, its gradient and the number of correct answers. `barrier`
    makes the threads of several shards wait for each other. `fused` has functions that combine the
    rules of two consecutive layers in one, or return None if these two cannot be combined.
    `compile_program` returns what trains whole epochs, or None if the rules have to. A shard is
    worthwhile with `speed` times the values of one of numpy, as it is computed in less time."""

    rules: Mapping[type[Layer], type[LayerRule[Any]]]
    steppers: Mapping[type[Optimizer], type[Stepper[Any]]]
    evaluate_loss: Callable[[Loss, Array, LossTargets], tuple[Array, Array, NDArray[Any] | None]]
    barrier: Callable[[int], Barrier] = BlockingBarrier
    fused: Mapping[tuple[type[Layer], type[Layer]], Callable[[Any, Any], LayerRule[Any] | None]] = (
        MappingProxyType({})
    )
    compile_program: Callable[..., Trainer | None] = lambda *training: None
    speed: float = 1.0


NUMPY_RULES = RuleSet(RULES, STEPPERS, evaluate_loss)
