"""The model: a table of layers and their inputs, with its shapes, tensors and parameter counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from dlsys_bench.spec.inputs import VALUES, Input, require_input
from dlsys_bench.spec.layers import Embedding, Layer, Mask, Shape, ValueKind
from dlsys_bench.spec.record import Record, require

LARGEST_SIZE = 2**60
"""The most values of an array: their bytes are counted in 63 bits."""


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


class TableRow(NamedTuple):
    """One node of a model: its place, name and layer, what it takes and what it gives.

    `inputs` are the names of what it takes, and `sources` their places in `Model.shapes`, which has
    the inputs of the model before the outputs of its nodes. `value` is the place of the output
    there. `shapes` are those of the inputs.
    """

    place: int
    name: str
    layer: Layer
    inputs: tuple[str, ...]
    sources: tuple[int, ...]
    shapes: tuple[Shape, ...]
    output_shape: Shape
    value: int

    @property
    def shape(self) -> Shape:
        """The shape of the input, the first one of a layer that merges."""
        return self.shapes[0]

    @property
    def mask(self) -> Mask | None:
        """The mask that each training step draws."""
        return self.layer.mask(*self.shapes)


@dataclass(frozen=True)
class Model(Record):
    """Layers on images (height, width, channels), sequences (positions, channels), vectors (units,)
    or token ids (positions,).

    Shapes leave out the batch. A model is a chain, in which each layer takes the output of the one
    before, or it branches: `layers` may contain the blocks of `spec.graph`, of which the model
    holds the nodes. `connections` has the name and the inputs of each node, and is None for a
    chain. The last node is the output, and every other one is taken by a node after it.

    With the `input_dtype` "int", the input consists of token ids, and `input_shape` is
    (positions,). An embedding is the first layer. A model of several inputs states these, with
    their names, as `inputs` in place of `input_shape` and `input_dtype`; layers that name no other
    source start at the first one. Its x is a structured array (see `data.join_inputs`).

    Nodes are named by kind and number: conv2d_1, conv2d_2, dense_1. The output of a classifier are
    logits; the softmax is part of the loss. Raises SpecError if a layer does not accept its inputs,
    or if the connections do not fit.
    """

    name: str
    input_shape: Shape = field(default=(), metadata={"omit_when": ()})
    layers: tuple[Layer, ...] = ()
    connections: tuple[Connection, ...] | None = field(default=None, metadata={"omit_when": None})
    input_dtype: ValueKind = field(default="float", metadata={"omit_when": "float"})
    inputs: tuple[Input, ...] = field(default=(), metadata={"omit_when": ()})

    kind: ClassVar[str] = "model"

    def __post_init__(self) -> None:
        where = f"model {self.name!r}"
        require(isinstance(self.name, str), f"{where}: the name is not a string")
        for name, example in (("input_shape", "(28, 28, 1)"), ("layers", "(Dense(10),)")):
            value = getattr(self, name)
            require(
                isinstance(value, Iterable),
                f"{where}: {name} is {value!r}; expected a tuple, such as {example}",
            )
            object.__setattr__(self, name, tuple(value))
        require(
            isinstance(self.inputs, Sequence),
            f'{where}: inputs is {self.inputs!r}; expected a tuple, such as (Input("a", (16,)),)',
        )
        object.__setattr__(self, "inputs", tuple(self.inputs))
        if self.inputs:
            self._check_inputs(where)
        else:
            require_input(where, "input_", self.input_shape, self.input_dtype)
        try:
            self._connect()
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from None
        _ = self.table

    def _check_inputs(self, where: str) -> None:
        """Raise SpecError unless the inputs are records, with names of their own."""
        for each in self.inputs:
            require(isinstance(each, Input), f"{where}: {each!r} is not an Input(name, shape)")
        counts = Counter(each.name for each in self.inputs)
        name, count = counts.most_common(1)[0]
        require(count == 1, f"{where}: two inputs have the name {name!r}")
        require(
            self.input_shape == () and self.input_dtype == "float",
            f"{where}: the inputs state their shapes and dtypes, and there is no input_shape and "
            "no input_dtype beside them",
        )

    def _connect(self) -> None:
        """Replace the blocks among the layers by their nodes."""
        emitter, connections = Emitter(), self.connections
        names = [each.name for each in self.input_table]
        Serial(self.layers).emit(emitter, names[0])
        require(len(emitter.layers) > 0, "there are no layers")
        if connections is None:
            connections = tuple(emitter.connections)
        require(
            isinstance(connections, Sequence),
            f"connections is {connections!r}; expected a tuple of the name and the inputs of each",
        )
        require(
            len(connections) == len(emitter.layers),
            f"there are {len(emitter.layers)} layers, but {len(connections)} connections",
        )
        check_connections(connections, names)
        object.__setattr__(self, "layers", tuple(emitter.layers))
        is_chain = not self.inputs and connections == chain(self.layers)
        object.__setattr__(self, "connections", None if is_chain else connections)

    @cached_property
    def input_table(self) -> tuple[Input, ...]:
        """Every input, in order; one that has no name is called "input"."""
        return self.inputs or (Input(INPUT, self.input_shape, self.input_dtype),)

    @cached_property
    def table(self) -> tuple[TableRow, ...]:
        """Every node, in order."""
        places = {each.name: place for place, each in enumerate(self.input_table)}
        shapes, rows = [each.shape for each in self.input_table], list[TableRow]()
        nodes = zip(self.layers, self.connections or chain(self.layers), strict=True)
        for place, (layer, (name, inputs)) in enumerate(nodes):
            sources = tuple(places[each] for each in inputs)
            own = tuple(shapes[source] for source in sources)
            try:
                self._check_kinds(layer, sources)
                shapes.append(layer.combined_shape(own))
                _require_sizes(layer, own, shapes[-1])
            except SpecError as error:
                raise SpecError(
                    f"model {self.name!r}, layer {place + 1} of {len(self.layers)}: {error}"
                ) from None
            places[name] = value = len(shapes) - 1
            rows.append(TableRow(place, name, layer, inputs, sources, own, shapes[-1], value))
        return tuple(rows)

    def _check_kinds(self, layer: Layer, sources: Sequence[int]) -> None:
        """Raise SpecError unless a layer takes what its sources consist of."""
        dtypes = dict(enumerate(each.dtype for each in self.input_table))
        for source in sources:
            found = dtypes.get(source, "float")
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
        """The shape of each input, followed by the output shape of each node."""
        return (*(each.shape for each in self.input_table), *self.output_shapes)

    @cached_property
    def output_shapes(self) -> tuple[Shape, ...]:
        """The output shape of each node."""
        return tuple(row.output_shape for row in self.table)

    @cached_property
    def learns(self) -> tuple[bool, ...]:
        """For each input and each node, whether its value depends on a trainable tensor."""
        found = [False for _ in self.input_table]
        for row in self.table:
            own = bool(row.layer.parameters(*row.shapes))
            found.append(own or any(found[source] for source in row.sources))
        return tuple(found)

    @cached_property
    def vocabularies(self) -> Mapping[str, int]:
        """The number of token ids that every embedding of an input has, by the input's name."""
        found = dict[str, int]()
        for row in self.table:
            if isinstance(row.layer, Embedding):
                (name,), size = row.inputs, row.layer.vocabulary
                found[name] = min(size, found.get(name, size))
        return found

    @property
    def block(self) -> Subgraph:
        """The nodes as a block of another model."""
        names = tuple(each.name for each in self.inputs)
        return Subgraph(self.layers, self.connections or chain(self.layers), names)

    @property
    def output_shape(self) -> Shape:
        """The output shape of the last layer."""
        return self.shapes[-1]

    def tensors_of(self, number: int) -> Iterator[Tensor]:
        """Yield the tensors of a layer, given its position: parameters first, then state."""
        _, name, layer, *_ = row = self.table[number]
        initializers = layer.initializers()
        parts = (layer.parameters(*row.shapes), True), (layer.state(row.shape), False)
        for part, trainable in parts:
            for tensor, size in part.items():
                fans = layer.fans_of(tensor, *row.shapes)
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


def _require_sizes(layer: Layer, own: Sequence[Shape], output: Shape) -> None:
    """Raise SpecError if the output or a tensor of a layer has more values than an array can."""
    for name, shape in {"output": output, **layer.parameters(*own)}.items():
        require(
            math.prod(shape) <= LARGEST_SIZE,
            f"{layer.kind}: the {name} of shape {shape} has more than 2**60 values",
        )
