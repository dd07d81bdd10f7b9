"""The initial values of tensors: drawn by torch's initialisers, or given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from dlsys_bench.engines.plan import Weights
from dlsys_bench.engines.torch.layout import kernel_in
from dlsys_bench.spec import initializers
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.model import Tensor as ModelTensor

INITIALIZERS: dict[type[initializers.Initializer], Callable[..., object]] = {
    initializers.GlorotUniform: lambda record, t, fans, g: nn.init.xavier_uniform_(t, generator=g),
    initializers.GlorotNormal: lambda record, t, fans, g: nn.init.xavier_normal_(t, generator=g),
    initializers.HeUniform: lambda record, t, fans, g: nn.init.kaiming_uniform_(
        t, nonlinearity="relu", generator=g
    ),
    initializers.HeNormal: lambda record, t, fans, g: nn.init.kaiming_normal_(
        t, nonlinearity="relu", generator=g
    ),
    initializers.Uniform: lambda record, t, fans, g: nn.init.uniform_(
        t, record.low, record.high, generator=g
    ),
    initializers.Normal: lambda record, t, fans, g: nn.init.normal_(
        t, 0.0, record.stddev, generator=g
    ),
    initializers.FanInUniform: lambda record, t, fans, g: nn.init.uniform_(
        t, -1.0 / math.sqrt(fans.fan_in), 1.0 / math.sqrt(fans.fan_in), generator=g
    ),
    initializers.Zeros: lambda record, t, fans, g: nn.init.zeros_(t),
    initializers.Ones: lambda record, t, fans, g: nn.init.ones_(t),
}


def initialize(
    model: Model, tensors: Mapping[str, Tensor], weights: Weights | None, seed: int
) -> None:
    """Fill the tensors, on the CPU, with these weights, or with values that the model's
    initialisers draw from the seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.tensors:
            target = tensors[tensor.name]
            if weights is not None:
                target.copy_(kernel_in(tensor.name, weights[tensor.name]))
            else:
                _draw(tensor, target, generator)


def _draw(tensor: ModelTensor, target: Tensor, generator: torch.Generator) -> None:
    """Draw with torch's initialiser. torch derives the fans from the shape of a tensor, so one that
    is no kernel is drawn from the distribution instead."""
    record, fans = tensor.initializer, tensor.fans
    is_constant = type(record) in (initializers.Zeros, initializers.Ones)
    if tensor.name.endswith(".kernel") or is_constant:
        INITIALIZERS[type(record)](record, target, fans, generator)
    else:
        distribution = record.distribution(fans)
        if distribution.family == "uniform":
            nn.init.uniform_(target, distribution.low, distribution.high, generator=generator)
        else:
            nn.init.normal_(target, 0.0, distribution.stddev, generator=generator)
