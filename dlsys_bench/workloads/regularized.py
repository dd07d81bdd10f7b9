"""LeNet-5 and a multilayer perceptron with places for normalisation and dropout."""

from __future__ import annotations

from typing import NamedTuple

from dlsys_bench.spec.initializers import HeUniform
from dlsys_bench.spec.layers import Activation, Conv2D, Dense, Flatten, Layer, MaxPool
from dlsys_bench.spec.model import Model

IMAGE = (28, 28, 1)
RELU = Activation("relu")


class Places(NamedTuple):
    """The layers that regularise a network, None for none.

    `norm` precedes the activation of each hidden layer, and `drop` follows it. `drop_images`
    replaces `drop` where the output consists of images.
    """

    norm: Layer | None = None
    drop: Layer | None = None
    drop_images: Layer | None = None

    def around(self, images: bool) -> tuple[Layer, ...]:
        """Return a ReLU with the layers before and after it."""
        drop = self.drop_images if images and self.drop_images is not None else self.drop
        return tuple(layer for layer in (self.norm, RELU, drop) if layer is not None)


def mlp(name: str, places: Places = Places()) -> Model:  # noqa: B008
    """Return the perceptron of nb3, 784-196-49-10, with ReLU."""
    hidden = [layer for width in (196, 49) for layer in (Dense(width), *places.around(False))]
    return Model(f"mlp/{name}", IMAGE, (Flatten(), *hidden, Dense(10)))


def lenet5(name: str, places: Places = Places()) -> Model:  # noqa: B008
    """Return LeNet-5 of nb1, with ReLU, max pools and kernels by He."""
    filters = ((6, "same", (MaxPool(),)), (16, "same", (MaxPool(),)), (120, "valid", (Flatten(),)))
    convolutions = [
        layer
        for count, padding, after in filters
        for layer in (
            Conv2D.of(
                filters=count, kernel_size=5, padding=padding, kernel_initializer=HeUniform()
            ),
            *places.around(True),
            *after,
        )
    ]
    layers = (*convolutions, Dense(84), *places.around(False), Dense(10))
    return Model(f"lenet5/{name}", IMAGE, layers)
