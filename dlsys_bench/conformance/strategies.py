"""Hypothesis strategies for networks, recipes and data, drawn from the tables of the specification.

Examples shrink to few, small layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from dlsys_bench.conformance.drawing import (
    IMAGES,
    ON_FLOATS,
    SEQUENCES,
    VECTORS,
    DrawnGraph,
    accepts,
    describe,
    describe_model,
    shapes_for,
    usable,
)
from dlsys_bench.conformance.drawn_arrays import inputs, nonzero_weights, targets
from dlsys_bench.conformance.oracle.kinks import kink_distance
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.errors import SpecError, count_of
from dlsys_bench.spec.convention import CONVENTIONS, to_convention
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.layers import (
    FUNCTIONS,
    VARIANTS,
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv1D,
    Dense,
    Flatten,
    Layer,
    Merge,
    Shape,
)
from dlsys_bench.spec.losses import LOSSES, Loss, MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import OPTIMIZERS, Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Choices
from dlsys_bench.spec.schedules import CyclicalLearningRate

__all__ = [
    "Example",
    "accepts",
    "describe",
    "describe_model",
    "examples",
    "inputs",
    "kink_distance",
    "layers",
    "losses",
    "models",
    "nonzero_weights",
    "optimizers",
    "options",
    "recipes",
    "single_layers",
    "targets",
    "usable",
]


class Example(NamedTuple):
    """A network with its weights, a batch for it and a loss. Printed in the terms of its draw."""

    model: Model
    weights: Weights
    batch: Batch
    loss: Loss
    seed: int

    def __str__(self) -> str:
        mode = "training" if self.batch.training else "inference"
        given = (
            f"{count_of(len(self.batch.x), 'sample')}, {mode}, {self.loss.kind}, seed {self.seed}"
        )
        return f"{describe_model(self.model)}; {given}"


def options(choices: Choices) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for one value of each option."""
    return st.fixed_dictionaries({name: st.sampled_from(v) for name, v in choices.items()})


def layers(kind: str, **fixed: Any) -> st.SearchStrategy[Layer]:
    """Return a strategy for a layer of a kind, or of a variant, with any of its choices except the
    fixed options."""
    record, given = VARIANTS[kind]
    choices = {**given, **{name: (value,) for name, value in fixed.items()}}
    return options(choices).map(lambda chosen: record.of(**chosen))


@st.composite
def models(
    draw: st.DrawFn,
    outputs: int | None = None,
    most_layers: int = 6,
    kinds: Sequence[str] = ON_FLOATS,
    functions: Sequence[str] = tuple(FUNCTIONS),
    input_counts: Sequence[int] = (1,),
) -> Model:
    """Draw a network of layers that fit, ending in a dense layer of `outputs` (default: 1 to 4).

    If a kind merges, it may branch; with "embedding", inputs may consist of token ids. A branching
    network shrinks to the fewest nodes and towards a chain, and to the first of the numbers of
    inputs in `input_counts`, each at most 3. Several inputs have names, and are joined by a kind
    that merges.
    """
    shapes = VECTORS + IMAGES + SEQUENCES if "flatten" in kinds else VECTORS
    count = input_counts[0] if len(input_counts) == 1 else draw(st.sampled_from(input_counts))
    starts = [draw(st.sampled_from(shapes))]
    while len(starts) < count:
        # Inputs of one shape can be mistaken for each other.
        starts.append(starts[0] if draw(st.booleans()) else draw(st.sampled_from(shapes)))
    graph = DrawnGraph(draw, starts, kinds)
    for _ in range(draw(st.integers(0, most_layers))):
        kind = draw(st.sampled_from(graph.fitting(kinds)))
        fixed = {"function": draw(st.sampled_from(functions))} if kind == "activation" else {}
        graph.grow(draw(layers(kind, **fixed)))
    return graph.close(draw(st.integers(1, 4)) if outputs is None else outputs)


@st.composite
def losses(draw: st.DrawFn, kinds: Sequence[str] = tuple(LOSSES), *, varied: bool = False) -> Loss:
    """Draw a loss of these kinds, in any of its variants if `varied`; weights are of three classes,
    and follow any convention."""
    record = LOSSES[draw(st.sampled_from(sorted(kinds)))]
    if not varied:
        return record.of()
    variants = record.all_variants()
    drawn = record.of(**draw(options(variants[draw(st.sampled_from(list(variants)))])))
    return to_convention(draw(st.sampled_from(CONVENTIONS)), drawn)


@st.composite
def optimizers(draw: st.DrawFn, kinds: Sequence[str] = tuple(OPTIMIZERS)) -> Optimizer:
    """Draw an optimiser of these kinds, in one of its variants and in any convention."""
    record = OPTIMIZERS[draw(st.sampled_from(sorted(kinds)))]
    variants = record.all_variants()
    drawn = record.of(**draw(options(variants[draw(st.sampled_from(list(variants)))])))
    try:
        return to_convention(draw(st.sampled_from(CONVENTIONS)), drawn)
    except SpecError:
        return drawn  # Keras has no dampening, for example.


@st.composite
def recipes(
    draw: st.DrawFn,
    samples: int,
    loss: Loss | None = None,
    kinds: Sequence[str] = tuple(OPTIMIZERS),
) -> Recipe:
    """Draw a short training on a number of samples, which the batch size need not divide."""
    cycle = st.builds(CyclicalLearningRate, st.just(0.01), st.just(0.1), st.integers(1, 4))
    return Recipe(
        draw(optimizers(kinds)),
        batch_size=draw(st.integers(1, samples)),
        epochs=draw(st.integers(1, 3)),
        steps=draw(st.none() | st.integers(1, 6)),
        shuffle=draw(st.booleans()),
        schedule=draw(st.none() | cycle),
        loss=draw(losses()) if loss is None else loss,
    )


@st.composite
def examples(
    draw: st.DrawFn,
    kinds: Sequence[str] = ON_FLOATS,
    loss_kinds: Sequence[str] = tuple(LOSSES),
    functions: Sequence[str] = tuple(FUNCTIONS),
    input_counts: Sequence[int] = (1,),
) -> Example:
    """Draw a network with weights, a batch of 3 to 6 samples, dropout masks and a suitable loss."""
    loss = draw(losses(loss_kinds))
    # A loss of signs takes one output; a softmax over one output would be constant.
    outputs = 1 if loss.targets == "signs" else draw(st.integers(2, 4))
    model = draw(models(outputs, kinds=kinds, functions=functions, input_counts=input_counts))
    seed, samples = draw(st.integers(0, 2**16)), draw(st.integers(3, 6))
    generator = np.random.default_rng((seed, 0))
    batch = Batch(
        inputs(model, samples, generator),
        targets(loss, model.output_shape[0], samples, generator),
        Plan(seed).masks(model, 0, samples),
        draw(st.booleans()),
    )
    return Example(model, nonzero_weights(model, seed), batch, loss, seed)


@st.composite
def _around(
    draw: st.DrawFn, layer: Layer, shape: Shape, functions: Sequence[str], kinds: Sequence[str]
) -> Layer:
    """Draw a layer, two or three branches that a layer merges, or x and a context of it."""
    if not layer.merges:
        return layer
    if not isinstance(layer, Merge):
        # The context is x itself, of its shape, of another width, shorter than x or longer.
        width = shape[-1]
        contexts = serial(), Dense(width), Dense(2 * width)
        pairs: list[tuple[Layer, Layer]] = [(serial(), each) for each in contexts]
        if "conv1d" in kinds and shape[0] > 1:
            pairs += [(serial(), Conv1D(2 * width, 2)), (Conv1D(2 * width, 2), serial())]
        blocks = [parallel(*pair, join=layer) for pair in pairs]
        return draw(st.sampled_from([block for block in blocks if _is_model(block, shape)]))
    smooth = [name for name, of in FUNCTIONS.items() if not of.kink and of.least_units == 1]
    branches: list[Layer] = [serial(), *(Activation(name) for name in smooth if name in functions)]
    if len(shape) == 1:
        units = shape if isinstance(layer, Add) else (2, 3)
        branches += map(Dense, units)
    elif isinstance(layer, Concat):
        branches += [parallel(serial(), serial(), join=layer)]
    several = st.lists(st.sampled_from(branches), min_size=2, max_size=3)
    return parallel(*draw(several), join=layer)


def _is_model(block: Layer, shape: Shape) -> bool:
    """Return whether the layers of a block fit; causal attention takes no context of another
    length."""
    try:
        Model("drawn", shape, (block,))
    except SpecError:
        return False
    return True


def _below_dense(block: Layer, shape: Shape, outputs: int) -> Model:
    """Return a model of a block on values of a shape, or on token ids, and a dense layer."""
    bare = Model("drawn", shape, (block,), input_dtype=block.takes)
    after = (Flatten(),) if len(bare.output_shape) > 1 else ()
    return replace(bare, layers=(bare.block, *after, Dense(outputs)), connections=None)


@st.composite
def single_layers(
    draw: st.DrawFn,
    /,
    kind: str,
    *,
    images: bool = True,
    functions: Sequence[str] = tuple(FUNCTIONS),
    kinds: Sequence[str] = tuple(VARIANTS),
    loss: Loss = MeanSquaredError(),  # noqa: B008
    **fixed: Any,
) -> Example:
    """Draw a layer below a dense one, with a loss.

    Without `images`, images and sequences are drawn only for layers that take no vectors. A layer
    that merges has branches of these activation `functions` and of dense layers, and a context is
    made by a layer of these `kinds`. Half of the inputs are multiples of one half: a max pool then
    has equal values, and a relu the zero at which it has no derivative.
    """
    layer = draw(layers(kind, **fixed).filter(lambda drawn: shapes_for(drawn, images)))
    shape = draw(st.sampled_from(shapes_for(layer, images)))
    block = draw(_around(layer, shape, functions, kinds))
    model = _below_dense(block, shape, 1 if loss.targets == "signs" else 2)
    # A single vector has no variance; torch raises an error for a batch norm of one.
    least = 2 if isinstance(layer, BatchNorm) and prod(shape[:-1]) == 1 else 1
    seed, samples = draw(st.integers(0, 2**16)), draw(st.integers(least, 5))
    generator = np.random.default_rng((seed, 0))
    x = inputs(model, samples, generator)
    either = isinstance(layer, Activation) and FUNCTIONS[layer.function].either_slope
    if draw(st.booleans()) and not either and model.input_dtype == "float":
        x = np.round(2 * x) / 2
    batch = Batch(
        x,
        targets(loss, model.output_shape[0], samples, generator),
        Plan(seed).masks(model, 0, samples),
        draw(st.booleans()),
    )
    return Example(model, nonzero_weights(model, seed), batch, loss, seed)
