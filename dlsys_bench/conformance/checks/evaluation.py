"""What is counted: predictions in parts, accuracies where outputs are equal, figures that run over
an epoch."""

from __future__ import annotations

import numpy as np

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.subjects import of_labels, size
from dlsys_bench.conformance.finding import broken, close
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import Epoch, train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense, Flatten, Layer
from dlsys_bench.spec.losses import LOSSES, Loss, MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

FLOAT32 = 1e-5
"""Figures of an epoch may be summed in single precision: Keras's are."""


PARTS: dict[str, tuple[tuple[int, ...], tuple[Layer, ...]]] = {
    "parts": ((3,), (Dense(4), BatchNorm(), Activation("tanh"), Dense(3))),
    "parts-of-images": ((4, 4, 2), (BatchNorm(), Activation("tanh"), Flatten(), Dense(3))),
}


@check("evaluation", *PARTS)
def parts(trial: Trial, subject: str) -> None:
    """What is predicted of a sample does not depend on what it is predicted with."""
    convention = trial.engine.conventions[0]
    model = to_convention(convention, Model(subject, *PARTS[subject]))
    net = trial.engine.build(model, strategies.nonzero_weights(model, trial.seed))
    x = trial.generator.standard_normal((4100, *model.input_shape))
    whole = trial.engine.predict(net, x)
    for first, last in ((0, 1), (1, 8), (8, 1008), (1008, 4100)):
        found = trial.engine.predict(net, x[first:last])
        close(
            f"predict of samples {first} to {last}",
            found,
            whole[first:last],
            10 * trial.tolerance * size(whole),
        )


@check("evaluation", *LOSSES)
def running(trial: Trial, subject: str) -> None:
    """The running loss and accuracy: means over all samples of the epoch, the last, smaller batch
    by its size; of an epoch that is cut short, over those that it had."""
    loss = LOSSES[subject].of()
    outputs = 1 if loss.targets == "signs" else 3
    model = Model("running", (3,), (Dense(outputs),))
    y = strategies.targets(loss, outputs, 11, trial.generator)
    _compare(trial, model, strategies.nonzero_weights(model, trial.seed), y, loss)


@check("evaluation", "many-classes")
def classes(trial: Trial, subject: str) -> None:
    """Three hundred outputs: more than a byte can number."""
    loss = of_labels(trial)
    model = Model("classes", (3,), (Dense(300),))
    y = trial.generator.permutation(300)[:11]
    _compare(trial, model, strategies.nonzero_weights(model, trial.seed), y, loss)


@check("evaluation", "while-learning")
def learning(trial: Trial, subject: str) -> None:
    """The loss of a batch is that before its update, by its own statistics."""
    convention = trial.engine.conventions[0]
    norm = (BatchNorm(),) if "batch_norm" in trial.kinds else ()
    model = to_convention(
        convention, Model("learning", (3,), (Dense(4), Activation("tanh"), *norm, Dense(3)))
    )
    samples = Samples(
        trial.generator.standard_normal((11, 3)), trial.generator.standard_normal((11, 3))
    )
    recipe = Recipe(SGD(0.2), batch_size=4, epochs=3, shuffle=False, loss=MeanSquaredError())
    recipe = to_convention(convention, recipe)
    weights, plan = strategies.nonzero_weights(model, trial.seed), Plan(1, parity=True)
    right = train(trial.oracle, trial.oracle.build(model, weights), samples, recipe, plan)
    found = train(trial.engine, trial.engine.build(model, weights), samples, recipe, plan)
    for mine, his in zip(found, right, strict=True):
        allowed = max(FLOAT32, trial.tolerance) * abs(his.running_loss)
        told = f"the running loss of epoch {his.epoch}, while learning"
        close(told, np.array(mine.running_loss), np.array(his.running_loss), allowed)


@check("evaluation", "ties")
def ties(trial: Trial, subject: str) -> None:
    """Of equal outputs the first is the answer, and an output of zero has no sign."""
    for kind in trial.losses:
        loss = LOSSES[kind].of()
        if loss.targets != "values":
            outputs = 1 if loss.targets == "signs" else 3
            model = Model("ties", (3,), (Dense(outputs),))
            weights = {"dense_1.kernel": np.zeros((3, outputs)), "dense_1.bias": np.zeros(outputs)}
            _compare(
                trial, model, weights, strategies.targets(loss, outputs, 11, trial.generator), loss
            )


def _compare(
    trial: Trial, model: Model, weights: dict[str, np.ndarray], y: np.ndarray, loss: Loss
) -> None:
    samples = Samples(trial.generator.standard_normal((11, 3)), y)
    recipe = Recipe(SGD(0.0), batch_size=4, epochs=1, shuffle=False, loss=loss)
    recipe = to_convention(trial.engine.conventions[0], recipe)
    plans = {"": Plan(trial.seed, parity=True), ", 2 steps": Plan(trial.seed, steps=2, parity=True)}
    if "native" not in trial.lacks:
        plans[", natively"] = Plan(trial.seed)
    for told, plan in plans.items():
        right = train(trial.oracle, trial.oracle.build(model, weights), samples, recipe, plan)[0]
        found = train(trial.engine, trial.engine.build(model, weights), samples, recipe, plan)[0]
        _same(f"({loss.kind}, 11 samples by 4{told})", found, right)


def _same(told: str, found: Epoch, right: Epoch) -> None:
    close(
        f"the running loss {told}",
        np.array(found.running_loss),
        np.array(right.running_loss),
        FLOAT32 * max(1, abs(right.running_loss)),
    )
    if right.running_accuracy is None:
        if found.running_accuracy is not None:
            raise broken(f"there is a running accuracy {told}, where no answer is right or wrong")
    elif found.running_accuracy is None:
        raise broken(f"there is no running accuracy {told}")
    else:
        close(
            f"the running accuracy {told}",
            np.array(found.running_accuracy),
            np.array(right.running_accuracy),
            FLOAT32,
        )
