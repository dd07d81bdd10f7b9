"""Branching models: builders that are written between the layers of a model.

A model is written as a sequence of layers and blocks, and stored as a flat table of nodes. They are
sorted, so that each takes the input or nodes before it::

    Model(
        "small",
        (28, 28, 1),
        (
            Conv2D(8, (3, 3), padding="same"),
            residual(BatchNorm(), Activation("relu"), Conv2D(8, (3, 3), padding="same")),
            parallel(MaxPool(), AveragePool()),
            Flatten(),
            Dense(10),
        ),
    )
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dlsys_bench.errors import SpecError, nearest
from dlsys_bench.spec.layers import Add, Concat, Layer
from dlsys_bench.spec.record import require

INPUT = "input"
"""The name of the input of a model that does not name its inputs."""

Connection = tuple[str, tuple[str, ...]]
"""The name of a node, and the names of what it takes: inputs, or nodes before it."""


@dataclass(frozen=True)
class Composite(Layer):
    """The base of what stands for several nodes, or for one with its inputs, in a new model.

    The model holds the nodes; no engine receives a block.
    """

    def emit(self, emitter: Emitter, source: str) -> str:
        """Emit the nodes of the block, given the name of its input; return that of its output."""
        raise NotImplementedError


@dataclass(frozen=True)
class Node(Composite):
    """A layer with a name, and the names of what it takes: inputs, or nodes before it."""

    name: str
    layer: Layer
    inputs: tuple[str, ...] | str

    def emit(self, emitter: Emitter, source: str) -> str:
        require(
            isinstance(self.inputs, str | tuple | list),
            f"node {self.name!r}: inputs is {self.inputs!r}; expected a name, or a tuple of names",
        )
        inputs = (self.inputs,) if isinstance(self.inputs, str) else tuple(self.inputs)
        return emitter.add(self.layer, inputs, self.name)


@dataclass(frozen=True)
class Serial(Composite):
    """Layers and blocks, each on the output of the one before; the identity if there are none.

    The first takes the input or the node that `source` names, if it names one.
    """

    blocks: tuple[Layer, ...]
    source: str = ""

    def emit(self, emitter: Emitter, source: str) -> str:
        source = self.source or source
        for block in self.blocks:
            source = emitter.emit(block, source)
        return source


@dataclass(frozen=True)
class Parallel(Composite):
    """Branches, each on one input or on its source, and a layer that takes the outputs of all."""

    branches: tuple[Layer, ...]
    join: Layer

    def emit(self, emitter: Emitter, source: str) -> str:
        return emitter.add(self.join, tuple(emitter.emit(each, source) for each in self.branches))


@dataclass(frozen=True)
class Subgraph(Composite):
    """The nodes of another model, on any input; see `Model.block`. They are named anew.

    If the inputs of that model have names, its nodes take what has these names in the new model.
    """

    layers: tuple[Layer, ...]
    connections: tuple[Connection, ...]
    inputs: tuple[str, ...] = ()

    def emit(self, emitter: Emitter, source: str) -> str:
        names = {name: name for name in self.inputs} or {INPUT: source}
        for layer, (name, inputs) in zip(self.layers, self.connections, strict=True):
            taken = tuple(names[each] for each in inputs)
            names[name] = emitter.add(layer, taken) if layer.merges else emitter.emit(layer, *taken)
            source = names[name]
        return source


def serial(*blocks: Layer, source: str = "") -> Serial:
    """Return layers and blocks, each on the output of the one before, as one block.

    It takes the input of the model, or the node before it, that `source` names; without a name, it
    takes what it is written after.
    """
    return Serial(blocks, source)


def parallel(*branches: Layer, join: Layer = Concat()) -> Parallel:  # noqa: B008
    """Return branches that take one input and whose outputs are joined, by a layer that merges.

    `serial()` is a branch that passes the input on, and `serial(source="name")` one that passes on
    a value from elsewhere, such as the context of attention.
    """
    return Parallel(branches, join)


def residual(*blocks: Layer, shortcut: Layer = Serial(())) -> Parallel:
    """Return layers and blocks whose output is added to their input. He et al. 2016.

    Where they change the shape, the `shortcut` changes that of the input alike.
    """
    return Parallel((Serial(blocks), shortcut), Add())


class Emitter:
    """Collects the nodes of a model. A node without a name is named by kind and number."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.connections: list[Connection] = []
        self.counts: Counter[str] = Counter()

    def emit(self, layer: Layer, source: str) -> str:
        """Add a layer, or the nodes of a block, on the output of a node; return their output."""
        require(isinstance(layer, Layer), f"{layer!r} is not a layer")
        if isinstance(layer, Composite):
            return layer.emit(self, source)
        return self.add(layer, (source,))

    def add(self, layer: Layer, inputs: tuple[str, ...], name: str = "") -> str:
        """Add a node and return its name. Raises SpecError unless it is one layer."""
        require(isinstance(layer, Layer), f"{layer!r} is not a layer")
        require(
            not isinstance(layer, Composite),
            f"a node is one layer, and so is a join, but {layer!r} is a block: write it among the "
            "layers",
        )
        if not name:
            self.counts[layer.kind] += 1
            name = f"{layer.kind}_{self.counts[layer.kind]}"
        self.connections.append((name, inputs))
        self.layers.append(layer)
        return name


def chain(layers: Iterable[Layer]) -> tuple[Connection, ...]:
    """Return the connections of layers that each take the one before, named by kind and number."""
    emitter = Emitter()
    Serial(tuple(layers)).emit(emitter, INPUT)
    return tuple(emitter.connections)


def check_connections(connections: Sequence[Connection], inputs: Sequence[str] = (INPUT,)) -> None:
    """Raise SpecError unless every node has a name of its own, takes inputs or nodes before it, and
    is taken by a node after it; the last one is the output. Every input is taken by a node."""
    for connection in connections:
        _require_names(connection)
    takes, known = dict(connections), [*inputs]
    for name, sources in connections:
        require(name not in known, f"two nodes, or a node and an input, have the name {name!r}")
        require(
            name != "" and "." not in name, f"a node has the name {name!r}, empty or with a dot"
        )
        for source in sources:
            if source in takes and source not in known:
                _require_no_cycle(takes, name)
                require(False, f"node {name!r} takes {source!r}, which comes after it: sort them")
            if source not in known:
                raise SpecError(
                    f"node {name!r} takes {source!r}, which is no node{nearest(source, known)}; "
                    f"known before it: {', '.join(known)}"
                )
        known.append(name)
    used = {source for _, sources in connections for source in sources}
    unused = [name for name in known[len(inputs) : -1] if name not in used]
    require(
        not unused,
        f"nothing takes the output of {', '.join(unused)}: the last node is the output, "
        "and every other one is taken by a node after it",
    )
    unused = [name for name in inputs if name not in used and len(inputs) > 1]
    require(not unused, f"no node takes the input {', '.join(unused)}: leave it out, or use it")


def _require_names(connection: object) -> None:
    """Raise SpecError unless a connection consists of a name and a tuple of names."""
    match connection:
        case str(), [*sources]:
            found = all(isinstance(source, str) for source in sources)
        case _:
            found = False
    require(
        found, f"{connection!r} connects no node: expected the name of a node and a tuple of names"
    )


def _require_no_cycle(takes: Mapping[str, tuple[str, ...]], start: str) -> None:
    """Raise SpecError, which shows the shortest cycle, if a node depends on its own output."""
    paths, seen = [[start]], {start}
    for path in paths:
        for source in takes.get(path[-1], ()):
            require(source != start, f"nodes form a cycle: {' takes '.join([*path, start])}")
            if source not in seen:
                seen.add(source)
                paths.append([*path, source])
