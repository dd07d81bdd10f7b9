"""The model: a chain of layers, with its shapes, tensors and parameter counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

from dlsys_bench.errors import SpecError
from dlsys_bench.spec.initializers import Fans, Initializer
from dlsys_bench.spec.layers import Layer, Shape
from dlsys_bench.spec.record import Record, require


class Tensor(NamedTuple):
    """One tensor of a model.

    `name` includes the layer's, as in "dense_1.kernel". `trainable` tensors are updated by
    gradients, the others by the layer itself. `fans` are those of the layer's kernel, which the
    initialiser takes.
    """

    name: str
    shape: Shape
    trainable: bool
    initializer: Initializer
    fans: Fans

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)


class Counts(NamedTuple):
    """The numbers of parameters, as Keras counts them.

    The moving statistics of a batch norm are parameters that are not trainable.
    """

    total: int
    trainable: int
    non_trainable: int


@dataclass(frozen=True)
class Model(Record):
    """A chain of layers on an input of shape (height, width, channels) or (units,).

    Shapes leave out the batch. Layers are named by kind and number: conv2d_1, conv2d_2, dense_1.
    The output of a classifier are logits; the softmax is part of the loss. Raises SpecError if a
    layer does not accept the output of the one before it.
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]

    kind: ClassVar[str] = "model"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        require(
            len(self.input_shape) in (1, 3)
            and all(isinstance(n, int) and n >= 1 for n in self.input_shape),
            f"model {self.name!r}: input_shape is {self.input_shape}; "
            "it takes (height, width, channels) or (units,), each from 1",
        )
        require(len(self.layers) > 0, f"model {self.name!r} has no layers")
        for layer in self.layers:
            require(isinstance(layer, Layer), f"model {self.name!r}: {layer!r} is not a layer")
        _ = self.shapes

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each layer."""
        seen: Counter[str] = Counter()
        names = []
        for layer in self.layers:
            seen[layer.kind] += 1
            names.append(f"{layer.kind}_{seen[layer.kind]}")
        return tuple(names)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The input shape, followed by the output shape of each layer."""
        shapes = [self.input_shape]
        for number, layer in enumerate(self.layers):
            try:
                shapes.append(layer.output_shape(shapes[-1]))
            except SpecError as error:
                raise SpecError(
                    f"model {self.name!r}, layer {number + 1} of {len(self.layers)}: {error}"
                ) from None
        return tuple(shapes)

    @property
    def output_shape(self) -> Shape:
        """The output shape of the last layer."""
        return self.shapes[-1]

    def tensors_of(self, number: int) -> Iterator[Tensor]:
        """Yield the tensors of a layer, given its position: parameters first, then state."""
        layer, shape, name = self.layers[number], self.shapes[number], self.names[number]
        initializers = layer.initializers()
        for part, trainable in ((layer.parameters(shape), True), (layer.state(shape), False)):
            for tensor, size in part.items():
                yield Tensor(
                    f"{name}.{tensor}", size, trainable, initializers[tensor], layer.fans(shape)
                )

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """Every tensor of the model, layer by layer."""
        return tuple(
            tensor for number in range(len(self.layers)) for tensor in self.tensors_of(number)
        )

    @cached_property
    def counts(self) -> Counts:
        """The numbers of parameters."""
        trainable = sum(tensor.size for tensor in self.tensors if tensor.trainable)
        total = sum(tensor.size for tensor in self.tensors)
        return Counts(total, trainable, total - trainable)

    def rows(self) -> list[tuple[str, str, Shape, int]]:
        """Return a summary row per layer: name, options, output shape, number of parameters."""
        return [
            (name, layer.title(), shape, sum(tensor.size for tensor in self.tensors_of(number)))
            for number, (name, layer, shape) in enumerate(
                zip(self.names, self.layers, self.shapes[1:], strict=True)
            )
        ]
