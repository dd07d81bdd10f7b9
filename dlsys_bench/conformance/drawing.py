"""Networks that are drawn node by node, and what their parts are in text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache

from hypothesis import strategies as st

from dlsys_bench.errors import SpecError
from dlsys_bench.spec.graph import INPUT, Emitter, parallel, serial
from dlsys_bench.spec.initializers import Initializer
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import (
    FUNCTIONS,
    LAYERS,
    VARIANTS,
    Activation,
    Concat,
    Dense,
    Embedding,
    Flatten,
    GlobalAveragePool,
    Layer,
    Merge,
    Shape,
)
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.record import Record

IMAGES: tuple[Shape, ...] = ((4, 4, 1), (5, 4, 2), (6, 7, 1), (8, 8, 3), (4, 3, 6))
VECTORS: tuple[Shape, ...] = ((3,), (1,), (7,))
DIVISIBLE: Shape = (12,)
"""A vector for layers that divide their channels into groups."""

SEQUENCES: tuple[Shape, ...] = ((3, 2), (1, 6), (4, 6))

VOCABULARY = 7

INPUT_NAMES = ("query", "context", "age")
"""The names of several inputs, of which none is in its place in the order of the alphabet."""

ON_FLOATS = tuple(name for name, (layer, _) in VARIANTS.items() if layer.takes == "float")
"""The kinds and variants of layers of a network whose input consists of floats."""


def describe(record: Record) -> str:
    """Return a layer or a loss as text, with the options that differ from their defaults."""
    defaults = {f.name: f.default for f in fields(record)}
    shown = ", ".join(
        f"{name}={value!r}"
        for name, value in vars(record).items()
        if value != defaults.get(name) and not isinstance(value, Initializer)
    )
    return f"{record.kind}({shown})"


def describe_model(model: Model) -> str:
    """Return a model as text: its layers or, if it branches, its nodes with what they take."""
    parts = [describe(layer) for layer in model.layers]
    if model.connections is not None:
        parts = [
            f"{name} = {part} of {' and '.join(inputs)}"
            for part, (name, inputs) in zip(parts, model.connections, strict=True)
        ]
    inputs = ", ".join(f"{each.name} {each}" for each in model.input_table)
    return f"{inputs}: {', '.join(parts)}"


def accepts(layer: Layer, shape: Shape) -> bool:
    """Return whether a layer takes floats of a shape, or two inputs of it if it merges."""
    if layer.takes != "float":
        return False
    try:
        layer.combined_shape([shape] * (2 if layer.merges else 1))
    except SpecError:
        return False
    return True


def usable(layer: Layer, branches: int = 2) -> Layer:
    """Return a layer, or for a layer that merges a block in which it joins two branches, or that
    many if it takes any number."""
    if layer.merges:
        others = [Activation("tanh")] * (branches - 1 if isinstance(layer, Merge) else 1)
        return parallel(serial(), *others, join=layer)
    return layer


def shapes_for(layer: Layer, images: bool) -> list[Shape]:
    """Return the shapes of drawn inputs that a layer accepts; see `strategies.single_layers`.

    Vectors come first: an example shrinks to them.
    """
    if layer.takes == "int":
        return [*VECTORS]
    widths = VECTORS if images else (*VECTORS, DIVISIBLE)
    vectors = [shape for shape in widths if accepts(layer, shape)]
    others = [shape for shape in IMAGES + SEQUENCES if accepts(layer, shape)]
    return [*vectors, *(others if images or not vectors else [])]


MAKE_VECTORS = (Flatten, GlobalAveragePool)
"""The layers whose outputs are vectors, while their inputs are not."""

ROOMY: dict[int, Shape] = {1: (12,), 2: (12, 12), 3: (12, 12, 12)}
"""A shape that only the number of its axes makes unsuitable, by that number."""


@cache
def first_choice(kind: str) -> Layer:
    """Return the layer of a kind, or of a variant, with the first value of each option."""
    return VARIANTS[kind][0].examples()[kind]


@cache
def takes_axes(kind: str, axes: int) -> bool:
    """Return whether layers of a kind, or a variant, take values with this number of axes."""
    return accepts(first_choice(kind), ROOMY[axes])


def needs_flatten(kind: str) -> bool:
    """Return whether a flatten is needed between a layer of a kind, or a variant, and a dense
    layer."""
    return not takes_axes(kind, 1) and not isinstance(first_choice(kind), MAKE_VECTORS)


def is_constant(layer: Layer, shape: Shape) -> bool:
    """Return whether a layer's output is the same for all inputs, as a softmax of one value is."""
    return isinstance(layer, Activation) and shape[-1] < FUNCTIONS[layer.function].least_units


class DrawnGraph:
    """A network that is drawn node by node. `shapes` has the shape of each value by name, the
    latest last."""

    def __init__(self, draw: st.DrawFn, starts: Sequence[Shape], kinds: Sequence[str]) -> None:
        self.draw = draw
        self.joins = [kind for kind in LAYERS if issubclass(LAYERS[kind], Merge) and kind in kinds]
        self.emitter = Emitter()
        self.inputs: list[Input] = []
        self.shapes: dict[str, Shape] = {}
        for name, start in zip(INPUT_NAMES if starts[1:] else (INPUT,), starts, strict=False):
            if len(start) == 2 and Embedding.kind in kinds and draw(st.booleans()):
                self.inputs.append(Input(name, start[:1], "int"))
                name = self.emitter.add(Embedding(VOCABULARY, start[-1]), (name,))
            else:
                self.inputs.append(Input(name, start))
            self.shapes[name] = start

    def add(self, layer: Layer, inputs: Sequence[str]) -> str:
        """Add a node and return its name."""
        shape = layer.combined_shape([self.shapes[name] for name in inputs])
        name = self.emitter.add(layer, tuple(inputs))
        self.shapes[name] = shape
        return name

    def fitting(self, kinds: Sequence[str]) -> list[str]:
        """Return the kinds that may take the latest value, or all if none of them may. Those that
        merge occur three times, so that many networks branch."""
        axes = len(self.shapes[next(reversed(self.shapes))])
        fits = [kind for kind in kinds if takes_axes(kind, axes)] or [*kinds]
        return [*fits, *[kind for kind in fits if first_choice(kind).merges] * 2]

    def grow(self, layer: Layer) -> None:
        """Add a layer, usually on the latest value, unless it does not accept what it is on."""
        names = list(reversed(self.shapes))
        back = self.draw(st.sampled_from((0, 0, 0, 1, 2))) if self.joins else 0
        first = names[min(back, len(names) - 1)]
        shape, others = self.shapes[first], list[str]()
        # Keras warns of a softmax over one value.
        if not accepts(layer, shape) or is_constant(layer, shape):
            return
        fits = [name for name in names if self._joins(layer, shape, self.shapes[name])]
        if isinstance(layer, Merge):
            others = self.draw(st.lists(st.sampled_from(fits), min_size=1, max_size=2))
        elif layer.merges:
            # A context is another value, if one fits.
            contexts = [name for name in fits if name != first] or [first]
            others = [self.draw(st.sampled_from(contexts))]
        self.add(layer, [first, *others])

    def _joins(self, layer: Layer, *shapes: Shape) -> bool:
        try:
            layer.combined_shape(shapes)
        except SpecError:
            return False
        return True

    def close(self, outputs: int) -> Model:
        """Join all values that nothing takes, and end in a dense layer."""
        taken = {name for _, inputs in self.emitter.connections for name in inputs}
        ends = [name for name in self.shapes if name not in taken]
        ends = [
            self.add(Flatten(), [name]) if len(self.shapes[name]) > 1 else name for name in ends
        ]
        if len(ends) > 1 and Concat.kind not in self.joins:
            ends = [self.add(Dense(2), [name]) for name in ends]
        if len(ends) > 1:
            ends = [self.add(LAYERS[self.joins[-1]].of(), ends)]
        self.add(Dense(outputs), ends)
        emitted = self.emitter
        nodes = tuple(emitted.layers), tuple(emitted.connections)
        if self.inputs[1:]:
            return Model("drawn", (), *nodes, inputs=tuple(self.inputs))
        return Model("drawn", self.inputs[0].shape, *nodes, self.inputs[0].dtype)
