"""Replicas: networks of one model that train together end as they would alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.networks import (
    QUERY_AND_CONTEXT,
    optimizer_with_state,
    smooth,
)
from dlsys_bench.conformance.checks.support import (
    example_loss,
    needed_layers,
    supported,
    trainable,
)
from dlsys_bench.conformance.checks.training import (
    compare_tensors,
    relative,
)
from dlsys_bench.conformance.expectation import NOISE, magnitude
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.strategies import inputs, targets
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train, train_replicas
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.replicas import OneByOne, Replicas
from dlsys_bench.spec.augmentation import HorizontalFlip, InputNoise, Shift
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.batches import CyclicalBatchSize
from dlsys_bench.spec.clipping import ClipNorm, ClipValue
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.graph import parallel, residual
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePool,
    GroupNorm,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    PositionEmbedding,
    RMSNorm,
    SpatialDropout,
)
from dlsys_bench.spec.loss_scale import LossScale
from dlsys_bench.spec.losses import SparseCategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import ConstantRate, WarmUp

ONE_ANSWER = 0.075
"""The largest difference of accuracies: rounding may decide the answer to one of 14 samples."""

TANH = Activation("tanh")
RATES = (0.02, 0.05, 0.1)
SHARED = Recipe(SGD(0.05, 0.9), batch_size=4, epochs=3, loss=SparseCategoricalCrossEntropy())


class ReplicaCase(NamedTuple):
    """A model, and what its recipe has around an optimiser.

    - `own_samples`: each replica has its own samples.
    - `most_state`: the optimiser is the one of the engine that keeps the most values.
    """

    model: Model
    recipe: Recipe = SHARED
    own_samples: bool = False
    most_state: bool = False

    @property
    def requires(self) -> list[str]:
        """The layers that nothing can replace."""
        return needed_layers(self.model)


IMAGES = Model(
    "replicas-of-images",
    (8, 6, 2),
    (
        *(
            Conv2D(4, (3, 3), padding="same", groups=2, use_bias=False),
            BatchNorm(),
            TANH,
            SpatialDropout(0.3),
        ),
        parallel(MaxPool(), AveragePool()),
        *(Conv2D(4, (2, 2), dilation=(2, 1)), GroupNorm(), TANH, Flatten(), Dense(3)),
    ),
)
SEQUENCES = Model(
    "replicas-of-sequences",
    (6,),
    (
        *(Embedding(7, 4), PositionEmbedding(8)),
        residual(LayerNorm(), MultiHeadAttention(2, causal=True, drop_rate=0.3), Dropout(0.2)),
        *(RMSNorm(), Conv1D(5, 2), TANH, GlobalAveragePool(), Dense(3)),
    ),
    input_dtype="int",
)

CASES: Mapping[str, ReplicaCase] = {
    "replicas": ReplicaCase(Model("replicas", (6,), (Dense(8), TANH, Dropout(0.5), Dense(3)))),
    "replicas-of-inputs": ReplicaCase(
        QUERY_AND_CONTEXT.model,
        replace(
            SHARED,
            augment=(InputNoise(0.3, input="query"),),
            batch_sizes=CyclicalBatchSize(2, 4),
            accumulate=2,
        ),
    ),
    "replicas-of-images": ReplicaCase(
        IMAGES,
        replace(
            SHARED,
            augment=(Shift(1), HorizontalFlip(), InputNoise(0.3)),
            clip=ClipValue(0.02),
            average=WeightAverage(0.6),
            accumulate=2,
            epochs=2,
        ),
        own_samples=True,
        most_state=True,
    ),
    "replicas-of-sequences": ReplicaCase(
        SEQUENCES,
        replace(
            SHARED,
            optimizer=SGD(0.05, 0.9, decay=WeightDecay(0.3)),
            loss=SparseCategoricalCrossEntropy(0.1, -1, (0.5, 2.0, 1.0)),
            clip=ClipNorm(0.1),
            schedule=WarmUp(5),
        ),
    ),
    "replicas-of-scaled-losses": ReplicaCase(
        Model("replicas-of-scaled-losses", (6,), (Dense(8), TANH, Dense(3))),
        replace(SHARED, loss_scale=LossScale(2.0**10, interval=2)),
    ),
}
"""What is trained together, by the subjects of the checks. All layers are in one of the models, and
all parts of a recipe but `products` are in one of the recipes. Loss scales are in a recipe of their
own, since engines may train such replicas one by one."""


def _recipes(trial: Trial, case: ReplicaCase) -> list[Recipe]:
    """Return a recipe for each replica, which has its own learning rate."""
    recipe = replace(case.recipe, loss=example_loss(trial, case.recipe.loss))
    if case.most_state:
        recipe = replace(recipe, optimizer=smooth(optimizer_with_state(trial)))
    every = []
    for rate in RATES:
        schedule = recipe.schedule
        if isinstance(schedule, WarmUp):
            schedule = replace(schedule, after=ConstantRate(rate))
        optimizer = replace(recipe.optimizer, learning_rate=rate)
        every.append(supported(trial, replace(recipe, optimizer=optimizer, schedule=schedule)))
    return every


@check_each("determinism", CASES, requires=lambda case: case.requires)
def replicas(trial: Trial, case: ReplicaCase) -> None:
    """Replicas that train together by a plan: each ends where it does when it trains alone.

    Why: Replicas that are trained together stand for independent runs, so each must end as it would
    alone.
    Broken by: An engine that gives all replicas the order or the masks of the first, or one
    learning rate, or clips the gradients of all of them by one norm.
    Fix: Draw the order, the masks, the augmentations and the rate of each replica from its own plan
    and recipe, and compute every sum over the axes of one replica.
    """
    recipes = _recipes(trial, case)
    loss = recipes[0].loss
    model = trainable(trial, case.model, loss)
    plans = [Plan(number, parity=True) for number in (1, 2, 3)]
    every = [_samples(trial, model, recipes[0])] * 3
    if case.own_samples:
        every = [_samples(trial, model, recipes[0]) for _ in plans]
    trial.engine.require(model, loss, recipes[0], parity=True, drawn=True)
    together = trial.engine.engine.replicate(model, plans)
    histories = train_replicas(together, every if case.own_samples else every[0], recipes, plans)
    predictions = together.predict(every[0].x)
    # Replicas that share their samples get them in orders of their own.
    own_inputs = [np.roll(own.x, place, axis=0) for place, own in enumerate(every)]
    _compare_own_inputs(trial, together, own_inputs)
    # Replicas that train one by one can only disturb each other. One is compared, which starts
    # neither first nor last.
    for replica in [1] if trains_one_by_one(together) else range(len(plans)):
        own = plans[replica]
        alone = trial.engine.build(model, own.weights(model))
        history = train(trial.engine, alone, every[replica], recipes[replica], own)
        which = f"of replica {replica} of 3"
        expected = trial.engine.predict(alone, every[0].x)
        within = 10 * trial.tolerance * magnitude(expected)
        close(f"the prediction {which}", predictions[replica], expected, within)
        compare_losses(trial, which, histories[replica], history)
        compare_weights(trial, which, together.weights(replica), trial.engine.weights(alone))


def trains_one_by_one(together: Replicas) -> bool:
    """Return whether replicas train one after the other. A subclass may train them in another
    way."""
    return type(together) is OneByOne


def _compare_own_inputs(trial: Trial, together: Replicas, every: Sequence[Array]) -> None:
    """Compare the trace of shared inputs, and traces and predictions of inputs of each replica,
    with predictions of shared inputs."""
    shared = [together.predict(x) for x in every]
    allowed = trial.tolerance * magnitude(shared[0])
    close("the last trace of the replicas", together.trace(every[0])[-1], shared[0], allowed)
    own = np.stack(every)
    found = {"prediction": together.predict(own), "last trace": together.trace(own)[-1]}
    for replica, predictions in enumerate(shared):
        for name, outputs in found.items():
            what = f"the {name} of the inputs of replica {replica}"
            close(what, outputs[replica], predictions[replica], allowed)


def compare_weights(trial: Trial, which: str, actual: Weights, expected: Weights) -> None:
    """Compare the tensors of a replica with those of a network that was trained alone."""
    # The bias of the keys has a gradient of rounding errors, because a softmax cancels it.
    rounding = NOISE[trial.engine.dtype] * max(map(magnitude, expected.values()))
    allowed = {n: t + rounding for n, t in relative(10 * trial.tolerance, expected).items()}
    compare_tensors(which, actual, expected, allowed)


def _samples(trial: Trial, model: Model, recipe: Recipe) -> Samples:
    x = inputs(model, 14, trial.generator)
    return Samples(x, targets(recipe.loss, model.output_shape, 14, trial.generator))


def compare_losses(
    trial: Trial, which: str, actual: Sequence[Epoch], expected: Sequence[Epoch]
) -> None:
    """Compare the running figures of a replica with those of a network that was trained alone."""
    for epoch, reference in zip(actual, expected, strict=True):
        allowed = max(1e-5, 10 * trial.tolerance) * abs(reference.running_loss)
        close(f"the running loss {which}", epoch.running_loss, reference.running_loss, allowed)
        if reference.running_accuracy is not None:
            found = np.array(epoch.running_accuracy, np.float64)
            what = f"the running accuracy {which}"
            close(what, found, reference.running_accuracy, ONE_ANSWER)
