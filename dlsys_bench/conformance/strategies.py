"""Hypothesis strategies for networks and data, drawn from the tables of the spec. They shrink to
few, small layers."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.errors import SpecError
from dlsys_bench.spec.initializers import Initializer
from dlsys_bench.spec.layers import (
    FUNCTIONS,
    LAYERS,
    Activation,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    Shape,
)
from dlsys_bench.spec.losses import LOSSES, Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import OPTIMIZERS, Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import CyclicalLearningRate

IMAGES: tuple[Shape, ...] = ((4, 4, 1), (5, 4, 2), (6, 7, 1), (8, 8, 3))
VECTORS: tuple[Shape, ...] = ((3,), (1,), (7,))


class Example(NamedTuple):
    """A network with weights, a batch for it, and a loss. Printed, it is what it was drawn from."""

    model: Model
    weights: Weights
    batch: Batch
    loss: Loss
    seed: int

    def __str__(self) -> str:
        layers = ", ".join(describe(layer) for layer in self.model.layers)
        mode = "training" if self.batch.training else "inference"
        given = f"{len(self.batch.x)} samples, {mode}, {self.loss.kind}, seed {self.seed}"
        return f"input {self.model.input_shape}: {layers}; {given}"


def describe(layer: Layer) -> str:
    """A layer with the options that are not its defaults."""
    plain = {f.name: f.default for f in fields(layer)}
    told = ", ".join(
        f"{k}={v!r}"
        for k, v in vars(layer).items()
        if v != plain.get(k) and not isinstance(v, Initializer)
    )
    return f"{layer.kind}({told})"


def layers(kind: str, **fixed: Any) -> st.SearchStrategy[Layer]:
    """A layer of a kind with any of its choices, but for what is fixed."""
    record = LAYERS[kind]
    options = {name: st.sampled_from(values) for name, values in record.choices.items()}
    options |= {name: st.just(value) for name, value in fixed.items()}
    return st.fixed_dictionaries(options).map(lambda chosen: record.of(**chosen))


@st.composite
def models(
    draw: st.DrawFn,
    outputs: int | None = None,
    most_layers: int = 6,
    kinds: tuple[str, ...] = tuple(LAYERS),
    functions: tuple[str, ...] = FUNCTIONS,
) -> Model:
    """A network whose layers fit, ending in a dense layer of `outputs` (default: 1 to 4)."""
    shape = start = draw(st.sampled_from(VECTORS + IMAGES if "flatten" in kinds else VECTORS))
    chain: list[Layer] = []
    for _ in range(draw(st.integers(0, most_layers))):
        kind = draw(st.sampled_from(kinds))
        layer = draw(
            layers(
                kind,
                **({"function": draw(st.sampled_from(functions))} if kind == "activation" else {}),
            )
        )
        try:
            following = layer.output_shape(shape)
        except SpecError:
            continue
        # A softmax over one value is always one, and Keras warns of it.
        if isinstance(layer, Activation) and layer.function == "softmax" and shape[-1] == 1:
            continue
        shape = following
        chain.append(layer)
    if len(shape) == 3:
        chain.append(Flatten())
    chain.append(Dense(draw(st.integers(1, 4)) if outputs is None else outputs))
    return Model("drawn", start, tuple(chain))


@st.composite
def losses(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(LOSSES)) -> Loss:
    """Any loss of these kinds."""
    return LOSSES[draw(st.sampled_from(sorted(kinds)))].of()


@st.composite
def optimizers(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(OPTIMIZERS)) -> Optimizer:
    """Any optimiser of these kinds with any of its choices that go together."""
    record = OPTIMIZERS[draw(st.sampled_from(sorted(kinds)))]
    options = {name: draw(st.sampled_from(values)) for name, values in record.choices.items()}
    if options.get("nesterov"):
        options |= {"momentum": 0.9, "dampening": 0.0}
    if options.get("velocity") == "rate":
        options |= {"dampening": 0.0}
    return record.of(**options)


@st.composite
def recipes(
    draw: st.DrawFn,
    samples: int,
    loss: Loss | None = None,
    kinds: tuple[str, ...] = tuple(OPTIMIZERS),
) -> Recipe:
    """A short training on so many samples: an optimiser, batches that need not divide them, perhaps
    a moving rate."""
    schedule = draw(
        st.none() | st.builds(CyclicalLearningRate, st.just(0.01), st.just(0.1), st.integers(1, 4))
    )
    return Recipe(
        draw(optimizers(kinds)),
        batch_size=draw(st.integers(1, samples)),
        epochs=draw(st.integers(1, 3)),
        steps=draw(st.none() | st.integers(1, 6)),
        shuffle=draw(st.booleans()),
        schedule=schedule,
        loss=draw(losses()) if loss is None else loss,
    )


def targets(loss: Loss, outputs: int, samples: int, generator: np.random.Generator) -> NDArray[Any]:
    """Targets as the loss takes them."""
    if loss.targets == "labels":
        return generator.integers(0, outputs, samples)
    if loss.targets == "signs":
        return generator.choice(np.array([-1, 1]), samples)
    return generator.standard_normal((samples, outputs))


def nonzero_weights(model: Model, seed: int) -> Weights:
    """Weights of which none is at its special start: a bias of zero or a gamma of one would hide a
    missing term."""
    generator = np.random.default_rng((seed, 1))
    weights = Plan(seed).weights(model)
    for tensor in model.tensors:
        part = tensor.name.split(".")[1]
        if part in ("bias", "beta", "moving_mean"):
            weights[tensor.name] = generator.normal(0.0, 0.3, tensor.shape)
        elif part in ("gamma", "moving_variance"):
            weights[tensor.name] = generator.uniform(0.5, 1.5, tensor.shape)
    return weights


@st.composite
def examples(
    draw: st.DrawFn,
    kinds: tuple[str, ...] = tuple(LAYERS),
    loss_kinds: tuple[str, ...] = tuple(LOSSES),
    functions: tuple[str, ...] = FUNCTIONS,
) -> Example:
    """A network with weights, data, dropout masks and a loss that fits its outputs. Batches of 3 to
    6."""
    loss = draw(losses(loss_kinds))
    # One output has one side, and a softmax over it nothing to choose from.
    model = draw(
        models(
            outputs=1 if loss.targets == "signs" else draw(st.integers(2, 4)),
            kinds=kinds,
            functions=functions,
        )
    )
    seed, samples = draw(st.integers(0, 2**16)), draw(st.integers(3, 6))
    generator = np.random.default_rng((seed, 0))
    batch = Batch(
        generator.standard_normal((samples, *model.input_shape)),
        targets(loss, model.output_shape[0], samples, generator),
        Plan(seed).masks(model, 0, samples),
        draw(st.booleans()),
    )
    return Example(model, nonzero_weights(model, seed), batch, loss, seed)


@st.composite
def single_layers(draw: st.DrawFn, /, kind: str, *, images: bool = True, **fixed: Any) -> Example:
    """A layer alone under a dense one, with a loss of values. Half of the inputs are whole halves:
    a max pool then meets equals, and a relu the zero at which it has no derivative. Without
    `images` no flatten is needed."""
    layer = draw(layers(kind, **fixed))
    either = IMAGES + VECTORS if images else VECTORS
    shapes = (
        VECTORS
        if kind == "dense"
        else IMAGES
        if kind in ("conv2d", "average_pool", "max_pool")
        else either
    )
    shape = draw(st.sampled_from(shapes))
    try:
        result = layer.output_shape(shape)
    except SpecError:
        # A window larger than this image; the largest holds all of them.
        shape = IMAGES[-1]
        result = layer.output_shape(shape)
    after = (Flatten(),) if len(result) == 3 else ()
    model = Model("drawn", shape, (layer, *after, Dense(2)))
    # One vector alone has no variance, and a batch norm of torch refuses it.
    least = 2 if kind == "batch_norm" and len(shape) == 1 else 1
    seed, samples = draw(st.integers(0, 2**16)), draw(st.integers(least, 5))
    generator = np.random.default_rng((seed, 0))
    x = generator.standard_normal((samples, *shape))
    # At zero a leaky relu takes the slope from below in torch and TensorFlow, from above in JAX:
    # both are right.
    if draw(st.booleans()) and fixed.get("function") != "leaky_relu":
        x = np.round(2 * x) / 2
    loss = LOSSES["mean_squared_error"].of()
    batch = Batch(
        x,
        generator.standard_normal((samples, 2)),
        Plan(seed).masks(model, 0, samples),
        draw(st.booleans()),
    )
    return Example(model, nonzero_weights(model, seed), batch, loss, seed)


def kink_distance(model: Model, x: Array, outputs: list[Array]) -> float:
    """How far the pass stands from a point without a derivative: a relu's zero, or two equals in a
    max pool.

    Exact zeros and exact equals do not count: they come from units that are dropped or dead, which
    a small change of the weights leaves dropped or dead.
    """
    nearest = np.inf
    for layer, given in zip(model.layers, [x, *outputs], strict=False):
        gaps = np.empty(0)
        if isinstance(layer, Activation) and layer.function in ("relu", "leaky_relu"):
            gaps = np.abs(given)
        elif isinstance(layer, MaxPool):
            windows = np.lib.stride_tricks.sliding_window_view(given, layer.pool_size, axis=(1, 2))
            windows = windows[:, :: layer.steps[0], :: layer.steps[1]].reshape(
                -1, layer.pool_size[0] * layer.pool_size[1]
            )
            ordered = np.sort(windows, axis=1)
            gaps = np.diff(ordered[:, -2:], axis=1) if ordered.shape[1] > 1 else gaps
        nearest = min(nearest, float(gaps[gaps > 0].min(initial=np.inf)))
    return nearest
