"""Residual networks on images: ResNet-20 as published for CIFAR-10, and a small one.

He, Zhang, Ren, Sun: Deep residual learning for image recognition, arXiv:1512.03385, 2015
(post-activation); Identity mappings in deep residual networks, arXiv:1603.05027, 2016
(pre-activation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dlsys_bench.spec.graph import Serial, residual, serial
from dlsys_bench.spec.initializers import HeNormal
from dlsys_bench.spec.layers import (
    Activation,
    BatchNorm,
    Conv2D,
    Dense,
    GlobalAveragePool,
    Layer,
    Shape,
)
from dlsys_bench.spec.model import Model

RELU = Activation("relu")

BlockBuilder = Callable[[int, int, bool], Layer]
"""A block: given its filters, the stride of its first convolution, and whether its shape changes,
which takes a shortcut with a convolution."""


def conv(filters: int, stride: int = 1, size: int = 3) -> Conv2D:
    """Return a convolution without a bias, by padding "same", as the batch norm has one.

    Where the stride is 2, the extra zero lies at the end, as in Keras; He et al. pad by one zero on
    each side. The shapes and the parameters are the same.
    """
    return Conv2D(
        filters,
        (size, size),
        (stride, stride),
        "same",
        use_bias=False,
        kernel_initializer=HeNormal(),
    )


def plain(filters: int, stride: int, changes: bool) -> Layer:
    """Return two convolutions, each with batch norm and ReLU, without a shortcut."""
    return serial(conv(filters, stride), BatchNorm(), RELU, conv(filters), BatchNorm(), RELU)


def post_activation(filters: int, stride: int, changes: bool) -> Layer:
    """Return a block whose sum goes through a ReLU. He et al. 2015, figure 2.

    Where the shape changes, the shortcut is a convolution of size 1 with batch norm: option B.
    """
    shortcut = serial(conv(filters, stride, size=1), BatchNorm()) if changes else Serial(())
    layers = (conv(filters, stride), BatchNorm(), RELU, conv(filters), BatchNorm())
    return serial(residual(*layers, shortcut=shortcut), RELU)


def pre_activation(filters: int, stride: int, changes: bool) -> Layer:
    """Return a block with batch norm and ReLU before each convolution, and nothing after the sum.

    He et al. 2016, figure 4e. Where the shape changes, batch norm and ReLU come before the branches
    and the shortcut is a convolution of size 1.
    """
    layers = (conv(filters, stride), BatchNorm(), RELU, conv(filters))
    if changes:
        shortcut = conv(filters, stride, size=1)
        return serial(BatchNorm(), RELU, residual(*layers, shortcut=shortcut))
    return residual(BatchNorm(), RELU, *layers)


BLOCKS: dict[str, BlockBuilder] = {"plain": plain, "post": post_activation, "pre": pre_activation}
"""The kinds of blocks by name."""


def resnet(
    kind: str, shape: Shape, widths: Sequence[int], depth: int, entry_stride: int = 1
) -> Model:
    """Return a residual network: a stage of `depth` blocks for each of the widths.

    The first convolution has the first of the widths and the stride `entry_stride`; each stage but
    the first halves the rows and the columns. The network has 2 * stages * depth + 2 layers with
    weights on its longest path.
    """
    block = BLOCKS[kind]
    before_blocks = () if kind == "pre" else (BatchNorm(), RELU)
    after_blocks = (BatchNorm(), RELU) if kind == "pre" else ()
    blocks, channels = list[Layer](), widths[0]
    for stage, filters in enumerate(widths):
        for place in range(depth):
            stride = 2 if stage and not place else 1
            blocks.append(block(filters, stride, filters != channels or stride > 1))
            channels = filters
    name = f"resnet{2 * len(widths) * depth + 2}-{widths[0]}/{kind}/{'x'.join(map(str, shape))}"
    layers = (
        conv(widths[0], entry_stride),
        *before_blocks,
        *blocks,
        *after_blocks,
        GlobalAveragePool(),
        Dense(10, kernel_initializer=HeNormal()),
    )
    return Model(name, shape, layers)


def small_resnet(kind: str) -> Model:
    """Return a network of 8 layers and 8 to 32 filters on images of 28 x 28, which trains in
    seconds on a core. Its first convolution has stride 2."""
    return resnet(kind, (28, 28, 1), (8, 16, 32), 1, entry_stride=2)


def resnet20(shape: Shape = (32, 32, 3), kind: str = "post") -> Model:
    """Return ResNet-20: three stages of three blocks with 16, 32 and 64 filters.

    He et al. 2015, section 4.2, has shortcuts by option A, which have no parameters: they skip rows
    and columns, and fill channels with zeros. These have option B, and 2,752 parameters more.
    """
    return resnet(kind, shape, (16, 32, 64), 3)
