"""Gradient accumulation: the parts of a batch give the update of the batch."""

from __future__ import annotations

from dataclasses import replace

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.subjects import label_loss
from dlsys_bench.conformance.checks.support import has, trainable
from dlsys_bench.conformance.checks.training import (
    compare_tensors,
    compare_trainings,
    regression,
    regression_recipe,
    start,
)
from dlsys_bench.conformance.checks.update_cases import (
    ACCUMULATIONS,
    NETWORK,
    UpdateCase,
    clip_if_available,
    compare_cases,
    compare_losses,
)
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.plan import Plan
from dlsys_bench.spec.layers import Activation, Dense, Dropout
from dlsys_bench.spec.model import Model


@check_each("step", ACCUMULATIONS, requires=lambda case: case.requires)
def accumulation(trial: Trial, case: UpdateCase) -> None:
    """Four updates whose gradient is accumulated over parts of a batch, of which the last is
    smaller, through a batch norm and dropout.

    Why: The mean over the parts is the gradient of the batch only if each counts by its samples.
    Broken by: An engine that divides by the number of parts twice or never, counts a smaller part
    as a whole one, or gives every part the dropout mask of the first.
    Fix: Weight the gradient and the loss of a part by its fraction of the samples, and clip and
    update once per batch.
    """
    dropout = (Dropout(0.4),) if has(trial, "layer:dropout") else ()
    model = replace(NETWORK, layers=(*NETWORK.layers[:-1], *dropout, NETWORK.layers[-1]))
    # A clipped gradient hides a wrong scale, so one case has none.
    clip = clip_if_available(trial) if case.values[0] > 2 else None
    compare_cases(trial, case, model, clip=clip)


@check("step", "accumulate-ignored_label", requires=["accumulate", "loss:ignored_label"])
def accumulation_of_kept(trial: Trial) -> None:
    """Four updates whose gradient is accumulated over parts in which a different number of labels
    is ignored. The labels of positions have weights.

    Why: The loss of a batch is a mean over the labels kept, and these are not spread evenly.
    Broken by: An engine that weights the parts by their numbers of samples, as trainers of language
    models did for years.
    Fix: Weight each part by its fraction of what the mean of the batch is divided by.
    """
    case, loss = ACCUMULATIONS["accumulate-2"], label_loss(trial)
    layers = (Dense(4), Activation("tanh"), Dense(3))
    compare_cases(trial, case, Model("ignoring", (3,), layers), loss=type(loss).of(ignored_label=0))
    if has(trial, "loss:positions"):
        weights = {"class_weights": (0.5, 3.0, 1.0)} if has(trial, "loss:class_weights") else {}
        weighted = type(loss).of(ignored_label=255, **weights)
        compare_cases(trial, case, Model("ignoring", (4, 3), layers), loss=weighted)


@check("step", "accumulate-equals-batch", requires=["accumulate"])
def equals_batch(trial: Trial) -> None:
    """A training in parts of batches equals one in whole batches, without batch norm and dropout.

    Why: Accumulation saves memory; it is not meant to change the training.
    Broken by: An engine that updates after every part, or lets the schedule count parts.
    Fix: Count updates, not parts: learning rates, limits on the steps and the history are those of
    whole batches.
    """
    model = trainable(trial, Model("drawn", (3,), (Dense(4), Activation("tanh"), Dense(2))))
    samples, weights = regression(trial, 11), start(trial, model)
    whole = regression_recipe(trial, batch_size=4, epochs=2)
    trainings = {
        parts: TrainingCase(
            model, weights, samples, replace(whole, accumulate=parts), Plan(1, parity=True)
        )
        for parts in (None, 2, 4)
    }
    expected = trainings[None].run(trial.engine)
    for parts in (2, 4):
        allowed = 100 * trial.tolerance * magnitude(*expected.values())
        actual = trainings[parts].run(trial.engine)
        compare_tensors(f"after batches in {parts} parts", actual, expected, allowed)
        compare_losses(trial, trainings[parts])


@check("trajectory", "native-accumulate", requires=["native", "accumulate"])
def native(trial: Trial) -> None:
    """Two epochs in parts of batches without a plan, through a batch norm. The last batch of each
    epoch is too small for all of its parts.

    Why: A native training may be compiled, for batches of any size, by code that no training by a
    plan runs.
    Broken by: An engine that makes a pass for a part without samples, whose mean is NaN, or that
    waits for the missing part in the next epoch.
    Fix: Make no pass for a part without samples, and update at the end of every batch.
    """
    model, samples = trainable(trial, NETWORK), regression(trial, 10)
    # Batches of 6 and 4 samples: three parts of two samples, and two.
    recipe = regression_recipe(trial, batch_size=6, epochs=2, accumulate=3)
    training = TrainingCase(model, start(trial, model), samples, recipe, Plan(1))
    compare_trainings(trial, training, "after 2 epochs in parts of batches")
