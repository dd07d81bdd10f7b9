"""The layers at the sizes of real networks: forward, and their gradients along directions.

The other checks compare every entry of small tensors. Here, fan-ins, units, channels, images and
batches are larger than the blocks, tiles and limits that engines have. A complete gradient by
complex steps would take hours. The derivative of the loss along a random direction takes one pass,
and nearly every error of a gradient changes it; only if it is wrong is the block located.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.blocks import BATCH_AXES, close_in_blocks
from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.directions import compare_slopes
from dlsys_bench.conformance.checks.networks import many_tensors, mild_weights
from dlsys_bench.conformance.checks.subjects import SUBJECTS, LayerSubject
from dlsys_bench.conformance.checks.support import example_loss, has_layers, trainable
from dlsys_bench.conformance.drawing import takes_axes
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.strategies import (
    Example,
    inputs,
    nonzero_weights,
    targets,
    usable,
)
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.spec.layers import Activation, Dense, Flatten, Layer, Shape
from dlsys_bench.spec.model import Model


class Size(NamedTuple):
    """The shape of an input, the number of samples, the options that make a layer on it large, and
    the number of branches that a merging layer joins."""

    shape: Shape
    samples: int
    options: Mapping[str, Any]
    branches: int = 2


VECTORS = (Size((1032,), 300, {"units": 300, "groups": 12}),)
TOKENS = (
    Size((70,), 40, {"vocabulary": 1030, "units": 300}),
    Size((9,), 40, {"vocabulary": 70_000, "units": 2}),
)
_MANY_CHANNELS: Mapping[str, Any] = {"filters": 144, "groups": 12}
_WIDE_WINDOWS: Mapping[str, Any] = {"filters": 12, "groups": 4, "units": 30}
IMAGES = (
    Size((34, 33, 132), 1, {**_MANY_CHANNELS, "strides": (5, 4), "pool_size": (17, 16)}),
    Size((6, 150, 2), 2, {"filters": 2}),
    Size(
        (8, 11, 4),
        520,
        {**_WIDE_WINDOWS, "kernel_size": (7, 6), "dilation": (1, 2), "pool_size": (6, 5)},
    ),
)
"""Large images of many channels, wide images, and many images: large in every axis, and never in
all at once."""
SEQUENCES = (
    Size(
        (150, 132),
        2,
        {**_MANY_CHANNELS, "kernel_size": 11, "dilation": 9, "heads": 12, "positions": 160},
    ),
    Size(
        (20, 24),
        270,
        {
            **_WIDE_WINDOWS,
            "kernel_size": 8,
            "strides": 5,
            "heads": 3,
            "drop_rate": 0.4,
            "positions": 50,
        },
        branches=9,
    ),
    Size((530, 2), 1, {"heads": 2, "key_size": 1, "filters": 2, "positions": 600}),
)
"""Long sequences of many channels, many sequences, and very long ones."""

_ALL_THREE: Mapping[str, Any] = dict.fromkeys(("filters", "groups", "heads", "units"), 3)
EQUAL = (
    # A group of one value has no variance, and a gradient of rounding errors.
    Size((3,), 3, {**_ALL_THREE, "groups": 1}),
    Size((3, 3), 3, {**_ALL_THREE, "kernel_size": 2, "key_size": 1, "positions": 3}),
    Size((3, 3, 3), 3, {**_ALL_THREE, "kernel_size": (2, 2)}),
)
EQUAL_TOKENS = Size((3,), 3, {"vocabulary": 3, "units": 3})
"""Inputs of the same size in every axis, so that an axis which is found by its size may be another
one. There are as many units, filters, groups and heads."""


def sizes_for(subject: LayerSubject) -> tuple[Size, ...]:
    """Return the sizes of the large examples of a layer, and those with equal axes.

    An activation treats the values of images, sequences and vectors alike. A layer that takes
    images treats long sequences as it treats them.
    """
    if issubclass(subject.layer, Activation):
        return VECTORS + EQUAL
    if subject.layer.takes == "int":
        return (*TOKENS, EQUAL_TOKENS)
    many = SEQUENCES[1:] if takes_axes(subject.variant, 3) else SEQUENCES
    every = VECTORS + IMAGES + many + EQUAL
    if "positions" in subject.choices:  # Its first choice has too few of them for any size.
        return tuple(size for size in every if "positions" in size.options)
    return tuple(size for size in every if takes_axes(subject.variant, len(size.shape)))


def large_layer(trial: Trial, subject: LayerSubject, size: Size) -> Layer:
    """Return a layer of a subject that is large on a size in all options that the engine has, and
    otherwise its first choices."""
    first = {name: values[0] for name, values in subject.choices.items()}
    # An option of one choice is what makes a variant.
    free = (name for name, values in subject.choices.items() if len(values) > 1)
    large = {name: size.options[name] for name in free if name in size.options}
    layer = subject.layer.of(**{**first, **large, **subject.options})
    if has_layers(trial, [layer]):
        return layer
    # Groups are the only one of these options that an engine may lack while it has the layer.
    return replace(layer, groups=first["groups"])  # type: ignore[call-arg]


def on_grid(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return normal values, rounded to multiples of 1/64 other than zero.

    Every dtype represents them exactly. They are equal or far from each other, and far from zero,
    so rounding decides neither the maximum of a window nor the side of a relu.
    """
    x = np.round(64 * generator.standard_normal(shape)) / 64
    return np.where(x == 0, 1 / 64, x)


def grid_inputs(model: Model, samples: int, generator: np.random.Generator) -> NDArray[Any]:
    """Return inputs of a model on a grid, or token ids."""
    return inputs(model, samples, generator, on_grid)


def large_examples(trial: Trial, subject: LayerSubject) -> list[Example]:
    """Return the large examples of a layer, and those with equal axes, below a dense layer, that an
    engine can compute."""
    found = []
    for size in sizes_for(subject):
        layer = large_layer(trial, subject, size)
        block = usable(layer, size.branches)
        bare = Model("large", size.shape, (block,), input_dtype=layer.takes)
        after = (Flatten(),) if len(bare.output_shape) > 1 else ()
        if "flatten" in trial.kinds or not after:
            model = replace(bare, layers=(block, *after, Dense(3)), connections=None)
            found.append(random_example(trial, model, size.samples))
    return found


def random_example(trial: Trial, drawn: Model, samples: int) -> Example:
    """Return an example of a model and a loss that the engine has, with inputs on a grid."""
    loss = example_loss(trial)
    model, generator = trainable(trial, drawn, loss), np.random.default_rng((trial.seed, 2))
    batch = Batch(
        grid_inputs(model, samples, generator),
        targets(loss, model.output_shape[0], samples, generator),
        Plan(trial.seed).masks(model, 0, samples),
        training=True,
    )
    return Example(model, nonzero_weights(model, trial.seed), batch, loss, trial.seed)


@check_each("forward", SUBJECTS, requires=lambda subject: subject.requires, prefix="large-")
def forward(trial: Trial, subject: LayerSubject) -> None:
    """The outputs of a large layer, in training, and the prediction; and those of a layer whose
    input has the same size in every axis.

    Why: Real layers are larger than the blocks, tiles and limits that engines have, and sizes may
    coincide.
    Broken by: An engine that treats units beyond 128, or samples beyond 256, wrongly in {subject},
    or that looks for an axis by its size.
    Fix: The finding names the rows and columns that differ: look for a limit of that size.
    """
    for example in large_examples(trial, subject):
        compare_outputs(trial, example)


def compare_outputs(trial: Trial, example: Example) -> None:
    engine, oracle, model, batch = trial.engine, trial.oracle, example.model, example.batch
    network, reference = engine.build(model, example.weights), oracle.build(model, example.weights)
    outputs = engine.trace(network, batch), oracle.trace(reference, batch)
    size = f"{len(batch.x):,} samples of {' and '.join(map(str, model.input_table))}"
    for name, actual, expected in zip(model.names, *outputs, strict=True):
        what, axes = f"the output of {name} for {size}", BATCH_AXES[expected.ndim]
        close_in_blocks(
            what, actual, expected, trial.tolerance * magnitude(expected), axes, layer=name
        )
    expected = oracle.predict(reference, batch.x)
    allowed = trial.tolerance * magnitude(expected)
    actual = engine.predict(network, batch.x)
    close_in_blocks(f"the prediction for {size}", actual, expected, allowed, BATCH_AXES[2])


@check_each("gradient", SUBJECTS, requires=lambda subject: subject.requires, prefix="large-")
def gradient(trial: Trial, subject: LayerSubject) -> None:
    """The gradients of a large layer, and of one whose input has the same size in every axis, along
    random directions.

    Why: The gradient of a large kernel is a sum over blocks, of which one is easily forgotten.
    Broken by: An engine that forgets kernel rows beyond the 640th in the gradient of {subject}, or
    that looks for an axis by its size.
    Fix: The finding names the rows and columns that differ: look for a limit of that size.
    """
    for example in large_examples(trial, subject):
        compare_slopes(trial, example)


TENSORS = {"tensors-40": 40, "tensors-130": 130}
"""The numbers of tensors of the networks of many tensors, by the subject of their check."""


@check_each("gradient", TENSORS)
def tensors(trial: Trial, count: int) -> None:
    """The gradients of every tensor of a network that has many.

    Why: Deep networks have more tensors than an engine's tables may expect.
    Broken by: An engine that forgets the gradient of the 33rd tensor.
    Fix: Loop over all tensors of the model, however many there are.
    """
    example = random_example(trial, many_tensors(trial, count), samples=16)
    compare_slopes(trial, example._replace(weights=mild_weights(example.model, trial.seed)))


EVERY = 600
"""The number of inputs of the network whose every weight has to move."""


@check("gradient", "every-weight")
def every_weight(trial: Trial) -> None:
    """Each of 600 inputs has a sample in which it alone is one, and its weights have a gradient.

    The checks of the order and of dropout in `fit` recognise samples by the weights that move.

    Why: The order of the samples is inferred from the weights that move, so every weight needs its
    gradient.
    Broken by: An engine that computes the gradient of at most 512 rows of a kernel.
    Fix: The finding names the rows without a gradient: look for a limit of that size.
    """
    model = Model("every", (EVERY,), (Dense(3, use_bias=False),))
    example = random_example(trial, model, EVERY)
    compare_slopes(trial, example._replace(batch=example.batch._replace(x=np.eye(EVERY))))
