"""A network as a torch module, with a module of torch.nn for each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlsys_bench.engines.torch.attention import TorchAttention
from dlsys_bench.engines.torch.precision import FORMATS, Products
from dlsys_bench.spec import layers
from dlsys_bench.spec.layers.attention import PROJECTIONS
from dlsys_bench.spec.model import Model


class MaskedDropout(nn.Module):
    """A dropout of torch, or with a mask, dropout of what the mask says."""

    p: float

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute y from x."""
        if mask is None or not self.training:
            return self.draw(x)
        return x * mask / (1.0 - self.p)

    def draw(self, x: Tensor) -> Tensor:
        """Compute y from x with a mask that torch draws, in training."""
        return super().forward(x)  # type: ignore[no-any-return]


class TorchDropout(MaskedDropout, nn.Dropout):
    """Dropout of single values."""


class ImageDropout(MaskedDropout, nn.Dropout2d):
    """Dropout of whole channels of images (N, C, H, W)."""


class SequenceDropout(MaskedDropout, nn.Dropout1d):
    """Dropout of whole channels of sequences (N, T, C), which torch takes as (N, C, T)."""

    def draw(self, x: Tensor) -> Tensor:
        """Compute y from x with a mask that torch draws, in training."""
        return super().draw(x.transpose(1, 2)).transpose(1, 2)


class ChannelLastFlatten(nn.Module):
    """(N, C, H, W) -> (N, H W C), the order of inputs of the dense kernels of all engines."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute y from x."""
        return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)


def channel_axis(x: Tensor) -> int:
    """Return the axis of the channels: the second one of images, the last one of others."""
    return 1 if x.ndim == 4 else -1


class ChannelSoftmax(nn.Module):
    """The softmax over the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute y from x."""
        return x.softmax(channel_axis(x))


class SequenceNorm(nn.BatchNorm1d):
    """torch's batch norm of sequences (N, T, C), which it takes as (N, C, T)."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute y from x."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class ChannelNorm(nn.Module):
    """A norm over the last axis, of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute y from x."""
        axis = channel_axis(x)
        return super().forward(x.movedim(axis, -1)).movedim(-1, axis)  # type: ignore[no-any-return]


class TorchLayerNorm(ChannelNorm, nn.LayerNorm):
    """torch's layer norm, over the channels."""


class TorchRMSNorm(ChannelNorm, nn.RMSNorm):
    """torch's RMS norm, over the channels."""


class SequenceGroupNorm(nn.GroupNorm):
    """torch's group norm, of sequences (N, T, C) too, which it takes as (N, C, T)."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute y from x.

        The function of `torch.nn.functional` refuses a single value per group, which is beta.
        """
        axis = channel_axis(x)
        options = self.num_groups, self.weight, self.bias, self.eps
        return torch.group_norm(x.movedim(axis, 1), *options).movedim(1, axis)


class TorchGlobalAveragePool(nn.Module):
    """The mean over all positions."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute y from x."""
        return x.movedim(channel_axis(x), 1).flatten(2).mean(2)


class TorchPositionEmbedding(nn.Embedding):
    """The vectors of the first positions, added."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute y from x."""
        return x + self.weight[: x.shape[-2]]


class TorchAdd(nn.Module):
    """The sum of the inputs."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute y from the inputs."""
        return sum(inputs[1:], inputs[0])


class TorchConcat(nn.Module):
    """The inputs one after another along the channels."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute y from the inputs."""
        return torch.cat(inputs, channel_axis(inputs[0]))


class SequenceConvolution(nn.Conv1d):
    """torch's convolution of sequences (N, T, C), which it takes as (N, C, T), with these zeros
    before and after."""

    def __init__(self, pads: tuple[int, int], *arguments: Any) -> None:
        super().__init__(*arguments)
        self.pads = pads

    def forward(self, x: Tensor) -> Tensor:
        """Compute y from x."""
        padded = nn.functional.pad(x.transpose(1, 2), self.pads)
        return super().forward(padded).transpose(1, 2)


def _conv1d(layer: layers.Conv1D, shape: layers.Shape) -> nn.Module:
    (pads,) = layer.pads(shape)
    sizes = shape[-1], layer.filters, layer.kernel_size, layer.strides, 0, layer.dilation
    return SequenceConvolution(pads, *sizes, layer.groups, layer.use_bias)


def _conv2d(layer: layers.Conv2D, shape: layers.Shape) -> nn.Module:
    (top, bottom), (left, right) = layer.pads(shape)
    even = top == bottom and left == right
    conv = nn.Conv2d(
        shape[2],
        layer.filters,
        layer.kernel_size,
        layer.strides,
        (top, left) if even else 0,
        layer.dilation,
        layer.groups,
        bias=layer.use_bias,
    )
    return conv if even else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), conv)


def _spatial_dropout(layer: layers.SpatialDropout, shape: layers.Shape) -> nn.Module:
    return (ImageDropout if len(shape) == 3 else SequenceDropout)(layer.drop_rate)


def _batch_norm(layer: layers.BatchNorm, shape: layers.Shape) -> nn.Module:
    kind = {1: nn.BatchNorm1d, 2: SequenceNorm, 3: nn.BatchNorm2d}[len(shape)]
    return kind(shape[-1], eps=layer.epsilon, momentum=1.0 - layer.moving_decay)


ACTIVATIONS: dict[str, Callable[[layers.Activation], nn.Module]] = {
    "linear": lambda layer: nn.Identity(),
    "sigmoid": lambda layer: nn.Sigmoid(),
    "tanh": lambda layer: nn.Tanh(),
    "relu": lambda layer: nn.ReLU(),
    "leaky_relu": lambda layer: nn.LeakyReLU(layer.negative_slope),
    "softmax": lambda layer: ChannelSoftmax(),
    "elu": lambda layer: nn.ELU(),
    # By default, torch replaces softplus by the identity from 20 on, where they differ by 2e-9.
    "softplus": lambda layer: nn.Softplus(threshold=40.0),
    "silu": lambda layer: nn.SiLU(),
    "gelu": lambda layer: nn.GELU(),
    "gelu_tanh": lambda layer: nn.GELU(approximate="tanh"),
}

LAYERS: dict[type[layers.Layer], Callable[..., nn.Module]] = {
    layers.Conv1D: _conv1d,
    layers.Conv2D: _conv2d,
    layers.AveragePool: lambda layer, shape: nn.AvgPool2d(layer.pool_size, layer.steps),
    layers.MaxPool: lambda layer, shape: nn.MaxPool2d(layer.pool_size, layer.steps),
    layers.BatchNorm: _batch_norm,
    layers.Dropout: lambda layer, shape: TorchDropout(layer.drop_rate),
    layers.SpatialDropout: _spatial_dropout,
    layers.Flatten: lambda layer, shape: ChannelLastFlatten(),
    layers.Dense: lambda layer, shape: nn.Linear(shape[-1], layer.units, bias=layer.use_bias),
    layers.Activation: lambda layer, shape: ACTIVATIONS[layer.function](layer),
    layers.Add: lambda layer, *shapes: TorchAdd(),
    layers.Concat: lambda layer, *shapes: TorchConcat(),
    layers.GlobalAveragePool: lambda layer, shape: TorchGlobalAveragePool(),
    layers.LayerNorm: lambda layer, shape: TorchLayerNorm(shape[-1], layer.epsilon),
    layers.RMSNorm: lambda layer, shape: TorchRMSNorm(shape[-1], layer.epsilon),
    layers.GroupNorm: lambda layer, shape: SequenceGroupNorm(
        layer.groups, shape[-1], layer.epsilon
    ),
    layers.Embedding: lambda layer, shape: nn.Embedding(layer.vocabulary, layer.units),
    layers.PositionEmbedding: lambda layer, shape: TorchPositionEmbedding(
        layer.positions, shape[-1]
    ),
    layers.MultiHeadAttention: TorchAttention,
}

TENSORS = {
    "kernel": "weight",
    "bias": "bias",
    "embeddings": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    **{f"{name}_kernel": f"{name}.weight" for name in PROJECTIONS},
    **{f"{name}_bias": f"{name}.bias" for name in PROJECTIONS},
}


class TorchNetwork(nn.Module):
    """A module for each layer. `paths` maps the model's names of tensors to torch's. Kernels are in
    torch's order. `format` is that in which autocast computes products, if it does."""

    def __init__(self, model: Model, products: Products = "float32") -> None:
        super().__init__()
        self.model, self.format = model, FORMATS.get(products)
        self.layers = nn.ModuleList(
            LAYERS[type(row.layer)](row.layer, *row.shapes) for row in model.table
        )
        self.paths: dict[str, str] = {}
        for tensor in model.tensors:
            layer, part = tensor.name.split(".")
            place = model.names.index(layer)
            inside = ".1" if isinstance(self.layers[place], nn.Sequential) else ""
            self.paths[tensor.name] = f"layers.{place}{inside}.{TENSORS[part]}"

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by the model's names. They are looked up each time, since moving the module
        to a device replaces its buffers."""
        own = self.state_dict(keep_vars=True)
        return {name: own[path] for name, path in self.paths.items()}

    def forward(
        self,
        x: Sequence[Tensor],
        masks: Mapping[int, Tensor],
        outputs: list[Tensor] | None = None,
    ) -> Tensor:
        """Compute the output of x, a tensor for each input. A dropout layer without a mask at its
        place draws one; the output of every layer is appended to `outputs`."""
        values = [*x]
        for row, layer in zip(self.model.table, self.layers, strict=True):
            inputs = [values[source] for source in row.sources]
            options = {} if (mask := masks.get(row.place)) is None else {"mask": mask}
            values.append(self.through(layer, *inputs, **options))
        if outputs is not None:
            outputs += values[len(x) :]
        return values[-1]

    def through(self, layer: nn.Module, *inputs: Tensor, **options: Tensor) -> Tensor:
        """Compute the output of a layer, under autocast if products have a format."""
        if self.format is None:
            return layer(*inputs, **options)  # type: ignore[no-any-return]
        # In a CUDA graph, the weights that autocast caches would belong to the memory of the graph.
        with torch.autocast(inputs[0].device.type, self.format, cache_enabled=False):
            return layer(*inputs, **options).float()  # type: ignore[no-any-return]
