"""What surrounds the optimiser in an update: weight decay, clipping and the moving average."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.support import example_loss, has, supported, trainable
from dlsys_bench.conformance.checks.training import (
    compare_tensors,
    compare_updates,
    plans,
    regression,
    regression_recipe,
    start,
)
from dlsys_bench.conformance.checks.update_cases import (
    AVERAGES,
    CASES,
    CLIPPINGS,
    DECAYS,
    NETWORK,
    TOKENS,
    UpdateCase,
    batch_size_of,
    chosen_optimizers,
    clip_if_available,
    compare_cases,
    compare_losses,
    decayed_optimizers,
    sample_count_of,
    with_part,
)
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.guard import GuardedNetwork
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import closing
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.clipping import ClipNorm
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import CosineDecay, WarmUp


@check_each("step", DECAYS, requires=lambda case: case.requires)
def decay(trial: Trial, case: UpdateCase) -> None:
    """Four updates with a weight decay, of kernels, biases, scales and embeddings. The decays of
    one coupling share all optimisers.

    Why: A decay of other tensors, or at another place of the update, changes every weight a little,
    and no run fails by it.
    Broken by: An engine that lets biases decay, leaves the learning rate out, or passes a decoupled
    decay through the moments of Adam or the squares of RMSprop.
    Fix: Compare with the definition of `WeightDecay` one tensor at a time: which ones decay, and
    whether before the update or in its gradient.
    """
    optimizers, clip = decayed_optimizers(trial, case), clip_if_available(trial)
    compare_cases(trial, case, optimizers=optimizers, clip=clip)
    if has(trial, "layer:embedding", "layer:flatten"):
        compare_cases(trial, case, TOKENS)


@check_each("step", CLIPPINGS, requires=lambda case: case.requires)
def clipping(trial: Trial, case: UpdateCase) -> None:
    """Four updates with a clipped gradient, or with a limit that it does not reach.

    Why: Clipping acts on few updates, mostly at the start, and so is rarely looked at.
    Broken by: An engine that clips each tensor by its own norm, clips after the momentum, or scales
    a gradient that is within the limit.
    Fix: Clip the gradient of the whole batch, of all tensors together, before the optimiser sees
    it.
    """
    compare_cases(trial, case)


@check(
    "step",
    "clip_norm-of-zero",
    requires=["clip:clip_norm", "layer:dense", "loss:mean_squared_error"],
)
def clipping_of_zero(trial: Trial) -> None:
    """An update whose gradient is exactly zero, and has to stay zero when its norm is clipped: no
    weight may move.

    Why: A batch of padding, or of samples that are all right, has a gradient of zero.
    Broken by: An engine that divides the limit by a norm of zero, so that all weights become NaN.
    Fix: Divide by the larger of the norm and the limit, or by one that is not zero.
    """
    model = supported(trial, Model("zero", (3,), (Dense(2),)))
    weights: Weights = {tensor.name: np.zeros(tensor.shape) for tensor in model.tensors}
    # Outputs and targets are zero, so that the squares have no slope.
    samples = Samples(trial.generator.standard_normal((4, 3)), np.zeros((4, 2)))
    recipe = Recipe(SGD(0.1), 4, epochs=1, shuffle=False, loss=MeanSquaredError())
    recipe = replace(recipe, clip=ClipNorm(0.1))
    ways = trial.engine.conventions
    for own in dict.fromkeys(supported(trial, recipe, convention=way) for way in ways):
        for plan in plans(trial):
            actual = TrainingCase(model, weights, samples, own, plan).run(trial.engine)
            for name, values in weights.items():
                what = f"{name} after an update whose gradient is zero"
                close(what, actual[name], values, 0.0, tensor=name)


@check_each("step", AVERAGES, requires=lambda case: case.requires)
def averages(trial: Trial, case: UpdateCase) -> None:
    """The averages of the weights after each of four updates.

    Why: An average with a wrong start or decay differs little from the weights, and hides in the
    noise of an accuracy.
    Broken by: An engine that starts the average from zero or from the weights before the first
    update, averages moving statistics too, or updates it once per epoch.
    Fix: Compare with the definition of `WeightAverage`, after the first update and after the
    second.
    """
    compare_cases(trial, case)


@check("state", "average-between-epochs", requires=["average"])
def between_epochs(trial: Trial) -> None:
    """Whenever an epoch ends, the network has the averages, and the next epoch goes on from the
    weights.

    Why: A network is evaluated between epochs, and it has to be evaluated with what it will have in
    the end.
    Broken by: An engine that puts the averages in at the end of the training alone, or goes on
    training from them.
    Fix: Exchange weights and averages when an epoch ends, and again when the next one begins.
    """
    model, plan = trainable(trial, NETWORK), Plan(1, parity=True)
    samples, weights = regression(trial, 8), start(trial, model)
    recipe = regression_recipe(trial, batch_size=4, epochs=3, average=WeightAverage(0.6))
    training = TrainingCase(model, weights, samples, recipe, plan)
    network = trial.engine.build(model, weights)
    with closing(trial.engine.fit(network, samples, recipe, plan)) as epochs:
        for epoch in epochs:
            _compare_averages(trial, training, network, epoch.steps, f"after epoch {epoch.epoch}")
    network = trial.engine.build(model, weights)
    with closing(trial.engine.fit(network, samples, recipe, plan)) as epochs:
        steps = next(epochs).steps
    _compare_averages(trial, training, network, steps, "of a training closed after epoch 1")


def _compare_averages(
    trial: Trial, training: TrainingCase, network: GuardedNetwork, steps: int, when: str
) -> None:
    expected = training.stopping_after(steps).run(trial.oracle)
    allowed = 100 * trial.tolerance * magnitude(*expected.values())
    compare_tensors(when, trial.engine.weights(network), expected, allowed)


@check_each("trajectory", CASES, requires=lambda case: (*case.requires, "native"), prefix="native-")
def native(trial: Trial, case: UpdateCase) -> None:
    """Three epochs natively with a part of the recipe, and a learning rate that changes.

    Why: Native training is the mode in which people train, and often takes another path through a
    framework.
    Broken by: An engine that decays by the learning rate of the recipe where a schedule gives
    another, or averages over the updates of the last epoch alone.
    Fix: Read the learning rate of the step, and keep the state of an update for the whole training.
    """
    (optimizer,), batch_size = chosen_optimizers(trial, 1), batch_size_of(case)
    schedule, loss = WarmUp(2, CosineDecay(0.1, 4), 0.01), example_loss(trial)
    recipe = Recipe(optimizer, batch_size, epochs=3, shuffle=False, loss=loss, schedule=schedule)
    if case.option == "loss_scale":
        # A gradient is clipped after the scale is divided out.
        recipe = replace(recipe, clip=clip_if_available(trial))
    recipe = supported(trial, with_part(recipe, case.option, case.values[0]))
    model = trainable(trial, NETWORK)
    samples = regression(trial, sample_count_of(case))
    training = TrainingCase(model, start(trial, model), samples, recipe, Plan(1))
    compare_updates(trial, training, 6)
    compare_losses(trial, training)
