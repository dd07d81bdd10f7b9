"""The masks of a native training: when an engine draws them, and how gradients go through them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.rows import common_targets, row_gradients, start_row
from dlsys_bench.conformance.checks.statistics import check_binomial
from dlsys_bench.conformance.checks.support import example_loss, has, supported
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.layers import (
    Dense,
    Dropout,
    Flatten,
    Layer,
    MultiHeadAttention,
    Shape,
    SpatialDropout,
)
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe


@dataclass(frozen=True)
class Kept:
    """Layers whose outputs for one sample `x` are `value` divided by the keep rate, where they
    keep it, and else zero. The value may be one for each output, zero where nothing is kept."""

    layers: Callable[[float], tuple[Layer, ...]]
    x: Array
    value: float | Array = 1.0

    @property
    def requires(self) -> list[str]:
        """What an engine must have for these layers, and to train them natively."""
        layers = self.model(0.5, 1).layers
        kinds = dict.fromkeys(name for layer in layers for name in layer.needs)
        return [*(f"layer:{kind}" for kind in kinds), "native", "optimizer:sgd"]

    def model(self, drop_rate: float, outputs: int) -> Model:
        """Return a model of these layers, below a dense one without a bias."""
        layers = (*self.layers(drop_rate), Dense(outputs, use_bias=False))
        return Model("kept", self.x.shape, layers)


TOKENS = 16
ATTENTION = MultiHeadAttention(1, TOKENS, drop_rate=0.5)
IN_FIT = {
    "dropout-in-fit": Kept(lambda rate: (Dropout(rate),), np.ones(300)),
    "spatial_dropout-in-fit": Kept(
        lambda rate: (SpatialDropout(rate), Flatten()), np.ones((1, 300))
    ),
    "multi_head_attention-dropout-in-fit": Kept(
        lambda rate: (replace(ATTENTION, drop_rate=rate), Flatten()), np.eye(TOKENS), 1 / TOKENS
    ),
}
"""The layers that draw masks, by the subject of their check."""

VARIANTS_IN_FIT = {
    "causal_attention-dropout-in-fit": Kept(
        lambda rate: (replace(ATTENTION, causal=True, drop_rate=rate), Flatten()),
        np.eye(TOKENS),
        np.tri(TOKENS).ravel() / np.arange(1, TOKENS + 1).repeat(TOKENS),
    ),
    "cross_attention-dropout-in-fit": Kept(
        lambda rate: (
            parallel(serial(), serial(), join=replace(ATTENTION, context=True, drop_rate=rate)),
            Flatten(),
        ),
        np.eye(TOKENS),
        1 / TOKENS,
    ),
}
"""The variants of these layers, which an engine may compute by other code."""


def equal_attention(model: Model) -> Weights:
    """Return weights of the attention that a model begins with, by which every position attends
    equally to all, and outputs what it keeps of each. Empty for another layer."""
    return {
        tensor.name: np.eye(tensor.shape[0], tensor.shape[1])
        if tensor.name.endswith(("value_kernel", "output_kernel"))
        else np.zeros(tensor.shape)
        for tensor in model.tensors
        if tensor.name.startswith(f"{ATTENTION.kind}_")
    }


@check_each("state", IN_FIT, requires=lambda case: case.requires)
def dropout_in_fit(trial: Trial, case: Kept) -> None:
    """The masks of a native training: a new one for every sample, every step and every epoch, and
    for every part of a batch.

    Why: Masks that repeat from step to step freeze a part of the network instead of averaging over
    many.
    Broken by: An engine that seeds the generator of the masks in every step or every epoch, or
    compiles the mask in as a constant.
    Fix: Seed once at the start of `fit`, and carry the state of the generator from step to step.
    """
    turns = 16
    for drop_rate in (0.5, 0.25):
        for unit, samples, batch_size, epochs, parts in (
            ("samples of a batch", turns, turns, 1, None),
            ("steps of an epoch", turns, 1, 1, None),
            ("epochs", 1, 1, turns, None),
            *[("samples of a batch in parts", turns, turns, 1, 4)] * has(trial, "accumulate"),
        ):
            counts = times_kept(trial, case, drop_rate, samples, batch_size, epochs, parts)
            what = f"the number of times that drop rate {drop_rate:g} keeps each of {turns} {unit}"
            check_counts(counts, turns, drop_rate, what, case)


@check_each("state", VARIANTS_IN_FIT, requires=lambda case: case.requires)
def variants_in_fit(trial: Trial, case: Kept) -> None:
    """Attention that is causal, or that attends to a context, drops weights in a native training:
    others for every sample.

    Why: Variants of a layer are often computed by a function of their own, to which the drop rate
    has to be passed too.
    Broken by: An engine whose {subject} forgets the drop rate in a native training.
    Fix: Drop the weights after the softmax, whatever the queries attend to.
    """
    samples, rate = 16, 0.25
    counts = times_kept(trial, case, rate, samples, samples, 1)
    what = f"the number of times that drop rate {rate:g} keeps each weight of {samples} samples"
    check_counts(counts, samples, rate, what, case)


@check("state", "dropout-in-large-fit", requires=IN_FIT["dropout-in-fit"].requires)
def dropout_in_large_fit(trial: Trial) -> None:
    """The masks of a native training with a batch of 1,100 samples of 1,500 values: one for each.

    Why: An engine may split a large batch among threads, each of which draws masks.
    Broken by: An engine whose threads seed their generators alike, so that samples share masks, or
    which rounds the drop rate.
    Fix: Give every part of a batch a stream of its own, and compare it with the rate as it is.
    """
    # A rate that is half a step away from multiples of 1/256.
    samples, rate = 1100, 0.08
    case = replace(IN_FIT["dropout-in-fit"], x=np.ones(1500))
    # A loss of signs starts at -0.001, of which a smaller movement would be lost in float32.
    counts = times_kept(trial, case, rate, samples, samples, 1, learning_rate=1e-3)
    what = f"the number of times that drop rate {rate:g} keeps each value of {samples} samples"
    check_counts(counts, samples, rate, what, case, allowed=0.2)


def check_counts(
    counts: Array, turns: int, drop_rate: float, what: str, case: Kept, allowed: float = 0.02
) -> None:
    """Raise BrokenError unless counts are whole numbers of a binomial distribution."""
    whole, layer = np.round(counts), case.model(drop_rate, 1).names[0]
    close(what, counts, whole, allowed, layer=layer)
    check_binomial(whole, turns, 1 - drop_rate, what)


def times_kept(
    trial: Trial,
    case: Kept,
    drop_rate: float,
    samples: int,
    batch_size: int,
    epochs: int,
    parts: int | None = None,
    learning_rate: float = 1e-7,
) -> Array:
    """Return how often each value that is not zero was kept in a training.

    All samples are equal, the weights start equal and the learning rate is tiny, so a weight moves
    in proportion to the number of times that its input was kept.
    """
    values = np.broadcast_to(case.value, case.x.size)
    positive = values > 0
    # Every kept value moves its weight enough, whatever its size.
    rate, loss = learning_rate / values[positive].min(), example_loss(trial)
    row = start_row(loss)
    model = to_convention(trial.convention, case.model(drop_rate, row.shape[1]))
    recipe = Recipe(SGD(rate), batch_size=batch_size, epochs=epochs, loss=loss, accumulate=parts)
    recipe = to_convention(trial.convention, recipe)
    start = np.repeat(row, case.x.size, axis=0)
    network = trial.engine.build(model, {**equal_attention(model), "dense_1.kernel": start})
    given = Samples(np.stack([case.x] * samples), common_targets(loss, samples))
    train(trial.engine, network, given, recipe, Plan(trial.seed))
    moved: Array = trial.engine.weights(network)["dense_1.kernel"] - start
    # The rate is so small that the slope of the loss stays what it is at the start.
    slopes = row_gradients(loss, row)[0, 0] * values[positive]
    kept: Array = -moved[positive, 0] * (1 - drop_rate) * batch_size / (slopes * rate)
    return kept


MASKED = {
    "dropout": ((1,), (Dropout(0.5),)),
    # An engine may train sequences by other code than vectors.
    "dropout-of-sequences": ((1, 1), (Dropout(0.5), Flatten())),
    "spatial_dropout": ((1, 1), (SpatialDropout(0.5), Flatten())),
}
"""The shape of an input of one value, and the layers that drop what a dense layer makes of it."""


@check_each(
    "state",
    MASKED,
    requires=lambda of: ("native", "optimizer:sgd", *(f"layer:{layer.kind}" for layer in of[1])),
    prefix="mask-of-the-gradient-",
)
def mask_of_the_gradient(trial: Trial, of: tuple[Shape, tuple[Layer, ...]]) -> None:
    """In a native training, gradients go back through what was kept, with its scale, and through
    nothing else.

    Why: The masks of a native training are drawn elsewhere than those of a plan, and the gradient
    of what was dropped would move weights that had no influence.
    Broken by: An engine whose backward pass draws another mask, lets dropped values through, or
    forgets the scale.
    Fix: Keep the mask of the forward pass, and multiply the gradient by it and by the scale.
    """
    units, x, loss = 300, 8.0, example_loss(trial)
    row = np.array([[-0.5, 0.25]])[:, : start_row(loss).shape[1]] / units
    shape, layers = of
    first, last = Dense(units, use_bias=False), Dense(row.shape[1], use_bias=False)
    model = supported(trial, Model("masks", shape, (first, *layers, last)))
    weights = {
        "dense_1.kernel": np.full((1, units), 1 / x),
        "dense_2.kernel": np.repeat(row, units, axis=0),
    }
    recipe = to_convention(trial.convention, Recipe(SGD(0.125), 1, epochs=1, loss=loss))
    network = trial.engine.build(model, weights)
    samples = Samples(np.full((1, *shape), x), common_targets(loss, 1))
    train(trial.engine, network, samples, recipe, Plan(trial.seed))
    after = trial.engine.weights(network)
    moved = {name: after[name] - values for name, values in weights.items()}
    # The last kernel moves where its input was kept, all rows alike, and the first one with it.
    slopes = moved["dense_2.kernel"] @ row[0]
    kept = np.abs(slopes) > np.abs(slopes).max() / 2
    expected = np.where(kept, x * slopes[kept].mean(), 0.0)
    allowed = 1e-4 * np.abs(expected).max()
    what = "the movement of a kernel before dropout, by what the kernel after it shows to be kept"
    close(what, moved["dense_1.kernel"][0], expected, allowed, layer=layers[0].kind + "_1")


@check(
    "state",
    "mask-of-the-gradient-multi_head_attention",
    requires=IN_FIT["multi_head_attention-dropout-in-fit"].requires,
)
def mask_of_attention(trial: Trial) -> None:
    """In a native training, every gradient of attention goes back through the weights that were
    kept, with their scale.

    Why: The masks of a native training are drawn elsewhere than those of a plan, and attention uses
    its weights three times: for the output, and for the gradients of the values and the scores.
    Broken by: An engine that multiplies the output by the mask, and a gradient by the weights
    without it.
    Fix: Keep the masked weights of the forward pass for the gradient of the values, and multiply
    the gradient of the weights by the mask.
    """
    rate, loss = 0.125, example_loss(trial)
    row = np.array([[-0.5, 0.25]])[:, : start_row(loss).shape[1]] / TOKENS
    case = IN_FIT["multi_head_attention-dropout-in-fit"]
    model = to_convention(trial.convention, case.model(0.5, row.shape[1]))
    # The query is zero, so that all scores are equal, and the kernel of the keys is not, so that
    # the kernel of the queries has a gradient. The rows of the last kernel are all different.
    rows = np.repeat(row, case.x.size, axis=0) * np.linspace(1, 2, case.x.size)[:, None]
    keys = trial.generator.standard_normal((TOKENS, TOKENS))
    weights = equal_attention(model) | {f"{ATTENTION.kind}_1.key_kernel": keys}
    weights["dense_1.kernel"] = rows
    recipe = to_convention(trial.convention, Recipe(SGD(rate), 1, epochs=1, loss=loss))
    network = trial.engine.build(model, weights)
    samples = Samples(case.x[None], common_targets(loss, 1))
    train(trial.engine, network, samples, recipe, Plan(trial.seed))
    actual = trial.engine.weights(network)
    outputs = np.abs(actual["dense_1.kernel"] - rows)[:, 0]
    kept = (outputs > outputs.max() / 2).reshape(1, 1, TOKENS, TOKENS)
    batch = Batch(samples.x, samples.y, {0: kept}, training=True)
    gradients = trial.oracle.gradients(trial.oracle.build(model, weights), batch, loss).weights
    largest = max(float(np.abs(gradient).max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        allowed = max(1e-4 * rate * largest, 1e-6)
        what = f"{name} after an update, by what the last kernel shows to be kept"
        close(what, actual[name], weights[name] - rate * gradient, allowed, tensor=name)
