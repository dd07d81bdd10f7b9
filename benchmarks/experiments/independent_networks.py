"""Four regularisation arms of the notebooks in plain torch, and the readings to try on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Reading:
    """A reading of a notebook.

    - `preparation`: "scalar" standardises by one mean and one standard deviation, "pixel" by those
      of each pixel, "unit" divides by 255, "raw" does nothing.
    - `split`: the validation samples are drawn at random, the last ones, or there are none.
    - `initial`: "keras" draws the kernels as the notebook's framework does, with biases of zero;
      "torch" draws kernels and biases as torch.nn does.
    - `padding`: that of the second convolution of nb1.
    """

    name: str = "base"
    preparation: str = "unit"
    split: str = "last"
    initial: str = "keras"
    epsilon: float = 1e-3
    adam_epsilon: float = 1e-7
    shuffle: bool = True
    padding: str = "same"


@dataclass(frozen=True)
class Network:
    """An arm: its layers, its training, and the readings under which it is trained.

    `replicas` is the number of networks that are trained at once, on orders of their own.
    """

    arm: str
    dataset: str
    layers: Callable[[Reading, int], list[nn.Module]]
    epochs: int
    batch: int
    held_out: float
    readings: Sequence[Reading]
    replicas: int = 1


class Norm(nn.Module):
    """Batch norm that keeps its moving statistics with several decays at once.

    The moving variances are those of the batches (biased, as in Keras); torch's are larger by
    n / (n - 1), for n values of each channel.
    """

    decays = (0.99, 0.9)

    def __init__(self, shape: tuple[int, ...], epsilon: float) -> None:
        super().__init__()
        channels = math.prod(shape)
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.shape, self.epsilon = shape, epsilon
        self.unbiased, self.decay, self.count = False, 0, 2
        self.means = torch.zeros(len(self.decays), channels)
        self.variances = torch.ones(len(self.decays), channels)
        self.fraction = 1 - torch.tensor(self.decays)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the batch in training, otherwise by the chosen moving statistics."""
        shape, flat = x.shape, x.flatten(1, len(self.shape))
        if not self.training:
            variance = self.variances[self.decay]
            if self.unbiased:
                variance = variance * (self.count / (self.count - 1))
            factor = self.gamma / (variance + self.epsilon).sqrt()
            axes = (-1, *[1] * (flat.ndim - 2))
            shift = self.beta - self.means[self.decay] * factor
            return (flat * factor.view(axes) + shift.view(axes)).view(shape)
        y, center, inverse = torch.native_batch_norm(
            flat, self.gamma, self.beta, None, None, True, 0.0, self.epsilon
        )
        with torch.no_grad():
            variance = inverse**-2 - self.epsilon
            self.count = flat.numel() // flat.shape[1]
            self.means.lerp_(center.expand_as(self.means), self.fraction)
            self.variances.lerp_(variance.expand_as(self.variances), self.fraction)
        return y.view(shape)


class Dense(nn.Module):
    """The dense layers of several networks: images (N, networks, units)."""

    def __init__(self, networks: int, units: int, outputs: int, initial: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(networks, units, outputs))
        self.bias = nn.Parameter(torch.zeros(networks, 1, outputs))
        if initial == "torch":
            for tensor in (self.weight, self.bias):
                nn.init.uniform_(tensor, -(units**-0.5), units**-0.5)
        else:
            for one in self.weight:
                nn.init.xavier_uniform_(one)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the kernels and add the biases."""
        return torch.baddbmm(self.bias, x.transpose(0, 1), self.weight).transpose(0, 1)


def relu_lenet(*, norm: bool) -> Callable[[Reading, int], list[nn.Module]]:
    """LeNet-5 of nb1, plain or with batch norm: He uniform kernels in the convolutions, and
    uniform(-0.05, 0.05) in the first one with batch norm."""

    def layers(reading: Reading, _: int) -> list[nn.Module]:
        side = 3 if reading.padding == "same" else 1
        first = nn.Conv2d(1, 6, 5, padding="same")
        others = nn.Conv2d(6, 16, 5, padding=reading.padding), nn.Conv2d(16, 120, 5)
        dense = nn.Linear(120 * side * side, 84), nn.Linear(84, 10)
        if reading.initial == "keras":
            for each in (first, *others):
                nn.init.kaiming_uniform_(each.weight, nonlinearity="relu")
            if norm:
                nn.init.uniform_(first.weight, -0.05, 0.05)
            keras_initial(dense)
            for each in (first, *others):
                assert each.bias is not None
                nn.init.zeros_(each.bias)
        after = [[Norm((n,), reading.epsilon)] if norm else [] for n in (6, 16)]
        return [
            *(first, nn.ReLU(), *after[0], nn.MaxPool2d(2)),
            *(others[0], nn.ReLU(), *after[1], nn.MaxPool2d(2)),
            *(others[1], nn.ReLU(), nn.Flatten()),
            *(dense[0], nn.ReLU(), dense[1]),
        ]

    return layers


def norm_mlp(reading: Reading, networks: int) -> list[nn.Module]:
    """The MLP of nb3 with batch norm."""
    widths, layers = (784, 196, 49, 10), list[nn.Module]([nn.Flatten(2)])
    for units, outputs in pairwise(widths):
        layers.append(Dense(networks, units, outputs, reading.initial))
        if outputs != widths[-1]:
            layers += [nn.ReLU(), Norm((networks, outputs), reading.epsilon)]
    return layers


def dropout_lenet(reading: Reading, _: int) -> list[nn.Module]:
    """LeNet-5 of nb4 with dropout."""
    convolutions = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
    dense = nn.Linear(256, 120), nn.Linear(120, 84), nn.Linear(84, 10)
    if reading.initial == "keras":
        keras_initial((*convolutions, *dense))
    return [
        nn.Dropout(0.2),
        *(convolutions[0], nn.Sigmoid(), nn.Dropout(0.5), nn.AvgPool2d(2)),
        *(convolutions[1], nn.Sigmoid(), nn.Dropout(0.5), nn.AvgPool2d(2)),
        nn.Flatten(),
        *(dense[0], nn.Sigmoid(), nn.Dropout(0.5)),
        *(dense[1], nn.Sigmoid(), nn.Dropout(0.5)),
        dense[2],
    ]


def keras_initial(layers: Sequence[nn.Conv2d | nn.Linear]) -> None:
    """Draw Glorot uniform kernels, with biases of zero."""
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)


def readings(base: Reading, **changes: dict[str, Any]) -> tuple[Reading, ...]:
    """Return the base, and the readings that change one thing of it."""
    return (base, *(replace(base, name=name, **change) for name, change in changes.items()))


NB1 = Reading(preparation="scalar", split="random")
PIXEL: dict[str, dict[str, Any]] = {"each pixel standardised": {"preparation": "pixel"}}
VALID = {"second convolution valid": {"padding": "valid"}}
TORCH_INITIAL = {"initial values of torch": {"initial": "torch"}}
EPSILON = {"epsilon of batch norm 1e-5": {"epsilon": 1e-5}}
ADAM: dict[str, dict[str, Any]] = {"epsilon of Adam 1e-8": {"adam_epsilon": 1e-8}}

NETWORKS = (
    Network(
        "regularization/fashion/lenet5-relu",
        "fashion_mnist",
        relu_lenet(norm=False),
        epochs=10,
        batch=128,
        held_out=0.2,
        readings=readings(
            NB1,
            **PIXEL,
            **VALID,
            **TORCH_INITIAL,
            **{"pixels from 0 to 255": {"preparation": "raw"}},
            **{"pixels divided by 255": {"preparation": "unit"}},
            **{"never shuffled": {"shuffle": False}},
            **{"validation: the last fifth": {"split": "last"}},
        ),
    ),
    Network(
        "regularization/fashion/lenet5-relu+bn",
        "fashion_mnist",
        relu_lenet(norm=True),
        epochs=15,
        batch=128,
        held_out=0.2,
        readings=readings(NB1, **PIXEL, **VALID, **TORCH_INITIAL, **EPSILON),
    ),
    Network(
        "regularization/fashion-mlp/bn",
        "fashion_mnist",
        norm_mlp,
        epochs=25,
        batch=8,
        held_out=1 / 6,
        readings=readings(Reading(), **EPSILON, **TORCH_INITIAL, **ADAM),
        replicas=4,
    ),
    Network(
        "regularization/lenet5-sigmoid/dropout",
        "mnist",
        dropout_lenet,
        epochs=15,
        batch=128,
        held_out=0.1,
        readings=readings(Reading(), **TORCH_INITIAL, **ADAM),
    ),
)
