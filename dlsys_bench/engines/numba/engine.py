"""The numpy engine, with the passes over memory compiled by numba."""

from __future__ import annotations

from typing import Any

from dlsys_bench.engines.numba.activation import FusedActivationRule
from dlsys_bench.engines.numba.attention import FusedAttentionRule
from dlsys_bench.engines.numba.convolution import FusedConvolutionRule
from dlsys_bench.engines.numba.embedding import FusedEmbeddingRule
from dlsys_bench.engines.numba.losses import evaluate_loss
from dlsys_bench.engines.numba.norm_pool import norm_pool
from dlsys_bench.engines.numba.normalization import (
    FusedBatchNormRule,
    FusedDropoutRule,
    norm_activation,
)
from dlsys_bench.engines.numba.optimizers import STEPPERS
from dlsys_bench.engines.numba.pooling import FusedAveragePoolRule, FusedMaxPoolRule
from dlsys_bench.engines.numba.program.program import compile_program, missing_part
from dlsys_bench.engines.numba.sample_norm import FusedGroupNormRule, FusedSampleNormRule
from dlsys_bench.engines.numba.spin_barrier import SpinBarrier
from dlsys_bench.engines.numpy import NumpyEngine, ruleset
from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.numpy.ruleset import RuleSet
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dropout,
    Embedding,
    GroupNorm,
    Layer,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    RMSNorm,
)
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

RULES: dict[type[Layer], type[LayerRule[Any]]] = ruleset.RULES | {
    Conv1D: FusedConvolutionRule,
    Conv2D: FusedConvolutionRule,
    AveragePool: FusedAveragePoolRule,
    MaxPool: FusedMaxPoolRule,
    BatchNorm: FusedBatchNormRule,
    Dropout: FusedDropoutRule,
    Activation: FusedActivationRule,
    Embedding: FusedEmbeddingRule,
    MultiHeadAttention: FusedAttentionRule,
    LayerNorm: FusedSampleNormRule,
    RMSNorm: FusedSampleNormRule,
    GroupNorm: FusedGroupNormRule,
}


SPEED = 1.8
"""The speed of compiled passes, relative to those of numpy. What is left to the interpreter takes
as long for a shard of any size, and the threads take turns in it."""


class NumbaEngine(NumpyEngine):
    """The products, layout and shards of the numpy engine. What numpy computes in many passes over
    memory, numba computes in one."""

    name = "numba"
    rule_set = RuleSet(
        RULES,
        STEPPERS,
        evaluate_loss,
        SpinBarrier,
        {(BatchNorm, AveragePool): norm_pool, (BatchNorm, Activation): norm_activation},
        compile_program,
        SPEED,
    )

    def remark(self, model: Model, recipe: Recipe) -> str:
        """Return the first layer or option that keeps a training from being compiled."""
        part = missing_part(model, recipe)
        return f"{part} has no compiled form: one call per layer and step" if part else ""
