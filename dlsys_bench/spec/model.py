"""The model: a table of layers and their inputs, with its shapes, tensors and parameter counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

from dlsys_bench.errors import SpecError
from dlsys_bench.spec.graph import (
    INPUT,
    Connection,
    Emitter,
    Serial,
    Subgraph,
    chain,
    check_connections,
)
from dlsys_bench.spec.initializers import Fans, Initializer
from dlsys_bench.spec.layers import Embedding, Layer, Mask, Shape, ValueKind
from dlsys_bench.spec.record import Record, require, require_choice


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


VALUES: Mapping[str, str] = {"float": "floats", "int": "token ids"}
"""What each kind of value is called in messages."""

INPUTS: Mapping[str, tuple[tuple[int, ...], str]] = {
    "float": ((1, 2, 3), "(height, width, channels), (positions, channels) or (units,)"),
    "int": ((1,), "(positions,) for token ids"),
}
"""For each kind of value, how many axes an input has, and what they are."""


class TableRow(NamedTuple):
    """One node of a model: its place, name and layer, what it takes and what it gives.

    `inputs` are the names of what it takes, and `sources` their places in `Model.shapes`: 0 for the
    input of the model, and place + 1 for the output of a node. `shapes` are those of the inputs.
    """

    place: int
    name: str
    layer: Layer
    inputs: tuple[str, ...]
    sources: tuple[int, ...]
    shapes: tuple[Shape, ...]
    output_shape: Shape

    @property
    def shape(self) -> Shape:
        """The shape of the input, the first one of a layer that merges."""
        return self.shapes[0]

    @property
    def mask(self) -> Mask | None:
        """The mask that each training step draws."""
        return self.layer.mask(self.shape)


@dataclass(frozen=True)
class Model(Record):
    """Layers on images (height, width, channels), sequences (positions, channels), vectors (units,)
    or token ids (positions,).

    Shapes leave out the batch. A model is a chain, in which each layer takes the output of the one
    before, or it branches: `layers` may contain the blocks of `spec.graph`, of which the model
    holds the nodes. `connections` has the name and the inputs of each node, and is None for a
    chain. The last node is the output, and every other one is taken by a node after it.

    With the `input_dtype` "int", the input consists of token ids, and `input_shape` is
    (positions,). An embedding is the first layer.

    Nodes are named by kind and number: conv2d_1, conv2d_2, dense_1. The output of a classifier are
    logits; the softmax is part of the loss. Raises SpecError if a layer does not accept its inputs,
    or if the connections do not fit.
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]
    connections: tuple[Connection, ...] | None = field(default=None, metadata={"omit_when": None})
    input_dtype: ValueKind = field(default="float", metadata={"omit_when": "float"})

    kind: ClassVar[str] = "model"

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        require_choice(f"model {self.name!r}", "input_dtype", self.input_dtype, tuple(INPUTS))
        axes, known = INPUTS[self.input_dtype]
        require(
            len(self.input_shape) in axes
            and all(isinstance(n, int) and n >= 1 for n in self.input_shape),
            f"model {self.name!r}: input_shape is {self.input_shape}; "
            f"it takes {known}, each from 1",
        )
        try:
            self._connect()
        except SpecError as error:
            raise SpecError(f"model {self.name!r}: {error}") from None
        _ = self.table

    def _connect(self) -> None:
        """Replace the blocks among the layers by their nodes."""
        emitter, connections = Emitter(), self.connections
        Serial(tuple(self.layers)).emit(emitter, INPUT)
        require(len(emitter.layers) > 0, "there are no layers")
        if connections is None:
            connections = tuple(emitter.connections)
        require(
            len(connections) == len(emitter.layers),
            f"there are {len(emitter.layers)} layers, but {len(connections)} connections",
        )
        check_connections(connections)
        object.__setattr__(self, "layers", tuple(emitter.layers))
        is_chain = connections == chain(self.layers)
        object.__setattr__(self, "connections", None if is_chain else connections)

    @cached_property
    def table(self) -> tuple[TableRow, ...]:
        """Every node, in order."""
        places, shapes, rows = {INPUT: 0}, [self.input_shape], list[TableRow]()
        nodes = zip(self.layers, self.connections or chain(self.layers), strict=True)
        for place, (layer, (name, inputs)) in enumerate(nodes):
            sources = tuple(places[each] for each in inputs)
            own = tuple(shapes[source] for source in sources)
            try:
                self._check_kinds(layer, sources)
                shapes.append(layer.combined_shape(own))
            except SpecError as error:
                raise SpecError(
                    f"model {self.name!r}, layer {place + 1} of {len(self.layers)}: {error}"
                ) from None
            rows.append(TableRow(place, name, layer, inputs, sources, own, shapes[-1]))
            places[name] = place + 1
        return tuple(rows)

    def _check_kinds(self, layer: Layer, sources: Sequence[int]) -> None:
        """Raise SpecError unless a layer takes what its sources consist of."""
        for source in sources:
            found = "float" if source else self.input_dtype
            advice = (
                "make it the first layer of a model with input_dtype='int'"
                if layer.takes == "int"
                else "put an embedding before it"
            )
            require(
                found == layer.takes,
                f"{layer.kind} takes {VALUES[layer.takes]}, but its input consists of "
                f"{VALUES[found]}: {advice}",
            )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each node."""
        return tuple(row.name for row in self.table)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """The input shape, followed by the output shape of each node."""
        return (self.input_shape, *(row.output_shape for row in self.table))

    @cached_property
    def learns(self) -> tuple[bool, ...]:
        """For the input and each node, whether its value depends on a trainable tensor."""
        found = [False]
        for row in self.table:
            own = bool(row.layer.parameters(row.shape))
            found.append(own or any(found[source] for source in row.sources))
        return tuple(found)

    @property
    def vocabulary(self) -> int:
        """The number of token ids that every embedding has; 0 if the input consists of floats."""
        sizes = [row.layer.vocabulary for row in self.table if isinstance(row.layer, Embedding)]
        return min(sizes, default=0)

    @property
    def block(self) -> Subgraph:
        """The nodes as a block of another model."""
        return Subgraph(self.layers, self.connections or chain(self.layers))

    @property
    def output_shape(self) -> Shape:
        """The output shape of the last layer."""
        return self.shapes[-1]

    def tensors_of(self, number: int) -> Iterator[Tensor]:
        """Yield the tensors of a layer, given its position: parameters first, then state."""
        _, name, layer, *_ = row = self.table[number]
        initializers = layer.initializers()
        parts = (layer.parameters(row.shape), True), (layer.state(row.shape), False)
        for part, trainable in parts:
            for tensor, size in part.items():
                fans = layer.fans_of(tensor, row.shape)
                yield Tensor(f"{name}.{tensor}", size, trainable, initializers[tensor], fans)

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
