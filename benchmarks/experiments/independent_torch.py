"""Train five regularisation arms in plain torch, by different readings of their notebooks.

    python benchmarks/experiments/independent_torch.py train MINUTES  # appends runs
    python benchmarks/experiments/independent_torch.py report         # writes the table

The networks, the preparation, the batches and the loop are written here, in torch.nn and
torch.optim alone: no engine of the package takes part. Each reading changes one thing of the base,
which is the reading of the studies. One training serves all conventions of the moving statistics,
because they do not act on it: every epoch is evaluated by each of them. Runs are stored as they
end, seed by seed over all readings, and a further start continues where the last one ended.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dlsys_bench.data import load
from dlsys_bench.provenance import provenance

ROOT = Path(__file__).parents[2]
STORED = ROOT / "reports" / "studies" / "independent.jsonl"
REFERENCE = ROOT / "reports" / "reference"
FIRST_SEED, SEEDS = 70_000, 3


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
    widths, layers = (784, 196, 49, 10), [nn.Flatten(2)]
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


def prepared(images: Any, known: Any, how: str) -> Tensor:
    """Return images as a tensor, prepared with the statistics of the training images."""
    x, known = (each.reshape(-1, 28, 28).astype(np.float32) for each in (images, known))
    if how == "raw":
        return torch.tensor(x)
    axes = 0 if how == "pixel" else None
    center, scale = known.mean(axes, np.float64), known.std(axes, np.float64)
    if how == "unit":
        center, scale = np.array(0.0), np.array(255.0)
    return torch.tensor(((x - center) / np.where(scale > 0, scale, 1.0)).astype(np.float32))


def kept(count: int, network: Network, reading: Reading) -> Tensor:
    """Return the places of the samples that each replica is trained on, (samples, replicas)."""
    number = count - round(count * network.held_out)
    draw = torch.randperm if reading.split == "random" else torch.arange
    return torch.stack([draw(count)[:number] for _ in range(network.replicas)], 1)


CONVENTIONS = {
    "0.99, biased": (0, False),
    "0.99, unbiased": (0, True),
    "0.9, biased": (1, False),
    "0.9, unbiased": (1, True),
}
"""The conventions of the moving statistics: their decay, and the variance of a batch."""


@torch.no_grad()
def accuracies(net: nn.Sequential, x: Tensor, y: Tensor, replicas: int) -> dict[str, list[float]]:
    """Return the accuracy of each replica by each convention of the moving statistics."""
    norms = [layer for layer in net if isinstance(layer, Norm)]
    net.eval()
    found = {}
    for name, (decay, unbiased) in CONVENTIONS.items() if norms else [("", (0, False))]:
        for norm in norms:
            norm.decay, norm.unbiased = decay, unbiased
        right = torch.zeros(replicas, dtype=torch.int64)
        for images, labels in zip(x.split(1000), y.split(1000), strict=True):
            outputs = net(images[:, None].expand(-1, replicas, -1, -1))
            right += (outputs.view(-1, replicas, 10).argmax(2) == labels[:, None]).sum(0)
        found[name] = (right / len(x)).tolist()
    net.train()
    return found


def train(network: Network, reading: Reading, seed: int) -> list[dict[str, Any]]:
    """Train the replicas once, and return their runs with the test accuracies of every epoch."""
    torch.manual_seed(seed)
    data, replicas = load(network.dataset), network.replicas
    x, x_test = (
        prepared(one, data.x_train, reading.preparation) for one in (data.x_train, data.x_test)
    )
    y, y_test = (torch.tensor(np.asarray(one)) for one in (data.y_train, data.y_test))
    places = kept(len(x), network, reading)
    net = nn.Sequential(*network.layers(reading, replicas))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, eps=reading.adam_epsilon, fused=True)
    started, history = monotonic(), []
    for _ in range(network.epochs):
        order = places
        if reading.shuffle:
            each = [places[torch.randperm(len(places)), n] for n in range(replicas)]
            order = torch.stack(each, 1)
        for batch in order.split(network.batch):
            optimizer.zero_grad()
            outputs = net(x[batch]).reshape(-1, 10)
            (replicas * cross_entropy(outputs, y[batch].flatten())).backward()
            optimizer.step()
        history.append(accuracies(net, x_test, y_test, replicas))
    common = {
        "arm": network.arm,
        "reading": vars(reading),
        "seed": seed,
        "seconds": round(monotonic() - started, 1),
        "provenance": provenance(),
    }
    return [
        {
            **common,
            "replica": n,
            "test_accuracy": {
                name: [round(one[name][n], 4) for one in history] for name in history[0]
            },
        }
        for n in range(replicas)
    ]


def lines() -> list[dict[str, Any]]:
    """Return the stored runs."""
    if not STORED.exists():
        return []
    return [json.loads(line) for line in STORED.read_text("utf-8").splitlines()]


def open_runs() -> Iterator[tuple[Network, Reading, int]]:
    """Yield the runs that are not stored: the first readings of every network first."""
    known = {(line["arm"], line["reading"]["name"], line["seed"]) for line in lines()}
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        for number in range(max(len(network.readings) for network in NETWORKS)):
            for network in NETWORKS:
                for reading in network.readings[number : number + 1]:
                    if (network.arm, reading.name, seed) not in known:
                        yield network, reading, seed


def train_all(minutes: float) -> None:
    """Train until the time is over."""
    started = monotonic()
    for network, reading, seed in open_runs():
        if monotonic() - started > 60 * minutes:
            return
        runs = train(network, reading, seed)
        with STORED.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(run) + "\n" for run in runs)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train_all(float(sys.argv[2]))
