"""A network as a module: one of torch's own for each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlsys_bench.engines.torch.precision import Products
from dlsys_bench.spec import layers
from dlsys_bench.spec.model import Model


class TorchDropout(nn.Dropout):
    """torch's own, unless it is told what to keep."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None or not self.training:
            return super().forward(x)
        return x * mask / (1.0 - self.p)


class ChannelLastFlatten(nn.Module):
    """(N, C, H, W) -> (N, H W C): the order in which every engine's dense kernel counts its
    inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)


def _conv2d(layer: layers.Conv2D, shape: layers.Shape) -> nn.Module:
    (top, bottom), (left, right) = layer.pads(shape)
    even = top == bottom and left == right
    conv = nn.Conv2d(
        shape[2],
        layer.filters,
        layer.kernel_size,
        layer.strides,
        (top, left) if even else 0,
        bias=layer.use_bias,
    )
    return conv if even else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), conv)


def _batch_norm(layer: layers.BatchNorm, shape: layers.Shape) -> nn.Module:
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    return kind(shape[-1], eps=layer.epsilon, momentum=1.0 - layer.moving_decay)


ACTIVATIONS: dict[str, Callable[[layers.Activation], nn.Module]] = {
    "linear": lambda layer: nn.Identity(),
    "sigmoid": lambda layer: nn.Sigmoid(),
    "tanh": lambda layer: nn.Tanh(),
    "relu": lambda layer: nn.ReLU(),
    "leaky_relu": lambda layer: nn.LeakyReLU(layer.negative_slope),
    "softmax": lambda layer: nn.Softmax(dim=1),
}

LAYERS: dict[type[layers.Layer], Callable[[Any, layers.Shape], nn.Module]] = {
    layers.Conv2D: _conv2d,
    layers.AveragePool: lambda layer, shape: nn.AvgPool2d(layer.pool_size, layer.steps),
    layers.MaxPool: lambda layer, shape: nn.MaxPool2d(layer.pool_size, layer.steps),
    layers.BatchNorm: _batch_norm,
    layers.Dropout: lambda layer, shape: TorchDropout(layer.drop_rate),
    layers.Flatten: lambda layer, shape: ChannelLastFlatten(),
    layers.Dense: lambda layer, shape: nn.Linear(shape[0], layer.units, bias=layer.use_bias),
    layers.Activation: lambda layer, shape: ACTIVATIONS[layer.function](layer),
}

TENSORS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class TorchNetwork(nn.Module):
    """One module a layer. `paths` leads from the model's names of tensors to torch's; kernels still
    lie torch's way."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.layers = nn.ModuleList(
            LAYERS[type(layer)](layer, shape)
            for layer, shape in zip(model.layers, model.shapes, strict=False)
        )
        self.paths: dict[str, str] = {}
        for tensor in model.tensors:
            layer, part = tensor.name.split(".")
            place = model.names.index(layer)
            inside = ".1" if isinstance(self.layers[place], nn.Sequential) else ""
            self.paths[tensor.name] = f"layers.{place}{inside}.{TENSORS[part]}"

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its own tensors by the model's names. Looked up each time: moving to a device replaces
        the buffers."""
        own = self.state_dict(keep_vars=True)
        return {name: own[path] for name, path in self.paths.items()}

    def forward(
        self, x: Tensor, masks: Mapping[int, Tensor], outputs: list[Tensor] | None = None
    ) -> Tensor:
        """A dropout layer keeps what `masks` has at its place, or else draws; `outputs` gets what
        each layer gives."""
        for place, layer in enumerate(self.layers):
            x = layer(x, masks[place]) if place in masks else self.through(layer, x)
            if outputs is not None:
                outputs.append(x)
        return x

    def through(self, layer: nn.Module, x: Tensor) -> Tensor:
        found: Tensor = layer(x)
        return found


class BFloat16Network(TorchNetwork):
    """Its convolutions and dense layers are of bfloat16, as autocast has them; what a layer leaves
    is float32 again."""

    def through(self, layer: nn.Module, x: Tensor) -> Tensor:
        # What autocast would keep of one pass for the next would be the graph's own, in a graph.
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            return super().through(layer, x).to(x.dtype)


def build_network(model: Model, products: Products) -> TorchNetwork:
    return (BFloat16Network if products == "bfloat16" else TorchNetwork)(model)
