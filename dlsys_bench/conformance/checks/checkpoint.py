"""Weights that are read from a network, stored, and restored."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.networks import (
    IMAGE_AND_TABLE,
    MLP_DROPOUT_BATCH_NORM,
    TrajectoryNetwork,
    prepare,
)
from dlsys_bench.conformance.checks.subjects import (
    networks,
)
from dlsys_bench.conformance.checks.training import compare_tensors, differing, relative
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken, close
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.runs.checkpoint import load, save


@check("checkpoint", "weights", requires=["layer:dense"])
def weights(trial: Trial) -> None:
    """A network built from the weights of another has equal weights and predicts the same.

    Why: A network is stored and moved between engines as its tensors, so these must be all there is
    to it.
    Broken by: An engine whose `weights` leaves out the moving statistics, or whose `build` loads a
    kernel transposed.
    Fix: Let `build` and `weights` go over the same list of tensors, `model.tensors`, state
    included.
    """
    trial.search(networks(trial), lambda example: _restore(trial, example), examples=15)


def _restore(trial: Trial, example: Example) -> None:
    engine = trial.engine
    original = engine.build(example.model, example.weights)
    stored = engine.weights(original)
    restored = engine.build(example.model, stored)
    for name in differing(stored, engine.weights(restored)):
        what = f"{name} of the restored network differs from the stored one"
        raise broken(Fault.WRONG_VALUE, what, tensor=name)
    expected = engine.predict(original, example.batch.x)
    actual = engine.predict(restored, example.batch.x)
    allowed = trial.tolerance * magnitude(expected)
    close("the prediction of the restored network", actual, expected, allowed)


FILES = {"file": MLP_DROPOUT_BATCH_NORM, "file-of-inputs": IMAGE_AND_TABLE}
"""The networks that are stored in files, by the subjects of their checks."""


@check_each("checkpoint", FILES, requires=lambda network: network.requires)
def file(trial: Trial, network: TrajectoryNetwork) -> None:
    """A training that continues from a file ends as one that is not interrupted.

    Why: A long training is interrupted and continued; the result must not depend on that.
    Broken by: An engine that keeps part of the state of a network, such as a moving mean, outside
    its tensors.
    Fix: Store everything that `fit` reads from a network in the tensors that `weights` returns.
    """
    engine, plan = trial.engine, Plan(3, parity=True)
    model, recipe, samples = prepare(trial, network)
    original = engine.build(model, plan.weights(model))
    train(engine, original, samples, recipe, plan)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.npz"
        save(path, model, engine.weights(original))
        restored = engine.build(*load(path))
    for each in (original, restored):
        train(engine, each, samples, recipe, plan)
    expected, actual = engine.weights(original), engine.weights(restored)
    allowed = relative(10 * trial.tolerance, expected)
    compare_tensors("of the restored network", actual, expected, allowed)
