"""MobileNet, whose convolutions are depthwise and pointwise in turn, and a small one.

Howard et al.: MobileNets: efficient convolutional neural networks for mobile vision applications,
arXiv:1704.04861, 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dlsys_bench.spec.initializers import HeNormal
from dlsys_bench.spec.layers import BatchNorm, Conv2D, Dense, GlobalAveragePool, Layer, Shape
from dlsys_bench.spec.model import Model
from dlsys_bench.workloads.residual import RELU, conv


class Stage(NamedTuple):
    """The filters of a stage and its stride."""

    filters: int
    stride: int = 1


Convolutions = Callable[[int, Stage], tuple[Layer, ...]]
"""The layers of a stage, given the channels of its input."""


def separable(channels: int, stage: Stage) -> tuple[Layer, ...]:
    """Return a depthwise convolution of size 3 and a pointwise one, each with batch norm and ReLU.

    Howard et al. 2017, figure 3.
    """
    depthwise = Conv2D(
        channels,
        (3, 3),
        (stage.stride, stage.stride),
        "same",
        use_bias=False,
        kernel_initializer=HeNormal(),
        groups=channels,
    )
    return (depthwise, BatchNorm(), RELU, conv(stage.filters, size=1), BatchNorm(), RELU)


def ordinary(channels: int, stage: Stage) -> tuple[Layer, ...]:
    """Return a convolution of size 3 over all channels, with batch norm and ReLU."""
    return (conv(stage.filters, stage.stride), BatchNorm(), RELU)


KINDS: dict[str, Convolutions] = {"depthwise": separable, "ordinary": ordinary}
"""The kinds of convolutions by name."""

MOBILENET = (
    *(Stage(64), Stage(128, 2), Stage(128), Stage(256, 2), Stage(256), Stage(512, 2)),
    *(Stage(512) for _ in range(5)),
    *(Stage(1024, 2), Stage(1024)),
)
"""The stages of MobileNet, table 1. The last one has stride 1: with 2, as printed, the size of its
output would not be that of the table."""


def mobilenet(
    kind: str,
    shape: Shape = (224, 224, 3),
    stages: Sequence[Stage] = MOBILENET,
    classes: int = 1000,
) -> Model:
    """Return MobileNet, after a convolution of stride 2 with half the filters of the first stage.

    With the default stages and 224 x 224 pixels in colour, "depthwise" is MobileNet 1.0, and
    "ordinary" the network with full convolutions of table 4.
    """
    channels = stages[0].filters // 2
    layers: list[Layer] = [conv(channels, 2), BatchNorm(), RELU]
    for stage in stages:
        layers += KINDS[kind](channels, stage)
        channels = stage.filters
    layers += [GlobalAveragePool(), Dense(classes, kernel_initializer=HeNormal())]
    name = f"mobilenet{len(stages)}-{stages[0].filters}/{kind}/{'x'.join(map(str, shape))}"
    return Model(name, shape, tuple(layers))


def small_mobilenet(kind: str) -> Model:
    """Return a network of three stages on images of 28 x 28, which trains in seconds on a core."""
    return mobilenet(kind, (28, 28, 1), (Stage(32), Stage(64, 2), Stage(64)), 10)
