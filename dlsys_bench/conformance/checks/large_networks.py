"""One step of networks of every layer, large batches, and predictions of many samples."""

from __future__ import annotations

from dlsys_bench.conformance.blocks import (
    BATCH_AXES,
    close_in_blocks,
)
from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.evaluation import PARTS
from dlsys_bench.conformance.checks.large_trainings import compare_with_own_gradients
from dlsys_bench.conformance.checks.sizes import (
    Size,
    large_layer,
    on_grid,
    random_example,
)
from dlsys_bench.conformance.checks.subjects import SUBJECTS
from dlsys_bench.conformance.checks.support import needed_layers, supported
from dlsys_bench.conformance.checks.training import (
    plans,
    regression_recipe,
    start,
)
from dlsys_bench.conformance.drawing import takes_axes
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.oracle.kinks import GAPS
from dlsys_bench.conformance.strategies import accepts, usable
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.plan import Plan
from dlsys_bench.spec.layers import (
    FUNCTIONS,
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Merge,
    SampleNorm,
    Shape,
)
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD

VECTOR = (784,)

NETWORKS: dict[str, Size] = {
    "fit-large": Size((20, 18, 132), 3, {"filters": 144, "groups": 12, "units": 300}),
    "fit-large-sequences": Size(
        (20, 24),
        270,
        {
            "filters": 24,
            "groups": 12,
            "kernel_size": 8,
            "padding": "same",
            "units": 24,
            "heads": 12,
            "drop_rate": 0.4,
            "positions": 50,
        },
        branches=5,
    ),
}
"""Inputs of large networks, by the subject of their check: large images, and many sequences."""


def _needs(size: Size) -> list[str]:
    """Return what a network needs. Without flatten, vectors take the place of images."""
    return ["layer:dense", *([] if len(size.shape) == 3 else ["layer:flatten"])]


@check_each("trajectory", NETWORKS, requires=_needs)
def fit_large(trial: Trial, size: Size) -> None:
    """One step of a network of every layer that the engine has, on large images or many sequences.

    Why: Real layers are larger than the blocks, tiles and limits that engines have.
    Broken by: An engine that treats channels beyond 128, or keys beyond the sixteenth, wrongly in
    the training step.
    Fix: The finding names the channels or units that differ: look for a limit of that size.
    """
    start = size if "flatten" in trial.kinds else size._replace(shape=VECTOR)
    for plan in plans(trial):
        layers = _every_layer(trial, start, dropout=plan.parity)
        _compare_fit(trial, Model("large", start.shape, (*layers, Dense(3))), plan, size.samples)


def _every_layer(trial: Trial, size: Size, *, dropout: bool) -> list[Layer]:
    """Return a layer of every kind that the engine has and, on images, of every activation, those
    with kinks first.

    Their inputs lie on a grid, so rounding decides no maximum and no sign. They are in reverse
    order, since a relu leaves nothing for a leaky relu to do. Native masks are random, so `dropout`
    may be left out.
    """
    axes = len(size.shape)
    options = {name: size.options[name] for name in size.options if dropout or name != "drop_rate"}
    layers = [
        large_layer(trial, subject, size._replace(options=options))
        for subject in reversed(SUBJECTS.values())
        if not trial.lacks.intersection(subject.requires)
        and (takes_axes(subject.variant, axes) or takes_axes(subject.variant, 1))
        and (axes != 2 or subject.layer is not Activation)
    ]
    shape, chain = size.shape, list[Layer]()
    for layer in sorted(layers, key=lambda each: _place(each, size.shape)):
        if accepts(layer, shape) and (dropout or not isinstance(layer, Dropout)):
            chain.append(usable(layer, size.branches))
            shape = Model("large", shape, (chain[-1],)).output_shape
    return chain


def _place(layer: Layer, start: Shape) -> int:
    """Return the place of a layer in a network whose input has the shape `start`.

    From the input upwards: 0 a layer with a kink, 1 batch norm, 2 a layer for such inputs only, 3
    one that takes vectors as well, 4 a norm of each sample, 5 a merging layer, 6 flatten, and 7 a
    layer for vectors only.

    A batch norm takes out what the biases below it add, and so does a norm of each sample with
    much of it. Several inputs make what is above them wider. A global pool would leave little to
    the layers above it, so it comes after flatten, where it does not fit.
    """
    kinds: dict[type[Layer], int] = {BatchNorm: 1, SampleNorm: 4, Merge: 5, Flatten: 6}
    if layer.kind in GAPS and not (
        isinstance(layer, Activation) and not FUNCTIONS[layer.function].kink
    ):
        return 0
    for kind, place in kinds.items():
        if isinstance(layer, kind):
            return place
    # Attention to a context takes x twice.
    fits = accepts(layer, start)
    if not fits or len(layer.combined_shape([start] * (1 + layer.merges))) == 1:
        return 7
    return 3 if accepts(layer, VECTOR) else 2


def _compare_fit(trial: Trial, drawn: Model, plan: Plan, count: int) -> None:
    example = random_example(trial, drawn, count)
    samples = Samples(example.batch.x, example.batch.y)
    recipe = regression_recipe(trial, SGD(0.5), batch_size=count, epochs=1)
    training = TrainingCase(example.model, example.weights, samples, recipe, plan)
    compare_with_own_gradients(trial, training)


BATCHES = {
    "batches-of-512": Model(
        "batches", (5,), (Dense(6), Activation("tanh"), BatchNorm(moving_decay=0.7), Dense(2))
    ),
    "batches-of-512-images": Model(
        "batches",
        (8, 11, 2),
        (
            *(Conv2D(4, (7, 6)), Activation("tanh"), BatchNorm(moving_decay=0.7)),
            *(AveragePool(), Flatten(), Dense(2)),
        ),
    ),
}
"""Networks of large batches, by the subject of their check."""


@check_each("trajectory", BATCHES, requires=needed_layers)
def large_batches(trial: Trial, drawn: Model) -> None:
    """Two batches of 512 and a smaller one, of 1,100 samples.

    Why: Batches of hundreds of samples are split, and the last one is smaller.
    Broken by: An engine that leaves out the samples beyond the 256th of a batch.
    Fix: The finding names the step that differs: compare its gradient with that of half the batch.
    """
    example = random_example(trial, drawn, 1100)
    samples = Samples(example.batch.x, example.batch.y)
    recipe = regression_recipe(trial, batch_size=512, epochs=1)
    # A native training, which is what users run, if the engine has it.
    plan = plans(trial)[-1]
    training = TrainingCase(example.model, example.weights, samples, recipe, plan)
    compare_with_own_gradients(trial, training)


ROWS = {"rows": PARTS["parts"], "rows-of-images": PARTS["parts-of-images"]}


@check_each("evaluation", ROWS, requires=needed_layers)
def rows(trial: Trial, drawn: Model) -> None:
    """Predictions of ten thousand samples. The counts are multiples of the sizes in which engines
    predict, or leave a few samples over.

    Why: Data are predicted in internal batches, of which the last is smaller or is missing.
    Broken by: An engine that drops or repeats the last internal batch of `predict`.
    Fix: Predict the last batch with its own size, and concatenate all.
    """
    model = supported(trial, drawn)
    weights = start(trial, model)
    network, reference = trial.engine.build(model, weights), trial.oracle.build(model, weights)
    x = on_grid(trial.generator, (10_007, *model.input_shape))
    expected = trial.oracle.predict(reference, x)
    allowed = trial.tolerance * magnitude(expected)
    for count in (10_000, 8_192, 10_007):
        actual, what = trial.engine.predict(network, x[:count]), f"the prediction of {count:,}"
        close_in_blocks(what, actual, expected[:count], allowed, BATCH_AXES[2])
