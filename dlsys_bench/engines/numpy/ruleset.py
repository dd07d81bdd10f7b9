"""What a network computes with: the rule of each layer, the step of each optimiser, the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from numpy.typing import NDArray

from dlsys_bench.engines.numpy.activation import ActivationRule
from dlsys_bench.engines.numpy.convolution import Conv2DRule
from dlsys_bench.engines.numpy.dense import DenseRule, FlattenRule
from dlsys_bench.engines.numpy.losses import LossTargets, evaluate
from dlsys_bench.engines.numpy.normalization import BatchNormRule, DropoutRule
from dlsys_bench.engines.numpy.optimizers import STEPPERS, Stepper
from dlsys_bench.engines.numpy.pooling import AveragePoolRule, MaxPoolRule
from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.numpy.shards import Barrier, BlockingBarrier
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
)
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.optimizers import Optimizer

RULES: dict[type[Layer], type[LayerRule[Any]]] = {
    Conv2D: Conv2DRule,
    AveragePool: AveragePoolRule,
    MaxPool: MaxPoolRule,
    BatchNorm: BatchNormRule,
    Dropout: DropoutRule,
    Flatten: FlattenRule,
    Dense: DenseRule,
    Activation: ActivationRule,
}


class RuleSet(NamedTuple):
    """The rule of each kind of layer, the stepper of each optimiser, `judge` of the losses, and
    where shards `meet`; `pairs` makes one rule of those of two layers, one after the other, or None
    where these two have to stay two."""

    rules: Mapping[type[Layer], type[LayerRule[Any]]]
    steppers: Mapping[type[Optimizer], type[Stepper[Any]]]
    evaluate: Callable[[Loss, Array, LossTargets], tuple[Array, Array, NDArray[Any] | None]]
    barrier: Callable[[int], Barrier] = BlockingBarrier
    fused: Mapping[tuple[type[Layer], type[Layer]], Callable[[Any, Any], LayerRule[Any] | None]] = (
        MappingProxyType({})
    )


NUMPY_RULES = RuleSet(RULES, STEPPERS, evaluate)
